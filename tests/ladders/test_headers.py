"""Whatever shape a message has, the proxy reads it, and what it does not touch leaves byte for byte."""

from __future__ import annotations

import os
import random
import re

import trio

from tests.ladder import Ladder
from tests.world import World, settle

HEAD = [
    b"Via: SIP/2.0/UDP 203.0.113.8;branch=z9hG4bKshape",
    b"Max-Forwards: 70",
    b"From: <sip:caller@203.0.113.8>;tag=shape",
    b"To: <sip:1000@198.51.100.1>",
    b"Call-ID: shape@test",
    b"CSeq: 7 MESSAGE",
    b"Contact: <sip:caller@203.0.113.8>",
]


def message(*lines: bytes, body: bytes = b"", start: bytes = b"MESSAGE sip:1000@198.51.100.1 SIP/2.0") -> bytes:
    """A message out of lines; Content-Length is added."""
    return b"\r\n".join([start, *lines, b"Content-Length: %d" % len(body), b"", body])


async def forwarded(world: World, data: bytes) -> bytes:
    """What FreeSWITCH gets."""
    world.inject("caller", data)
    await settle()
    (packet,) = world.take()
    assert packet.to == "fs", packet.data
    return packet.data


async def back(world: World, request: bytes, *more: bytes, vias: list[bytes] | None = None) -> bytes:
    """FreeSWITCH answers it 200 with these header lines; what the caller gets."""
    lines = re.split(rb"\r\n(?![ \t])", request.split(b"\r\n\r\n")[0])[1:]
    kept = [line for line in lines if line[:2].lower() in (b"fr", b"to", b"ca", b"cs", b"f:", b"t:", b"i:")]
    vias = vias if vias is not None else [line for line in lines if line[:2].lower() in (b"vi", b"v:")]
    world.inject("fs", b"\r\n".join([b"SIP/2.0 200 OK", *vias, *kept, *more, b"Content-Length: 0", b"", b""]))
    await settle()
    (packet,) = world.take()
    assert packet.to == "caller", packet.data
    return packet.data


async def test_compact_names_stay_compact(world: World) -> None:
    lines = [
        b"v:SIP/2.0/UDP 203.0.113.8;branch=z9hG4bKshape", b"f:<sip:caller@203.0.113.8>;tag=shape", b"i:shape@test",
        b"t:sip:1000@198.51.100.1", b"CSeq:7 MESSAGE", b"m:<sip:caller@203.0.113.8>", b"MAX-FORWARDS : 70",
    ]  # fmt: skip
    data = b"\r\n".join([b"MESSAGE sip:1000@198.51.100.1 SIP/2.0", *lines, b"c: text/plain", b"l: 2", b"", b"hi"])
    sent = await forwarded(world, data)
    own_via, *rest = sent.split(b"\r\n")[1:]
    assert own_via.startswith(b"Via: SIP/2.0/UDP 10.0.0.1:5080;branch=z9hG4bK")
    assert rest[:6] == lines[:6]
    assert rest[6].replace(b" ", b"") == b"MAX-FORWARDS:69"
    assert sent.endswith(b"c: text/plain\r\nl: 2\r\n\r\nhi")
    reply = await back(world, sent)
    assert reply.split(b"\r\n")[1] == lines[0]


async def test_any_header_order(world: World) -> None:
    rng = random.Random(4)
    for number in range(20):
        lines = [line.replace(b"shape", b"shape%d" % number) for line in HEAD]
        rng.shuffle(lines)
        sent = await forwarded(world, message(*lines))
        rest = [line for line in sent.split(b"\r\n")[1:] if b"10.0.0.1:5080" not in line]
        assert rest[: len(lines)] == [line.replace(b"s: 70", b"s: 69") for line in lines]
        reply = await back(world, sent)
        assert reply.startswith(b"SIP/2.0 200 OK\r\n") and reply.count(b"Via:") == 1


async def test_folded_headers(world: World) -> None:
    """RFC 3261 7.3.1: a line that begins with white space continues the one before."""
    folded = [
        b"Via: SIP/2.0/UDP\r\n 203.0.113.8\r\n\t;branch=z9hG4bKshape", b"Max-Forwards:\r\n  70",
        b"From:\r\n <sip:caller@203.0.113.8>\r\n ;tag=shape", b"To: <sip:1000@198.51.100.1>",
        b"Call-ID:\r\n shape@test", b"CSeq: 7\r\n MESSAGE",
        b"Subject: I know you're there,\r\n               pick up the phone",
    ]  # fmt: skip
    sent = await forwarded(world, message(*folded))
    assert b"\r\nSubject: I know you're there,\r\n               pick up the phone\r\n" in sent
    assert b"\r\nFrom:\r\n <sip:caller@203.0.113.8>\r\n ;tag=shape\r\n" in sent
    assert b"69\r\n" in sent
    reply = await back(world, sent)
    assert b"10.0.0.1" not in reply and b"203.0.113.8" in reply.split(b"\r\n")[2]


