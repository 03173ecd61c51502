"""Calls through a restart: `kill -9` in the middle of a call's life, and the call goes on (`proxy.restore`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from proxy.store import Kept, NullStore, Persistence
from tests.ladder import play
from tests.ladders.flows import ANSWERED, HUNG_UP, answered, commands
from tests.ladders.restarts import gone, hung_up_by_us, rows
from tests.ladders.test_cseq import reinvite
from tests.ladders.test_endings import byes
from tests.media.ladder import bob
from tests.world import TALK, World, open_world

HOLD = """
        caller -> edge    INVITE
            sdp: alice-hold
        edge -> caller    100 Trying
        edge -> fs        INVITE
            sdp: 198.51.100.2:*
        fs -> edge        INVITE  [B]
            sdp: fs A
        edge -> fs        100 Trying  [B]
        edge -> callee    INVITE  [B]
            sdp: 198.51.100.2:*
        callee -> edge    200 OK  [B]
            sdp: bob-held
        edge -> fs        200 OK  [B]
        fs -> edge        ACK  [B]
        edge -> callee    ACK  [B]
        fs -> edge        200 OK (INVITE)
            sdp: fs B
        edge -> caller    200 OK
            sdp: 198.51.100.2:*
        caller -> edge    ACK
        edge -> fs        ACK
"""
"""The caller holds, through FreeSWITCH."""

DIRECT_CALL = """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
            sdp: bob
        edge -> caller    200 OK
            sdp: 198.51.100.2:*
        caller -> edge    ACK
        edge -> callee    ACK
"""


def version_shown(world: World, party: str, what: str) -> tuple[bytes, int]:
    """Session id and version of the o= line in the last such message a party got."""
    line = next(line for line in world.last(party, what).body.split(b"\r\n") if line.startswith(b"o="))
    _, number, version, *_ = line.split(b" ")
    return number, int(version)


async def test_a_call_is_written_once_and_its_row_goes_with_it(stored: World) -> None:
    ladder = await answered(stored)
    assert rows(stored) == []
    await trio.sleep(0.06)
    (session,) = stored.edge._sessions()
    assert rows(stored) == [session.id]
    await trio.sleep(5)
    await ladder.play(HUNG_UP)
    await gone(stored)
    counters = stored.edge.keeper.store.statistics()
    assert (counters["store_rows_written"], counters["store_rows_removed"]) == (1, 1)


async def test_a_call_that_is_over_at_once_is_never_written(stored: World) -> None:
    ladder = await answered(stored)
    await ladder.play(HUNG_UP)
    await gone(stored)
    assert stored.edge.keeper.store.statistics()["store_writes"] == 0


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_a_call_goes_on(stored: World, who: str) -> None:
    """Listed as before, a hold passes through FreeSWITCH, either side's BYE deletes the one ng call."""
    ladder = await answered(stored)
    await trio.sleep(1)
    (before,) = stored.edge.backend.sessions()
    shown = version_shown(stored, "callee", "INVITE"), version_shown(stored, "caller", "200")
    await stored.restart(down=3.0)
    (after,) = stored.edge.backend.sessions()
    assert abs(after.age_s - before.age_s - 3.0) < 0.01
    assert {**vars_of(after), "age_s": 0} == {**vars_of(before), "age_s": 0}
    detail = await stored.edge.backend.session(after.id)
    assert len(detail.parties) == 2 and detail.timeline[-1].text == "taken up again after a restart of the proxy"
    await ladder.play(HOLD)
    assert b"a=sendonly" in stored.last("callee", "INVITE").body
    for (number, version), now in zip(
        shown, (version_shown(stored, "callee", "INVITE"), version_shown(stored, "caller", "200")), strict=True
    ):
        assert now == (number, version + 1), "the same o= line, one version on"
    (held,) = stored.edge.backend.sessions()
    assert held.hold == "caller"
    if who == "caller":
        await ladder.play(HUNG_UP)
    else:
        await ladder.play("""
            callee -> edge    BYE  [B]
            edge -> fs        BYE  [B]
            fs -> edge        200 OK  [B]
            edge -> callee    200 OK  [B]
            fs -> edge        BYE
            edge -> caller    BYE
            caller -> edge    200 OK
            edge -> fs        200 OK
        """)  # fmt: skip
    await gone(stored)
    assert commands(stored) == ["offer", "answer", "offer", "answer", "delete"]
    assert stored.stats["sessions_restored"] == 1


def vars_of(info: Any) -> dict[str, Any]:
    """The fields of a struct."""
    return {name: getattr(info, name) for name in info.__struct_fields__}


async def test_restart_after_restart(stored: World) -> None:
    ladder = await answered(stored)
    await trio.sleep(1)
    for _ in range(3):
        await stored.restart()
        await ladder.play(HOLD)
        await trio.sleep(1)
        await stored.restart()
    await ladder.play(HUNG_UP)
    await gone(stored)


