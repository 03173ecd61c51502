"""Re-INVITEs of a move that meet something: glare in all directions, refusals, silence, dialogs that are gone."""

from __future__ import annotations

import pytest
import trio

from tests.ladder import Ladder
from tests.ladders.flows import ANSWERED, HUNG_UP, answered
from tests.ladders.moving import HOLD, REINVITED, TOLD, lose, only, over, sent_to, two_nodes
from tests.world import World

B_TOLD = """
    callee -> edge    200 OK (INVITE)  [B]
        sdp: bob
    edge -> callee    ACK  [B]
"""
A_TOLD = """
    caller -> edge    200 OK (INVITE)
        sdp: alice
    edge -> caller    ACK
"""
A_AGAIN = """
    edge -> caller    INVITE
        sdp: 198.51.100.3:*
"""


def byes_with(reason: str) -> str:
    """BYE to everybody, answered."""
    return f"""
    edge -> caller    BYE
        Reason: {reason}
    edge -> fs        BYE
        Reason: {reason}
    edge -> fs        BYE  [B]
        Reason: {reason}
    edge -> callee    BYE  [B]
        Reason: {reason}
    caller -> edge    200 OK (BYE)
    fs -> edge        200 OK (BYE)
    fs -> edge        200 OK (BYE)  [B]
    callee -> edge    200 OK (BYE)  [B]
"""


def moves(world: World) -> dict[str, int]:
    """How moves ended."""
    assert world.edge.mover is not None
    return dict(world.edge.mover.stats)


async def test_491_is_asked_again_soon(autojump_clock: object) -> None:
    """Faster than RFC 3261 14.1 would have it: the audio is dead meanwhile. The other side is not told twice."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play(B_TOLD)
        for _ in range(2):
            await ladder.play("""
                caller -> edge    491 Request Pending (INVITE)
                edge -> caller    ACK
            """)
            started = trio.current_time()
            await wait_for(world, "caller", "INVITE")
            assert 0.04 < trio.current_time() - started < 0.35
            await ladder.play(A_AGAIN)
        await ladder.play(A_TOLD)
        assert moves(world) == {"moved": 1} and only(world).move is None
        await ladder.play(HUNG_UP)
        await over(ladder)


async def wait_for(world: World, party: str, what: str, limit: float = 5.0) -> None:
    """Until the edge sends something like that."""
    before = len(world.wire)
    for _ in range(int(limit / 0.01)):
        if any(p.to == party and p.summary.startswith(what) for p in world.wire[before:]):
            return
        await trio.sleep(0.01)
    raise AssertionError(f"no {what} to {party} within {limit} s")


async def test_491_for_ever_is_given_up(autojump_clock: object) -> None:
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play(B_TOLD)
        for number in range(10):
            if number:
                await wait_for(world, "caller", "INVITE")
                await ladder.play(A_AGAIN)
            if number < 9:
                await ladder.play("""
                    caller -> edge    491 Request Pending (INVITE)
                    edge -> caller    ACK
                """)
        await ladder.play("""
    caller -> edge    491 Request Pending (INVITE)
    edge -> caller    ACK
