"""Reads the lab's captures: UDP datagrams of a tcpdump file, and the SIP among them as a ladder.

Theory of operation. The files are classic pcap in the byte order of the machine that wrote them, link type LINUX_SLL2
(`-i any`) or Ethernet; IPv4 fragments are joined, for an INVITE with its SDP may exceed the MTU. Files of the lab's
own tcpdump are trusted: what is no UDP over IPv4 is passed over, a file that ends inside a packet simply ends there
(the capture may still be running). `ladder` draws one line per SIP message between named columns and names each
dialog by a letter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lab.sip import Address, Message, SipError

LINK_ETHERNET, LINK_SLL2 = 1, 276
_HEADER_LENGTH = {LINK_ETHERNET: 14, LINK_SLL2: 20}
_IPV4 = 0x0800
_UDP = 17


class Datagram(NamedTuple):
    """One UDP datagram: seconds since the epoch, from, to, payload."""

    at: float
    source: Address
    destination: Address
    payload: bytes


class SipPacket(NamedTuple):
    """A datagram that is SIP."""

    at: float
    source: Address
    destination: Address
    message: Message


def datagrams(file: Path) -> Iterator[Datagram]:
    """The UDP datagrams of a capture, in order. Raises ValueError when it is no pcap of a known link type."""
    data = file.read_bytes()
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}.get(data[:4])
    if order is None:
        raise ValueError(f"{file} is not a pcap file")
    (link,) = struct.unpack_from(order + "I", data, 20)
    if link not in _HEADER_LENGTH:
        raise ValueError(f"{file} has link type {link}; tcpdump -i any writes {LINK_SLL2}")
    pieces: dict[tuple[bytes, int], dict[int, bytes]] = {}
    at = 24
    while at + 16 <= len(data):
        seconds, micros, length, _ = struct.unpack_from(order + "IIII", data, at)
        frame = data[at + 16 : at + 16 + length]
        at += 16 + length
        if len(frame) == length and (found := _udp(frame, link, pieces)) is not None:
            yield Datagram(seconds + micros / 1e6, *found)


def _udp(
    frame: bytes, link: int, pieces: dict[tuple[bytes, int], dict[int, bytes]]
) -> tuple[Address, Address, bytes] | None:
    kind = struct.unpack_from("!H", frame, 0 if link == LINK_SLL2 else 12)[0]
    packet = frame[_HEADER_LENGTH[link] :]
    if kind != _IPV4 or len(packet) < 20 or packet[9] != _UDP:
        return None
    total, ident, fragment = struct.unpack_from("!HHH", packet, 2)
    body = packet[4 * (packet[0] & 15) : total]
    if fragment & 0x3FFF:  # more fragments, or an offset
        group = pieces.setdefault((packet[12:20], ident), {})
        group[(fragment & 0x1FFF) * 8] = body
        if not fragment & 0x2000:
            group[-1] = b""  # the last one is here
        whole = b"".join(group[key] for key in sorted(group))
        length = struct.unpack_from("!H", whole, 4)[0] if 0 in group else 0
        if -1 not in group or len(whole) != length:
            return None
        body = whole
    source_port, destination_port = struct.unpack_from("!HH", body)
    source, destination = (".".join(map(str, packet[i : i + 4])) for i in (12, 16))
    return (source, source_port), (destination, destination_port), body[8:]


def sip(packets: Iterable[Datagram]) -> Iterator[SipPacket]:
    """The SIP messages among datagrams."""
    for packet in packets:
        if b"SIP/2.0" not in packet.payload:
            continue
        try:
            yield SipPacket(packet.at, packet.source, packet.destination, Message.parse_untrusted(packet.payload))
        except SipError:
            continue


def ladder(
    packets: Sequence[SipPacket], columns: Sequence[str], names: Mapping[str, str], width: int = 22
) -> list[str]:
    """Lines of a ladder. `columns` from left to right, `names` from IP address to column; other packets are left out.

    Each line ends with the seconds since the first message and the letter of its dialog (Call-ID), A first.
    """
    place = {name: index for index, name in enumerate(columns)}
    shown = [p for p in packets if p.source[0] in names and p.destination[0] in names]
    letters: dict[str, str] = {}
    lines = ["".join(name.ljust(width) for name in columns).rstrip()]
    for packet in shown:
        letter = letters.setdefault(packet.message.call_id, chr(ord("A") + len(letters) % 26))
        left, right = (place[names[address[0]]] for address in (packet.source, packet.destination))
        drawn = _arrow(packet.message, left, right, len(columns), width)
        lines.append(f"{drawn}  {packet.at - shown[0].at:7.3f} s  {letter}")
    lines += [f"{letter}: Call-ID {call_id}" for call_id, letter in letters.items()]
    return lines


def _arrow(message: Message, start: int, end: int, columns: int, width: int) -> str:
    text = f"{message.status} {message.reason}" if message.status else message.method
    text += " (SDP)" if message.sdp else ""
    row = [" "] * ((columns - 1) * width + 1)
    for index in range(columns):
        row[index * width] = "|"
    low, high = min(start, end) * width, max(start, end) * width
    room = high - low - 1
    if end > start:
        row[low + 1 : high] = text[: room - 3].center(room - 1, "-") + ">"
    elif end < start:
        row[low + 1 : high] = "<" + text[: room - 3].center(room - 1, "-")
    return "".join(row)
