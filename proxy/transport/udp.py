"""UDP on trio, built for cost per message: wait until readable, then drain without yielding.

One task per listener waits in ``wait_readable`` and then calls ``drain``, which takes up to ``batch`` datagrams with
plain non-blocking ``recvfrom``, handing each to the stack in the same call. Under load ``pacing`` drains instead and
the task stays parked. Sending is a plain ``sendto``; a full buffer drops the datagram as the network would, and counts
it.

Unreachable destinations: Linux reports ICMP errors on an unconnected socket only with IP_RECVERR; they then sit in
the socket's error queue together with the beginning of the datagram that caused them (ip(7)). A pending error also
makes the next send or receive fail once with ECONNREFUSED and the like; that call is simply repeated.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections import defaultdict
from collections.abc import Callable

import trio

from proxy.flow import Address, Listener

BATCH = 64
HELD_BATCH = 2
"""Datagrams taken at a time while something else is more urgent."""
RCVBUF = 4 * 1024 * 1024
# linux/in.h, linux/in6.h: not in the socket module.
IP_RECVERR = 11
IPV6_RECVERR = 25
_ICMP = {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOPROTOOPT, errno.EPROTO}

log = logging.getLogger("proxy")

Received = Callable[[bytes, "Address"], None]
Unreachable = Callable[[bytes, "Address"], None]


class BindError(Exception):
    """A listener's socket cannot be opened: one sentence with its name, address and what to do."""


def bind(listener: Listener) -> socket.socket:
    """A bound socket for a listener. Raises BindError (address in use, not on this machine, no permission)."""
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RCVBUF)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sock.bind((listener.address, listener.port))
    except OSError as error:
        sock.close()
        reason = (error.strerror or str(error)).lower()
        raise BindError(
            f"listener {listener.name} cannot be opened on udp {listener.address}:{listener.port}: {reason}; "
            "stop what else listens there, or correct [[listen]]"
        ) from error
    return sock


class UdpSocket:
    """One listener's socket. ``received(data, addr)`` and ``unreachable(quoted, addr)`` are called from ``run``."""

    def __init__(
        self, listener: Listener, received: Received, unreachable: Unreachable, stats: defaultdict[str, int]
    ) -> None:
        self.listener = listener
        self.received = received
        self.unreachable = unreachable
        self.stats = stats
        self.sock = bind(listener)
        self.batch = BATCH
        self.drained = 0  # datagrams taken so far
        self._errors: list[tuple[bytes, Address]] = []
        listener.sender = self.send

    def send(self, data: bytes, addr: Address) -> None:
        """Send one datagram now or never."""
        try:
            self.sock.sendto(data, addr)
        except BlockingIOError:
            self.stats["send_buffer_full"] += 1
        except OSError:
            self._send_again(data, addr)

    def _send_again(self, data: bytes, addr: Address) -> None:
        """The first attempt failed, often with an ICMP error of an earlier datagram, which says nothing of this one."""
        self._collect_errors()
        for _ in range(2):
            try:
                self.sock.sendto(data, addr)
                return
            except BlockingIOError:
                self.stats["send_buffer_full"] += 1
                return
            except OSError as error:
                if error.errno not in _ICMP or not self._collect_errors():
                    # Cannot be sent at all: no route, too long for a datagram. The transaction hears of it like of
                    # ICMP, but after the call that is sending now.
                    self.stats["send_errors"] += 1
                    self._errors.append((data, addr))
                    return

    def hold(self, held: bool) -> None:
        """Whether to take few datagrams at a time, so that other work comes first; none is lost for that."""
        self.batch = HELD_BATCH if held else BATCH

    async def run(self) -> None:
        """Serve the socket until cancelled, then close it."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self.sock)
                self.drain()
        finally:
            self.listener.sender = None
            self.sock.close()

    def drain(self) -> int:
        """Handle the datagrams that are there, at most ``batch``, without waiting; returns how many there were."""
        recvfrom = self.sock.recvfrom
        received = self.received
        taken = 0
        while taken < self.batch:
            try:
                data, addr = recvfrom(65535)
            except BlockingIOError:
                break
            except OSError:
                # An ICMP error of an earlier datagram (or a local error): the queue has the details.
                if not self._collect_errors():
                    break
                continue
            taken += 1
            received(data, addr if len(addr) == 2 else (addr[0], addr[1]))
        if not taken:
            # Woken for nothing: the error queue alone can make a socket readable, for ever if nobody empties it.
            self._collect_errors()
        if self._errors:
            self.report_errors()
        self.drained += taken
        return taken

    def _collect_errors(self) -> bool:
        """Take everything out of the error queue; True when there was something."""
        found = False
        while True:
            try:
                quoted, _, _, addr = self.sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            except OSError:
                return found
            found = True
            if addr:
                self._errors.append((quoted, (addr[0], addr[1])))

    def report_errors(self) -> None:
        """Tell the stack about datagrams that did not arrive; also called by the ticker, for errors met while
        sending."""
        while self._errors:
            errors, self._errors = self._errors, []
            for quoted, addr in errors:
                self.unreachable(quoted, addr)
