"""A phone apart from its calls: what it puts into its requests behind NAT, and how it answers what is no call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from lab import topology
from lab.nat import Nat, public_port
from lab.sip import Message
from lab.topology import HOME, Shape
from lab.ua import Phone, open_phone

pytestmark = pytest.mark.real


@asynccontextmanager
async def two(shape: Shape) -> AsyncIterator[tuple[Phone, Phone]]:
    """Caller and callee; the callee plays the caller's edge."""
    with trio.fail_after(10):
        async with (
            topology.build(shape) as network,
            open_phone(network, "caller", "2000", [440]) as caller,
            open_phone(network, "callee", "1000", [620]) as callee,
        ):
            caller.proxy = callee.sip.address
            yield caller, callee


async def test_behind_nat_it_writes_the_address_it_knows() -> None:
    async with two(Shape(caller_nat=Nat.PORT_RESTRICTED)) as (caller, callee):
        call = await caller.call("1000")
        incoming = await callee.next_call()
        assert incoming is not None
        invite, source = incoming.invite.message, incoming.invite.source
        assert source == ("203.0.113.17", public_port(5060))
        assert invite["Contact"] == f"<sip:2000@{HOME}:5060>"
        assert (invite.via.host, invite.via.port) == (HOME, 5060)
        assert (invite.via.params["received"], invite.via.params["rport"]) == (source[0], str(source[1]))
        assert f"c=IN IP4 {HOME}" in invite.sdp
        assert invite.uri == "sip:1000@example.test"
        incoming.reject(486)
        assert await call.outcome() == 486  # the reply found its way through rport


async def test_register_asks_for_a_binding() -> None:
    async with two(Shape()) as (caller, callee):
        reply = await caller.register(60)
        assert reply.status == 405  # a phone is no registrar
        [request] = [data for _, sent, _, data in callee.sip.log if not sent]
        parsed = Message.parse_untrusted(request)
        assert (parsed.method, parsed.uri, parsed["Expires"]) == ("REGISTER", "sip:example.test", "60")
        assert parsed.to.uri == parsed.from_.uri
        assert parsed.to.tag == ""
        assert parsed["Contact"] == "<sip:2000@203.0.113.17:5060>"


@pytest.mark.parametrize(
    ("method", "in_dialog", "status"),
    [("OPTIONS", False, 200), ("MESSAGE", False, 405), ("BYE", True, 481), ("CANCEL", False, 481), ("INFO", True, 481)],
)
async def test_what_is_no_call(method: str, in_dialog: bool, status: int) -> None:
    async with two(Shape()) as (caller, callee):
        request = Message(method=method, uri="sip:1000@203.0.113.9")
        request.headers += [
            ("From", "<sip:2000@example.test>;tag=a"),
            ("To", "<sip:1000@example.test>" + (";tag=b" if in_dialog else "")),
            ("Call-ID", "no-such-call"),
            ("CSeq", f"1 {method}"),
        ]
        assert (await caller.sip.ask(request, callee.sip.address)).status == status


async def test_nobody_calls() -> None:
    async with two(Shape()) as (_, callee):
        assert await callee.next_call(0.05) is None
