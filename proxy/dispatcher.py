"""Which FreeSWITCH gets the next call: a set of destinations, their observed state, and when to probe them.

Pure: no socket and no clock. The caller sends an OPTIONS to everything ``due(now)`` returns and reports what came
back; it also reports what real requests met. Each report is one of the `Event` values, and ``TABLE`` below says what
every event does in every state; nothing else changes a state.

``up``       takes calls, in turn.
``probing``  one thing was missed: a probe or a first reply. Takes calls only after every destination that is up. A
             destination starts here, so a set-up from nothing waits for no FreeSWITCH that is not there.
``down``     proven dead or refusing. Takes calls only when all are down: trying is then better than refusing.

The proof differs. ICMP port unreachable is certain, and a 503 is the destination saying so itself (RFC 3261 section
21.5.4): both take it down at once. Silence may be one lost packet: the second in a row takes it down. One good probe
brings it back, and so a wrong 503 costs at most one probe interval; going down makes the next probe due at once.

One FreeSWITCH has one address; it is recognised by that address and not by the socket a request came in on
(``sendto`` without a port in the dialplan brings leg B to the public socket).
"""

import ipaddress
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Literal

State = Literal["up", "probing", "down"]
Why = Literal["icmp", "503", "timeout"]


class Event(Enum):
    """What was observed of a destination."""

    ICMP = "icmp"  # the kernel reported its port closed, or the host unreachable
    REFUSED = "503"  # it answered a request of ours 503 by itself
    TIMEOUT = "timeout"  # it answered a real request with nothing at all
    PROBE_MISSED = "probe missed"  # an OPTIONS went unanswered for a whole interval
    PROBE_OK = "probe ok"  # it answered an OPTIONS with anything but 503
    OK = "ok"  # it answered a real request with anything but 503


TABLE: dict[tuple[State, Event], State] = {
    ("up", Event.ICMP): "down",
    ("up", Event.REFUSED): "down",
    ("up", Event.TIMEOUT): "probing",
    ("up", Event.PROBE_MISSED): "probing",
    ("up", Event.PROBE_OK): "up",
    ("up", Event.OK): "up",
    ("probing", Event.ICMP): "down",
    ("probing", Event.REFUSED): "down",
    ("probing", Event.TIMEOUT): "down",
    ("probing", Event.PROBE_MISSED): "down",
    ("probing", Event.PROBE_OK): "up",
    ("probing", Event.OK): "up",
    ("down", Event.ICMP): "down",
    ("down", Event.REFUSED): "down",
    ("down", Event.TIMEOUT): "down",
    ("down", Event.PROBE_MISSED): "down",
    ("down", Event.PROBE_OK): "up",
    # A reply in a call it still carries proves no willingness to take new ones: only a probe brings it back.
    ("down", Event.OK): "down",
}

_REPORTS: dict[Why, Event] = {"icmp": Event.ICMP, "503": Event.REFUSED, "timeout": Event.TIMEOUT}


class Destination:
    """One FreeSWITCH. Read-only outside this file, except ``calls``.

    ``name``, ``addr`` (ip, port), ``prefix`` put before the dialled number in the Request-URI; ``state``; ``why``, the
    event that brought it there; ``since`` and ``last_reply``, monotonic seconds (None: never); ``failures`` in a row;
    ``calls`` it was given, for the operator's eyes (the caller counts).
    """

    __slots__ = (
        "addr",
        "calls",
        "failures",
        "last_reply",
        "name",
        "next_probe",
        "prefix",
        "probed",
        "since",
        "state",
        "why",
    )

    def __init__(self, name: str, addr: tuple[str, int], prefix: bytes = b"") -> None:
        self.name = name
        self.addr = addr
        self.prefix = prefix
        self.state: State = "probing"
        self.why: Event | None = None
        self.since: float | None = None
        self.last_reply: float | None = None
        self.failures = 0
        self.calls = 0
        self.next_probe = float("-inf")  # due at once
        self.probed = False  # a probe is out and unanswered

    def __repr__(self) -> str:
        return f"<Destination {self.name} {self.addr[0]}:{self.addr[1]} {self.state}>"


