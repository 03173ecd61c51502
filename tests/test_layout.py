"""The shape of the code, kept by a test: sizes, docstrings, a test file for each module, imports that point one way.

How it works: every Python file of the four packages is parsed with `ast`, never imported. Rules speak of modules by
dotted name; a rule about a package holds for all in it. A rule for modules that do not exist yet says nothing, but a
module that has no place in `LAYERS` fails: where it belongs is a decision to take, not to forget.

Imports under `if TYPE_CHECKING:` cost nothing at run time and may point upward inside `proxy`; between the packages
they count like any other. Imports inside functions always count.
"""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ng_protocol", "proxy", "mediactl", "lab")
MAX_LINES = 500

LAYERS: list[set[str]] = [
    {"proxy.sip"},
    {
        "proxy.flow",
        "proxy.pacing",
        "proxy.garbage",
        "proxy.driver",
        "proxy.token",
        "proxy.dispatcher",
        "proxy.nat",
        "proxy.config_check",
        "proxy.session_timer",
        "proxy.store",
    },
    {"proxy.config", "proxy.contact", "proxy.location", "proxy.forward"},
    {"proxy.registrar", "proxy.stack", "proxy.dialogs", "proxy.media"},
    {"proxy.media_nodes", "proxy.snapshot", "proxy.state"},
    {"proxy.transport", "proxy.relay", "proxy.control"},
    {"proxy.outcome", "proxy.stories", "proxy.uac"},
    {"proxy.routing", "proxy.stateless", "proxy.supervisor", "proxy.restore"},
    {"proxy.talk", "proxy.core"},
    {"proxy.edge"},
    {"proxy.app"},
]
"""Rings of `proxy`, lowest first: a module imports from lower layers and from its own package only."""

SECOND_FILES = {"proxy.calls": "proxy.routing"}
"""Modules that are the second file of another one: they stand in its layer, and the two may import each other."""

REACH: dict[str, tuple[str, ...]] = {
    "ng_protocol": ("ng_protocol",),
    "mediactl": (
        "mediactl",
        "proxy.control.schema",
        "proxy.control.node_schema",
        "proxy.control.streams",
        "ng_protocol",
    ),
    "lab": ("lab", "mediactl", "ng_protocol"),
    "proxy.sip": ("proxy.sip",),
    "proxy": ("proxy", "ng_protocol"),
}
"""What of ours a package may import at all, whoever asks; the longest matching name decides."""

RING_0 = (
    "proxy.sip",
    "proxy.token",
    "proxy.snapshot",
    "proxy.media.policy",
    "proxy.media.origin",
    "proxy.media.session",
    "proxy.media.exchange",
    "proxy.media.nodes",
    "proxy.media.owed",
    "proxy.media.pulse",
    "proxy.freeswitch.esl",
    "proxy.control.schema",
    "proxy.control.node_schema",
    "ng_protocol.codec",
    "ng_protocol.flat",
    "ng_protocol.commands",
    "ng_protocol.messages",
    "ng_protocol.replies",
    "ng_protocol.errors",
    "ng_protocol.querytree",
    "ng_protocol.statstree",
    "lab.bench.flame",
    "lab.bench.modes",
    "lab.bench.pairs",
    "lab.sip",
    "lab.sdp",
)
"""Pure: no trio, no sockets, no clock, nothing awaited."""

RING_1 = (
    "proxy.stack",
    "proxy.forward",
    "proxy.flow",
    "proxy.dialogs",
    "proxy.config",
    "proxy.config_check",
    "proxy.nat",
    "proxy.location",
    "proxy.registrar",
    "proxy.dispatcher",
    "proxy.session_timer",
    "proxy.media.table",
)
"""The synchronous heart: no trio, nothing awaited, time is an argument."""

OUTSIDE_RING_1 = {"trio", "asyncio", "time", "threading", "select", "selectors"}
OUTSIDE_RING_0 = OUTSIDE_RING_1 | {"socket", "ssl", "subprocess"}

