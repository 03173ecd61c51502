"""What a request outside a dialog must be (RFC 3261 16.3): validation, Max-Forwards, loops, Proxy-Require, Routes."""

from __future__ import annotations

from tests.ladder import Ladder, play
from tests.world import World


async def test_max_forwards_0_is_483(world: World) -> None:
    await play(world, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            Max-Forwards: 0
        edge -> caller    483 Too Many Hops
        caller -> edge    ACK
    """)  # fmt: skip
    await world.over()


async def test_max_forwards_counts_down_and_is_added(world: World) -> None:
    await play(world, """
        caller -> edge    MESSAGE sip:1000@198.51.100.1
            Max-Forwards: 1
        edge -> fs        MESSAGE sip:b2bua-1000@10.0.0.3
            Max-Forwards: 0
        fs -> edge        200 OK
        edge -> caller    200 OK
        caller -> edge    MESSAGE sip:1000@198.51.100.1  [B]
            -Max-Forwards
        edge -> fs        MESSAGE sip:b2bua-1000@10.0.0.3  [B]
            Max-Forwards: 10
        fs -> edge        200 OK  [B]
        edge -> caller    200 OK  [B]
    """)  # fmt: skip
    await world.over()


async def test_max_forwards_that_is_no_number_is_400(world: World) -> None:
    await play(world, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            Max-Forwards: many
        edge -> caller    400 Max-Forwards*
        caller -> edge    ACK
    """)  # fmt: skip
    await world.over()


async def test_foreign_domain_is_403(world: World) -> None:
    await play(world, """
        caller -> edge    INVITE sip:1000@other.test
        edge -> caller    100 Trying
        edge -> caller    403 *
        caller -> edge    ACK
        caller -> edge    INVITE sip:1000@203.0.113.9  [B]
        edge -> caller    100 Trying  [B]
        edge -> caller    403 *  [B]
        caller -> edge    ACK  [B]
    """)  # fmt: skip
    await world.over()


async def test_our_domain_and_our_addresses_are_served(world: World) -> None:
    await play(world, """
        caller -> edge    MESSAGE sip:1000@EXAMPLE.test
        edge -> fs        MESSAGE sip:b2bua-1000@10.0.0.3
        fs -> edge        202 Accepted
        edge -> caller    202 Accepted
        caller -> edge    MESSAGE sip:1000@198.51.100.1:5060  [B]
        edge -> fs        MESSAGE sip:b2bua-1000@10.0.0.3  [B]
        fs -> edge        202 Accepted  [B]
        edge -> caller    202 Accepted  [B]
        caller -> edge    MESSAGE sip:1000@198.51.100.1:5070  [C]
        edge -> caller    403 *  [C]
    """)  # fmt: skip
    await world.over()


async def test_without_a_user_is_484(world: World) -> None:
    await play(world, """
        caller -> edge    INVITE sip:198.51.100.1
        edge -> caller    100 Trying
        edge -> caller    484 Address Incomplete
        caller -> edge    ACK
        fs -> edge        INVITE sip:10.0.0.1:5080  [B]
        edge -> fs        100 Trying  [B]
        edge -> fs        484 Address Incomplete  [B]
        fs -> edge        ACK  [B]
    """)  # fmt: skip
    await world.over()


async def test_to_tag_without_our_route_is_404_and_the_ack_is_dropped(world: World) -> None:
    ladder = Ladder(world)
    for method in ("BYE", "INVITE", "INFO", "UPDATE"):
        await ladder.play(f"""
            caller -> edge    {method} sip:1000@198.51.100.1  [{method}]
                To: <sip:1000@198.51.100.1>;tag=stale
            edge -> caller    404 Not here  [{method}]
        """)  # fmt: skip
    await ladder.play("caller -> edge  ACK  [INVITE]")
    party = world.parties["stranger"]
    ack = party.request("stray@test", "OPTIONS", "sip:1000@198.51.100.1")
    ack.method = "ACK"
    ack.set("CSeq", "1 ACK")
    ack.set("To", "<sip:1000@198.51.100.1>;tag=x")
    world.inject("stranger", ack.encode())
    ack.set("To", "<sip:1000@198.51.100.1>")
    ack.set("Via", party.via())
    world.inject("stranger", ack.encode())
    assert world.stats["acks_dropped"] == 2  # the one of the 404 and the stranger's
    await world.over()


