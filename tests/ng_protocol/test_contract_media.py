"""With real RTP through a real daemon: what ``query`` tells about packets and quality, and playing into a call.

Two parties are plain UDP sockets on loopback. Nothing is paced: the daemon counts what arrives, and the tests ask
until it has.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import pytest
import trio

from ng_protocol import Client, PlayDTMF, PlayMedia, QueryReply, Statistics, StopMedia, open_client
from tests.ng_protocol.contract import PUB, Dialog, sdp

pytestmark = pytest.mark.real
SSRCS = (0x11111111, 0x22222222)
FLAGS = ("port-latching", "inject-DTMF")


class Phone:
    """One party: an RTP and an RTCP socket on neighbouring ports."""

    def __init__(self, ssrc: int, other: int) -> None:
        self.ssrc = ssrc
        self.other = other
        self.rtp, self.rtcp = _socket_pair()
        self.port: int = self.rtp.getsockname()[1]
        self.to = 0
        self.sent = 0

    def send(self, packets: int) -> None:
        """That many G.711 packets."""
        for _ in range(packets):
            header = struct.pack("!BBHII", 0x80, 8, self.sent, self.sent * 160, self.ssrc)
            self.rtp.sendto(header + b"\xd5" * 160, (PUB, self.to))
            self.sent += 1

    def report(self, ntp: int, last_ntp: int) -> None:
        """A sender report with a reception report that refers to the other's sender report (RFC 3550 section 6.4.1)."""
        middle = (last_ntp >> 16) & 0xFFFFFFFF
        head = struct.pack("!BBHIQIII", 0x81, 200, 12, self.ssrc, ntp, self.sent * 160, self.sent, self.sent * 160)
        block = struct.pack("!IIIIII", self.other, 0, self.sent, 20, middle, 1)
        self.rtcp.sendto(head + block, (PUB, self.to + 1))


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    for _ in range(50):
        rtp, rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        rtp.bind((PUB, 0))
        try:
            rtcp.bind((PUB, rtp.getsockname()[1] + 1))
        except OSError:
            rtp.close()
            rtcp.close()
            continue
        return rtp, rtcp
    raise AssertionError("no two neighbouring ports are free")


class Talk:
    """An established call whose parties have sent some RTP."""

    def __init__(self, dialog: Dialog, phones: tuple[Phone, Phone]) -> None:
        self.dialog = dialog
        self.phones = phones

    async def establish(self) -> None:
        """Offer, answer, ten packets each way, and the daemon has seen them."""
        one, two = self.phones
        offered = await self.dialog.offer("f", "t", sdp(one.port, ip=PUB), flags=FLAGS)
        answered = await self.dialog.answer("f", "t", sdp(two.port, ip=PUB), flags=FLAGS)
        one.to, two.to = answered.port, offered.port
        for phone in self.phones:
            phone.send(10)
        await self.until(lambda call: call.totals.rtp.packets >= 20)

    async def until(self, seen: Callable[[QueryReply], bool], again: Callable[[], None] = lambda: None) -> QueryReply:
        """Asks until the state is as wanted."""
        with trio.fail_after(10):
            while True:
                again()
                call = await self.dialog.query()
                if seen(call):
                    return call


@pytest.fixture
async def talk(daemon_address: str) -> AsyncGenerator[Talk, None]:
    async with open_client(daemon_address) as client:
        phones = Phone(SSRCS[0], SSRCS[1]), Phone(SSRCS[1], SSRCS[0])
        dialog = Dialog(client, f"media-{phones[0].port}")
        made = Talk(dialog, phones)
        await made.establish()
        yield made
        await dialog.delete()
        for phone in phones:
            phone.rtp.close()
            phone.rtcp.close()


async def test_packets_bytes_and_codec(talk: Talk) -> None:
    call = await talk.dialog.query()
    for tag, phone in zip(("f", "t"), talk.phones, strict=True):
        media = call.tags[tag].medias[0]
        assert media.rtp is not None and media.codec == "PCMA/8000"
        assert (media.rtp.received.packets, media.rtp.received.bytes, media.rtp.received.errors) == (10, 1720, 0)
        assert (media.rtp.ssrc, media.rtp.local_port) == (phone.ssrc, phone.to)
        assert media.rtp.last_packet >= call.created
        assert str(media.rtp.endpoint) == f"{PUB}:{phone.port}"
    assert (call.totals.rtp.packets, call.totals.rtp.bytes) == (20, 3440)


async def test_deleting_a_party_returns_the_last_figures(talk: Talk) -> None:
    deleted = await talk.dialog.delete(from_tag="f", to_tag="t")
    assert deleted.call is not None
    assert deleted.call.totals.rtp.packets == 20


async def test_quality_from_rtcp(talk: Talk) -> None:
    one, two = talk.phones
    ntp = [1 << 40, 2 << 40]

    def exchange() -> None:
        """Each reports, and refers to the other's report of the round before, which the daemon has seen by now."""
        last = list(ntp)
        for index in (0, 1):
            ntp[index] += 1 << 20
        one.report(ntp[0], last[1])
        two.report(ntp[1], last[0])

    call = await talk.until(lambda call: len(call.ssrcs) == 2, exchange)
    assert set(call.ssrcs) == {str(ssrc) for ssrc in SSRCS}
    for ssrc in call.ssrcs.values():
        assert ssrc.average is not None and ssrc.packets > 0
        assert 1.0 <= ssrc.average.mos <= 4.5
        assert ssrc.average.packet_loss == 0 and ssrc.average.samples >= 1
    assert (await talk.dialog.client.request(Statistics())).totals.uptime >= 0


async def test_playing_and_dtmf(talk: Talk, tmp_path: Path) -> None:
    client: Client = talk.dialog.client
    call_id = talk.dialog.call_id
    data = b"\0" * 16000
    wav = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt "
    wav += struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16) + b"data" + struct.pack("<I", len(data)) + data
    file = tmp_path / "tone.wav"
    file.write_bytes(wav)
    ask: list[Callable[[], Awaitable[object]]] = [
        lambda: client.request(PlayMedia(call_id=call_id, from_tag="f", file=str(file))),
        lambda: client.request(PlayMedia(call_id=call_id, from_tag="f", blob=wav)),
    ]
    for play in ask:
        reply = await play()
        assert getattr(reply, "duration", None) == 1000, "milliseconds"
        await client.request(StopMedia(call_id=call_id, from_tag="f"))
    await client.request(PlayDTMF(call_id=call_id, from_tag="f", code="5", duration=100, volume=-10))
