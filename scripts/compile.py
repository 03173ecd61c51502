"""compile.py [FOLDER]: the hot path as a C extension, from the same sources (mypyc); by default into build/compiled.

How it works: the packages are copied to the folder, mypyc compiles the modules named in ``MODULES`` there, and the
results lie beside their sources, so that Python takes them in their place. Whoever puts the folder first on PYTHONPATH
runs compiled; everybody else runs the sources as they are. Nothing in the sources knows about it. What stays as it is:
the rest of the program, which is not on the hot path, and whatever works through Python's own machinery (msgspec
structs, subclasses of a library's classes, what a routing script sees and may subclass).

A stamp in the folder says what it was made from (sources, Python, mypyc): a second run with the same does nothing.
Needs gcc and the headers of this Python; ``make compiled`` installs them. Exit status 1 and mypyc's own words when it
does not work out.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("proxy", "ng_protocol", "mediactl")
STAMP = ".made-from"
MODULES = [
    "ng_protocol/flat",
    "ng_protocol/counters",
    "ng_protocol/errors",
    "ng_protocol/rtt",
    "proxy/sip/errors",
    "proxy/sip/grammar",
    "proxy/sip/names",
    "proxy/sip/reasons",
    "proxy/sip/uri",
    "proxy/sip/headers",
    "proxy/sip/model",
    "proxy/sip/message",
    "proxy/sip/parser",
    "proxy/sip/transaction",
    "proxy/sip/sdp",
    "proxy/flow",
    "proxy/forward",
    "proxy/stack",
    "proxy/dialogs",
    "proxy/token",
    "proxy/contact",
    "proxy/nat",
    "proxy/relay",
    "proxy/outcome",
    "proxy/core",
    "proxy/session_timer",
    "proxy/stateless",
    "proxy/dispatcher",
    "proxy/registrar",
    "proxy/calls",
    "proxy/stories",
    "proxy/uac",
    "proxy/supervisor",
    "proxy/media/exchange",
    "proxy/media/session",
    "proxy/media/table",
    "proxy/media/policy",
    "proxy/media/merge",
    "proxy/media/engine",
    "proxy/media/dialogue",
    "proxy/media/direct",
    "proxy/media/anchor",
    "proxy/media/nodes",
    "proxy/media/owed",
    "proxy/media/relocate",
    "proxy/media/reanchor",
]
"""What is compiled, without ".py"."""

SETUP = """
from mypyc.build import mypycify
from setuptools import setup

options = ["--python-version={python}", "--ignore-missing-imports"]
extensions = mypycify([*options, *{files!r}], opt_level="3", multi_file=False, group_name="hotpath")
for extension in extensions:
    extension.include_dirs.insert(0, {fixes!r})
setup(name="hotpath", packages=[], ext_modules=extensions)
"""


def sources() -> list[Path]:
    """Every Python file of the packages, and what the build itself is made of."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return sorted([*files, Path(__file__).resolve(), *(ROOT / "scripts" / "compiled").iterdir()])


def key() -> str:
    """What a build depends on, as one line."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sources():
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{digest.hexdigest()} Python {platform.python_version()} mypy {version('mypy')}\n"


def is_fresh(folder: Path) -> bool:
    """Whether the folder holds a build of the sources as they are now."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text() == key()


def build(folder: Path) -> None:
    """Make the folder anew. Raises subprocess.CalledProcessError, with the compiler's words in its output."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    files = [f"{module}.py" for module in MODULES]
    setup = folder / "setup.py"
    fixes = str(ROOT / "scripts" / "compiled")
    setup.write_text(SETUP.format(python=".".join(platform.python_version_tuple()[:2]), files=files, fixes=fixes))
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    shutil.rmtree(folder / "build", ignore_errors=True)
    setup.unlink()
    (folder / STAMP).write_text(key())


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit status."""
    folder = Path(arguments[0]).resolve() if arguments else ROOT / "build" / "compiled"
    if is_fresh(folder):
        print(f"compile: {folder} is up to date")
        return 0
    print(f"compile: {len(MODULES)} modules with mypyc into {folder} (a minute or two)", flush=True)
    try:
        build(folder)
    except subprocess.CalledProcessError as error:
        print(error.output, file=sys.stderr)
        print("compile: failed; is there a C compiler, and are there headers of this Python?", file=sys.stderr)
        return 1
    print("compile: done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