async def test_forged_route_and_token_are_404(world: World) -> None:
    """Our Route alone is not enough: anybody can write it."""
    ladder = Ladder(world)
    for name, route in {
        "A": "<sip:198.51.100.1;lr>",
        "B": "<sip:198.51.100.1;lr;t=edge1-0123456789abcdef~A.00000000~node1~c0ffee00112233445566>",
        "C": "<sip:198.51.100.1;r2=on;lr>, <sip:10.0.0.1:5080;r2=on;lr>",
        "D": "<sip:198.51.100.1;lr;t=>",
    }.items():
        await ladder.play(f"""
            stranger -> edge    BYE sip:victim@10.0.0.99  [{name}]
                Route: {route}
                To: <sip:1000@198.51.100.1>;tag=guess
            edge -> stranger    404 Not here  [{name}]
        """)  # fmt: skip
    await world.over()


async def test_preloaded_route_from_outside_is_403(world: World) -> None:
    await play(world, """
        stranger -> edge    INVITE sip:1000@198.51.100.1
            Route: <sip:10.0.0.99;lr>
        edge -> stranger    403 Preloaded Route not allowed
        stranger -> edge    ACK
        stranger -> edge    INVITE sip:1000@198.51.100.1  [B]
            Route: <sip:198.51.100.1;lr>, <sip:10.0.0.99;lr>
        edge -> stranger    403 Preloaded Route not allowed  [B]
    """)  # fmt: skip


async def test_our_own_preloaded_route_is_taken_off(world: World) -> None:
    """What a phone with an outbound proxy sends."""
    await play(world, """
        caller -> edge    MESSAGE sip:1000@198.51.100.1
            Route: <sip:198.51.100.1;lr>
        edge -> fs        MESSAGE sip:b2bua-1000@10.0.0.3
            -Route
        fs -> edge        200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await world.over()


async def test_proxy_require_is_420(world: World) -> None:
    await play(world, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            Proxy-Require: foo, bar
            Require: 100rel
        edge -> caller    420 Bad Extension
            Unsupported: foo, bar
        caller -> edge    ACK
    """)  # fmt: skip
    await world.over()