class Dispatcher:
    """A set of destinations. Times are monotonic seconds, given by the caller."""

    def __init__(self, destinations: Sequence[Destination], interval: float = 2.0) -> None:
        """``interval``: seconds between two probes of one destination, and how long a probe may stay unanswered."""
        self.destinations = tuple(destinations)
        self.interval = interval
        self._turn = 0
        self._by_ip: dict[str, list[Destination]] = {}
        for destination in self.destinations:
            self._by_ip.setdefault(_canonical(destination.addr[0]), []).append(destination)

    def order(self) -> list[Destination]:
        """Destinations to try for one new call, best first; empty only when the set is empty.

        Those up, starting with another one at each call (round robin); then those probing. When neither kind is left,
        all that are down, in turn too.
        """
        self._turn += 1
        up = [d for d in self.destinations if d.state == "up"]
        probing = [d for d in self.destinations if d.state == "probing"]
        if up or probing:
            return self._rotated(up) + self._rotated(probing)
        return self._rotated(list(self.destinations))

    def mark_ok(self, destination: Destination, now: float) -> None:
        """It answered a real request with anything but a 503 of its own."""
        self._apply(destination, Event.OK, now)

    def mark_failed(self, destination: Destination, now: float, why: Why) -> None:
        """A real request met ``icmp`` (socket error on its address), ``503``, or ``timeout`` (no reply of any kind).

        Report a 503 only when FreeSWITCH made no leg B in that call: it passes a callee's 503 on with the same code
        (1.10.12), and that says nothing about FreeSWITCH.
        """
        self._apply(destination, _REPORTS[why], now)

    def due(self, now: float) -> list[Destination]:
        """Destinations to send an OPTIONS to now. A probe still unanswered at its destination's next turn counts as
        missed, so a caller may report replies only."""
        due = [d for d in self.destinations if d.next_probe <= now]
        for destination in due:
            if destination.probed:
                self._apply(destination, Event.PROBE_MISSED, now)
            destination.probed = True
            destination.next_probe = now + self.interval
        return due

    def probe_result(self, destination: Destination, ok: bool, now: float) -> None:
        """The probe was answered (``ok``: by anything but a 503), or failed before its time was over."""
        if ok or destination.probed:  # a failure reported after due() has counted it is not counted twice
            destination.probed = False
            self._apply(destination, Event.PROBE_OK if ok else Event.PROBE_MISSED, now)

    def next_deadline(self) -> float | None:
        """When to call ``due`` again; None when the set is empty."""
        return min((d.next_probe for d in self.destinations), default=None)

    def is_freeswitch(self, ip: str) -> bool:
        """Whether this source address is a FreeSWITCH's, whatever the port. An address on a public socket can be
        forged: there it counts only together with a session it correlates with."""
        return ip in self._by_ip or _canonical(ip) in self._by_ip

    def find(self, addr: tuple[str, int]) -> Destination | None:
        """The destination at this address: the port decides between several at one ip, else is not compared, for
        FreeSWITCH may send from another port than it listens on."""
        at_ip = self._by_ip.get(_canonical(addr[0]), [])
        return next((d for d in at_ip if d.addr[1] == addr[1]), at_ip[0] if at_ip else None)

    def _rotated(self, destinations: list[Destination]) -> list[Destination]:
        start = self._turn % len(destinations) if destinations else 0
        return destinations[start:] + destinations[:start]

    def _apply(self, destination: Destination, event: Event, now: float) -> None:
        if event in (Event.OK, Event.PROBE_OK, Event.REFUSED):
            destination.last_reply = now
        if event in (Event.OK, Event.PROBE_OK):
            destination.failures = 0
        else:
            destination.failures += 1
        state = TABLE[destination.state, event]
        if state == destination.state:
            return
        destination.state, destination.why, destination.since = state, event, now
        if state == "down" and event is not Event.PROBE_MISSED:  # what a missed probe proved needs no probe at once
            destination.next_probe = now
            destination.probed = False


@lru_cache(maxsize=4096)
def _canonical(ip: str) -> str:
    """One spelling per address: IPv6 has several, and a dual-stack socket shows IPv4 as ::ffff:a.b.c.d."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
