"""A media node dies in the middle of calls: both phones are told another one, and the call goes on."""

from __future__ import annotations

import trio

from tests.ladder import Ladder
from tests.ladders.flows import HUNG_UP, answered
from tests.ladders.moving import HOLD, REINVITED, TOLD, lose, only, over, sent_to, two_nodes
from tests.media.ladder import own_media
from tests.world import DIRECT, settle


async def test_a_plain_call_moves(autojump_clock: object) -> None:
    async with two_nodes() as world:
        ladder = await answered(world)
        assert await lose(world) == 1
        assert sent_to(world, "node2") == ["offer", "answer"]
        await ladder.play(TOLD)
        session = only(world)
        assert (session.node, session.ng_call_id, session.move) == ("node2", session.id + ".2", None)
        await ladder.play(HOLD + HUNG_UP)
        await over(ladder)
        assert sent_to(world, "node2") == ["offer", "answer", "offer", "answer", "delete"]
        assert world.nodes["node2"].requests[-1]["call-id"] == session.id + ".2"


async def test_our_requests_are_hidden_from_freeswitch_and_phones(autojump_clock: object) -> None:
    """CSeq numbers spent on the way: FreeSWITCH and both phones go on counting as if nothing had been."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play("""
            edge -> caller    INVITE
                CSeq: 1 INVITE
                Contact: <sip:fs@10.0.0.3>
            edge -> callee    INVITE  [B]
                CSeq: {own} INVITE
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> caller    ACK
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
        """)
        number = int(ladder.known["own"])
        await ladder.play(f"""
            fs -> edge        INFO  [B]
                CSeq: {number} INFO
            edge -> callee    INFO  [B]
                CSeq: {number + 1} INFO
            callee -> edge    200 OK (INFO)  [B]
            edge -> fs        200 OK (INFO)  [B]
                CSeq: {number} INFO
        """)
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_a_held_call_stays_held(autojump_clock: object) -> None:
    async with two_nodes() as world:
        ladder = await answered(world)
        await ladder.play(HOLD.replace("198.51.100.3", "198.51.100.2"))
        await lose(world)
        caller, callee = world.last("caller", "INVITE"), world.last("callee", "INVITE")
        assert b"a=recvonly" in caller.body and b"a=sendonly" in callee.body
        await ladder.play(TOLD.replace("sdp: alice", "sdp: alice-hold").replace("sdp: bob", "sdp: bob-held"))
        assert only(world).holding != [] and only(world).move is None
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_freeswitch_sends_the_dead_node_s_address_later(autojump_clock: object) -> None:
    """Its session timer refreshes leg A with what it has stored: answered with what is in force, without a command."""
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(TOLD)
        before = sent_to(world, "node2")
        await ladder.play("""
            fs -> edge        INVITE
                sdp: fs B
            edge -> fs        100 Trying
            edge -> caller    INVITE
                sdp: 198.51.100.3:*
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> fs        200 OK (INVITE)
                sdp: 198.51.100.3:*
            fs -> edge        ACK
            edge -> caller    ACK
        """)
        assert sent_to(world, "node2") == before
        await ladder.play(HUNG_UP)
        await over(ladder)


STEP_IN = """
    fs -> edge        INVITE
        sdp: own-a
    edge -> fs        100 Trying
    edge -> caller    INVITE
        sdp: 198.51.100.2:*
    caller -> edge    200 OK (INVITE)
        sdp: alice
    edge -> fs        200 OK (INVITE)
        sdp: 10.0.0.2:*
    fs -> edge        ACK
    edge -> caller    ACK
    fs -> edge        INVITE  [B]
        sdp: own-b
    edge -> fs        100 Trying  [B]
    edge -> callee    INVITE  [B]
        sdp: 198.51.100.2:*
    callee -> edge    200 OK (INVITE)  [B]
        sdp: bob
    edge -> fs        200 OK (INVITE)  [B]
        sdp: 10.0.0.2:*
    fs -> edge        ACK  [B]
    edge -> callee    ACK  [B]
