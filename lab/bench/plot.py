"""The picture of a bench: each mode's ratio with its least and greatest, and the bar it has to stay under.

matplotlib is imported when a picture is drawn, so that everything else of the bench runs without it.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lab.bench.modes import MODES
from lab.bench.pairs import Result
from lab.bench.processes import BenchError


def require() -> None:
    """BenchError when no picture could be drawn."""
    if find_spec("matplotlib") is None:
        raise BenchError("the report wants a plot, and matplotlib is not installed: pip install -e '.[dev]'")


def draw(results: Sequence[Result], path: Path, title: str) -> None:
    """Draw the ratios to the SVG file `path`; the same results make the same file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bench"
    from matplotlib import pyplot

    shown = [result for result in results if result.ratio is not None and not MODES[result.mode].delay]
    figure, axes = pyplot.subplots(figsize=(8.0, 0.7 * max(len(shown), 1) + 1.3), layout="constrained")
    for row, result in enumerate(shown):
        ratio, bar = result.ratio or 0.0, MODES[result.mode].bar
        reached = bar is not None and ratio <= bar
        axes.barh(row, ratio, height=0.55, color="#6aa84f" if reached or bar is None else "#e69138")
        axes.hlines(row, min(result.ratios), max(result.ratios), color="black", linewidth=1.2)
        axes.plot(result.ratios, [row] * len(result.ratios), "k|", markersize=9)
        if bar is not None:
            axes.vlines(bar, row - 0.42, row + 0.42, color="#cc0000", linewidth=2)
        axes.text(max(result.ratios) + 0.02, row, f"{ratio:.2f}", va="center")
    axes.set_yticks(range(len(shown)), [result.mode for result in shown])
    axes.axvline(1.0, color="grey", linewidth=0.8, linestyle="--")
    axes.invert_yaxis()
    axes.set_xlim(left=0.0, right=max([1.1, *(max(result.ratios) + 0.15 for result in shown)]))
    axes.set_xlabel("CPU per call, ours / Kamailio (red: the bar; ticks: the pairs)")
    axes.set_title(title, fontsize=10)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
