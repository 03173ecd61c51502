"""The four transaction machines of RFC 3261 section 17, with the Accepted states of RFC 6026, as tables.

How it works: ``TABLES[kind][state][event]`` is ``(next state, actions)``. An event is what happened (a response
class, a timer, something the transaction user sends), an action names what the stack must do, in order. No row means
the event is absorbed in that state: nothing is sent and nobody is told. The stack binds the action names to its
methods once, at import; nothing here reads a clock or touches a socket.

Timers (RFC 3261 table 4, RFC 6026 section 8): at any moment a transaction has at most one *retry* timer (A, E, G) and
one *life* timer (B, D, F, H, I, J, K, L, M); arming replaces, leaving the state by ``arm_*`` of the next one is
enough.

``kinds``: ICT and NICT are client machines, IST and NIST server machines.
"""

from __future__ import annotations

from typing import Final

ICT: Final = "ict"
IST: Final = "ist"
NICT: Final = "nict"
NIST: Final = "nist"

CALLING: Final = "calling"
TRYING: Final = "trying"
PROCEEDING: Final = "proceeding"
COMPLETED: Final = "completed"
CONFIRMED: Final = "confirmed"
ACCEPTED: Final = "accepted"
TERMINATED: Final = "terminated"

Row = tuple[str, tuple[str, ...]]
Table = dict[str, dict[str, Row]]

# Events: "1xx" "2xx" "3xx" (300-699) "final" (200-699) come from the peer's responses; "request" is a retransmission,
# "ack" an ACK; "send_*" is the transaction user; "retry" and "life" are the two timers; "error" the transport.
# Actions: "pass" hands the message up; "ack" answers a non-2xx final; "send" and "resend" use the transaction's last
# message; "timeout" and "failed" tell the user; "arm_retry:X" / "arm_life:X" start timer X; "stop_retry", "stop_life".

# RFC 3261 17.1.1, figure 5, and RFC 6026 8.4 (Accepted, timer M).
INVITE_CLIENT: Table = {
    CALLING: {
        "1xx": (PROCEEDING, ("stop_retry", "stop_life", "pass")),
        "2xx": (ACCEPTED, ("stop_retry", "arm_life:M", "pass")),
        "3xx": (COMPLETED, ("stop_retry", "arm_life:D", "ack", "pass")),
        "retry": (CALLING, ("resend", "double_retry:A")),
        "life": (TERMINATED, ("timeout",)),
        "error": (TERMINATED, ("failed",)),
    },
    PROCEEDING: {
        "1xx": (PROCEEDING, ("pass",)),
        "2xx": (ACCEPTED, ("arm_life:M", "pass")),
        "3xx": (COMPLETED, ("arm_life:D", "ack", "pass")),
    },
    COMPLETED: {
        "3xx": (COMPLETED, ("ack",)),
        "life": (TERMINATED, ()),
        "error": (TERMINATED, ()),
    },
    ACCEPTED: {
        "2xx": (ACCEPTED, ("pass",)),
        "life": (TERMINATED, ()),
    },
}

# RFC 3261 17.2.1, figure 7, and RFC 6026 8.7 (Accepted, timer L). UDP, so timer G retransmits final responses.
INVITE_SERVER: Table = {
    PROCEEDING: {
        "request": (PROCEEDING, ("resend",)),
        "send_1xx": (PROCEEDING, ("send",)),
        "send_2xx": (ACCEPTED, ("arm_life:L", "send")),
        "send_3xx": (COMPLETED, ("arm_retry:G", "arm_life:H", "send")),
    },
    COMPLETED: {
        "request": (COMPLETED, ("resend",)),
        "retry": (COMPLETED, ("resend", "double_retry:G")),
        "ack": (CONFIRMED, ("stop_retry", "arm_life:I")),
        "life": (TERMINATED, ("timeout",)),
        "error": (TERMINATED, ("failed",)),
    },
    CONFIRMED: {
        "life": (TERMINATED, ()),
    },
    ACCEPTED: {
        "send_2xx": (ACCEPTED, ("send",)),
        "ack": (ACCEPTED, ("pass",)),
        "life": (TERMINATED, ()),
    },
}

# RFC 3261 17.1.2, figure 6.
NON_INVITE_CLIENT: Table = {
    TRYING: {
        "1xx": (PROCEEDING, ("pass",)),
        "final": (COMPLETED, ("stop_retry", "arm_life:K", "pass")),
        "retry": (TRYING, ("resend", "double_retry:E")),
        "life": (TERMINATED, ("timeout",)),
        "error": (TERMINATED, ("failed",)),
    },
    PROCEEDING: {
        "1xx": (PROCEEDING, ("pass",)),
        "final": (COMPLETED, ("stop_retry", "arm_life:K", "pass")),
        "retry": (PROCEEDING, ("resend", "slow_retry:E")),
        "life": (TERMINATED, ("timeout",)),
        "error": (TERMINATED, ("failed",)),
    },
    COMPLETED: {
        "life": (TERMINATED, ()),
    },
}

# RFC 3261 17.2.2, figure 8.
NON_INVITE_SERVER: Table = {
    TRYING: {
        "send_1xx": (PROCEEDING, ("send",)),
        "send_final": (COMPLETED, ("arm_life:J", "send")),
    },
    PROCEEDING: {
        "request": (PROCEEDING, ("resend",)),
        "send_1xx": (PROCEEDING, ("send",)),
        "send_final": (COMPLETED, ("arm_life:J", "send")),
        "error": (TERMINATED, ("failed",)),
    },
    COMPLETED: {
        "request": (COMPLETED, ("resend",)),
        "life": (TERMINATED, ()),
        "error": (TERMINATED, ("failed",)),
    },
}

TABLES: dict[str, Table] = {
    ICT: INVITE_CLIENT,
    IST: INVITE_SERVER,
    NICT: NON_INVITE_CLIENT,
    NIST: NON_INVITE_SERVER,
}

INITIAL: dict[str, str] = {ICT: CALLING, NICT: TRYING, IST: PROCEEDING, NIST: TRYING}


class Timers:
    """Durations in seconds (RFC 3261 table 4): T1 round trip, T2 longest non-INVITE interval, T4 longest life of a
    message."""

    __slots__ = ("life", "retry", "t1", "t2", "t4")

    def __init__(self, t1: float = 0.5, t2: float = 4.0, t4: float = 5.0) -> None:
        self.t1 = t1
        self.t2 = t2
        self.t4 = t4
        self.retry: dict[str, float] = {"A": t1, "E": t1, "G": t1}
        self.life: dict[str, float] = {
            "B": 64 * t1,
            "D": max(32.0, 64 * t1) if t1 >= 0.5 else 64 * t1,
            "F": 64 * t1,
            "H": 64 * t1,
            "I": t4,
            "J": 64 * t1,
            "K": t4,
            "L": 64 * t1,
            "M": 64 * t1,
        }

    def next_retry(self, timer: str, interval: float) -> float:
        """The interval after ``interval`` seconds: A doubles without bound, E and G double up to T2."""
        doubled = interval * 2
        return doubled if timer == "A" else min(doubled, self.t2)
