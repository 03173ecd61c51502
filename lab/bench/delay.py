"""How long an INVITE takes through the proxy: both copies of it seen on the loopback, with the kernel's time stamps.

A packet socket sees every datagram of this namespace. Of the INVITEs it keeps, by Call-ID, when the caller's was
delivered to the proxy and when the proxy's was delivered to the callee. The stamps are the kernel's, so it does not
matter when this process gets round to reading them; neither end of the load has a part in them. A repeated INVITE
does not count again.
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil

Address = tuple[str, int]

ETH_P_IP = 0x0800
SO_TIMESTAMPNS = 35
STAMP = struct.Struct("@qq")
UDP = 17


@dataclass
class Delays:
    """Nanoseconds since 1970 at which each call's INVITE came to the proxy and to the callee, by Call-ID."""

    entered: dict[bytes, int] = field(default_factory=dict)
    left: dict[bytes, int] = field(default_factory=dict)

    def microseconds(self) -> list[float]:
        """Delay of each INVITE seen twice, ascending."""
        both = self.entered.keys() & self.left.keys()
        return sorted((self.left[call] - self.entered[call]) / 1000.0 for call in both)

    def quantile(self, share: float) -> float:
        """The least delay that this share of the INVITEs does not exceed (nearest rank); 0 without any."""
        delays = self.microseconds()
        return delays[max(0, ceil(share * len(delays)) - 1)] if delays else 0.0

    def complaint(self, calls: int) -> str:
        """Why these delays are not those of `calls` calls; "" when they are."""
        seen = len(self.microseconds())
        return "" if seen == calls else f"the delay of {seen} INVITEs was seen, of {calls} calls"

    def take(self, packet: bytes, stamp: int, proxy: bytes, callee: bytes) -> None:
        """One IPv4 packet as delivered at `stamp`; `proxy` and `callee` are destinations as `endpoint` writes them."""
        header = (packet[0] & 15) * 4
        if packet[9] != UDP or packet[header + 8 : header + 15] != b"INVITE ":
            return
        to = packet[16:20] + packet[header + 2 : header + 4]
        start = packet.find(b"\r\nCall-ID: ", header) + 11
        call = packet[start : packet.find(b"\r\n", start)]
        if to == proxy:
            self.entered.setdefault(call, stamp)
        elif to == callee:
            self.left.setdefault(call, stamp)


def endpoint(address: Address) -> bytes:
    """Address and port as they stand in a packet."""
    return socket.inet_aton(address[0]) + address[1].to_bytes(2, "big")


def _read(sock: socket.socket, delays: Delays, proxy: bytes, callee: bytes, done: threading.Event) -> None:
    while not done.is_set():
        try:
            packet, ancillary, _, source = sock.recvmsg(65_535, 64)
        except TimeoutError:
            continue
        if source[2] == socket.PACKET_OUTGOING:  # each packet is seen twice on loopback: as sent and as delivered
            continue
        seconds, nanoseconds = STAMP.unpack_from(ancillary[0][2])
        delays.take(packet, seconds * 1_000_000_000 + nanoseconds, proxy, callee)


@contextmanager
def watch(proxy: Address, callee: Address) -> Iterator[Delays]:
    """Collect delays while the context is open. Needs CAP_NET_RAW in this network namespace."""
    delays, done = Delays(), threading.Event()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.bind(("lo", ETH_P_IP))
        sock.settimeout(0.1)
        reader = threading.Thread(target=_read, args=(sock, delays, endpoint(proxy), endpoint(callee), done))
        reader.start()
        try:
            yield delays
        finally:
            done.set()
            reader.join()
