"""A media node dies before calls are answered, under an offer, or is emptied while it works."""

from __future__ import annotations

import trio

from tests.ladder import Ladder
from tests.ladders.flows import ANSWERED, HUNG_UP, RINGING, answered
from tests.ladders.moving import HOLD, REINVITED, TOLD, lose, only, over, prefer, sent_to, two_nodes
from tests.ladders.test_forking import registered
from tests.media.ladder import own_media
from tests.world import DIRECT, settle

ON_THE_SECOND = ANSWERED.partition(RINGING)[2].replace("198.51.100.2", "198.51.100.3")
"""Bob answers; whoever learns a port now learns the second node's."""

EARLY = RINGING.partition("    callee -> edge    180")[0] + """
    callee -> edge    183 Session Progress  [B]
        sdp: bob
    edge -> fs        183 Session Progress  [B]
        sdp: 198.51.100.2:*
    fs -> edge        183 Session Progress (INVITE)
        sdp: fs B
    edge -> caller    183 Session Progress
        sdp: 198.51.100.2:*
"""  # fmt: skip

BOB_TOLD = """
    ... 0.05 s
    edge -> callee    INVITE sip:callee@203.0.113.9  [B]
        sdp: 198.51.100.3:*
    callee -> edge    200 OK (INVITE)  [B]
        sdp: bob
    edge -> callee    ACK  [B]
"""


async def test_while_it_rings(autojump_clock: object) -> None:
    """Nothing to move yet. Bob's answer is made on the second node; he knows the old port: told after the ACK."""
    async with two_nodes() as world:
        ladder = Ladder(world)
        await ladder.play(RINGING)
        assert await lose(world) == 1
        assert only(world).node == "" and sent_to(world, "node2") == []
        await ladder.play(ON_THE_SECOND)
        assert sent_to(world, "node2") == ["offer", "answer"]
        await ladder.play(BOB_TOLD)
        assert only(world).move is None and only(world).node == "node2"
        await ladder.play(HOLD + HUNG_UP)
        await over(ladder)


async def test_between_the_passes(autojump_clock: object) -> None:
    """FreeSWITCH has the dead node's address and comes back with it: offered anew, Bob never hears of the old one."""
    async with two_nodes() as world:
        ladder = Ladder(world)
        first, middle, rest = ANSWERED.partition("    fs -> edge        INVITE sip:1000@10.0.0.1:5080  [B]")
        await ladder.play(first)
        await lose(world)
        await ladder.play("\n" + middle + rest.replace("198.51.100.2", "198.51.100.3"))
        assert sent_to(world, "node2") == ["offer", "answer"]
        await trio.sleep(1)
        assert only(world).move is None
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_a_ringing_call_that_fails(autojump_clock: object) -> None:
    async with two_nodes() as world:
        ladder = Ladder(world)
        await ladder.play(RINGING)
        await lose(world)
        await ladder.play("""
            callee -> edge    486 Busy Here  [B]
            edge -> callee    ACK  [B]
            edge -> fs        486 Busy Here  [B]
            fs -> edge        ACK  [B]
            fs -> edge        486 Busy Here (INVITE)
            edge -> fs        ACK
            edge -> caller    486 Busy Here
            caller -> edge    ACK
        """)
        await over(ladder)
        assert sent_to(world, "node2") == []


