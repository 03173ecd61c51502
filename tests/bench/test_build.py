"""Which build runs: found, refused, left out when it is stale. Builds here are small copies made by the test."""

import os
from pathlib import Path

import pytest

from lab.bench.build import COMPILED, ROOT, Build, choose, inspect, stale
from lab.bench.processes import BenchError

EXTENSION = "stack.cpython-311-x86_64-linux-gnu.so"


def make(folder: Path, text: str = "app = 1\n") -> Path:
    """A folder that looks like a build."""
    for package in ("proxy", "ng_protocol"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text("")
    (folder / "proxy" / "app.py").write_text(text)
    return folder


def test_the_sources_are_pure_python() -> None:
    build = inspect(ROOT)
    assert (str(build), build.compiled, build.folder) == ("pure Python", 0, ROOT)
    assert build.modules > 20


def test_a_compiled_build_says_how_much_of_it_is_compiled(tmp_path: Path) -> None:
    # A module that calls itself an extension stands for one: what counts is where Python says it came from.
    make(tmp_path, f"__file__ = __file__.replace('app.py', {EXTENSION!r})\n")
    assert str(inspect(tmp_path)) == "compiled with mypyc (1 of 2 modules)"


def test_what_is_no_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="holds no build of ours: it has no folder named proxy"):
        inspect(tmp_path)


def test_a_build_that_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"cannot be imported:\n(?s:.*)ZeroDivisionError"):
        inspect(make(tmp_path, "1 / 0\n"))


def test_a_build_that_borrows_from_the_checkout_is_refused(tmp_path: Path) -> None:
    make(tmp_path, f"import sys\nsys.path.append({str(ROOT)!r})\nimport ng_protocol\n")
    (tmp_path / "ng_protocol" / "__init__.py").unlink()
    (tmp_path / "ng_protocol").rmdir()
    with pytest.raises(BenchError, match=r"is not whole: .*/ng_protocol/\w+\.py would be run in its place"):
        inspect(tmp_path)


def test_the_build_alone_is_on_the_path(tmp_path: Path) -> None:
    assert Build(tmp_path).environment()["PYTHONPATH"] == str(tmp_path)


def test_a_build_of_other_sources_is_stale(tmp_path: Path) -> None:
    root, build = make(tmp_path / "root"), make(tmp_path / "build")
    assert stale(build, root) == ""
    (root / "proxy" / "app.py").write_text("app = 2\n")
    assert stale(build, root) == "proxy/app.py has changed since"
    (build / "proxy" / "app.py").write_text("app = 2\n")
    (root / "proxy" / "new.py").write_text("")
    assert stale(build, root) == "proxy/new.py has changed since"


def test_an_extension_older_than_its_source_is_stale(tmp_path: Path) -> None:
    root, build = make(tmp_path / "root"), make(tmp_path / "build")
    for folder in (root, build):
        (folder / "proxy" / "stack.py").write_text("")
    extension = build / "proxy" / EXTENSION
    extension.write_bytes(b"")
    os.utime(build / "proxy" / "stack.py", (1000, 1000))
    os.utime(extension, (2000, 2000))
    assert stale(build, root) == ""
    os.utime(build / "proxy" / "stack.py", (3000, 3000))
    assert stale(build, root) == f"proxy/{EXTENSION} is older than stack.py beside it"


def test_the_choice(tmp_path: Path) -> None:
    root = make(tmp_path / "root")
    asked = make(tmp_path / "asked")
    assert choose(None, False, root)[0].folder == root
    assert choose(asked, False, root)[0].folder == asked
    compiled = make(root / COMPILED)
    assert choose(None, False, root)[0].folder == compiled
    assert choose(None, True, root)[0].folder == root
    assert choose(asked, False, root)[0].folder == asked
    (root / "proxy" / "app.py").write_text("app = 2\n")
    build, remark = choose(None, False, root)
    assert build.folder == root
    assert remark == "build/compiled is left out: proxy/app.py has changed since; build it again to measure it"
