"""What a client counted.

Theory of operation. The client adds to plain integers on its hot path; ``snapshot`` copies them, with the state of the
moment, into a frozen record for metrics and views.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ng_protocol.errors import ERROR_KINDS, NgError


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatistics:
    """Numbers of commands or datagrams since the client was made; ``rtt_ms`` and ``rto_ms`` in milliseconds.

    ``sent``: commands sent. ``retransmitted``: datagrams sent again. ``replies``: first replies. ``duplicate_replies``:
    replies to commands that had ended. ``unknown_replies``: datagrams without a cookie of ours. ``cancelled``: waits
    given up by the caller. ``errors``: by NgError.kind, every kind present. ``callback_errors``: exceptions of on_done.
    """

    sent: int
    retransmitted: int
    replies: int
    duplicate_replies: int
    unknown_replies: int
    cancelled: int
    send_errors: int
    receive_errors: int
    callback_errors: int
    errors: dict[str, int]
    rtt_ms: float | None
    rto_ms: float
    in_flight: int

    @property
    def timeouts(self) -> int:
        """Commands that ended in NgTimeout."""
        return self.errors["timeout"]

    @property
    def refused(self) -> int:
        """Commands that ended in NgRefused."""
        return self.errors["refused"]


@dataclass(slots=True)
class ClientCounters:
    """The mutable side of ClientStatistics."""

    sent: int = 0
    retransmitted: int = 0
    replies: int = 0
    duplicate_replies: int = 0
    unknown_replies: int = 0
    cancelled: int = 0
    send_errors: int = 0
    receive_errors: int = 0
    callback_errors: int = 0
    errors: dict[str, int] = field(default_factory=lambda: {kind.kind: 0 for kind in ERROR_KINDS})

    def count_error(self, error: NgError) -> None:
        """One more command that ended in this kind of error."""
        self.errors[error.kind] += 1

    def snapshot(self, *, rtt: float | None, rto: float, in_flight: int) -> ClientStatistics:
        """``rtt`` and ``rto`` in seconds."""
        return ClientStatistics(
            sent=self.sent,
            retransmitted=self.retransmitted,
            replies=self.replies,
            duplicate_replies=self.duplicate_replies,
            unknown_replies=self.unknown_replies,
            cancelled=self.cancelled,
            send_errors=self.send_errors,
            receive_errors=self.receive_errors,
            callback_errors=self.callback_errors,
            errors=dict(self.errors),
            rtt_ms=None if rtt is None else rtt * 1000,
            rto_ms=rto * 1000,
            in_flight=in_flight,
        )
