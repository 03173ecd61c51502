"""Parts of the page are replaced where they stand; what people wrote stays."""

from pathlib import Path

import pytest

from lab.bench.page import TEMPLATE, marks, replaced, write
from lab.bench.processes import BenchError

PAGE = """# Title

By hand.

<!-- bench: results -->
old
<!-- end: results -->

## What was tried

Prose.
"""


def test_only_the_part_changes() -> None:
    changed = replaced(PAGE, "results", "\nnew \\1 text\n\n")
    assert changed == PAGE.replace("\nold\n", "\nnew \\1 text\n")
    assert replaced(changed, "results", "old") == PAGE


def test_an_empty_part_is_filled() -> None:
    first, last = marks("memory")
    assert replaced(f"a\n{first}\n{last}\nb\n", "memory", "x") == f"a\n{first}\nx\n{last}\nb\n"


def test_a_page_without_the_part_gets_it_at_its_end() -> None:
    assert replaced(PAGE, "memory", "flat") == f"{PAGE}\n<!-- bench: memory -->\nflat\n<!-- end: memory -->\n"


@pytest.mark.parametrize(
    "page",
    [
        PAGE.replace("<!-- end: results -->", ""),
        PAGE.replace("<!-- bench: results -->", ""),
        PAGE + "<!-- bench: results -->\n",
        "<!-- end: results -->\n<!-- bench: results -->\n",
    ],
)
def test_damaged_marks_are_told_and_nothing_is_lost(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(page)
    with pytest.raises(BenchError, match="marks of results are damaged"):
        write(tmp_path / "page.md", "results", "new")
    assert (tmp_path / "page.md").read_text() == page


def test_a_page_that_is_not_there_begins_as_the_template(tmp_path: Path) -> None:
    write(tmp_path / "docs" / "page.md", "results", "figures")
    assert (tmp_path / "docs" / "page.md").read_text() == replaced(TEMPLATE, "results", "figures")


def test_the_page_of_this_repository_has_its_parts(repository: Path) -> None:
    page = (repository / "docs" / "performance.md").read_text()
    for name in ("results", "memory", "profile"):
        assert replaced(page, name, "x").count(marks(name)[0]) == 1
        assert marks(name)[0] in page
    assert "## What was tried" in page
