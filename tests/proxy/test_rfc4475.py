"""The torture messages of RFC 4475 end to end: each one leads to what `tests/data/rfc4475_outcomes` says.

How it works: requests come from a caller into an edge whose routing relays everything to one callee, and registers. A
response gets the Via of a transaction of ours on top, as it would have had. `core` of the outcome then says which of
these may happen: relayed, answered with a code, registered (answered by the registrar), or dropped. Relayed messages
must have kept every line they came with.
"""

from __future__ import annotations

import pytest
import trio

from proxy.flow import Address
from proxy.routing import Call
from proxy.sip.uri import Uri
from tests.data.rfc4475_outcomes import OUTCOMES, Outcome, message
from tests.world import DIRECT, World, branch_of, open_world, settle

REQUESTS = {name: outcome for name, outcome in OUTCOMES.items() if outcome.kind == "request"}
RESPONSES = {name: outcome for name, outcome in OUTCOMES.items() if outcome.kind == "response"}
HOSTS = '["example.com", "example.net", "company.com", "biloxi.com", "registrar.example.com", "services.example.com"]'


async def route(call: Call) -> None:
    """Relays everything but REGISTER."""
    if call.method == "REGISTER":
        return await call.register()
    await call.relay("sip:callee@203.0.113.9")


def sent(world: World) -> list[tuple[str, bytes]]:
    """Who got what, readable or not."""
    found = [(packet.to, packet.data) for packet in world.take()] + world.raw
    world.raw = []
    return [(to, data) for to, data in found if not data.startswith(b"SIP/2.0 100 ")]


def happened(packets: list[tuple[str, bytes]], method: bytes) -> str:
    """The word of the outcome table for what the edge has sent."""
    if not packets:
        return "drop"
    ((to, data),) = packets
    if to == "callee":
        return "relay"
    code = data.split(b" ")[1].decode()
    return "register" if method == b"REGISTER" and code not in ("400", "420", "483") else code


def test_every_message_is_here() -> None:
    assert len(REQUESTS) + len(RESPONSES) == 49


@pytest.mark.parametrize(("name", "outcome"), REQUESTS.items(), ids=REQUESTS)
async def test_request(autojump_clock: object, name: str, outcome: Outcome) -> None:
    async with open_world(DIRECT.replace('["example.test"]', HOSTS)) as world:
        world.edge.core.run_route = route
        world.edge.core.resolve = resolve
        data = message(name)
        sender = "caller"
        if name == "wsinv":  # it belongs to a dialog, so it needs our Route and a token for its Call-ID
            token = world.edge.core.token(b"-", b"-", b"-", b"wsinv.ndaksdj@192.0.2.1")
            route_line = b"Route: <sip:198.51.100.1;lr;t=%b>\r\n" % token
            data = data.replace(b"TO :", route_line + b"TO :", 1)
        if name == "mpart01":  # it has a Route, which only FreeSWITCH may bring along
            sender = "lan"
            world.party("lan", ("10.0.0.50", 5060))
            world.edge.core.is_freeswitch = lambda host: host == "10.0.0.50"
        world.inject(sender, data, "lan" if sender == "lan" else "")
        await settle()
        packets = sent(world)
        what = happened(packets, data.lstrip().split(b" ")[0])
        assert what in outcome.core, packets
        if what == "relay":
            kept(message(name), packets[0][1])
        if what == "drop":
            assert world.stats["bad_messages"] == 1
        world.inject("caller", data)  # a retransmission makes nothing new
        await settle()
        assert [to for to, _ in sent(world)] in ([], ["caller"])
        await world_ends(world)


async def resolve(uri: Uri) -> Address:
    """Every name is the callee's."""
    return ("203.0.113.9", 5060)


@pytest.mark.parametrize(("name", "outcome"), RESPONSES.items(), ids=RESPONSES)
async def test_response(autojump_clock: object, name: str, outcome: Outcome) -> None:
    async with open_world(DIRECT) as world:
        world.edge.core.run_route = route
        party = world.parties["caller"]
        world.inject("caller", party.request("a@test", "INVITE", "sip:1000@198.51.100.1").encode())
        await settle()
        (invite,) = [packet.message for packet in world.take() if packet.to == "callee"]
        data = message(name)
        if name == "noreason":
            data = data.replace(b"SIP/2.0 100 ", b"SIP/2.0 183 ")  # a proxy never passes a 100 on
        start, rest = data.split(b"\r\n", 1)
        via = b"Via: SIP/2.0/UDP 198.51.100.1;branch=" + branch_of(invite).encode()
        world.inject("callee", start + b"\r\n" + via + b"\r\n" + rest)
        await settle()
        packets = sent(world)
        relayed = [data for to, data in packets if to == "caller"]
        if name == "bcast":
            # The RFC warns of the broadcast address in its second Via; it goes where its request came from.
            assert len(relayed) == len(packets) == 1
            return
        assert ("relay" if relayed else "drop") in outcome.core, packets
        if relayed:
            assert relayed[0].split(b"\r\n")[0] == start
            kept(data, relayed[0])
        await world_ends(world)


def kept(before: bytes, after: bytes) -> None:
    """Every line but those a proxy has to touch is still there."""
    head, _, body = before.lstrip(b"\r\n").partition(b"\r\n\r\n")
    lines = after.split(b"\r\n\r\n")[0].split(b"\r\n")
    for line in head.split(b"\r\n")[1:]:
        touched = line.split(b":")[0].strip().lower() in (b"via", b"v", b"max-forwards", b"contact", b"m", b"to")
        assert touched or line in lines or line[:1] in b" \t", line
    if b"\r\n\r\nREGISTER" not in before and b"INVITE sip:" not in body:
        assert after.split(b"\r\n\r\n", 1)[1] == body or body.startswith(after.split(b"\r\n\r\n", 1)[1])


async def world_ends(world: World) -> None:
    """Nothing is stuck."""
    await trio.sleep(120)
    sent(world)
    assert list(world.leftovers()) == []