async def test_early_media(autojump_clock: object) -> None:
    """The pair moves at once. Alice learns the new port in her 200, Bob after the ACK."""
    async with two_nodes() as world:
        ladder = Ladder(world)
        await ladder.play(EARLY)
        await lose(world)
        assert sent_to(world, "node2") == ["offer", "answer"]
        await ladder.play(ON_THE_SECOND.replace("        sdp: fs B", "        sdp: fs B"))
        await ladder.play(BOB_TOLD)
        assert only(world).move is None
        assert sent_to(world, "node2")[-1] != "delete"
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_a_reliable_early_answer_is_told_again_after_the_ack(autojump_clock: object) -> None:
    """RFC 3262: Alice's phone has its answer and need not look at the 200's SDP."""
    reliable = EARLY.replace("""183 Session Progress  [B]
        sdp: bob
""", """183 Session Progress  [B]
        Require: 100rel
        RSeq: 1
        sdp: bob
""").replace("""183 Session Progress (INVITE)
        sdp: fs B
""", """183 Session Progress (INVITE)
        Require: 100rel
        RSeq: 7
        sdp: fs B
""")  # fmt: skip
    async with two_nodes() as world:
        ladder = Ladder(world)
        await ladder.play(reliable)
        await ladder.play("""
            caller -> edge    PRACK
            edge -> fs        PRACK
            fs -> edge        200 OK (PRACK)
            edge -> caller    200 OK (PRACK)
            fs -> edge        PRACK  [B]
            edge -> callee    PRACK  [B]
            callee -> edge    200 OK (PRACK)  [B]
            edge -> fs        200 OK (PRACK)  [B]
        """)
        await lose(world)
        await ladder.play("""
            callee -> edge    200 OK (INVITE)  [B]
            edge -> fs        200 OK (INVITE)  [B]
            fs -> edge        ACK  [B]
            edge -> callee    ACK  [B]
            fs -> edge        200 OK (INVITE)
            edge -> caller    200 OK (INVITE)
            caller -> edge    ACK
            edge -> fs        ACK
            ... 0.1 s
            edge -> caller    INVITE
                sdp: 198.51.100.3:*
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> caller    ACK
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
        """)
        assert only(world).move is None
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_a_phone_s_offer_finds_the_node_dead(autojump_clock: object) -> None:
    """Nobody has noticed yet: the hold itself moves the call. FreeSWITCH's relay waits for our re-INVITE to Bob."""
    async with two_nodes() as world:
        ladder = await answered(world)
        world.nodes["node1"].stop()
        world.nodes["node1"].restart()
        await ladder.play("""
            caller -> edge    INVITE
                sdp: alice-hold
            edge -> caller    100 Trying
            ... 0.1 s
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
            edge -> fs        INVITE
                sdp: 198.51.100.3:*
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
            fs -> edge        INVITE  [B]
                sdp: fs A
            edge -> fs        100 Trying  [B]
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
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
            ... 1 s
        """)
        assert only(world).node == "node2" and only(world).move is None
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_a_phone_s_answer_finds_the_node_dead(autojump_clock: object) -> None:
    async with two_nodes() as world:
        ladder = Ladder(world)
        await ladder.play(RINGING)
        world.nodes["node1"].stop()
        world.nodes["node1"].restart()
        await ladder.play("""
            callee -> edge    200 OK  [B]
                sdp: bob
            ... 0.1 s
            edge -> fs        200 OK  [B]
                sdp: 198.51.100.3:*
            fs -> edge        ACK  [B]
            edge -> callee    ACK  [B]
            fs -> edge        200 OK (INVITE)
                sdp: fs B
            edge -> caller    200 OK
                sdp: 198.51.100.3:*
            caller -> edge    ACK
            edge -> fs        ACK
        """)
        await ladder.play(BOB_TOLD + HUNG_UP)
        await over(ladder)


async def test_freeswitch_s_offer_finds_the_node_dead(autojump_clock: object) -> None:
    """uuid_media: FreeSWITCH steps in with media of its own."""
    async with two_nodes() as world:
        ladder = await answered(world)
        ladder.sdps["own-a"] = own_media(18272)
        world.nodes["node1"].stop()
        world.nodes["node1"].restart()
        await ladder.play("""
            fs -> edge        INVITE
                sdp: own-a
            edge -> fs        100 Trying
            ... 0.1 s
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
            edge -> caller    INVITE
                sdp: 198.51.100.3:*
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> fs        200 OK (INVITE)
                sdp: 10.0.1.3:*
            fs -> edge        ACK
            edge -> caller    ACK
            ... 1 s
        """)
        assert only(world).move is None
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_a_command_under_way_when_the_verdict_comes(autojump_clock: object) -> None:
    """The node's host is gone without a word: the hold does not wait for the command's timeout."""
    async with two_nodes() as world:
        ladder = await answered(world)
        world.nodes["node1"].pause()
        await ladder.play("""
            caller -> edge    INVITE
                sdp: alice-hold
            edge -> caller    100 Trying
            ... 0.4 s
        """)
        await lose(world)
        await ladder.play("""
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
            edge -> fs        INVITE
                sdp: 198.51.100.3:*
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
            fs -> edge        488 Not Acceptable Here (INVITE)
            edge -> fs        ACK
            edge -> caller    488 Not Acceptable Here
            caller -> edge    ACK
            ... 0.1 s
            edge -> caller    INVITE
                sdp: 198.51.100.3:*
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> caller    ACK
            ... 1 s
        """)
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_an_evacuation(autojump_clock: object) -> None:
    """The node works: its call is deleted only when both phones know the new port."""
    async with two_nodes() as world:
        ladder = await answered(world)
        mover = world.edge.mover
        assert mover is not None
        session = only(world)
        assert [(one.session_id, one.node) for one in mover.plan("node1")] == [(session.id, "node2")]
        evacuation = mover.evacuate("node1")
        await settle()
        await ladder.play(REINVITED)
        assert (evacuation.total, evacuation.left, evacuation.eta_seconds) == (1, 1, None)
        assert mover.evacuate("node1") is evacuation
        assert list(world.nodes["node1"].calls) == [session.id]
        await ladder.play(TOLD.partition(REINVITED)[2])
        await evacuation.done.wait()
        assert (evacuation.moved, evacuation.failed, evacuation.left) == (1, 0, 0)
        assert world.nodes["node1"].calls == {} and list(world.nodes["node2"].calls) == [session.id + ".2"]
        await ladder.play(HOLD + HUNG_UP)
        await over(ladder)