TESTED_BY: dict[str, str] = {
    "ng_protocol.pending": "tests/ng_protocol/test_client.py",
    "lab.__main__": "tests/lab/test_runner.py",
    "lab.b2bua_*": "tests/test_b2bua_traces.py",
    "lab.bench.__main__": "tests/bench/test_command_line.py",
    "lab.bench.node": "tests/bench/test_sides.py",
    "lab.bench.stage": "tests/bench/test_runs.py",
    "mediactl.__main__": "tests/mediactl/test_cli.py",
    "mediactl.output": "tests/mediactl/test_cli.py",
    "proxy.config_check": "tests/test_config.py",
    "proxy.media.origin": "tests/media/test_session.py",
    "proxy.sip.reasons": "tests/sip/test_errors.py",
    # One INVITE goes through all of these: ladders show what they do together, each file one subject.
    "proxy.calls": "tests/ladders/test_forking.py",
    "proxy.contact": "tests/ladders/test_via.py",
    "proxy.core": "tests/ladders/test_validation.py",
    "proxy.edge": "tests/ladders/test_talk.py",
    "proxy.flow": "tests/ladders/test_via.py",
    "proxy.forward": "tests/ladders/test_routes.py",
    "proxy.outcome": "tests/ladders/test_endings.py",
    "proxy.relay": "tests/ladders/test_forking.py",
    "proxy.routing": "tests/ladders/test_builtin.py",
    "proxy.stack": "tests/proxy/test_transaction_tables.py",
    "proxy.stories": "tests/ladders/test_cancel.py",
    "proxy.supervisor": "tests/ladders/test_endings.py",
    "proxy.talk": "tests/ladders/test_builtin.py",
    "proxy.uac": "tests/ladders/test_cseq.py",
    # Parts of a network that do something only together: the demo runs them all.
    **dict.fromkeys(
        [f"lab.{part}" for part in ("call", "namespace", "nat", "probe", "requirements", "rtpengine", "sip_dialog")],
        "tests/lab/test_demo.py",
    ),
    **dict.fromkeys([f"lab.{part}" for part in ("sip_socket", "stage", "switch")], "tests/lab/test_demo.py"),
}
"""Modules (or patterns of fnmatch) whose test file has another name than `test_<module>.py`."""


def within(name: str, parent: str) -> bool:
    """Whether `name` is `parent` or inside it."""
    return name == parent or name.startswith(parent + ".")


@dataclass(frozen=True)
class Import:
    """One imported module; `typing_only` when it stands under `if TYPE_CHECKING:`."""

    target: str
    line: int
    typing_only: bool


@dataclass(frozen=True)
class Module:
    """One file of ours."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> list[Module]:
    """Every module of the four packages."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found.append(Module(_name(path), path, ast.parse(path.read_text(), str(path))))
    return found


@cache
def module_names() -> frozenset[str]:
    return frozenset(module.name for module in modules())


