"""Deleting one branch of a call, in the very form the proxy does it, where its offer may be unknown: fake and real.

How it works: a pair that talks (f and B1, as after a 200) must survive every delete of another branch. The traps are
branches the node never saw: their offer was lost, they were deleted before (the delete was sent twice), or the call has
moved to this node since, under a fresh call-id and with the pair that talks alone. 10.5 goes by the to-tag where there
is one. Daemons from 13.0 on are documented to do so only with the flag ``to-tag`` (not run here); 10.5 accepts it and
behaves the same, so that a delete with both need not know the version.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.ng_protocol.contract import Dialog

FORMS = [
    pytest.param({}, id="to-tag"),
    pytest.param({"flags": ("to-tag",)}, id="to-tag and its flag"),
]


async def talking(dialog: Dialog) -> None:
    """f and B1 hear each other."""
    await dialog.offer("f", "B1", via_branch="1")
    await dialog.answer("f", "B1", via_branch="1")


async def assert_talks(dialog: Dialog) -> None:
    """Both still have ports, and hear each other (a deleted branch stays listed behind, without a port)."""
    assert (await dialog.hears("f"))[0] == "B1"
    assert await dialog.hears("B1") == ["f"]
    assert (await dialog.stream("f")).local_port is not None
    assert (await dialog.stream("B1")).local_port is not None


@pytest.mark.parametrize("form", FORMS)
async def test_a_branch_of_before_the_move_deletes_nothing(dialog: Dialog, form: dict[str, Any]) -> None:
    await talking(dialog)
    assert not (await dialog.delete(from_tag="f", to_tag="B2", via_branch="2", **form)).known
    await assert_talks(dialog)


@pytest.mark.parametrize("form", FORMS)
async def test_the_loser_of_a_fork_is_deleted_once_however_often_it_is_asked(
    dialog: Dialog, form: dict[str, Any]
) -> None:
    await dialog.offer("f", "B2", via_branch="2")
    await talking(dialog)
    assert (await dialog.delete(from_tag="f", to_tag="B2", via_branch="2", **form)).known
    assert (await dialog.stream("B2")).local_port is None
    await assert_talks(dialog)
    await dialog.delete(from_tag="f", to_tag="B2", via_branch="2", **form)
    await assert_talks(dialog)