async def test_vias_joined_by_a_comma(world: World) -> None:
    """Real stacks fold all Vias into one line, ours among them; ours alone is taken out."""
    lines = [HEAD[0] + b" , SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKfirst", *HEAD[1:]]
    sent = await forwarded(world, message(*lines))
    values = b", ".join(line.partition(b": ")[2] for line in sent.split(b"\r\n") if line.startswith(b"Via:"))
    reply = await back(world, sent, vias=[b"Via: " + values])
    vias = [line for line in reply.split(b"\r\n") if line.startswith(b"Via:")]
    assert vias == [b"Via: SIP/2.0/UDP 203.0.113.8;branch=z9hG4bKshape , SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKfirst"]


async def test_values_on_many_lines(world: World) -> None:
    more = [
        b"Supported: 100rel",
        b"Require: x-one",
        b"Supported: timer, path",
        b"X-Odd: a",
        b"Require: x-two",
        b"x-odd: b",
    ]
    sent = await forwarded(world, message(HEAD[0], b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa", *more, *HEAD[1:]))
    rest = sent.split(b"\r\n")[4:]
    assert rest[:6] == more


async def test_a_binary_body(world: World) -> None:
    body = bytes(range(256)) * 3 + b"\r\n\r\n\0\r\nINVITE sip:x SIP/2.0\r\n\r\n"
    sent = await forwarded(world, message(*HEAD, b"Content-Type: application/octet-stream", body=body))
    assert sent.endswith(b"\r\n\r\n" + body)


async def test_bytes_behind_content_length_are_dropped(world: World) -> None:
    sent = await forwarded(world, message(*HEAD, body=b"hi") + b"trailing junk")
    assert sent.endswith(b"\r\n\r\nhi")


async def test_line_feeds_alone(world: World) -> None:
    """A sender that ends lines with LF alone is read; what it sent stays as it is."""
    sent = await forwarded(world, message(*HEAD, body=b"hi").replace(b"\r\n", b"\n"))
    assert b"MESSAGE sip:b2bua-1000@10.0.0.3 SIP/2.0" in sent.splitlines()
    assert sent.endswith(b"\n\nhi")


async def test_the_largest_datagram(world: World) -> None:
    """64 KiB: body and headers; nothing is cut."""
    body = os.urandom(40_000)
    filler = [b"X-Filler-%d: %s" % (number, b"f" * 700) for number in range(30)]
    data = message(*HEAD, *filler, body=body)
    data = data.replace(b"X-Filler-0: ", b"X-Filler-0: " + b"g" * (65_000 - len(data)))
    assert len(data) == 65_000
    sent = await forwarded(world, data)
    assert sent.endswith(b"\r\n\r\n" + body)
    assert all(line.partition(b":")[0] in sent for line in filler)


async def test_a_request_that_grows_beyond_a_datagram_is_answered_513(world: World) -> None:
    """With our Via and Record-Route it does not fit into UDP any more (RFC 3261 21.5.14)."""
    for number, method in enumerate((b"MESSAGE", b"INVITE"), 1):
        data = message(*HEAD).replace(b"MESSAGE", method).replace(b"shape", b"SH" + method[:3])
        data = data.replace(b"Contact:", b"X-Long: " + b"x" * (65_480 - len(data)) + b"\r\nContact:")
        world.inject("caller", data)
        await trio.sleep(0.2)
        replies = [(packet.to, packet.message.status) for packet in world.take()]
        assert replies == [("caller", 100)] * (method == b"INVITE") + [("caller", 513)]
        assert world.stats["branch_too_large"] == number


async def test_odd_but_legal_names(world: World) -> None:
    """Quoted commas and semicolons, escapes, a display name with an escaped quote, an unknown method, tel URIs."""
    lines = [
        HEAD[0], b"Max-Forwards: 70", b'From: "A \\" B; , <x>" <sip:ca%6Cler@203.0.113.8;x=y>;z=",;";tag=shape',
        b"To: <tel:+15551234>", b"Call-ID: shape@test", b"CSeq: 7 STRANGE", b'Contact: "<" <sip:caller@203.0.113.8>',
    ]  # fmt: skip
    sent = await forwarded(world, message(*lines, start=b"STRANGE sip:1000@198.51.100.1 SIP/2.0"))
    assert lines[2] in sent and lines[3] in sent and lines[6] in sent
    reply = await back(world, sent)
    assert lines[2] in reply


async def test_headers_only_we_may_set_are_taken_out(world: World) -> None:
    """X-PGPX from outside would name another call to FreeSWITCH's side; from FreeSWITCH it passes."""
    ladder = Ladder(world)
    await ladder.play("""
        caller -> edge   MESSAGE sip:1000@198.51.100.1
            X-PGPX: fd1dcc52-6bab-4da9-b7dd-cfba9fd5ebe9
        edge -> fs       MESSAGE
            -X-PGPX
        fs -> edge       200 OK
            X-PGPX: fd1dcc52-6bab-4da9-b7dd-cfba9fd5ebe9
        edge -> caller   200 OK
            X-PGPX: fd1dcc52-6bab-4da9-b7dd-cfba9fd5ebe9
        fs -> edge       MESSAGE sip:1000@10.0.0.1:5080  [B]
            X-PGPX: fd1dcc52-6bab-4da9-b7dd-cfba9fd5ebe9
        edge -> callee   MESSAGE  [B]
            X-PGPX: fd1dcc52-6bab-4da9-b7dd-cfba9fd5ebe9
        callee -> edge   200 OK  [B]
            X-PGPX: of-the-callee
        edge -> fs       200 OK  [B]
            -X-PGPX
    """)  # fmt: skip
    await world.over()