async def test_a_call_without_freeswitch(direct_stored: World) -> None:
    ladder = await play(direct_stored, DIRECT_CALL)
    await trio.sleep(1)
    await direct_stored.restart()
    await ladder.play("""
        callee -> edge    INVITE
            sdp: bob-held
        edge -> callee    100 Trying
        edge -> caller    INVITE
            sdp: 198.51.100.2:*
        caller -> edge    200 OK
            sdp: alice
        edge -> callee    200 OK
            sdp: 198.51.100.2:*
        callee -> edge    ACK
        edge -> caller    ACK
        callee -> edge    BYE
        edge -> caller    BYE
        caller -> edge    200 OK
        edge -> callee    200 OK
    """)  # fmt: skip
    await gone(direct_stored)


async def test_a_second_call_leg_finds_its_session_by_the_media_address(stored: World) -> None:
    """FreeSWITCH transfers after the restart: its new dialog carries an address handed out before it."""
    ladder = await answered(stored)
    await trio.sleep(1)
    await stored.restart()
    await ladder.play("""
        fs -> edge        INVITE sip:1000@10.0.0.1:5080  [C]
            sdp: fs A
        edge -> fs        100 Trying  [C]
        edge -> callee    INVITE  [C]
            sdp: 198.51.100.2:*
        callee -> edge    486 Busy Here  [C]
        edge -> callee    ACK  [C]
        edge -> fs        486 Busy Here  [C]
        fs -> edge        ACK  [C]
    """)  # fmt: skip
    (session,) = stored.edge._sessions()
    assert [leg.name for leg in session.all_legs] == ["A", "B", "B2"]
    await ladder.play(HUNG_UP)
    await gone(stored)


# -- requests of our own -----------------------------------------------------------------------------------------------


async def test_cseq_offsets_survive(stored: World) -> None:
    """Our re-INVITE took number 1 toward the caller; FreeSWITCH uses it after the restart, the caller sees another."""
    ladder = await answered(stored)
    codes = await reinvite(stored, ladder, "A", True, bob())
    await ladder.play("""
        edge -> caller    INVITE
            CSeq: 1 INVITE
        caller -> edge    200 OK
            sdp: alice
        edge -> caller    ACK
    """)  # fmt: skip
    assert codes == [200]
    await trio.sleep(1)
    await stored.restart()
    await ladder.play("""
        fs -> edge        INFO
            CSeq: 1 INFO
        edge -> caller    INFO
            CSeq: 2 INFO
        caller -> edge    200 OK
        edge -> fs        200 OK
            CSeq: 1 INFO
    """)  # fmt: skip
    codes = await reinvite(stored, ladder, "A", True, bob())
    ours = stored.last("caller", "INVITE").cseq[0]
    assert ours > 2
    await ladder.play(f"""
        edge -> caller    INVITE
            CSeq: {ours} INVITE
        caller -> edge    200 OK
            sdp: alice
        edge -> caller    ACK
        fs -> edge        INFO
            CSeq: 2 INFO
        edge -> caller    INFO
            CSeq: {ours + 1} INFO
        caller -> edge    200 OK
        edge -> fs        200 OK
            CSeq: 2 INFO
    """ + HUNG_UP)  # fmt: skip
    await gone(stored)


class Stuck(NullStore):
    """A store that commits, and in which time then stands still."""

    def __init__(self, store: Persistence) -> None:
        self.store = store

    async def commit(self, *sessions: Kept) -> bool:
        await self.store.commit(*sessions)
        await trio.sleep_forever()


@pytest.mark.parametrize("after", ["it left", "it was stored"])
async def test_killed_while_our_reinvite_leaves(stored: World, after: str) -> None:
    """The number may or may not have been seen: nobody else uses it."""
    ladder = await answered(stored)
    await trio.sleep(1)
    if after == "it was stored":
        stored.edge.core.store = Stuck(stored.edge.keeper.store)
        assert await reinvite(stored, ladder, "A", True, bob()) == []
    else:
        await reinvite(stored, ladder, "A", True, bob())
        await ladder.play("""
            edge -> caller    INVITE
                CSeq: 1 INVITE
        """)  # fmt: skip
    await stored.restart(down=0.1)
    await ladder.play("""
        fs -> edge        INFO
            CSeq: 1 INFO
        edge -> caller    INFO
            CSeq: 2 INFO
        caller -> edge    200 OK
        edge -> fs        200 OK
            CSeq: 1 INFO
    """ + HUNG_UP)  # fmt: skip
    await gone(stored)


async def test_requests_that_no_snapshot_saw(stored: World) -> None:
    """An INFO passes and the proxy is killed at once: our next request is not its twin."""
    ladder = await answered(stored)
    await trio.sleep(1)
    await ladder.play("""
        fs -> edge        INFO
            CSeq: 10 INFO
        edge -> caller    INFO
        caller -> edge    200 OK
        edge -> fs        200 OK
    """)  # fmt: skip
    await stored.restart()
    await reinvite(stored, ladder, "A", True, bob())
    assert stored.last("caller", "INVITE").cseq[0] > 10
    await ladder.play("""
        edge -> caller    INVITE
        caller -> edge    488 Not Acceptable Here
        edge -> caller    ACK
    """ + HUNG_UP)  # fmt: skip
    await gone(stored)


