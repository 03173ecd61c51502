"""The lab's SIP transactions over loopback, in virtual time."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from lab.sip import Message
from lab.sip_dialog import Dialog
from lab.sip_socket import Incoming, NoAnswer, SipSocket, open_sip_socket


def request(sip: SipSocket, method: str) -> Message:
    """An out-of-dialog request."""
    out = Message(method=method, uri="sip:x@127.0.0.1")
    out.headers += [
        ("Max-Forwards", "70"),
        ("From", f"<sip:a@127.0.0.1>;tag={sip.ids.tag()}"),
        ("To", "<sip:x@127.0.0.1>"),
    ]
    out.headers += [("Call-ID", sip.ids.call_id()), ("CSeq", f"1 {method}"), ("Contact", "<sip:a@127.0.0.1>")]
    return out


def sent(sip: SipSocket) -> list[str]:
    """Start lines of what a socket sent."""
    return [data.split(b"\r\n")[0].decode() for _, out, _, data in sip.log if out]


async def test_call_with_lost_responses(autojump_clock: MockClock) -> None:
    """The callee is silent at first: the INVITE is repeated; its 200 is repeated until the ACK."""
    autojump_clock.autojump_threshold = 0.01
    async with open_sip_socket(("127.0.0.1", 0), seed=1) as a, open_sip_socket(("127.0.0.1", 0), seed=2) as b:
        tx = a.send_request(request(a, "INVITE"), b.address)
        incoming: Incoming = await b.requests.receive()
        assert incoming.message.via.params["received"] == "127.0.0.1"
        assert incoming.message.via.params["rport"] == str(a.address[1])
        await trio.sleep(1.6)  # repeats at 0.5 and 1.5
        assert sent(a) == ["INVITE sip:x@127.0.0.1 SIP/2.0"] * 3
        incoming.respond(180, tag="t")
        incoming.respond(200, tag="t", contact="<sip:x@127.0.0.1>")
        assert [(await tx.responses.receive()).status for _ in range(2)] == [180, 200]
        await trio.sleep(1.6)
        assert sent(b) == ["SIP/2.0 180 Ringing"] + ["SIP/2.0 200 OK"] * 3
        ok = await tx.responses.receive()
        dialog = Dialog.from_response(tx.request, ok)
        tx.ack(dialog.ack(ok))
        assert (await b.requests.receive()).message.method == "ACK"
        await trio.sleep(60)
        assert len(sent(b)) == 4


async def test_failure_is_acked_by_the_transaction(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.01
    async with open_sip_socket(("127.0.0.1", 0), seed=1) as a, open_sip_socket(("127.0.0.1", 0), seed=2) as b:
        tx = a.send_request(request(a, "INVITE"), b.address)
        incoming = await b.requests.receive()
        incoming.respond(180, tag="t")
        cancelled = tx.cancel()
        cancel = await b.requests.receive()
        assert cancel.message.via.branch == incoming.message.via.branch
        cancel.respond(200)
        incoming.respond(487, tag="t")
        assert (await cancelled.final()).status == 200
        assert (await tx.final()).status == 487
        await trio.sleep(40)
        assert sent(a) == [
            "INVITE sip:x@127.0.0.1 SIP/2.0",
            "CANCEL sip:x@127.0.0.1 SIP/2.0",
            "ACK sip:x@127.0.0.1 SIP/2.0",
        ]
        assert len(sent(b)) == 3
        assert b.requests.statistics().current_buffer_used == 0


async def test_silence_is_an_error_after_64_t1(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.01
    async with open_sip_socket(("127.0.0.1", 0)) as a, open_sip_socket(("127.0.0.1", 0)) as b:
        start = trio.current_time()
        with pytest.raises(NoAnswer, match="OPTIONS"):
            await a.ask(request(a, "OPTIONS"), b.address)
        assert trio.current_time() - start == pytest.approx(32, abs=0.5)
        assert len(sent(a)) == 11  # RFC 3261 17.1.2.2: 0.5, 1, 2, 4, 4, ... seconds apart, 11 packets in all
        assert b.requests.statistics().current_buffer_used == 1  # one request, ten repeats absorbed
        a.transmit(b"\r\n\r\n", b.address)
        await trio.sleep(0.1)
        assert b.ignored == 1
