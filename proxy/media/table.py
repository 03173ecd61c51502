"""The table of media addresses that FreeSWITCH was shown (the correlator between the passes of a call), and indexes.

Theory of operation. FreeSWITCH in bypass mode prints the media address it was given by one dialog into the SDP of
another, so an address in an SDP from FreeSWITCH names the party it was made for: `find` answers with the `Rendition`.
Entries live as long as their session. A restarted node hands out the same ports again, so an address may be claimed
by two live sessions of which one is dead without knowing: the newest entry wins, unless the X-PGPX header (FreeSWITCH's
name for the first dialog; equal to its Call-ID when FreeSWITCH takes Call-IDs as UUIDs) says that it is an older one.

The same object indexes sessions by ng call-id and by the SIP Call-IDs of their legs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from .session import Leg, Rendition, Session

Address = tuple[bytes, bytes]
"""IP address and port as written in the SDP."""

_LINES = re.compile(rb"^(?:c=IN IP[46] ([^\s/]+)|m=\S+ (\d+))", re.MULTILINE)
_NOWHERE = frozenset((b"0.0.0.0", b"::"))


@lru_cache(maxsize=512)
def addresses(sdp: bytes) -> tuple[Address, ...]:
    """Address and port of every m-line that is not rejected (RFC 4566 sections 5.7 and 5.14).

    An m-line without a c= of its own has the session's. The null address of an old-style hold (RFC 3264 section 8.4)
    names nobody and is left out. Remembered for a while: a message is asked several times.
    """
    session = own = b""
    port = b""
    found: list[Address] = []
    for match in _LINES.finditer(sdp):
        host, new_port = match.groups()
        if new_port is None:
            if port:
                own = host
            else:
                session = host
            continue
        if port != b"0" and port and (own or session) not in _NOWHERE:
            found.append((own or session, port))
        port, own = new_port, b""
    if port != b"0" and port and (own or session) not in _NOWHERE:
        found.append((own or session, port))
    return tuple(found)


class MediaTable:
    """Addresses -> renditions, ng call-ids and SIP Call-IDs -> sessions."""

    def __init__(self) -> None:
        self._by_address: dict[Address, list[Rendition]] = {}
        self._by_id: dict[str, Session] = {}
        self._by_call_id: dict[bytes, Leg] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_id.values()))

    @property
    def address_count(self) -> int:
        """How many addresses are known; it must come back to zero when every session has ended."""
        return len(self._by_address)

    # -- addresses ---------------------------------------------------------------------------------------------------

    def record(self, rendition: Rendition) -> None:
        """FreeSWITCH is about to be shown this SDP. Of a session that has ended meanwhile nothing is kept."""
        session = rendition.author.session
        if session.state == "ended":
            return
        for address in addresses(rendition.plain):
            session.handed[address] = rendition
            entries = self._by_address.get(address)
            if entries is None:
                self._by_address[address] = [rendition]
                continue
            entries[:] = [entry for entry in entries if entry.author.session is not session]
            entries.append(rendition)

    def find(self, where: Iterable[Address], hint: bytes | None = None) -> Rendition | None:
        """The rendition that FreeSWITCH repeats with one of these addresses. `hint`: X-PGPX, if any."""
        for address in where:
            entries = self._by_address.get(address)
            if not entries:
                continue
            if hint and len(entries) > 1:
                for entry in entries:
                    if any(leg.call_id == hint for leg in entry.author.session.legs):
                        return entry
            return entries[-1]
        return None

    # -- sessions ----------------------------------------------------------------------------------------------------

    def add(self, session: Session) -> None:
        self._by_id[session.id] = session

    def adopt(self, session: Session) -> None:
        """A session with its live legs and what FreeSWITCH was shown in it, from another life of this proxy."""
        self.add(session)
        for leg in session.legs:
            self.add_leg(leg)
        for address, rendition in session.handed.items():
            self._by_address.setdefault(address, []).append(rendition)

    def add_leg(self, leg: Leg) -> None:
        self._by_call_id[leg.call_id] = leg

    def drop_leg(self, leg: Leg) -> None:
        if self._by_call_id.get(leg.call_id) is leg:
            del self._by_call_id[leg.call_id]

    def drop(self, session: Session) -> None:
        """The session is over: nothing of it may be found any more."""
        self._by_id.pop(session.id, None)
        for address in session.handed:
            entries = self._by_address.get(address)
            if entries is None:
                continue
            entries[:] = [entry for entry in entries if entry.author.session is not session]
            if not entries:
                del self._by_address[address]
        session.handed.clear()

    def session(self, session_id: str) -> Session | None:
        return self._by_id.get(session_id)

    def owner(self, ng_call_id: str) -> Session | None:
        """The session whose media an ng call carries now; None for one that ended, or has moved to another call."""
        found = self._by_id.get(ng_call_id)
        if found is None:
            base, dot, number = ng_call_id.rpartition(".")
            found = self._by_id.get(base) if dot and number.isdigit() else None
        return found if found is not None and found.ng_call_id == ng_call_id else None

    def leg(self, sip_call_id: bytes) -> Leg | None:
        return self._by_call_id.get(sip_call_id)

    def matches(self, prefix: str) -> list[Session]:
        """Sessions whose ng call-id or any SIP Call-ID starts with `prefix`; an exact match is alone."""
        exact = self._by_id.get(prefix)
        if exact is None and (leg := self._by_call_id.get(prefix.encode())) is not None:
            exact = leg.session
        if exact is not None:
            return [exact]
        raw = prefix.encode()
        found = {id(session): session for key, session in self._by_id.items() if key.startswith(prefix)}
        for call_id, leg in self._by_call_id.items():
            if call_id.startswith(raw):
                found[id(leg.session)] = leg.session
        return list(found.values())
