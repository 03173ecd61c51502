"""The rest of the contract: limits, cookies, frames, and the commands beside offer and answer. Fake node and real
daemon."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from ng_protocol import (
    BlockDTMF,
    BlockMedia,
    Client,
    NgBadRequest,
    NgError,
    NgLoadLimit,
    NgLostCall,
    Offer,
    OkReply,
    Ping,
    PlayDTMF,
    PlayMedia,
    Publish,
    Query,
    SilenceMedia,
    StartForwarding,
    StartRecording,
    Statistics,
    StopForwarding,
    StopMedia,
    StopRecording,
    SubscribeAnswer,
    SubscribeRequest,
    UnblockDTMF,
    UnblockMedia,
    UnsilenceMedia,
    Unsubscribe,
    decode_untrusted,
    encode,
    open_client,
    split_frame_untrusted,
)
from tests.ng_protocol.conftest import SpecialNode
from tests.ng_protocol.contract import PUB, Dialog, sdp, seen
from tests.ng_protocol.daemon import rtpengine


def test_without_rtpengine_the_tests_fail_and_name_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    daemon = rtpengine(tmp_path / "log", ports=(34000, 34999))
    with pytest.raises(AssertionError, match="install the package rtpengine-daemon"), daemon:
        pass


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_session_limit(special_node: SpecialNode) -> None:
    """New calls are refused, the calls that exist go on; the reason is told apart only for who ``supports`` it."""
    async with special_node(max_sessions=1) as address, open_client(address) as client:
        await client.request(Offer(call_id="one", from_tag="f", sdp=sdp()))
        for supports in ((), ("load limit",)):
            with pytest.raises(NgLoadLimit) as caught:
                await client.request(Offer(call_id="two", from_tag="f", sdp=sdp(), supports=supports))
            assert caught.value.detail == "Parallel session limit reached"
            assert caught.value.try_another_node
        await client.request(Offer(call_id="one", from_tag="f", sdp=sdp()))
        with pytest.raises(NgLostCall):
            await client.request(Query(call_id="two"))
        assert (await client.request(Statistics())).totals.rejected_sessions == 2


async def test_draining(special_node: SpecialNode) -> None:
    """max-sessions 0: a re-offer for a call the node has lost counts as new."""
    async with special_node(max_sessions=0) as address, open_client(address) as client:
        assert await client.request(Ping())
        with pytest.raises(NgLoadLimit):
            await client.request(Offer(call_id="one", from_tag="f", to_tag="t", sdp=sdp()))


async def test_running_out_of_ports(special_node: SpecialNode) -> None:
    """Three calls fill twelve ports. The call that gets none is destroyed, even when it was established before."""
    async with special_node(ports=(35000, 35011)) as address, open_client(address) as client:
        dialogs = [Dialog(client, f"call-{number}") for number in range(3)]
        for dialog in dialogs:
            await dialog.establish(direction=("pub", "pub"))
        assert (await client.request(Statistics())).interfaces[0].ports.free == 0
        fourth = Dialog(client, "call-4")
        with pytest.raises(NgLoadLimit, match="Ran out of ports") as caught:
            await fourth.offer("f", "t")
        assert caught.value.try_another_node
        with pytest.raises(NgLostCall):
            await fourth.query()
        with pytest.raises(NgLoadLimit, match="Ran out of ports"):
            await dialogs[0].offer("f", "t", sdp(4444), flags=())
        with pytest.raises(NgLostCall):
            await dialogs[0].query()
        await fourth.offer("f", "t")


# -- frames and cookies ------------------------------------------------------------------------------------------------


@pytest.fixture
def wire(client: Client) -> Iterator[socket.socket]:
    """A plain socket to the node under test."""
    host, port = client.address.split(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((host, int(port)))
        yield sock


async def _ask(sock: socket.socket, datagram: bytes) -> bytes:
    sock.send(datagram)
    with trio.fail_after(5):
        await trio.lowlevel.wait_readable(sock)
    return sock.recv(65535)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "Invalid data (no payload)"),
        (b"foo", "Invalid NG data format"),
        (b"d3:fooe", "Could not decode bencode dictionary"),
        (b"d3:foo3:bare", 'Dictionary contains no key "command"'),
    ],
)
async def test_malformed_frames(wire: socket.socket, payload: bytes, reason: str) -> None:
    cookie = secrets.token_hex(8).encode()
    reply = await _ask(wire, cookie + b" " + payload)
    assert split_frame_untrusted(reply)[0] == cookie
    assert decode_untrusted(split_frame_untrusted(reply)[1]) == {"result": b"error", "error-reason": reason.encode()}


async def test_the_same_cookie_gets_the_same_reply_and_executes_once(client: Client, wire: socket.socket) -> None:
    before = await client.request(Statistics())
    cookie = secrets.token_hex(8).encode() + b" "
    call_id = secrets.token_hex(8)
    request = cookie + encode(Offer(call_id=call_id, from_tag="f", sdp=sdp()).to_wire())
    first = await _ask(wire, request)
    assert await _ask(wire, request) == first
    assert await _ask(wire, cookie + b"d7:command4:pinge") == first, "the cookie alone decides"
    after = await client.request(Statistics())
    assert after.commands("offer") == before.commands("offer") + 1
    again = await _ask(wire, b"x" + request)
    assert again != first, "another cookie is another command"


async def test_errors_are_replayed_for_their_cookie_too(client: Client, wire: socket.socket) -> None:
    cookie = secrets.token_hex(8).encode() + b" "
    call_id = secrets.token_hex(8)
    refused = await _ask(wire, cookie + encode(Query(call_id=call_id).to_wire()))
    assert b"Unknown call-id" in refused
    await client.request(Offer(call_id=call_id, from_tag="f", sdp=sdp()))
    assert await _ask(wire, cookie + encode(Query(call_id=call_id).to_wire())) == refused
    assert (await client.request(Query(call_id=call_id))).tags


# -- commands on a participant -----------------------------------------------------------------------------------------

SWITCHES: list[Any] = [
    BlockMedia,
    UnblockMedia,
    BlockDTMF,
    UnblockDTMF,
    SilenceMedia,
    UnsilenceMedia,
    StartForwarding,
    StopForwarding,
]


@pytest.mark.parametrize("command", SWITCHES, ids=lambda command: command.name())
async def test_switches_select_by_tag_label_address_or_all(dialog: Dialog, command: Any) -> None:
    await dialog.offer("f", "t", label="caller")
    await dialog.answer("f", "t", sdp(5000, ip="192.0.2.2"), label="callee")

    async def ask(**selector: Any) -> OkReply:
        reply = await dialog.client.request(command(call_id=dialog.call_id, **selector))
        assert isinstance(reply, OkReply)
        return reply

    for good in ({"from_tag": "f"}, {"label": "callee"}, {"address": "192.0.2.2"}, {"flags": ["all"]}, {}):
        assert (await ask(**good)).warning is None
    for lost, reason in (
        ({"from_tag": "nobody"}, "From-tag given, but no such tag exists"),
        ({"label": "nobody"}, "No monologue matching the given label"),
        ({"address": "192.0.2.99"}, "Failed to match address to any tag"),
    ):
        with pytest.raises(NgLostCall) as caught:
            await ask(**lost)
        assert caught.value.detail == reason
    with pytest.raises(NgBadRequest, match="Failed to parse network address"):
        await ask(address="no address")


@pytest.mark.parametrize(
    "command",
    [
        *(command(call_id="nobody", from_tag="f") for command in SWITCHES),
        StartRecording(call_id="nobody"),
        StopRecording(call_id="nobody"),
        PlayMedia(call_id="nobody", from_tag="f", file="/x"),
        StopMedia(call_id="nobody", from_tag="f"),
        PlayDTMF(call_id="nobody", from_tag="f", code="1"),
        SubscribeRequest(call_id="nobody", from_tag="f"),
        SubscribeAnswer(call_id="nobody", to_tag="s", sdp=sdp()),
        Unsubscribe(call_id="nobody", to_tag="s"),
    ],
    ids=lambda command: command.name(),
)
async def test_every_command_on_an_unknown_call_is_a_lost_call(client: Client, command: Any) -> None:
    with pytest.raises(NgLostCall) as caught:
        await client.request(command)
    assert caught.value.detail.lower() == "unknown call-id"


@pytest.mark.parametrize(
    ("command", "kind", "reason"),
    [
        (PlayMedia(call_id="", from_tag="f"), NgBadRequest, "No media file specified"),
        (PlayMedia(call_id="", from_tag="f", file="/no/such/file"), NgBadRequest, "from file"),
        (PlayMedia(call_id="", from_tag="f", blob=b"RIFFjunk"), NgBadRequest, "from blob"),
        (PlayMedia(call_id="", from_tag="f", db_id=3), NgBadRequest, "from database"),
        (PlayMedia(call_id="", file="/no/such/file"), NgBadRequest, "No participant party specified"),
        (PlayMedia(call_id="", from_tag="nobody", file="/x"), NgLostCall, "no such tag"),
        (StopMedia(call_id="", from_tag="f"), NgBadRequest, "Not currently playing media"),
        (StopMedia(call_id=""), NgBadRequest, "No participant party specified"),
        (PlayDTMF(call_id="", from_tag="f", code="x"), NgBadRequest, "Out of range 'code' specified"),
        (PlayDTMF(call_id="", from_tag="f", code="1"), NgBadRequest, "No SSRC context present for DTMF injection"),
        (PlayDTMF(call_id="", code="1"), NgBadRequest, "No participant party specified"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_playing_says_what_is_missing(dialog: Dialog, command: Any, kind: type[NgError], reason: str) -> None:
    flags = ("port-latching", "inject-DTMF")
    await dialog.offer("f", "t", flags=flags)
    await dialog.answer("f", "t", flags=flags)
    with pytest.raises(NgError) as caught:
        await dialog.client.request(msgspec.structs.replace(command, call_id=dialog.call_id))
    assert type(caught.value) is kind
    assert reason in caught.value.detail


async def test_recording(dialog: Dialog) -> None:
    await dialog.establish()
    assert await dialog.client.request(StartRecording(call_id=dialog.call_id, metadata="a:b")) == OkReply()
    assert await dialog.client.request(StopRecording(call_id=dialog.call_id, flags=["pause"])) == OkReply()
    assert await dialog.client.request(StopRecording(call_id=dialog.call_id)) == OkReply()


async def test_record_call_names_the_file(dialog: Dialog) -> None:
    command = Offer(call_id=dialog.call_id, from_tag="f", to_tag="t", sdp=sdp(), record_call="yes")
    reply = await dialog.client.request(command)
    assert len(reply.recordings) == 1
    assert reply.recordings[0].endswith(".pcap") and dialog.call_id in reply.recordings[0]


# -- publish and subscribe ---------------------------------------------------------------------------------------------


async def test_subscribing_to_a_party(dialog: Dialog) -> None:
    await dialog.establish()
    offered = await dialog.client.request(SubscribeRequest(call_id=dialog.call_id, from_tag="f", to_tag="s"))
    assert (offered.to_tag, offered.from_tag, offered.from_tags) == ("s", "f", ("f",))
    assert (seen(offered.sdp).direction, seen(offered.sdp).address) == ("sendonly", PUB)
    answer = SubscribeAnswer(call_id=dialog.call_id, to_tag="s", sdp=sdp(7000, "a=recvonly"))
    assert await dialog.client.request(answer) == OkReply()
    assert await dialog.hears("s") == ["f"]
    assert (await dialog.query()).tags["s"].subscriptions[0].type == "pub/sub"
    assert await dialog.hears("t") == ["f"], "the call itself goes on"
    assert await dialog.client.request(Unsubscribe(call_id=dialog.call_id, to_tag="s")) == OkReply()
    assert await dialog.client.request(Unsubscribe(call_id=dialog.call_id, to_tag="nobody")) == OkReply()


async def test_a_subscription_gets_a_tag_when_none_is_named(dialog: Dialog) -> None:
    await dialog.establish()
    one = await dialog.client.request(SubscribeRequest(call_id=dialog.call_id, from_tag="f"))
    two = await dialog.client.request(SubscribeRequest(call_id=dialog.call_id, from_tag="f"))
    assert one.to_tag and two.to_tag and one.to_tag != two.to_tag
    assert seen(one.sdp).port != seen(two.sdp).port


async def test_subscribing_to_everybody(dialog: Dialog) -> None:
    await dialog.establish()
    for command in (
        SubscribeRequest(call_id=dialog.call_id, to_tag="s", flags=["all"]),
        SubscribeRequest(call_id=dialog.call_id, to_tag="s", from_tags=["f", "t"]),
    ):
        offered = await dialog.client.request(command)
        assert sorted(offered.from_tags) == ["f", "t"]
        assert offered.from_tag is None


async def test_subscription_errors(dialog: Dialog) -> None:
    await dialog.establish()
    call_id = dialog.call_id
    for command, kind, reason in (
        (SubscribeRequest(call_id=call_id), NgLostCall, "No monologues matched"),
        (SubscribeRequest(call_id=call_id, from_tag="nobody"), NgLostCall, "From-tag given, but no such tag exists"),
        (SubscribeAnswer(call_id=call_id, to_tag="nobody", sdp=sdp()), NgLostCall, "To-tag not found"),
    ):
        with pytest.raises(NgError) as caught:
            await dialog.client.request(command)
        assert (type(caught.value), caught.value.detail) == (kind, reason)


async def test_publishing(dialog: Dialog) -> None:
    reply = await dialog.client.request(Publish(call_id=dialog.call_id, from_tag="source", sdp=sdp()))
    assert (seen(reply.sdp).direction, seen(reply.sdp).address) == ("recvonly", PUB)
    assert set((await dialog.query()).tags) == {"source"}
    offered = await dialog.client.request(SubscribeRequest(call_id=dialog.call_id, from_tag="source", to_tag="s"))
    assert seen(offered.sdp).direction == "sendonly"
    with pytest.raises(NgBadRequest, match="No SDP body in message"):
        await dialog.client.request(Publish(call_id=dialog.call_id, from_tag="source"))
    with pytest.raises(NgBadRequest, match="No from-tag in message"):
        await dialog.client.request(Publish(call_id=dialog.call_id, sdp=sdp()))
