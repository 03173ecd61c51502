"""The o= line of an SDP: the one an endpoint sees, and SDPs compared without theirs. Pure.

Theory of operation. Every endpoint has an `OriginKeeper`; whatever SDP it is about to be shown passes `stamp`, which
puts its one session id and its rising version in.
"""

from __future__ import annotations


class OriginKeeper:
    """The one o= line an endpoint sees (rule 12; RFC 4566 section 5.2, RFC 3264 section 8).

    Whoever wrote the SDP, the endpoint sees one session id and a version that rises exactly when something else than
    o= changed. The address in it is rtpengine's, as it came from the node.
    """

    __slots__ = ("_last_body", "_last_in", "_last_out", "_session_id", "_version")

    def __init__(self, session_id: int) -> None:
        self._session_id = session_id
        self._version = 0
        self._last_in: bytes | None = None
        self._last_out = b""
        self._last_body: bytes | None = None

    @classmethod
    def restored(cls, session_id: int, version: int, last_in: bytes | None) -> OriginKeeper:
        """A keeper that goes on where another one with these values stopped."""
        kept = cls(session_id)
        kept._version = version
        if last_in is not None:
            kept._version = version - 1
            kept.stamp(last_in)
        return kept

    @property
    def session_id(self) -> int:
        return self._session_id

    @property
    def version(self) -> int:
        return self._version

    @property
    def last_in(self) -> bytes | None:
        """The SDP that was stamped last, as it came."""
        return self._last_in

    def stamp(self, sdp: bytes) -> bytes:
        """The SDP with this endpoint's o= line. Idempotent: the same SDP again comes out the same."""
        if sdp == self._last_in:
            return self._last_out
        start = 0 if sdp.startswith(b"o=") else sdp.find(b"\no=") + 1
        if not start and not sdp.startswith(b"o="):
            return sdp
        end = sdp.find(b"\n", start)
        if end < 0:
            return sdp
        body = sdp[:start] + sdp[end:]
        if body != self._last_body:
            self._last_body = body
            self._version += 1
        line = sdp[start:end].rstrip(b"\r")
        where = line.split(b" ")[-3:]
        eol = b"\r" if sdp[end - 1 : end] == b"\r" else b""
        stamped = b"%bo=- %d %d %b%b%b" % (
            sdp[:start], self._session_id, self._version, b" ".join(where), eol, sdp[end:],
        )  # fmt: skip
        self._last_in, self._last_out = sdp, stamped
        return stamped


def without_origin(sdp: bytes) -> bytes:
    """The SDP without its o= line, to compare what two SDPs ask for."""
    start = sdp.find(b"\no=") + 1
    if not start:
        return sdp
    end = sdp.find(b"\n", start)
    return sdp[:start] if end < 0 else sdp[:start] + sdp[end:]
