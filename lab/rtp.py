"""A phone's ear and mouth: real PCMU packets every 20 ms, and what came back, heard by its tone.

Theory of operation. A `MediaPort` is one symmetric RTP socket (it sends from where it receives). It sends a sine tone
of its own, so that whoever hears it knows who speaks. Tones are multiples of 10 Hz, so five packets (100 ms) repeat
exactly and are made once. Every packet received is decoded from mu-law (ITU-T G.711) and put through the Goertzel
algorithm once per known tone over its own 20 ms: the tone holding at least half of the packet's energy is the one
heard. Results are cached by payload (a relay hands on the same five), so listening costs next to nothing. The record
of what was heard, `Hearing`, is asked afterwards with times of trio's clock.
"""

from __future__ import annotations

import itertools
import math
import random
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import trio

from lab.sip import Address

SAMPLE_RATE = 8000
SAMPLES = 160
"""Samples, and bytes of PCMU, in a packet of 20 ms."""
PACKET_SECONDS = SAMPLES / SAMPLE_RATE
TONES = (440, 620, 880, 1130)
"""Hz: caller, callee, the callee's second branch, and one to spare. Multiples of 10; at least 180 Hz apart."""
PCMU, PCMA = 0, 8
HEARD_SHARE = 0.5
QUIET = 200.0
"""Mean amplitude under which a packet is silence (16 bit scale; the tones have 8000)."""


