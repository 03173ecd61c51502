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

from ng_protocol import Client, PlayDTMF, PlayMedia, QueryReply, StopMedia, open_client
from tests.ng_protocol.contract import LATCH, PUB, Dialog, sdp

pytestmark = pytest.mark.real
SSRCS = (0x11111111, 0x22222222)
PACKETS = 10
"""From each party."""


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

    def report(self, ntp: int, answered_ntp: int | None = None) -> None:
        """A sender report (RFC 3550 section 6.4.1), with a reception report that answers a sender report of the
        other."""
        about = b""
        if answered_ntp is not None:
            middle = (answered_ntp >> 16) & 0xFFFFFFFF
            about = struct.pack("!IIIIII", self.other, 0, self.sent, 40, middle, 1)
        words = (28 + len(about)) // 4 - 1
        head = struct.pack("!BBHI", 0x80 + len(about) // 24, 200, words, self.ssrc)
        sender = struct.pack("!QIII", ntp, self.sent * 160, self.sent, self.sent * 160)
        self.rtcp.sendto(head + sender + about, (PUB, self.to + 1))


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

    async def establish(self, *more_flags: str) -> None:
        """Offer, answer, packets each way, and the daemon has seen them."""
        one, two = self.phones
        flags = (*LATCH, *more_flags)
        offered = await self.dialog.offer("f", "t", sdp(one.port, ip=PUB), flags=flags)
        answered = await self.dialog.answer("f", "t", sdp(two.port, ip=PUB), flags=flags)
        one.to, two.to = answered.port, offered.port
        for phone in self.phones:
            phone.send(PACKETS)
        await self.until(lambda call: call.totals.rtp.packets == 2 * PACKETS)

    async def until(self, seen: Callable[[QueryReply], bool]) -> QueryReply:
        """Asks until the state is as wanted."""
        with trio.fail_after(10):
            while True:
                call = await self.dialog.query()
                if seen(call):
                    return call


@pytest.fixture
async def talk(daemon_address: str) -> AsyncGenerator[Talk, None]:
    async with open_client(daemon_address) as client:
        phones = Phone(SSRCS[0], SSRCS[1]), Phone(SSRCS[1], SSRCS[0])
        dialog = Dialog(client, f"media-{phones[0].port}")
        made = Talk(dialog, phones)
        yield made
        await dialog.delete()
        for phone in phones:
            phone.rtp.close()
            phone.rtcp.close()


async def test_packets_bytes_and_codec(talk: Talk) -> None:
    await talk.establish()
    call = await talk.dialog.query()
    for tag, phone in zip(("f", "t"), talk.phones, strict=True):
        media = call.tags[tag].medias[0]
        assert media.rtp is not None and media.codec == "PCMA/8000"
        assert (media.rtp.received.packets, media.rtp.received.bytes, media.rtp.received.errors) == (
            PACKETS,
            PACKETS * 172,
            0,
        )
        assert (media.rtp.ssrc, media.rtp.local_port) == (phone.ssrc, phone.to)
        assert media.rtp.last_packet >= call.created
        assert str(media.rtp.endpoint) == f"{PUB}:{phone.port}"
    assert (call.totals.rtp.packets, call.totals.rtp.bytes) == (2 * PACKETS, 2 * PACKETS * 172)


async def test_deleting_a_party_returns_the_last_figures(talk: Talk) -> None:
    await talk.establish()
    deleted = await talk.dialog.delete(from_tag="f", to_tag="t")
    assert deleted.call is not None
    assert deleted.call.totals.rtp.packets == 2 * PACKETS


async def test_quality_from_rtcp(talk: Talk) -> None:
    """A MOS needs the round-trip time of both legs: two reports, one reception report each way. One a second counts.

    Not with the flag inject-DTMF: its transcoding path forgets the payload type, and 10.5 ignores the reports.
    """
    await talk.establish()
    one, two = talk.phones
    ntp_one, ntp_two = 1 << 40, 2 << 40
    one.report(ntp_one)
    two.report(ntp_two)
    await talk.until(lambda call: call.totals.rtcp.packets == 2)
    one.report(ntp_one + (1 << 20), ntp_two)
    await talk.until(lambda call: call.totals.rtcp.packets == 3)
    two.report(ntp_two + (1 << 20), ntp_one)
    call = await talk.until(lambda call: bool(call.ssrcs))
    assert set(call.ssrcs) == {str(two.ssrc)}
    figures = call.ssrcs[str(two.ssrc)]
    assert figures.average is not None and figures.lowest is not None and figures.highest is not None
    assert figures.average.mos == figures.lowest.mos == figures.highest.mos == 4.3
    assert (figures.average.jitter, figures.average.packet_loss, figures.average.samples) == (5, 0, 1)
    assert 0 < figures.average.round_trip_time < 5_000_000
    assert figures.lowest.reported_at >= call.created
    assert figures.cumulative_loss == 0


async def test_playing_and_dtmf(talk: Talk, tmp_path: Path) -> None:
    await talk.establish("inject-DTMF")
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
