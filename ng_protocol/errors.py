"""Errors of the ng protocol, told apart by what the caller can do about them.

Theory of operation. A command ends in a reply or in exactly one ``NgError``. Each error knows the node, the command,
the ng call-id and a ``detail`` (the daemon's own words or ours), and answers ``try_another_node``: whether the same
command may succeed on another node. The daemon refuses with a free-text ``error-reason``; ``classify`` turns that
text into a class with one table, ``REASONS``, keyed by the lower-cased text (the daemon's capitalisation differs
between commands: ``Unknown call-id`` for answer, ``Unknown call-ID`` for block; source: rtpengine mr10.5.3.5 and
newer, daemon/call_interfaces.c). A text nobody knows is ``NgBadRequest``: refusing a request is the daemon's right,
and no reason to leave the node.
"""

from __future__ import annotations

from typing import ClassVar


class BadReply(ValueError):
    """Bytes or values that no rtpengine sends: the one exception of everything named ``_untrusted`` in this package."""


class NgError(Exception):
    """A command that did not succeed.

    ``node``: name and address of the node, as ``node1 (127.0.0.1:2223)``. ``command``: wire name, as ``play media``.
    ``call_id``: ng call-id, or None for commands without one. ``detail``: the daemon's error-reason or our own words.
    """

    try_another_node: ClassVar[bool] = False
    kind: ClassVar[str] = "error"
    advice: ClassVar[str] = "see the detail"

    def __init__(self, node: str, command: str, call_id: str | None = None, detail: str = "") -> None:
        super().__init__(node, command, call_id, detail)
        self.node = node
        self.command = command
        self.call_id = call_id
        self.detail = detail

    def __str__(self) -> str:
        of_call = f" of call {self.call_id}" if self.call_id else ""
        return f"{self.command}{of_call} failed on rtpengine {self.node}: {self.detail or self.kind}; {self.advice}"


class NgTimeout(NgError):
    """No reply within the deadline although the command was retransmitted. It may or may not have been executed."""

    try_another_node = True
    kind = "timeout"
    advice = "check that the node is up and its ng port reachable (listen-ng, firewall)"


class NgRefused(NgError):
    """The node's host answers that nothing listens on the ng port (ICMP port unreachable, twice)."""

    try_another_node = True
    kind = "refused"
    advice = "start rtpengine there or correct the node's address (listen-ng)"


class NgLoadLimit(NgError):
    """The node lives but takes no new call: a session, CPU, load or bandwidth limit, draining, or no port left."""

    try_another_node = True
    kind = "load limit"
    advice = "use another node, or raise the node's limit (max-sessions, max-load, max-cpu, port-min/port-max)"


class NgLostCall(NgError):
    """The node does not know this call or this party (any more): deleted, timed out, or the daemon restarted."""

    kind = "lost call"
    advice = "offer the call again to re-anchor it, or treat it as ended"


class NgBadRequest(NgError):
    """The daemon (or the kernel, for a datagram that is too big) refused what we sent: our fault or the SDP
    author's."""

    kind = "bad request"
    advice = "the node is not to blame; correct the request or its SDP"


class NgBadReply(NgError):
    """A datagram with our cookie that is not a reply rtpengine can have meant. The command may have been executed."""

    kind = "bad reply"
    advice = "check that the address is an ng port of rtpengine 10.5 or newer"


class NgClosed(NgError):
    """The client is closed or not running, so the command was not sent or its reply is not awaited any more."""

    try_another_node = True
    kind = "closed"
    advice = "the node was removed from the configuration or the process is stopping"


class NgBusy(NgError):
    """Too many fire-and-forget commands wait for this node already; this one was not sent."""

    kind = "busy"
    advice = "the node answers too slowly or not at all; send the command again later"


ERROR_KINDS: tuple[type[NgError], ...] = (
    NgTimeout,
    NgRefused,
    NgLoadLimit,
    NgLostCall,
    NgBadRequest,
    NgBadReply,
    NgClosed,
    NgBusy,
)
"""Every concrete error class; the order has no meaning."""

REASONS: dict[str, type[NgError]] = {
    # Capacity: nothing is wrong with the request, another node may take it.
    "parallel session limit reached": NgLoadLimit,
    "cpu usage limit exceeded": NgLoadLimit,
    "load limit exceeded": NgLoadLimit,
    "bandwidth limit exceeded": NgLoadLimit,
    "ran out of ports": NgLoadLimit,
    # The call or the party is not there (any more).
    "unknown call-id": NgLostCall,
    "unknown call-id(s)": NgLostCall,
    "unknown call id(s)": NgLostCall,
    "call-id not found or tags didn't match": NgLostCall,
    "to-tag not found": NgLostCall,
    "from-tag not found": NgLostCall,
    "given from-tag not found": NgLostCall,
    "given to-tag not found": NgLostCall,
    "from-tag given, but no such tag exists": NgLostCall,
    "no monologue matching the given label": NgLostCall,
    "no monologues matched": NgLostCall,
    "no medias found (no monologues matched)": NgLostCall,
    "failed to match address to any tag": NgLostCall,
    "invalid dialogue association": NgLostCall,
    "media flow not found (to-tag not found)": NgLostCall,
    "media flow not found (to-label not found)": NgLostCall,
    "media flow not found (to-tag not subscribed)": NgLostCall,
    # Our request or the author's SDP. Listed to be tested; a text not listed means the same.
    "failed to parse sdp": NgBadRequest,
    "incomplete sdp specification": NgBadRequest,
    "error rewriting sdp": NgBadRequest,
    "no sdp body in message": NgBadRequest,
    "no call-id in message": NgBadRequest,
    "no from-tag in message": NgBadRequest,
    "no to-tag in message": NgBadRequest,
    "unrecognized command": NgBadRequest,
    "could not decode bencode dictionary": NgBadRequest,
    "invalid data (no payload)": NgBadRequest,
    "invalid ng data format": NgBadRequest,
    'dictionary contains no key "command"': NgBadRequest,
    "invalid limit, must be >= 0": NgBadRequest,
    "no participant party specified": NgBadRequest,
    "no call participant specified": NgBadRequest,
    "failed to parse network address": NgBadRequest,
    "no media file specified": NgBadRequest,
    "failed to start media playback from file": NgBadRequest,
    "failed to start media playback from blob": NgBadRequest,
    "failed to start media playback from database": NgBadRequest,
    "not currently playing media": NgBadRequest,
    "out of range 'code' specified": NgBadRequest,
    "monologue has no media capable of dtmf injection": NgBadRequest,
    "sink monologue has no media capable of dtmf playback": NgBadRequest,
    "there is no sink media capable of dtmf playback": NgBadRequest,
    "failed to create sdp": NgBadRequest,
    "failed to rewrite sdp": NgBadRequest,
    "failed to request subscription": NgBadRequest,
    "failed to process subscription answer": NgBadRequest,
    "failed to unsubscribe": NgBadRequest,
    "unsupported": NgBadRequest,
}
"""error-reason (or the ``message`` of a load limit), lower-cased -> class."""


def classify(reason: str) -> type[NgError]:
    """The error class for an ``error-reason`` of the daemon, whatever its capitalisation; NgBadRequest if unknown."""
    return REASONS.get(reason.strip().lower(), NgBadRequest)