# -- supervision -------------------------------------------------------------------------------------------------------

TIMED = ANSWERED.replace(
    """    fs -> edge        200 OK (INVITE)
        sdp: fs B
""",
    """    fs -> edge        200 OK (INVITE)
        sdp: fs B
        +Session-Expires: 120;refresher=uac
""",
)
"""The plain call with a session timer on the caller's leg."""


@pytest.mark.parametrize(("down", "left"), [(10.0, 50.0), (300.0, 32.0)])
async def test_a_session_timer_runs_on(stored: World, down: float, left: float) -> None:
    """It ends the call when it would have, or soon when that was while nobody was here."""
    await play(stored, TIMED)
    await trio.sleep(60)
    await stored.restart(down=down)
    await trio.sleep(left + 0.8)
    assert byes(stored) == []
    await trio.sleep(0.4)
    await hung_up_by_us(stored, "Session timer expired")


async def test_a_refresh_that_comes_late_keeps_the_call(stored: World) -> None:
    ladder = await play(stored, TIMED)
    await trio.sleep(60)
    await stored.restart(down=300)
    await ladder.play("""
        ... 20 s
        caller -> edge    UPDATE
        edge -> fs        UPDATE
        fs -> edge        200 OK
            +Session-Expires: 120;refresher=uac
        edge -> caller    200 OK
        ... 100 s
    """ + HUNG_UP)  # fmt: skip
    await gone(stored)


async def test_an_ack_that_never_comes(stored: World) -> None:
    """Killed between the two legs' ACKs, after a commit: the missing one is still waited for."""
    await play(stored, ANSWERED.partition("    caller -> edge    ACK")[0])
    (session,) = stored.edge._sessions()
    assert await stored.edge.keeper.store.commit(session)
    await stored.restart()
    await trio.sleep(31.9)
    assert byes(stored) == []
    await trio.sleep(0.3)
    await hung_up_by_us(stored, "No ACK")


async def test_a_silent_call_is_still_noticed(file: Path, autojump_clock: object) -> None:
    text = TALK + "\n[media]\nsample_interval = 5.0\nsilence = 20.0\n"
    async with open_world(text, node=True, sampler=True, state=file) as world:
        await answered(world)
        await trio.sleep(1)
        await world.restart(sampler=True)
        await trio.sleep(35)
        await hung_up_by_us(world, "No media for")


async def test_a_reinvite_under_way_is_sent_again_and_passes(stored: World) -> None:
    """It is a new one then: the proxy knows nothing of its first life, and the peer answers it as it sees fit."""
    ladder = await answered(stored)
    await trio.sleep(1)
    await ladder.play("""
        caller -> edge    INVITE
            sdp: alice-hold
        edge -> caller    100 Trying
        edge -> fs        INVITE
            sdp: 198.51.100.2:*
    """)  # fmt: skip
    again = stored.parties["caller"].calls[ladder.names["A"]].sent["INVITE"].encode()
    await stored.restart(down=0.1)
    stored.inject("caller", again)
    await ladder.play("""
        edge -> caller    100 Trying
        edge -> fs        INVITE
            sdp: 198.51.100.2:*
        fs -> edge        INVITE  [B]
            sdp: fs A
        edge -> fs        100 Trying  [B]
        edge -> callee    INVITE  [B]
            sdp: 198.51.100.2:*
        callee -> edge    200 OK  [B]
            sdp: bob-held
        edge -> fs        200 OK  [B]
        fs -> edge        ACK  [B]
        edge -> callee    ACK  [B]
        fs -> edge        200 OK (INVITE)
            sdp: fs B
        edge -> caller    200 OK
            sdp: 198.51.100.2:*
        caller -> edge    ACK
        edge -> fs        ACK
    """ + HUNG_UP)  # fmt: skip
    await gone(stored)


async def test_a_bye_under_way_is_sent_again_and_ends_the_call(stored: World) -> None:
    ladder = await answered(stored)
    await trio.sleep(1)
    await ladder.play("""
        caller -> edge    BYE
        edge -> fs        BYE
    """)  # fmt: skip
    again = stored.parties["caller"].calls[ladder.names["A"]].sent["BYE"].encode()
    await stored.restart(down=2)
    stored.inject("caller", again)
    await ladder.play("""
        edge -> fs        BYE
        fs -> edge        200 OK
        edge -> caller    200 OK
        fs -> edge        BYE  [B]
        edge -> callee    BYE  [B]
        callee -> edge    200 OK  [B]
        edge -> fs        200 OK  [B]
    """)  # fmt: skip
    await gone(stored)
