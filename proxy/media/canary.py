"""The media canary: one standing call per node through which this proxy sends itself a packet now and then.

Theory of operation. Two UDP sockets of ours are the two parties of an ng call `<instance>-canary-<node>`; what one
sends to its port on the node must come out at the other. So packets heard prove that the node's media works, whatever
its control port does, and silence while control answers proves that it does not. The sockets are connected to the
node's ports, so a daemon that is gone is told by ICMP, too. The call also betrays a restart: a daemon that does not
know it has lost the others as well.

Nothing waits: `make` sends delete (what an earlier run of this instance may have left), offer and answer, each from
the reply to the one before; `drain` reads what has come; packets go out when `send` is called, from the two ends in
turn. The packets every 100 ms keep the call alive on a daemon with any media timeout; a call that goes all the same
(`final-timeout`, an operator's delete) is made again.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

from ng_protocol import (
    Answer,
    AnswerReply,
    Client,
    Command,
    Delete,
    DeleteReply,
    NgClosed,
    NgError,
    NgRefused,
    NgTimeout,
    Offer,
    OfferReply,
    Query,
)
from proxy.sip.sdp import BadSdp, parse_sdp_untrusted

_log = logging.getLogger(__name__)
_RTP = struct.Struct("!BBHII")
_PAYLOAD = b"\xff" * 20
_GONE = frozenset((errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN))


class Canary:
    """One node's canary. `interface`: the daemon's name of the interface that we reach its media on, None for its
    default; `address`: our IP address towards it, None for the one the kernel takes to reach its control port.

    `standing`: the call is made. `broken`: why it could not be made, in words, "" otherwise.
    """

    def __init__(
        self,
        call_id: str,
        client: Client,
        *,
        interface: str | None = None,
        address: str | None = None,
        made: Callable[[], None],
    ) -> None:
        self.call_id = call_id
        self.standing = False
        self.making = False
        self.broken = ""
        self._client = client
        self._interface = interface
        self._address = address
        self._made = made
        self._ends: list[socket.socket] = []
        self._sent = 0
        self._attempt = 0

    # -- the call ------------------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Makes the call, anew if there is one; `made` is called when it stands."""
        if self.making:
            return
        self._close()
        try:
            self._ends = [self._socket(), self._socket()]
        except OSError as error:
            self._failed(f"no socket towards the node ({error.strerror or error})")
            return
        self.making = True
        self._attempt += 1
        self._then(Delete(call_id=self.call_id, delete_delay=0), self._deleted)

    def forget(self) -> None:
        """The node does not know the call any more."""
        self._close()

    def end(self) -> None:
        """Deletes the call; the reply is nobody's."""
        if self.standing or self.making:
            self._client.submit(Delete(call_id=self.call_id, delete_delay=0), once=True, timeout=1.0)
        self._close()

    def ask(self, on_done: Callable[[Any], None]) -> None:
        """Asks the node whether it knows the call: a QueryReply, NgLostCall, or another NgError."""
        timeout = max(0.2, 2 * self._client.rto)
        self._client.submit(Query(call_id=self.call_id), on_done, once=True, timeout=timeout)

    def _then(self, command: Command[Any], step: Callable[[Any], None]) -> None:
        """Sends a command; its reply goes to `step`, unless the call was closed or begun anew meanwhile."""
        attempt = self._attempt

        def done(result: Any) -> None:
            if self.making and attempt == self._attempt:
                if isinstance(result, NgError):
                    self._failed(str(result), quiet=isinstance(result, NgTimeout | NgRefused | NgClosed))
                else:
                    step(result)

        self._client.submit(command, done, once=True, timeout=1.0)

    def _deleted(self, _: DeleteReply) -> None:
        direction = () if self._interface is None else (self._interface, self._interface)
        self._then(Offer(sdp=self._sdp(0), direction=direction, **self._keys()), self._offered)

    def _offered(self, reply: OfferReply) -> None:
        if self._connect(1, reply.sdp):
            self._then(Answer(sdp=self._sdp(1), **self._keys()), self._answered)

    def _answered(self, reply: AnswerReply) -> None:
        if self._connect(0, reply.sdp):
            self.making = False
            self.standing = True
            self.broken = ""
            self._made()

    def _connect(self, end: int, sdp: bytes) -> bool:
        """Connects one end to the port on the node that its SDP names."""
        try:
            host, port = parse_sdp_untrusted(sdp).addresses[0]
            self._ends[end].connect((host, port))
        except (BadSdp, IndexError):
            self._failed("the node's SDP for the canary names no media address")
        except OSError as error:
            self._failed(f"its media address cannot be reached ({error.strerror or error})")
        else:
            return True
        return False

    def _failed(self, why: str, quiet: bool = False) -> None:
        """`quiet`: the node does not answer at all, which others report."""
        if self.broken != why and not quiet:
            _log.warning("no media canary on node %s: %s; its media is not watched", self._client.name, why)
        self.broken = why
        self._close()

    def _keys(self) -> dict[str, Any]:
        return {
            "call_id": self.call_id,
            "from_tag": "canary-1",
            "to_tag": "canary-2",
            "flags": ("trust-address",),
            "replace": ("origin", "session-connection"),
            "ice": "remove",
        }

    def _sdp(self, end: int) -> bytes:
        host, port = self._ends[end].getsockname()[:2]
        family = "IP6" if ":" in host else "IP4"
        return (
            f"v=0\r\no=canary 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        ).encode()

    # -- the packets ---------------------------------------------------------------------------------------------------

    def send(self) -> bool:
        """One packet. False: the node refused an earlier one (ICMP)."""
        if not self.standing:
            return True
        self._sent += 1
        end = self._sent % 2
        packet = _RTP.pack(0x80, 0, self._sent & 0xFFFF, self._sent * 800 & 0xFFFFFFFF, 1 + end) + _PAYLOAD
        try:
            self._ends[end].send(packet)
        except OSError as error:
            return error.errno not in _GONE
        return True

    def drain(self) -> tuple[int, bool]:
        """How many packets came through since the last time, and whether the node refused one of ours (ICMP)."""
        heard, refused = 0, False
        if not self.standing:
            return 0, False
        for end in self._ends:
            for _ in range(32):
                try:
                    end.recv(2048)
                    heard += 1
                except BlockingIOError:
                    break
                except OSError as error:
                    refused = refused or error.errno in _GONE
        return heard, refused

    # -- sockets -------------------------------------------------------------------------------------------------------

    def _socket(self) -> socket.socket:
        host = self._address or self._client.local_address()
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        try:
            sock.bind((host, 0))
        except OSError:
            sock.close()
            raise
        return sock

    def _close(self) -> None:
        self.standing = self.making = False
        ends, self._ends = self._ends, []
        for end in ends:
            end.close()