def is_type_checking(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def targets(node: ast.Import | ast.ImportFrom, module: Module) -> Iterator[str]:
    """Dotted names an import statement brings in; `from package import module` names the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        is_package = module.path.name == "__init__.py"
        parents = module.name.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
        base = ".".join([*parents, *([node.module] if node.module else [])])
    for alias in node.names:
        full = f"{base}.{alias.name}"
        yield full if full in module_names() else base


def imports(module: Module) -> list[Import]:
    """All imports of a module, wherever in it they stand."""
    found: list[Import] = []

    def visit(node: ast.AST, typing_only: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(target, node.lineno, typing_only) for target in targets(node, module))
        body_only = is_type_checking(node)
        for child in ast.iter_child_nodes(node):
            in_body = body_only and isinstance(node, ast.If) and child in node.body
            visit(child, typing_only or in_body)

    visit(module.tree, False)
    return found


def layer(name: str) -> int | None:
    """Index of the layer a module of `proxy` belongs to."""
    name = SECOND_FILES.get(name, name)
    for index, members in enumerate(LAYERS):
        if any(within(name, member) for member in members):
            return index
    return None


def package_of(name: str) -> str:
    """What counts as one unit in LAYERS: `proxy.sip.uri` -> `proxy.sip`."""
    return SECOND_FILES.get(name) or ".".join(name.split(".")[:2])


def assert_none(problems: list[str], rule: str) -> None:
    assert not problems, f"{rule}:\n  " + "\n  ".join(problems)


def awaits(module: Module) -> list[str]:
    kinds = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    return [
        f"{module.where}:{node.lineno} has `{type(node).__name__}`"
        for node in ast.walk(module.tree)
        if isinstance(node, kinds)
    ]


def outside(module: Module, forbidden: set[str]) -> list[str]:
    return [
        f"{module.where}:{found.line} imports {found.target}"
        for found in imports(module)
        if found.target.split(".")[0] in forbidden
    ]


def test_there_is_something_to_check() -> None:
    assert {name.split(".")[0] for name in module_names()} == set(PACKAGES)


def test_files_are_short() -> None:
    files = [path for folder in (*PACKAGES, "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
    lengths = {path: len(path.read_text().splitlines()) for path in files}
    assert_none(
        [f"{path.relative_to(ROOT)} has {lines} lines" for path, lines in lengths.items() if lines > MAX_LINES],
        f"no file has more than {MAX_LINES} lines; split it where a second subject moved in",
    )


def test_modules_say_how_they_work() -> None:
    paths = [*(module.path for module in modules()), *sorted((ROOT / "tests").rglob("*.py"))]
    silent = [path for path in paths if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))]
    assert_none([str(path.relative_to(ROOT)) for path in silent], "a file starts with a docstring")


def test_public_names_have_docstrings() -> None:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    assert_none(
        [
            f"{module.where}:{node.lineno} {node.name}"
            for module in modules()
            for node in module.tree.body
            if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node)
        ],
        "a public class or function says what it is",
    )


def has_code(module: Module) -> bool:
    """Whether a module does anything: a docstring, imports and `__all__` do not."""
    for node in module.tree.body:
        names = (
            [target.id for target in node.targets if isinstance(target, ast.Name)]
            if isinstance(node, ast.Assign)
            else []
        )
        plain = isinstance(node, ast.Import | ast.ImportFrom | ast.Expr) or names in (["__all__"], ["__version__"])
        if not plain and not is_type_checking(node):
            return True
    return False


def is_test_of(module: Module, file: Path, text: str) -> bool:
    """Whether a test file belongs to a module: by its name or its folder's, and by naming the module or its package."""
    parts = module.name.split(".")
    names = ["_".join(parts[start:]) for start in range(len(parts))]
    by_name = any(file.stem == f"test_{name}" or file.stem.startswith(f"test_{name}_") for name in names)
    by_folder = any(parent.name in names for parent in file.relative_to(ROOT / "tests").parents)
    package = ".".join(parts[:-1])
    mentions = module.name in text or f"from {package} import" in text or (len(parts) > 2 and package in text)
    return mentions and (by_name or by_folder)


def test_every_module_has_a_test_file() -> None:
    texts = {path: path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    problems = [f"{name}: {file} does not exist" for name, file in TESTED_BY.items() if ROOT / file not in texts]
    for pattern in TESTED_BY:
        if not fnmatch.filter(module_names(), pattern):
            problems.append(f"{pattern} is in TESTED_BY but there is no such module")
    for module in modules():
        mapped = any(fnmatch.fnmatch(module.name, pattern) for pattern in TESTED_BY)
        if not has_code(module) or mapped or within(module.name, "lab.scenarios"):
            continue  # a scenario is itself a test
        if not any(is_test_of(module, file, text) for file, text in texts.items()):
            stem = module.name.rpartition(".")[2]
            problems.append(f"{module.where}: no tests/**/test_{stem}.py that imports it; write one or fill TESTED_BY")
    assert_none(problems, "every module has a test file")


def test_packages_import_only_what_they_may() -> None:
    problems = []
    for module in modules():
        scope = max((name for name in REACH if within(module.name, name)), key=len)
        for found in imports(module):
            ours = found.target.split(".")[0] in (*PACKAGES, "tests")
            if ours and not any(within(found.target, allowed) for allowed in REACH[scope]):
                problems.append(
                    f"{module.where}:{found.line} imports {found.target}; {scope} may import {REACH[scope]}"
                )
    assert_none(problems, "imports between packages point one way")


def test_no_module_is_in_two_layers() -> None:
    members = [member for layer_members in LAYERS for member in sorted(layer_members)]
    assert_none(sorted({member for member in members if members.count(member) > 1}), "a module has one layer")


def test_proxy_imports_point_down() -> None:
    problems = []
    for module in modules():
        if not within(module.name, "proxy") or module.name in ("proxy", "proxy.__main__"):
            continue
        mine = layer(module.name)
        if mine is None:
            problems.append(f"{module.name} ({module.where}) has no place in LAYERS of tests/test_layout.py")
            continue
        for found in imports(module):
            theirs = layer(found.target)
            if found.typing_only or theirs is None or package_of(found.target) == package_of(module.name):
                continue
            if theirs >= mine:
                problems.append(
                    f"{module.where}:{found.line} {module.name} (layer {mine}) imports {found.target} ({theirs})"
                )
    assert_none(problems, "a module of proxy imports only from lower layers")


@pytest.mark.parametrize("ring", RING_0)
def test_ring_0_is_pure(ring: str) -> None:
    problems = []
    for module in modules():
        if within(module.name, ring):
            problems += outside(module, OUTSIDE_RING_0) + awaits(module)
    assert_none(problems, f"{ring} is pure: no trio, no sockets, no clock")


@pytest.mark.parametrize("ring", RING_1)
def test_ring_1_is_synchronous(ring: str) -> None:
    problems = []
    for module in modules():
        if within(module.name, ring):
            problems += outside(module, OUTSIDE_RING_1) + awaits(module)
    assert_none(problems, f"{ring} is synchronous: no trio, nothing awaited, time is an argument")


def test_only_the_codec_knows_bencode() -> None:
    assert_none(
        [
            f"{module.where}:{found.line}"
            for module in modules()
            for found in imports(module)
            if found.target.split(".")[0] == "bencodepy" and not within(module.name, "ng_protocol.codec")
        ],
        "only ng_protocol.codec imports bencodepy, whose decoder can be hung by nine bytes",
    )


def test_no_possessive_groups() -> None:
    """Possessive repetition is for characters: Python before 3.11.5 takes a group that fails half-way for matched."""
    assert_none(
        [
            f"{module.where}:{number} {line.strip()}"
            for module in modules()
            for number, line in enumerate(module.path.read_text().splitlines(), 1)
            if re.search(r"\)[*?+]\+", line)
        ],
        "a repeated group in a regex is greedy (CPython issue 106052)",
    )


SAMPLE = """
from typing import TYPE_CHECKING
from . import uri
from .headers import Via
if TYPE_CHECKING:
    from proxy.core import Core
else:
    import late
def f():
    import trio
"""


def test_the_walk_finds_every_import() -> None:
    module = Module("proxy.sip.message", ROOT / "proxy" / "sip" / "message.py", ast.parse(SAMPLE))
    found = {(each.target, each.typing_only) for each in imports(module)}
    assert found == {
        ("typing", False),
        ("proxy.sip.uri" if "proxy.sip.uri" in module_names() else "proxy.sip", False),
        ("proxy.sip.headers", False),
        ("proxy.core", True),
        ("late", False),
        ("trio", False),
    }
    assert outside(module, OUTSIDE_RING_0) == ["proxy/sip/message.py:10 imports trio"]
