"""`scripts/compile.py`: what it compiles is there, and a build of other sources is not taken for one of these.

That the compiled build does the same is not shown here: `make test` runs the tests of the hot path on it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_script", ROOT / "scripts" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_module_named_exists_once(script: ModuleType) -> None:
    missing = [name for name in script.MODULES if not (ROOT / f"{name}.py").is_file()]
    assert missing == []
    assert len(set(script.MODULES)) == len(script.MODULES)


def test_only_a_build_of_these_sources_is_fresh(script: ModuleType, tmp_path: Path) -> None:
    assert not script.is_fresh(tmp_path)
    stamp = tmp_path / script.STAMP
    stamp.write_text(script.key())
    assert script.is_fresh(tmp_path)
    stamp.write_text(script.key().replace("Python", "python"))
    assert not script.is_fresh(tmp_path)


def test_the_key_follows_the_sources(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = script.key()
    fewer = script.sources()[1:]
    monkeypatch.setattr(script, "sources", lambda: fewer)
    assert script.key() != before


def test_a_fresh_build_is_left_alone(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / script.STAMP).write_text(script.key())
    monkeypatch.setattr(script, "build", lambda folder: pytest.fail("built again"))
    assert script.main([str(tmp_path)]) == 0
    assert "up to date" in capsys.readouterr().out


def test_a_failure_shows_the_compilers_words(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "SETUP", "raise SystemExit('no such compiler')")
    assert script.main([str(tmp_path / "build")]) == 1
    shown = capsys.readouterr().err
    assert "no such compiler" in shown
    assert "C compiler" in shown
    assert not script.is_fresh(tmp_path / "build")