def ulaw_encode(sample: int) -> int:
    """One 16 bit sample as mu-law (G.711: bias 132, complemented)."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32_635) + 132
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | (magnitude >> (exponent + 3)) & 0x0F) & 0xFF


def _ulaw_decode(byte: int) -> int:
    byte = ~byte & 0xFF
    magnitude = (((byte & 0x0F) << 3) + 132 << (byte >> 4 & 7)) - 132
    return -magnitude if byte & 0x80 else magnitude


ULAW = tuple(_ulaw_decode(byte) for byte in range(256))
"""The sample of each mu-law byte."""


def tone_payloads(frequency: int, amplitude: int = 8000) -> list[bytes]:
    """The five PCMU payloads that repeat as a sine of `frequency` Hz, a multiple of 10."""
    if frequency % 10:
        raise ValueError(f"a tone must be a multiple of 10 Hz to repeat every 100 ms, not {frequency}")
    step = 2 * math.pi * frequency / SAMPLE_RATE
    wave = bytes(ulaw_encode(round(amplitude * math.sin(step * n))) for n in range(5 * SAMPLES))
    return [wave[i : i + SAMPLES] for i in range(0, len(wave), SAMPLES)]


@lru_cache(maxsize=4096)
def recognise(payload: bytes) -> int:
    """The known tone (Hz) that holds at least half the energy of this PCMU payload, 0 for silence, -1 for any other
    sound."""
    samples = [ULAW[byte] for byte in payload]
    energy = float(sum(sample * sample for sample in samples))
    if not samples or energy < QUIET * QUIET * len(samples):
        return 0
    for tone in TONES:
        coefficient = 2 * math.cos(2 * math.pi * tone / SAMPLE_RATE)
        before, last = 0.0, 0.0
        for sample in samples:
            before, last = last, sample + coefficient * last - before
        power = last * last + before * before - coefficient * last * before
        if power >= HEARD_SHARE * energy * len(samples) / 2:
            return tone
    return -1


class Heard(NamedTuple):
    """One RTP packet received: when (trio's clock), from where, what it carried. `tone` as `recognise` says, -1 when
    not PCMU."""

    at: float
    source: Address
    ssrc: int
    sequence: int
    payload_type: int
    tone: int


class Hearing:
    """Everything one media port received. Times are trio's clock; `since` and `until` bound what is asked."""

    def __init__(self) -> None:
        self.packets: list[Heard] = []
        self.garbage = 0
        """Datagrams that were no RTP version 2 (RTCP is not sent to these ports)."""

    def take(self, data: bytes, source: Address, now: float) -> None:
        """Record one datagram."""
        if len(data) < 12 or data[0] >> 6 != 2:
            self.garbage += 1
            return
        _, second, sequence, _, ssrc = struct.unpack_from("!BBHII", data)
        kind = second & 0x7F
        payload = data[12 + 4 * (data[0] & 0x0F) :]
        tone = recognise(payload) if kind == PCMU else -1
        self.packets.append(Heard(now, source, ssrc, sequence, kind, tone))

    def between(self, since: float = -math.inf, until: float = math.inf) -> Iterator[Heard]:
        """The packets received in [since, until)."""
        return (packet for packet in self.packets if since <= packet.at < until)

    def count(self, since: float = -math.inf, until: float = math.inf) -> int:
        """Packets received."""
        return sum(1 for _ in self.between(since, until))

    def seconds(self, tone: int, since: float = -math.inf, until: float = math.inf) -> float:
        """Seconds of that tone: packets carrying it, each sequence number of an SSRC once, 20 ms apiece."""
        distinct = {(p.ssrc, p.sequence) for p in self.between(since, until) if p.tone == tone}
        return len(distinct) * PACKET_SECONDS

    def sources(self, since: float = -math.inf, until: float = math.inf) -> set[Address]:
        """Where packets came from."""
        return {packet.source for packet in self.between(since, until)}

    def gaps(self, tone: int, since: float, until: float, longer_than: float = 0.1) -> list[tuple[float, float]]:
        """Times in [since, until) without that tone for more than `longer_than` seconds, as (start, length in
        seconds)."""
        marks = [since, *(p.at for p in self.between(since, until) if p.tone == tone), until]
        return [(a, b - a) for a, b in itertools.pairwise(marks) if b - a > longer_than]

    def longest_gap(self, tone: int, since: float, until: float) -> float:
        """The longest time in [since, until) without that tone, in seconds."""
        return max(length for _, length in self.gaps(tone, since, until, longer_than=-1.0))

    def repeated(self) -> int:
        """Packets that arrived more than once: media runs in a loop or is relayed twice."""
        return len(self.packets) - len({(p.ssrc, p.sequence, p.payload_type) for p in self.packets})


class MediaPort:
    """A symmetric RTP socket of a phone. Set `remote` and `sending`; read `hearing`. `run` must be a task."""

    def __init__(self, sock: trio.socket.SocketType, tone: int, seed: int = 0) -> None:
        self._sock, self.tone = sock, tone
        self.address: Address = sock.getsockname()[:2]
        self.remote: Address | None = None
        self.sending = False
        self.sent = 0
        self.unsendable = 0
        """Packets the kernel refused at once (no route, say)."""
        self.hearing = Hearing()
        self._payloads = tone_payloads(tone)
        dice = random.Random(f"{seed} {tone}")
        self.ssrc = dice.getrandbits(32)
        self._sequence, self._timestamp = dice.getrandbits(15), dice.getrandbits(31)

    async def run(self) -> None:
        """Send and receive until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            nursery.start_soon(self._speak)

    async def _listen(self) -> None:
        while True:
            try:
                data, source = await self._sock.recvfrom(2048)
            except ConnectionRefusedError:
                continue
            self.hearing.take(data, source[:2], trio.current_time())

    async def _speak(self) -> None:
        due, talking = trio.current_time(), False
        for turn in range(2**62):
            due = max(due + PACKET_SECONDS, trio.current_time() - PACKET_SECONDS)
            await trio.sleep_until(due)
            self._timestamp = self._timestamp + SAMPLES & 0xFFFFFFFF
            if not self.sending or self.remote is None:
                talking = False
                continue
            self._sequence = self._sequence + 1 & 0xFFFF
            marker = 0 if talking else 0x80  # RFC 3551 4.1: first packet after silence
            talking = True
            header = struct.pack("!BBHII", 0x80, PCMU | marker, self._sequence, self._timestamp, self.ssrc)
            try:
                await self._sock.sendto(header + self._payloads[turn % 5], self.remote)
                self.sent += 1
            except OSError:
                self.unsendable += 1

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