""" + byes_with('SIP;cause=503;text="Media could not be moved"'))  # fmt: skip
        assert moves(world) == {"given up": 1}
        await over(ladder)


async def test_the_phone_s_own_reinvite_crosses_ours(autojump_clock: object) -> None:
    """Alice's hold and our re-INVITE pass each other. She says 491 to ours, hers goes through, and tells her."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play(B_TOLD)
        await ladder.play("""
            caller -> edge    INVITE
                sdp: alice-hold
            edge -> caller    100 Trying
            caller -> edge    491 Request Pending (INVITE)
            edge -> caller    ACK
            edge -> fs        INVITE
                sdp: 198.51.100.3:*
            fs -> edge        INVITE  [B]
                sdp: fs A
            edge -> fs        100 Trying  [B]
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob-held
            edge -> fs        200 OK (INVITE)  [B]
            fs -> edge        ACK  [B]
            edge -> callee    ACK  [B]
            fs -> edge        200 OK (INVITE)
                sdp: fs B
            edge -> caller    200 OK (INVITE)
                sdp: 198.51.100.3:*
            caller -> edge    ACK
            edge -> fs        ACK
            ... 3 s
        """)
        assert moves(world) == {"moved": 1} and only(world).move is None
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_a_phone_that_answers_ours_first(autojump_clock: object) -> None:
    """Alice's hold arrives while our re-INVITE to Bob is out: it waits for his 200, then goes on."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play(A_TOLD)
        await ladder.play("""
            caller -> edge    INVITE
                sdp: alice-hold
            edge -> caller    100 Trying
            ... 0.3 s
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
            edge -> fs        INVITE
                sdp: 198.51.100.3:*
            fs -> edge        488 Not Acceptable Here (INVITE)
            edge -> fs        ACK
            edge -> caller    488 Not Acceptable Here
            caller -> edge    ACK
        """)
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_a_phone_that_has_to_wait_too_long_hears_491(autojump_clock: object) -> None:
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play(A_TOLD)
        await ladder.play("""
            callee -> edge    100 Trying (INVITE)  [B]
            caller -> edge    INVITE
                sdp: alice-hold
            edge -> caller    100 Trying
            ... 1.1 s
            edge -> caller    491 Request Pending
            caller -> edge    ACK
        """)
        await ladder.play(B_TOLD + HUNG_UP)
        await over(ladder)


async def test_freeswitch_s_reinvite_waits_for_ours(autojump_clock: object) -> None:
    """A refresh with the dead node's address, in the middle of the move: after it, with the new address."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play("""
            fs -> edge        INVITE  [B]
                sdp: fs A
            edge -> fs        100 Trying  [B]
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> caller    ACK
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> fs        200 OK (INVITE)  [B]
                sdp: 198.51.100.3:*
            fs -> edge        ACK  [B]
            edge -> callee    ACK  [B]
        """)
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_the_node_dies_while_a_phone_s_reinvite_is_under_way(autojump_clock: object) -> None:
    """Alice's hold has reached Bob with the dead node's port. She gets the new one in her 200, Bob by a re-INVITE."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await ladder.play("""
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
        """)
        await lose(world)
        await ladder.play("""
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob-held
            edge -> fs        200 OK (INVITE)  [B]
                sdp: 198.51.100.3:*
            fs -> edge        ACK  [B]
            edge -> callee    ACK  [B]
            fs -> edge        200 OK (INVITE)
                sdp: fs B
            edge -> caller    200 OK (INVITE)
                sdp: 198.51.100.3:*
            caller -> edge    ACK
            edge -> fs        ACK
            ... 0.1 s
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob-held
            edge -> callee    ACK  [B]
        """)
        assert only(world).holding and only(world).move is None
        assert b"a=sendonly" in world.last("callee", "INVITE").body
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_the_node_dies_while_freeswitch_s_reinvite_is_under_way(autojump_clock: object) -> None:
    """A refresh of leg A that Alice has not answered: only Bob is told at once, Alice after her answer."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await ladder.play("""
            fs -> edge        INVITE
                sdp: fs B
            edge -> fs        100 Trying
            edge -> caller    INVITE
                sdp: 198.51.100.2:*
        """)
        await lose(world)
        await ladder.play("""
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> fs        200 OK (INVITE)
            fs -> edge        ACK
            edge -> caller    ACK
            ... 0.1 s
            edge -> caller    INVITE
                sdp: 198.51.100.3:*
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> caller    ACK
        """)
        assert only(world).move is None
        await ladder.play(HUNG_UP)
        await over(ladder)


@pytest.mark.parametrize("code", [488, 500, 606])
async def test_one_side_refuses(autojump_clock: object, code: int) -> None:
    """Bob keeps the new media; Alice is asked again after 0.5, 1 and 2 s; then the call is over on both sides."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play(B_TOLD)
        for delay in (0.5, 1.0, 2.0):
            await ladder.play(f"""
                caller -> edge    {code} No (INVITE)
                edge -> caller    ACK
                ... {delay + 0.01} s
                edge -> caller    INVITE
                    sdp: 198.51.100.3:*
            """)
        await ladder.play(f"""
    caller -> edge    {code} No (INVITE)
    edge -> caller    ACK
""" + byes_with('SIP;cause=503;text="Media could not be moved"'))  # fmt: skip
        assert moves(world) == {"given up": 1}
        await over(ladder)


