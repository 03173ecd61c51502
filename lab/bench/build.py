"""Which build of our proxy is measured: the sources, or a folder with a compiled copy of them.

A build is a folder that holds the packages `proxy` and `ng_protocol` whole, with extension modules beside the sources
they were made from. Our proxy runs with that folder on its path and without the working folder (`python -P`), which
`-m` would put before it. What really runs is asked of Python, not guessed from names.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.bench.processes import BenchError

ROOT = Path(__file__).resolve().parents[2]
COMPILED = Path("build/compiled")
"""Where a compiled build is looked for, below ROOT."""

PACKAGES = ("proxy", "ng_protocol")
EXTENSION = ".so"
ASK = """
import json, sys
import proxy.app
print(json.dumps({name: module.__file__ for name, module in sys.modules.items()
                  if name.partition(".")[0] in ("proxy", "ng_protocol")}))
"""


@dataclass(frozen=True)
class Build:
    """A build: its folder, how many modules of ours a proxy loads from it, and how many of those are compiled."""

    folder: Path
    modules: int = 0
    compiled: int = 0

    def __str__(self) -> str:
        return f"compiled with mypyc ({self.compiled} of {self.modules} modules)" if self.compiled else "pure Python"

    def environment(self) -> dict[str, str]:
        """Environment in which `python -P -m proxy.app` runs this build."""
        return {**os.environ, "PYTHONPATH": str(self.folder)}


def inspect(folder: Path) -> Build:
    """The build in `folder`; BenchError when it cannot be imported or another copy would be run in its place."""
    folder = folder.resolve()
    if not (folder / "proxy").is_dir():
        raise BenchError(f"{folder} holds no build of ours: it has no folder named proxy")
    environment = Build(folder).environment()
    asked = subprocess.run([sys.executable, "-P", "-c", ASK], env=environment, capture_output=True, text=True)
    if asked.returncode:
        raise BenchError(f"the build in {folder} cannot be imported:\n{asked.stderr.strip()}")
    files: dict[str, str] = json.loads(asked.stdout)
    strays = [file for file in files.values() if not Path(file).resolve().is_relative_to(folder)]
    if strays:
        raise BenchError(f"the build in {folder} is not whole: {strays[0]} would be run in its place")
    return Build(folder, len(files), sum(file.endswith(EXTENSION) for file in files.values()))


def _sources(folder: Path) -> dict[Path, bytes]:
    """Our sources below `folder`, by their path in it."""
    found = (path for package in PACKAGES for path in (folder / package).rglob("*.py"))
    return {path.relative_to(folder): path.read_bytes() for path in found}


def stale(folder: Path, root: Path = ROOT) -> str:
    """Why the compiled build in `folder` is not one of the sources in `root`; "" when it is."""
    ours, theirs = _sources(root), _sources(folder)
    differing = sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))
    if differing:
        return f"{differing[0]} has changed since"
    for extension in sorted(path for package in PACKAGES for path in (folder / package).rglob("*" + EXTENSION)):
        source = extension.with_name(extension.name.partition(".")[0] + ".py")
        if source.exists() and source.stat().st_mtime > extension.stat().st_mtime:
            return f"{extension.relative_to(folder)} is older than {source.name} beside it"
    return ""


def choose(asked: Path | None, pure: bool, root: Path = ROOT) -> tuple[Build, str]:
    """The build to measure, and a remark ("" when there is none): `asked` as it is, the sources with `pure`, else the
    compiled one when it is there and fresh."""
    if pure:
        return inspect(root), ""
    if asked is not None:
        return inspect(asked), ""
    compiled = root / COMPILED
    if not compiled.is_dir():
        return inspect(root), ""
    reason = stale(compiled, root)
    if reason:
        return inspect(root), f"{COMPILED} is left out: {reason}; build it again to measure it"
    return inspect(compiled), ""
