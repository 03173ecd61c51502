"""The one exception bad SIP input raises.

It lives in a file of its own so that grammar, URI and header code can raise it without importing the parser;
`proxy.sip.parser` re-exports it, and that is where other packages take it from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .message import Request

__all__ = ["BadMessage"]


class BadMessage(Exception):
    """A SIP message (or a piece of one) that breaks the grammar or a rule of RFC 3261.

    status   the final response the sender deserves (400, 416, 505 ...); 0 when none is possible or deserved: the
             input was a response, an ACK, or nothing that can be answered (RFC 3261 section 8.2.6, 18.1.2)
    reason   what was wrong and where, one line of printable ASCII, short enough to be the reason phrase of the response
    partial  the request as far as it could be read, when it is good enough to build a response from (a top Via that
             parses, and From, To, Call-ID and CSeq present); else None
    """

    def __init__(self, status: int, reason: bytes, partial: Request | None = None) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.partial = partial

    def __str__(self) -> str:
        said = self.reason.decode("ascii", "replace")
        return f"{said} (deserves {self.status})" if self.status else f"{said} (deserves no response)"
