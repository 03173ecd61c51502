"""Dialogs the edge takes part in: who is on each side, and the CSeq numbers it may add of its own.

How it works: a dialog is kept for every call whose media is anchored or whose Contact got an alias. Messages pass
from the *caller* (who sent the first INVITE of this dialog) to the *callee* or back; each direction has a
``CSeqMap``. As long as we send nothing of our own in a direction, numbers pass unchanged. A request of our own takes
the next number; from then on every later number of that direction is shifted, and responses, ACK, CANCEL and RAck are
translated back and forth, so that neither end sees a number twice (FreeSWITCH 1.10.12 reused exactly the number we
had spent).

Pure: no clock, no sockets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from proxy.flow import Address, Listener
from proxy.sip.message import H, Request, Response

if TYPE_CHECKING:
    from proxy.media.session import Leg

CSEQ_MAX = 2**31 - 1
_REMEMBERED = 8


class CSeqMap:
    """Numbers of one direction of one dialog (RFC 3261 12.2.1.1: strictly increasing by any amount).

    ``outgoing(n)`` gives the number the receiver sees for the sender's ``n``; asked again for the same request it
    gives the same. ``own()`` spends a number for a request of ours. ``incoming(n)`` is the sender's number for one
    the receiver named. ``reserved``: numbers that will be spent as soon as that is stored. ``skip``: how many numbers
    the next ``own`` leaves out, because a restarted proxy cannot know whether they were used.
    """

    __slots__ = ("last_in", "last_out", "offset", "recent", "reserved", "skip")

    def __init__(self, last_in: int = -1, last_out: int = -1, offset: int = 0) -> None:
        self.last_in = last_in
        self.last_out = last_out
        self.offset = offset
        self.recent: dict[int, int] = {}
        self.reserved = 0
        self.skip = 0

    def outgoing(self, number: int) -> int:
        """Translate the CSeq number of a request, an ACK or a CANCEL, or the number inside a RAck."""
        if not self.offset and number > self.last_out:
            self.last_in = self.last_out = number
            return number
        known = self.recent.get(number)
        if known is not None:
            return known
        shifted = number + self.offset
        if number > self.last_in:
            shifted = max(shifted, self.last_out + 1)
            self.offset = shifted - number
            self.last_in = number
            self.last_out = shifted
            self._remember(number, shifted)
        return shifted

    def known(self, number: int) -> int:
        """Like ``outgoing`` for a request that has passed already; never moves the map."""
        return self.recent.get(number, number + self.offset)

    def own(self) -> int:
        """The number for a request of ours in this direction."""
        if self.last_in >= 0:
            self._remember(self.last_in, self.last_out)
        self.last_out = max(self.last_out, 0) + 1 + self.skip
        self.skip = 0
        self.offset = max(self.last_out - self.last_in, self.offset) if self.last_in >= 0 else 0
        return self.last_out

    def incoming(self, number: int) -> int:
        """The sender's number for ``number`` as the receiver knows it."""
        for theirs, ours in self.recent.items():
            if ours == number:
                return theirs
        return number - self.offset

    def _remember(self, number: int, shifted: int) -> None:
        self.recent[number] = shifted
        if len(self.recent) > _REMEMBERED:
            del self.recent[next(iter(self.recent))]


class Side:
    """One end of a dialog: where it really is, its Contact and tag, and the proxies between it and us."""

    __slots__ = ("alias", "contact", "flow_addr", "identity", "listener", "routes", "tag")

    def __init__(self, tag: bytes, identity: bytes, listener: Listener) -> None:
        self.tag = tag
        self.identity = identity  # its From or To value, with tag once known
        self.contact = b""  # bare URI of its last Contact
        self.alias: Address | None = None  # the address seen, when it is behind NAT
        self.flow_addr: Address | None = None  # source of its last message
        self.routes: list[bytes] = []  # Route values between us and it, next hop first
        self.listener = listener


