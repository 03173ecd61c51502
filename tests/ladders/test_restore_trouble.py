"""Restarts that find something else than they left, and calls that were not stored (`proxy.restore`)."""

from __future__ import annotations

import msgspec
import pytest
import trio

from ng_protocol import Delete
from proxy.media.mover import Mover
from proxy.media.session import Session
from proxy.snapshot import decode_untrusted
from proxy.store import OWED, SESSIONS
from tests.ladder import play
from tests.ladders.flows import HUNG_UP, RINGING, answered, commands
from tests.ladders.restarts import gone, rows
from tests.world import World, settle

# -- what the nodes say ------------------------------------------------------------------------------------------------


async def test_a_call_its_node_lost_meanwhile_is_handed_over(stored: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon was restarted while the proxy was down: found by asking once, before any sampler."""
    ladder = await answered(stored)
    await trio.sleep(1)
    assert stored.node is not None
    stored.node.restart()
    lost: list[str] = []
    monkeypatch.setattr(Mover, "session_lost", lambda self, session: lost.append(session.id))
    (before,) = stored.edge._sessions()
    await stored.restart()
    assert lost == [before.id]
    await ladder.play(HUNG_UP)
    await gone(stored)


async def test_a_node_that_is_silent_says_nothing_about_its_calls(stored: World) -> None:
    """That is the watcher's affair."""
    ladder = await answered(stored)
    await trio.sleep(1)
    assert stored.node is not None
    stored.node.pause()
    await stored.restart()
    await trio.sleep(10)
    stored.node.resume()
    assert len(list(stored.edge._sessions())) == 1
    await ladder.play(HUNG_UP)
    await gone(stored)


async def test_a_node_that_is_not_configured_any_more(stored: World) -> None:
    """Its calls move to the one that is."""
    ladder = await answered(stored)
    await trio.sleep(1)
    assert stored.node is not None
    node = msgspec.structs.replace(stored.config.rtpengine[0], name="other")
    stored.config = msgspec.structs.replace(stored.config, rtpengine=(node,))
    await stored.restart()
    stored.node.calls.clear()  # that node is nobody's any more
    await ladder.play("""
        edge -> caller    INVITE
            sdp: 198.51.100.2:*
        edge -> callee    INVITE  [B]
            sdp: 198.51.100.2:*
        caller -> edge    200 OK (INVITE)
            sdp: alice
        edge -> caller    ACK
        callee -> edge    200 OK (INVITE)  [B]
            sdp: bob
        edge -> callee    ACK  [B]
    """)
    await ladder.play(HUNG_UP)
    await gone(stored)


# -- what was not stored -----------------------------------------------------------------------------------------------


async def test_a_call_the_store_never_saw(stored: World) -> None:
    """Killed within the first 50 ms: it is not listed, but its requests pass, and its BYE deletes the ng call."""
    ladder = await answered(stored)
    await stored.restart(down=0.1)
    assert list(stored.edge._sessions()) == []
    await ladder.play("""
        fs -> edge        INFO
        edge -> caller    INFO
        caller -> edge    200 OK
        edge -> fs        200 OK
    """ + HUNG_UP)  # fmt: skip
    await gone(stored)
    assert commands(stored)[:2] == ["offer", "answer"] and set(commands(stored)[2:]) == {"delete"}


async def test_a_call_being_set_up_fails(stored: World) -> None:
    ladder = await play(stored, RINGING)
    await stored.restart(down=0.1)
    await ladder.play("""
        callee -> edge    200 OK (INVITE)  [B]
            sdp: bob
        caller -> edge    CANCEL
        edge -> caller    481 Call/Transaction Does Not Exist (CANCEL)
        fs -> edge        CANCEL  [B]
        edge -> fs        481 Call/Transaction Does Not Exist (CANCEL)  [B]
    """)  # fmt: skip
    assert stored.stats["responses_stray"] == 1
    assert stored.node is not None and len(stored.node.calls) == 1
    reconciler = stored.edge.reconciler
    assert reconciler is not None
    await reconciler.look()
    await trio.sleep(reconciler.interval)
    await reconciler.look()
    await settle()
    await gone(stored)


async def test_a_committed_call_that_was_being_set_up_is_given_up(stored: World) -> None:
    """Its media moved while it rang, say: nothing of its set-up is known any more."""
    await play(stored, RINGING)
    (session,) = stored.edge._sessions()
    assert await stored.edge.keeper.store.commit(session)
    assert rows(stored) == [session.id]
    await stored.restart()
    await gone(stored)
    assert commands(stored) == ["offer", "delete"]


async def test_a_row_nobody_can_read_costs_one_call(stored: World, caplog: pytest.LogCaptureFixture) -> None:
    ladder = await answered(stored)
    await trio.sleep(1)
    store = stored.edge.keeper.store
    store.put(SESSIONS, "edge1-junk", b"\x92\x01\x90")
    await trio.sleep(1)
    await stored.restart()
    assert "session edge1-junk in" in caplog.text
    await ladder.play(HUNG_UP)
    await gone(stored)


async def test_a_store_is_no_condition(world: World) -> None:
    """Without one, and without media, everything is as before."""
    assert world.edge.keeper.store.statistics() == {}
    world.edge.keeper.restore()
    await world.edge.keeper.verify()


# -- debts -------------------------------------------------------------------------------------------------------------


async def test_owed_deletes_survive(stored: World) -> None:
    """What was not paid before the end is paid after the start; a node that is not known yet keeps its debts."""
    assert stored.node is not None
    whole = Delete(call_id="edge1-1", delete_delay=0)
    branch = Delete(call_id="edge1-2", from_tag="leg-A", to_tag="leg-B", via_branch="br-B", delete_delay=0)
    pool = stored.edge.pool
    for name, delete in (("node1", whole), ("node1", branch), ("node2", whole)):
        pool.owe(name, delete)
    await trio.sleep(1)
    assert len(rows(stored, OWED)) == 3
    pool.pay("node1")
    await trio.sleep(1)
    assert stored.node.count("delete") == 2
    assert rows(stored, OWED) == ["node2\0edge1-1\0\0"]
    stored.node.pause()
    pool.owe("node1", branch)
    await trio.sleep(1)
    await stored.restart()
    assert stored.edge.pool.owed.of("node2") == [whole]
    assert stored.edge.pool.owed.of("node1") == [branch]
    stored.node.resume()
    await stored.restart()
    assert stored.node.of("delete")[-1]["via-branch"] == "br-B"
    await trio.sleep(1)
    assert rows(stored, OWED) == ["node2\0edge1-1\0\0"]


async def test_a_debt_nobody_can_read(stored: World, caplog: pytest.LogCaptureFixture) -> None:
    stored.edge.keeper.store.put(OWED, "junk", b"junk")
    await trio.sleep(1)
    await stored.restart()
    assert len(stored.edge.pool.owed) == 0 and "the owed delete 'junk'" in caplog.text
    await trio.sleep(1)
    assert rows(stored, OWED) == []


# -- many calls --------------------------------------------------------------------------------------------------------


async def test_many_calls_at_once(stored: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred rows: everything is back in the order it was written, and every call is asked about once."""
    await answered(stored)
    await trio.sleep(1)
    keeper, node = stored.edge.keeper, stored.node
    assert node is not None
    (session,) = stored.edge._sessions()
    listeners = {one.name: one for one in stored.edge.listeners}
    data = keeper._encode(session)
    for number in range(300):
        found = decode_untrusted(data, listeners, 0.0)
        found.session.id = found.session.ng_call_id = f"edge1-{number:016x}"
        for dialog in found.dialogs:
            assert dialog.leg is not None
            dialog.call_id = dialog.leg.call_id = dialog.call_id + b"-%d" % number
            stored.edge.core.dialogs.add(dialog)
        keeper.store.dirty(found.session)
    await trio.sleep(1)
    assert len(rows(stored)) == 301
    lost: list[Session] = []
    monkeypatch.setattr(Mover, "session_lost", lambda self, session: lost.append(session))
    monkeypatch.setattr(Mover, "resume", lambda self: 0)  # the copies' media was made for the original
    asked = node.count("query")
    await stored.restart()
    assert stored.stats["sessions_restored"] == 301
    assert [one.id for one in stored.edge._sessions()] == rows(stored)
    assert node.count("query") == asked + 301
    assert len({one.id for one in lost}) == 300 and session.id not in {one.id for one in lost}
    assert stored.edge.anchor is not None
    shown = stored.edge.anchor.table.find([next(iter(session.handed))])
    assert shown is not None and shown.author.session.id == rows(stored)[-1], "of an address in many the newest wins"
    for one in list(stored.edge._sessions()):
        stored.edge.supervisor.end_dialogs(
            [found for leg in one.legs if (found := stored.edge.supervisor.dialog_of(leg)) is not None], b"SIP"
        )
    await trio.sleep(40)
    stored.take()
    await gone(stored)
