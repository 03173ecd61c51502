"""The picture: every mode with a ratio is in it, and the same results make the same file."""

from importlib import util
from pathlib import Path

import pytest

from lab.bench import plot
from lab.bench.pairs import Result, Run
from lab.bench.processes import BenchError


def result(mode: str, *ratios: float) -> Result:
    return Result(mode, pairs=[(Run("ours", 9, 0, 0, 100 * r), Run("peer", 9, 0, 0, 100.0)) for r in ratios])


def test_modes_with_a_ratio_are_drawn(tmp_path: Path) -> None:
    shown = [result("P1", 0.4, 0.42, 0.41), Result("P2", invalid="spoiled"), result("P3", 0.9), result("P8", 1.5)]
    for name in ("one.svg", "two.svg"):
        plot.draw(shown, tmp_path / name, "a title")
    text = (tmp_path / "one.svg").read_text()
    assert "<!-- P1 -->" in text
    assert "<!-- P3 -->" in text
    assert "<!-- 0.41 -->" in text
    assert "<!-- P2 -->" not in text
    assert "<!-- P8 -->" not in text, "delays have no bar"
    assert text == (tmp_path / "two.svg").read_text()


def test_nothing_valid_is_still_a_picture(tmp_path: Path) -> None:
    plot.draw([Result("P2", invalid="spoiled")], tmp_path / "none.svg", "a title")
    assert "</svg>" in (tmp_path / "none.svg").read_text()


def test_a_missing_library_is_told_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    plot.require()
    monkeypatch.setattr(plot, "find_spec", lambda name: None if name == "matplotlib" else util.find_spec(name))
    with pytest.raises(BenchError, match=r"matplotlib is not installed: pip install -e '\.\[dev\]'"):
        plot.require()