async def test_a_refusal_says_when(autojump_clock: object) -> None:
    """500 with Retry-After (RFC 3261 14.2); the second try is accepted."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play(A_TOLD)
        await ladder.play("""
            callee -> edge    500 Server Internal Error (INVITE)  [B]
                Retry-After: 4 (busy)
            edge -> callee    ACK  [B]
            ... 3.9 s
            ... 0.2 s
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
        """)
        await ladder.play(B_TOLD + HUNG_UP)
        assert moves(world) == {"moved": 1}
        await over(ladder)


async def test_a_dialog_that_is_gone(autojump_clock: object) -> None:
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play(B_TOLD)
        await ladder.play("""
    caller -> edge    481 Call/Transaction Does Not Exist (INVITE)
    edge -> caller    ACK
""" + byes_with('SIP;cause=481;text="Call gone"'))  # fmt: skip
        assert moves(world) == {"given up": 1} and sent_to(world, "node2")[-1] == "delete"
        await over(ladder)


async def test_nobody_answers(autojump_clock: object) -> None:
    """Timer B (32 s): the phone is gone."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play(B_TOLD)
        await ladder.play("""
            ... 31.9 s
            edge -> caller    INVITE x6
        """)
        await ladder.play("    ... 0.4 s\n" + byes_with('SIP;cause=408;text="Call gone"').lstrip("\n"))
        assert moves(world) == {"given up": 1}
        await over(ladder)


async def test_a_phone_that_moves_its_port_in_the_200(autojump_clock: object) -> None:
    """Its answer is another SDP than it had agreed to: rtpengine is told, nobody else."""
    async with two_nodes() as world:
        ladder = await answered(world)
        ladder.sdps["moved"] = ladder.sdps["alice"].replace(b"30000", b"30500")
        ladder.sdps["bob-moved"] = ladder.sdps["bob"].replace(b"40000", b"40400")
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play("""
            caller -> edge    200 OK (INVITE)
                sdp: moved
            edge -> caller    ACK
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob-moved
            edge -> callee    ACK  [B]
            ... 1 s
        """)
        call = world.nodes["node2"].calls[only(world).ng_call_id]
        assert sorted(party.medias[0].endpoint[1] for party in call.parties) == [30500, 40400]
        assert only(world).move is None and moves(world) == {"moved": 1}
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_a_session_timer_is_carried_on(autojump_clock: object) -> None:
    """RFC 4028 7.1: a re-INVITE without Session-Expires would end it. The refresher stays who it was."""
    async with two_nodes() as world:
        ladder = Ladder(world)
        with_timer = ANSWERED.replace("""    edge -> callee    ACK  [B]
    fs -> edge        200 OK (INVITE)
        sdp: fs B
""", """    edge -> callee    ACK  [B]
    fs -> edge        200 OK (INVITE)
        sdp: fs B
        Session-Expires: 1800;refresher=uac
""")  # fmt: skip
        assert with_timer != ANSWERED
        await ladder.play(with_timer)
        await lose(world)
        await ladder.play("""
            edge -> caller    INVITE
                Session-Expires: 1800;refresher=uas
                Supported: timer
            edge -> callee    INVITE  [B]
                -Session-Expires
        """)
        await ladder.play(TOLD.partition(REINVITED)[2] + HOLD + HUNG_UP)
        await over(ladder)