class Dialog:
    """A dialog seen from the middle. ``leg`` is its place in a media session, None when its media is not anchored."""

    __slots__ = (
        "acked",
        "call_id",
        "callee",
        "caller",
        "confirmed_at",
        "down",
        "ended",
        "expires_at",
        "interval",
        "leg",
        "phone_calls",
        "refresher",
        "up",
    )

    def __init__(self, call_id: bytes, caller: Side, callee: Side, leg: Leg | None = None) -> None:
        self.call_id = call_id
        self.caller = caller
        self.callee = callee
        self.leg = leg
        self.down = CSeqMap()  # caller to callee
        self.up = CSeqMap()  # callee to caller
        self.phone_calls = True  # the caller is a phone; False when it is FreeSWITCH (leg B)
        self.acked = False
        self.ended = False
        self.confirmed_at: float | None = None
        self.interval = 0  # seconds of an agreed session timer (RFC 4028), 0 when none
        self.expires_at: float | None = None
        self.refresher: bool | None = None  # who refreshes: True the caller, False the callee, None nobody or not said

    @property
    def key(self) -> bytes:
        """Index key: Call-ID and the caller's tag."""
        return dialog_key(self.call_id, self.caller.tag)

    def from_phone(self, from_caller: bool) -> bool:
        """Whether that side is the leg's phone; in a call without B2BUA the caller's side stands for it."""
        leg = self.leg
        if leg is None or leg.direct:
            return from_caller
        return from_caller is self.phone_calls

    def from_caller(self, request: Request) -> bool:
        """True when ``request`` travels from the dialog's caller to its callee."""
        return request.from_tag == self.caller.tag

    def between(self, request: Request) -> bool:
        """False for a request of another dialog that the same INVITE made: a second fork answered as well."""
        tag = self.callee.tag
        return not tag or tag in (request.to_tag, request.from_tag)

    def map_for(self, from_caller: bool) -> CSeqMap:
        """The CSeq map of requests sent by that side."""
        return self.down if from_caller else self.up

    def translate(self, request: Request, from_caller: bool) -> None:
        """Shift CSeq and RAck of a passing request in place; untouched bytes when nothing is shifted."""
        numbers = self.down if from_caller else self.up
        number = request.cseq
        shifted = numbers.outgoing(number)
        if shifted != number:
            request.set(H.CSEQ, b"%d %s" % (shifted, request.method.encode()))
        if request.method == "PRACK":
            self._translate_rack(request, numbers)

    @staticmethod
    def _translate_rack(request: Request, numbers: CSeqMap) -> None:
        rack = request.get(H.RACK)
        parts = rack.split() if rack is not None else []
        if len(parts) == 3 and parts[1].isdigit():
            invite = int(parts[1])
            shifted = numbers.known(invite)
            if shifted != invite:
                request.set(H.RACK, b"%s %d %s" % (parts[0], shifted, parts[2]))

    def learn_confirmed(self, response: Response, now: float) -> None:
        """Take the callee's tag, To value, Contact and route set from a 2xx to the first INVITE."""
        callee = self.callee
        callee.tag = response.to_tag
        callee.identity = response.get(H.TO) or callee.identity
        self.confirmed_at = now


def dialog_key(call_id: bytes, tag: bytes) -> bytes:
    """The index key of a dialog."""
    return call_id + b"\0" + tag


class Dialogs:
    """All dialogs, found by Call-ID and either tag of a message."""

    def __init__(self) -> None:
        self._by_key: dict[bytes, Dialog] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Dialog]:
        return iter(list(self._by_key.values()))

    def add(self, dialog: Dialog) -> None:
        """Index a dialog by its Call-ID and its caller's tag."""
        self._by_key[dialog.key] = dialog

    def find(self, message: Request | Response) -> Dialog | None:
        """The dialog of a request (either direction) or of a response."""
        call_id = message.call_id
        found = self._by_key.get(call_id + b"\0" + message.from_tag)
        if found is None:
            found = self._by_key.get(call_id + b"\0" + message.to_tag)
        return found

    def get(self, call_id: bytes, caller_tag: bytes) -> Dialog | None:
        """The dialog with this Call-ID and caller's tag."""
        return self._by_key.get(dialog_key(call_id, caller_tag))

    def remove(self, dialog: Dialog) -> None:
        """Forget a dialog; unknown ones are fine."""
        dialog.ended = True
        if self._by_key.get(dialog.key) is dialog:
            del self._by_key[dialog.key]