"""


async def test_freeswitch_is_in_the_media(autojump_clock: object) -> None:
    """Four are told: two phones on the public interface, FreeSWITCH on both legs on the LAN's."""
    async with two_nodes() as world:
        ladder = await answered(world)
        ladder.sdps |= {"own-a": own_media(18272), "own-b": own_media(17176)}
        await ladder.play(STEP_IN)
        await lose(world)
        assert sorted(sent_to(world, "node2")) == ["answer", "answer", "offer", "offer"]
        await ladder.play("""
            edge -> caller    INVITE
                sdp: 198.51.100.3:*
            edge -> fs        INVITE
                sdp: 10.0.1.3:*
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.3:*
            edge -> fs        INVITE  [B]
                sdp: 10.0.1.3:*
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> caller    ACK
            fs -> edge        200 OK (INVITE)
                sdp: own-a
            edge -> fs        ACK
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
            fs -> edge        200 OK (INVITE)  [B]
                sdp: own-b
            edge -> fs        ACK  [B]
        """)
        assert only(world).move is None
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_a_call_without_b2bua(autojump_clock: object) -> None:
    async with two_nodes(DIRECT) as world:
        ladder = Ladder(world)
        await ladder.play("""
            caller -> edge    INVITE sip:1000@198.51.100.1
                sdp: alice
            edge -> caller    100 Trying
            edge -> callee    INVITE
                sdp: 198.51.100.2:*
            callee -> edge    200 OK
                sdp: bob
            edge -> caller    200 OK
                sdp: 198.51.100.2:*
            caller -> edge    ACK
            edge -> callee    ACK
        """)
        await lose(world)
        await ladder.play("""
            edge -> caller    INVITE
                sdp: 198.51.100.3:*
            edge -> callee    INVITE
                sdp: 198.51.100.3:*
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> caller    ACK
            callee -> edge    200 OK (INVITE)
                sdp: bob
            edge -> callee    ACK
            callee -> edge    INVITE
                sdp: bob
            edge -> callee    100 Trying
            edge -> caller    INVITE
                sdp: 198.51.100.3:*
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> callee    200 OK (INVITE)
                sdp: 198.51.100.3:*
            callee -> edge    ACK
            edge -> caller    ACK
            callee -> edge    BYE
            edge -> caller    BYE
            caller -> edge    200 OK (BYE)
            edge -> callee    200 OK (BYE)
        """)
        await over(ladder)


async def test_a_restarted_node_takes_its_calls_again(autojump_clock: object) -> None:
    """It has forgotten them, and hands out the same ports again."""
    async with two_nodes(number=1) as world:
        ladder = await answered(world)
        world.nodes["node1"].restart()
        assert world.edge.mover is not None and world.edge.mover.node_restarted("node1") == 1
        await settle()
        await ladder.play(TOLD.replace("198.51.100.3", "198.51.100.2"))
        session = only(world)
        assert (session.node, session.ng_call_id) == ("node1", session.id + ".2")
        assert list(world.nodes["node1"].calls) == [session.ng_call_id]
        await ladder.play(HOLD.replace("198.51.100.3", "198.51.100.2") + HUNG_UP)
        await over(ladder)


async def test_the_only_node_dies_and_comes_back(autojump_clock: object) -> None:
    """Parked for a while; a call is not given up as long as there is hope."""
    async with two_nodes(number=1) as world:
        ladder = await answered(world)
        await lose(world)
        await trio.sleep(5)
        assert world.take() == []
        world.nodes["node1"].start()
        world.dead.clear()
        assert world.edge.mover is not None and world.edge.mover.node_restarted("node1") == 1
        await settle()
        await ladder.play(TOLD.replace("198.51.100.3", "198.51.100.2") + HUNG_UP)
        await over(ladder)