async def test_an_evacuation_that_a_phone_refuses_is_taken_back(autojump_clock: object) -> None:
    """The call stays where it was; Bob, who had followed, is told so."""
    async with two_nodes() as world:
        ladder = await answered(world)
        session = only(world)
        assert world.edge.mover is not None
        evacuation = world.edge.mover.evacuate("node1")
        await settle()
        await ladder.play(REINVITED)
        await ladder.play("""
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
        """)
        for delay in (0.5, 1.0, 2.0):
            await ladder.play(f"""
                caller -> edge    488 No (INVITE)
                edge -> caller    ACK
                ... {delay + 0.01} s
                edge -> caller    INVITE
                    sdp: 198.51.100.3:*
            """)
        await ladder.play("""
            caller -> edge    488 No (INVITE)
            edge -> caller    ACK
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.2:*
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
        """)
        assert (evacuation.moved, evacuation.failed) == (0, 1)
        assert (session.node, session.ng_call_id, session.move) == ("node1", session.id, None)
        assert world.nodes["node2"].calls == {} and list(world.nodes["node1"].calls) == [session.id]
        await ladder.play(HOLD.replace("198.51.100.3", "198.51.100.2") + HUNG_UP)
        await over(ladder)


async def test_an_evacuation_without_another_node(autojump_clock: object) -> None:
    async with two_nodes(number=1) as world:
        ladder = await answered(world)
        assert world.edge.mover is not None
        prefer(world)
        evacuation = world.edge.mover.evacuate("node1")
        await settle()
        assert (evacuation.moved, evacuation.failed, evacuation.left) == (0, 1, 0)
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_the_node_dies_while_it_is_evacuated(autojump_clock: object) -> None:
    """No way back any more: a phone that refuses ends the call."""
    async with two_nodes() as world:
        ladder = await answered(world)
        assert world.edge.mover is not None
        world.edge.mover.evacuate("node1")
        await settle()
        await ladder.play(REINVITED)
        await lose(world)
        await ladder.play(TOLD.partition(REINVITED)[2] + HUNG_UP)
        await over(ladder)
        assert world.edge.mover.stats == {"moved": 1}


async def test_one_fork_of_two_answers_after_the_node_died(autojump_clock: object) -> None:
    """Direct: two phones ring, the node dies, the second one answers."""
    async with two_nodes(DIRECT) as world:
        ladder = await registered(world, "phone1", "phone2")
        await ladder.play("""
            caller -> edge    INVITE sip:2000@example.test
                sdp: alice
            edge -> caller    100 Trying
            edge -> phone1    INVITE
                sdp: 198.51.100.2:*
            edge -> phone2    INVITE
                sdp: 198.51.100.2:*
            phone1 -> edge    180 Ringing
            edge -> caller    180 Ringing
        """)
        await lose(world)
        await ladder.play("""
            phone2 -> edge    200 OK
                sdp: carol
            edge -> caller    200 OK
                sdp: 198.51.100.3:*
            edge -> phone1    CANCEL
            caller -> edge    ACK
            edge -> phone2    ACK
            phone1 -> edge    200 OK (CANCEL)
            phone1 -> edge    487 Request Terminated (INVITE)
            edge -> phone1    ACK
            ... 0.1 s
            edge -> phone2    INVITE
                sdp: 198.51.100.3:*
            phone2 -> edge    200 OK (INVITE)
                sdp: carol
            edge -> phone2    ACK
            caller -> edge    BYE
            edge -> phone2    BYE
            phone2 -> edge    200 OK (BYE)
            edge -> caller    200 OK (BYE)
        """)
        await over(ladder)