async def test_in_a_dialog_too(direct: World) -> None:
    """Proxy-Require, Max-Forwards and a CSeq that lies about the method."""
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> callee    ACK
        caller -> edge    INFO
            Proxy-Require: foo
        edge -> caller    420 Bad Extension
            Unsupported: foo
        caller -> edge    INFO
            Max-Forwards: 0
        edge -> caller    483 Too Many Hops
        caller -> edge    INFO
            CSeq: 9 UPDATE
        edge -> caller    400 CSeq method differs from the Request-Line
        caller -> edge    BYE
        edge -> callee    BYE
        callee -> edge    200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_a_party_of_a_call_reaches_nobody_else_on_the_lan(world: World) -> None:
    """The Request-URI inside a dialog is the sender's to choose; our Route alone does not open the LAN to it."""
    world.party("server", ("10.0.0.99", 5060))
    await play(world, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> fs        INVITE
        fs -> edge        200 OK
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> fs        ACK
        caller -> edge    INFO sip:root@10.0.0.99
        edge -> caller    403 Not a party of this call
        caller -> edge    INVITE sip:root@10.0.0.99
        edge -> caller    100 Trying
        edge -> caller    403 Not a party of this call
        caller -> edge    ACK sip:root@10.0.0.99
        caller -> edge    BYE
        edge -> fs        BYE
        fs -> edge        200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    assert world.stats["lan_refused"] == 2
    await world.over()


async def test_a_loop_with_our_route_on_top_is_482(world: World) -> None:
    """Somebody sends our own request back to us by a Route."""
    ladder = await play(world, """
        caller -> edge    MESSAGE sip:1000@198.51.100.1
            Route: <sip:198.51.100.1;lr>
        edge -> fs        MESSAGE sip:b2bua-1000@10.0.0.3
    """)  # fmt: skip
    sent = world.last("fs", "MESSAGE")
    sent.uri = "sip:1000@198.51.100.1"
    sent.headers.insert(0, ("Via", world.parties["stranger"].via()))
    sent.headers.insert(1, ("Route", "<sip:198.51.100.1;lr>"))
    world.inject("stranger", sent.encode())
    await ladder.play("edge -> stranger  482 Loop Detected")


async def test_a_loop_is_482(world: World) -> None:
    """The request as we sent it comes back, nothing changed (RFC 3261 16.3 item 4)."""
    ladder = await play(world, """
        caller -> edge    MESSAGE sip:1000@198.51.100.1
        edge -> fs        MESSAGE sip:b2bua-1000@10.0.0.3
    """)  # fmt: skip
    sent = world.last("fs", "MESSAGE")
    sent.uri = "sip:1000@198.51.100.1"  # somebody turned it back into what it was
    sent.headers.insert(0, ("Via", world.parties["stranger"].via()))
    world.inject("stranger", sent.encode())
    await ladder.play("""
        edge -> stranger  482 Loop Detected
        fs -> edge        200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    assert world.stats["loops"] == 1


async def test_a_spiral_is_no_loop(world: World) -> None:
    """It comes back with another Request-URI: RFC 3261 16.3 calls that legal."""
    ladder = await play(world, """
        caller -> edge    MESSAGE sip:1000@198.51.100.1
        edge -> fs        MESSAGE sip:b2bua-1000@10.0.0.3
    """)  # fmt: skip
    sent = world.last("fs", "MESSAGE")
    sent.uri = "sip:1001@198.51.100.1"
    sent.headers.insert(0, ("Via", world.parties["stranger"].via()))
    world.inject("stranger", sent.encode())
    await ladder.play("edge -> fs  MESSAGE sip:b2bua-1001@10.0.0.3")


async def test_options_are_answered_on_the_lan_and_to_known_addresses_only(world: World) -> None:
    ladder = await play(world, """
        fs -> edge         OPTIONS sip:10.0.0.1:5080
        edge -> fs         200 OK
        carrier -> edge    OPTIONS sip:198.51.100.1  [B]
        edge -> carrier    200 OK  [B]
        callee -> edge     OPTIONS sip:198.51.100.1  [C]
        edge -> callee     200 OK  [C]
        stranger -> edge   OPTIONS sip:198.51.100.1  [D]
        stranger -> edge   OPTIONS sip:100@198.51.100.1  [E]
    """)  # fmt: skip
    assert world.stats["dropped_by_route"] == 2
    del ladder
    await world.over()


async def test_requests_that_cannot_be_read_are_answered_400_once(world: World) -> None:
    """A lying Content-Length, a start line that is none, a missing header: one reply, one count each."""
    party = world.parties["stranger"]
    good = party.request("bad@test", "INVITE", "sip:1000@198.51.100.1", b"v=0\r\n").encode()
    for number, data in enumerate((
        good.replace(b"Content-Length: 5", b"Content-Length: 5000"),
        good.replace(b"Content-Length: 5", b"Content-Length: -1"),
        good.replace(b"CSeq: 1 INVITE", b"CSeq: 1 BYE"),
        good.replace(b"INVITE sip:1000@198.51.100.1 SIP", b"INVITE sip:1000@ 198.51.100.1 SIP"),
        good.replace(b"INVITE sip:1000@198.51.100.1", b"INVITE sip:1000@198.51.100.1?Route=x"),
    ), 1):  # fmt: skip
        world.inject("stranger", data)
        (reply,) = world.take()
        assert reply.to == "stranger" and reply.message.status == 400, (data, reply)
        assert world.stats["bad_messages"] == world.stats["bad_answered"] == number
    world.inject("stranger", good.replace(b"CSeq: 1 INVITE", b"CSeq: one INVITE"))
    (reply_to_bad_cseq,) = world.raw
    assert reply_to_bad_cseq[0] == "stranger" and reply_to_bad_cseq[1].startswith(b"SIP/2.0 400 ")
    world.raw.clear()
    await world.over()


async def test_what_is_not_sip_gets_silence(world: World) -> None:
    for number, data in enumerate(
        (b"x", b"\xff" * 1400, b"GET / HTTP/1.1\r\n\r\n", b"SIP/2.0 200 OK\r\n\r\n", b"\x16\x03\x01"), 1
    ):
        world.inject("stranger", data)
        assert world.stats["bad_messages"] == number, data
    world.inject("stranger", b"\r\n\r\n")  # a keep-alive
    world.inject("stranger", b"\0\0\0\0")
    assert world.stats["bad_messages"] == 5
    await world.over()


async def test_unknown_scheme_is_416_and_unknown_version_505(world: World) -> None:
    party = world.parties["stranger"]
    good = party.request("a@test", "INVITE", "sip:1000@198.51.100.1").encode()
    world.inject("stranger", good.replace(b"INVITE sip:1000@", b"INVITE nosuch:1000@"))
    world.inject("stranger", good.replace(b" SIP/2.0\r\n", b" SIP/7.0\r\n", 1))
    assert [packet.message.status for packet in world.take()] == [416, 505]
    await world.over()