async def test_the_only_node_stays_away(autojump_clock: object) -> None:
    async with two_nodes(number=1) as world:
        ladder = await answered(world)
        await lose(world)
        await trio.sleep(29.9)
        await ladder.play("""
            ... 0.4 s
            edge -> caller    BYE
                Reason: SIP;cause=503;text="No media node left"
            edge -> fs        BYE
                Reason: SIP;cause=503;text="No media node left"
            edge -> fs        BYE  [B]
            edge -> callee    BYE  [B]
            caller -> edge    200 OK (BYE)
            fs -> edge        200 OK (BYE)
            fs -> edge        200 OK (BYE)  [B]
            callee -> edge    200 OK (BYE)  [B]
        """)
        assert world.edge.mover is not None and world.edge.mover.stats["given up"] == 1
        await over(ladder)


async def test_the_second_node_dies_during_the_move(autojump_clock: object) -> None:
    """The re-INVITEs are out already: both phones are told again when they have answered."""
    async with two_nodes(number=3) as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await lose(world, "node2")
        assert sent_to(world, "node3") == ["offer", "answer"]
        await ladder.play("""
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> caller    ACK
            edge -> caller    INVITE
                sdp: 198.51.100.4:*
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
            edge -> callee    INVITE  [B]
                sdp: 198.51.100.4:*
            caller -> edge    200 OK (INVITE)
                sdp: alice
            edge -> caller    ACK
            callee -> edge    200 OK (INVITE)  [B]
                sdp: bob
            edge -> callee    ACK  [B]
        """)
        assert only(world).node == "node3" and only(world).move is None
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_the_second_node_is_dead_already(autojump_clock: object) -> None:
    """Nobody knows it yet: its time runs out, and the third one takes the call."""
    async with two_nodes(number=3) as world:
        ladder = await answered(world)
        world.nodes["node2"].pause()
        await lose(world)
        await trio.sleep(1.1)
        await ladder.play(TOLD.replace("198.51.100.3", "198.51.100.4"))
        assert only(world).node == "node3"
        world.nodes["node2"].resume()
        await ladder.play(HUNG_UP)
        await over(ladder)


async def test_an_answer_that_overtakes_its_offer(autojump_clock: object) -> None:
    async with two_nodes() as world:
        ladder = await answered(world)
        world.nodes["node2"].fail_next("answer", "Unknown call-id")
        await lose(world)
        assert sent_to(world, "node2") == ["offer", "answer", "answer"]
        await ladder.play(TOLD + HUNG_UP)
        await over(ladder)


async def test_a_bye_during_the_move(autojump_clock: object) -> None:
    async with two_nodes() as world:
        ladder = await answered(world)
        await lose(world)
        await ladder.play(REINVITED)
        await ladder.play("""
            caller -> edge    BYE
            edge -> fs        BYE
            fs -> edge        200 OK (BYE)
            edge -> caller    200 OK (BYE)
            fs -> edge        BYE  [B]
            edge -> callee    BYE  [B]
            callee -> edge    200 OK (BYE)  [B]
            edge -> fs        200 OK (BYE)  [B]
            caller -> edge    487 Request Terminated (INVITE)
            edge -> caller    ACK
            callee -> edge    487 Request Terminated (INVITE)  [B]
            edge -> callee    ACK  [B]
        """)
        assert sent_to(world, "node2") == ["offer", "answer", "delete"]
        await over(ladder)


async def test_a_bye_while_the_node_is_asked(autojump_clock: object) -> None:
    """The delete overtakes the replies: what the node may have made of the offer goes, too."""
    async with two_nodes() as world:
        ladder = await answered(world)
        world.nodes["node2"].pause()
        await lose(world)
        await ladder.play(HUNG_UP)
        world.nodes["node2"].resume()
        await over(ladder)
        assert sent_to(world, "node2")[-1] == "delete"
