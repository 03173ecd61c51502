"""Tone detection and the record of what a phone heard; pure, no sockets except one loopback pair."""

from __future__ import annotations

import math
import random
import socket
import struct

import pytest
import trio

from lab.rtp import (
    PACKET_SECONDS,
    PCMU,
    SAMPLES,
    TONES,
    ULAW,
    Hearing,
    MediaPort,
    recognise,
    tone_payloads,
    ulaw_encode,
)

SOURCE = ("198.51.100.1", 30000)


def packet(payload: bytes, sequence: int = 1, *, kind: int = PCMU, ssrc: int = 7) -> bytes:
    return struct.pack("!BBHII", 0x80, kind, sequence, 160 * sequence, ssrc) + payload


@pytest.mark.parametrize(
    ("sample", "byte"),
    [(0, 0xFF), (-1, 0x7F), (8, 0xFE), (32635, 0x80), (32767, 0x80), (-32635, 0x00), (-32768, 0x00), (1000, 0xCE)],
)
def test_mu_law_known_values(sample: int, byte: int) -> None:
    assert ulaw_encode(sample) == byte


def test_mu_law_round_trip_is_within_a_quantum() -> None:
    for sample in range(-32000, 32000, 37):
        decoded = ULAW[ulaw_encode(sample)]
        assert abs(decoded - sample) <= max(8, abs(sample) / 16)
    assert all(ulaw_encode(ULAW[byte]) in (byte, 0xFF) for byte in range(256))  # 0x7f is -0


@pytest.mark.parametrize("tone", TONES)
def test_each_tone_is_recognised_in_every_packet(tone: int) -> None:
    payloads = tone_payloads(tone)
    assert [len(payload) for payload in payloads] == [SAMPLES] * 5
    assert [recognise(payload) for payload in payloads] == [tone] * 5
    assert [recognise(payload) for payload in tone_payloads(tone, amplitude=500)] == [tone] * 5


def test_tone_repeats_seamlessly() -> None:
    wave = b"".join(tone_payloads(440))
    step = 2 * math.pi * 440 / 8000
    longer = bytes(ulaw_encode(round(8000 * math.sin(step * n))) for n in range(2 * len(wave)))
    assert longer == wave * 2


def test_other_frequencies_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 10 Hz"):
        tone_payloads(445)


def test_silence_noise_and_strange_tones_are_no_tone() -> None:
    dice = random.Random(1)
    assert recognise(bytes([0xFF]) * SAMPLES) == 0
    assert recognise(b"") == 0
    assert recognise(bytes(ulaw_encode(dice.randrange(-8000, 8000)) for _ in range(SAMPLES))) == -1
    assert recognise(tone_payloads(2000)[0]) == -1


def test_two_tones_at_once_are_not_one() -> None:
    both = bytes(
        ulaw_encode(round(sum(4000 * math.sin(2 * math.pi * f / 8000 * n) for f in TONES[:3]))) for n in range(SAMPLES)
    )
    assert recognise(both) == -1


def test_a_tone_through_noise_is_recognised() -> None:
    dice = random.Random(2)
    clean = tone_payloads(620)[2]
    noisy = bytes(ulaw_encode(ULAW[byte] + dice.randrange(-2000, 2000)) for byte in clean)
    assert recognise(noisy) == 620


def test_hearing_counts_seconds_gaps_and_sources() -> None:
    hearing, payloads = Hearing(), tone_payloads(440)
    for n in range(100):
        if not 40 <= n < 60:
            hearing.take(packet(payloads[n % 5], n), SOURCE, 10 + n * PACKET_SECONDS)
    assert hearing.seconds(440) == pytest.approx(1.6)
    assert hearing.seconds(620) == 0
    assert hearing.seconds(440, 11.5) == pytest.approx(0.5)
    assert hearing.count(until=10.1) == 5
    [(start, length)] = hearing.gaps(440, 10.0, 12.0)
    assert (start, length) == (pytest.approx(10.78), pytest.approx(0.42))
    assert hearing.longest_gap(440, 10.0, 12.0) == pytest.approx(0.42)
    assert hearing.longest_gap(440, 10.0, 10.5) == pytest.approx(0.02)
    assert hearing.longest_gap(620, 10.0, 12.0) == 2.0
    assert hearing.sources() == {SOURCE}


def test_a_packet_twice_counts_once_and_is_told() -> None:
    hearing, payload = Hearing(), tone_payloads(440)[0]
    for _ in range(3):
        hearing.take(packet(payload), SOURCE, 1.0)
    assert hearing.seconds(440) == pytest.approx(PACKET_SECONDS)
    assert hearing.repeated() == 2


def test_what_is_no_rtp_or_no_pcmu() -> None:
    hearing = Hearing()
    whole = packet(tone_payloads(440)[0])
    for length in range(12):
        hearing.take(whole[:length], SOURCE, 1.0)
    hearing.take(b"\x00" * 20, SOURCE, 1.0)
    assert (hearing.garbage, len(hearing.packets)) == (13, 0)
    hearing.take(packet(tone_payloads(440)[0], kind=8), SOURCE, 1.0)
    assert [heard.tone for heard in hearing.packets] == [-1]


async def test_two_ports_hear_each_other() -> None:
    ports = []
    for tone in (440, 620):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        ports.append(MediaPort(trio.socket.from_stdlib_socket(sock), tone))
    left, right = ports
    left.remote, right.remote = right.address, left.address
    left.sending = True
    async with trio.open_nursery() as nursery:
        for port in ports:
            nursery.start_soon(port.run)
        with trio.fail_after(5):
            while right.hearing.seconds(440) < 0.2:  # noqa: ASYNC110 - real packets on a real clock
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert left.hearing.packets == []
    assert right.sent == 0
    assert right.hearing.sources() == {left.address}
    sequences = [heard.sequence for heard in right.hearing.packets]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    for port in ports:
        port.close()
