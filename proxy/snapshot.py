"""A session and the dialogs of its legs as bytes, and back: what a restarted proxy needs to go on with a call.

Theory of operation. `encode` walks a session from its legs over its parties to the SDPs, and numbers what it meets:
texts (SDPs, the same bytes once), parties, renditions. The rows refer to each other by these numbers, -1 for None,
so the cycles of the live objects are no matter. msgspec packs the rows as arrays; `VERSION` stands in front.
`decode_untrusted` is the way back: it makes new objects and connects them, and raises `BadSnapshot` for anything else
than a snapshot of this version (the file may be damaged in ways SQLite does not notice, or from another release).

Left out on purpose, because it ends with the process: offers and transactions in progress (whoever sent the request
sends it again, and it is a new one then), what the sampler saw, waiting turns. Times are given as seconds since 1970
and taken as monotonic ones again: `shift` is epoch minus monotonic.

Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from proxy.dialogs import CSeqMap, Dialog, Side
from proxy.flow import Address, Listener
from proxy.media.session import Leg, OriginKeeper, Party, Rendition, Session

VERSION = 1
AHEAD = 64
"""CSeq numbers a restored dialog leaves out before its first request of ours: requests that passed since the last
snapshot may have used some of them, and numbers may rise by any amount (RFC 3261 section 12.2.1.1)."""


class BadSnapshot(Exception):
    """The bytes are no snapshot that this version can read."""


class _Row(msgspec.Struct, array_like=True, gc=False):
    """Base: an array of the fields in their order."""


class _Origin(_Row):
    session_id: int
    version: int
    last: int


class _Party(_Row):
    name: str
    tag: str
    via_branch: str | None
    interface: str | None
    profile: str
    is_freeswitch: bool
    received: Address | None
    origin: _Origin
    original: int
    pending: int
    linked: int
    heard: int
    offered_by: int
    settled: bool
    gone: bool


class _Rendition(_Row):
    author: int
    receiver: int
    original: int
    made: int
    plain: int
    profile: str
    interface: str | None
    current: bool
    call: str = ""


class _Numbers(_Row):
    last_in: int
    last_out: int
    offset: int
    reserved: int
    recent: dict[int, int]


class _Side(_Row):
    tag: bytes
    identity: bytes
    listener: str
    contact: bytes
    alias: Address | None
    flow_addr: Address | None
    routes: list[bytes]


class _Dialog(_Row):
    caller: _Side
    callee: _Side
    down: _Numbers
    up: _Numbers
    phone_calls: bool
    acked: bool
    confirmed_at: float | None
    interval: int
    expires_at: float | None
    refresher: bool | None = None


class _Leg(_Row):
    name: str
    call_id: bytes
    from_tag: bytes
    phone: int
    fs: int
    phone_calls: bool
    forked: bool
    direct: bool
    callees: list[tuple[bytes, int]]
    callee: int
    caller: bytes
    callee_uri: bytes
    source: Address
    confirmed: bool
    ended: bool
    freeswitch_misled: bool
    dialog: _Dialog | None


class _Session(_Row):
    id: str
    ng_call_id: str
    direct: bool
    created: float
    node: str
    state: str
    tags: list[str]
    names: list[str]
    texts: list[bytes]
    parties: list[_Party]
    renditions: list[_Rendition]
    handed: list[tuple[bytes, bytes, int]]
    legs: list[_Leg]
    expected: int
    stale: list[int]
    timeline: list[tuple[float, str]]
    moves: int = 0
    wish: tuple[str | None, tuple[str, ...]] | None = None


class _Snapshot(_Row):
    version: int
    session: _Session


_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(_Snapshot)

DialogOf = Callable[[Leg], Dialog | None]


@dataclass(slots=True)
class Restored:
    """What a snapshot came to: a session and the dialogs of its legs."""

    session: Session
    dialogs: list[Dialog]


# -- there -------------------------------------------------------------------------------------------------------------


def encode(session: Session, dialog_of: DialogOf, shift: float) -> bytes:
    """The session with the dialogs that `dialog_of` knows of its legs. `shift`: epoch minus monotonic, seconds."""
    return _packer.encode(_Snapshot(VERSION, _Writer(session).session(dialog_of, shift)))


class _Writer:
    """Numbers what it meets; one use."""

    __slots__ = ("home", "parties", "party_numbers", "rendition_numbers", "renditions", "texts")

    def __init__(self, session: Session) -> None:
        self.home = session
        self.texts: dict[bytes, int] = {}
        self.party_numbers: dict[Party, int] = {}
        self.parties: list[Party] = []
        self.rendition_numbers: dict[Rendition, int] = {}
        self.renditions: list[Rendition] = []

    def text(self, text: bytes | None) -> int:
        """The number of a text."""
        if text is None:
            return -1
        return self.texts.setdefault(text, len(self.texts))

    def party(self, party: Party | None) -> int:
        """The number of a party; its row is made later."""
        if party is None:
            return -1
        number = self.party_numbers.get(party)
        if number is None:
            number = self.party_numbers[party] = len(self.parties)
            self.parties.append(party)
        return number

    def rendition(self, rendition: Rendition | None) -> int:
        """The number of a rendition; its row is made later."""
        if rendition is None:
            return -1
        number = self.rendition_numbers.get(rendition)
        if number is None:
            number = self.rendition_numbers[rendition] = len(self.renditions)
            self.renditions.append(rendition)
        return number

    def session(self, dialog_of: DialogOf, shift: float) -> _Session:
        """The whole session; parties and renditions are worked off until no new one turns up."""
        session, party, rendition, text = self.home, self.party, self.rendition, self.text
        legs = [self.leg(leg, None, shift) for leg in session.ended_legs]
        legs += [self.leg(leg, dialog_of(leg), shift) for leg in session.legs]
        handed = [(host, port, rendition(shown)) for (host, port), shown in session.handed.items()]
        expected = party(session.expected)
        stale = [party(one) for one in session.stale]
        party_rows: list[_Party] = []
        rendition_rows: list[_Rendition] = []
        while len(party_rows) < len(self.parties) or len(rendition_rows) < len(self.renditions):
            for one in self.parties[len(party_rows) :]:
                party_rows.append(self.party_row(one))
            for shown in self.renditions[len(rendition_rows) :]:
                author = shown.author
                rendition_rows.append(
                    _Rendition(
                        party(author), party(shown.receiver), text(shown.original), text(shown.made), text(shown.plain),
                        shown.profile, shown.interface, author.made_for.get(shown.receiver) is shown,
                        shown.call,
                    )
                )  # fmt: skip
        return _Session(
            session.id, session.ng_call_id, session.direct, session.created_epoch, session.node, session.state,
            list(session._tags), list(session._names), list(self.texts), party_rows, rendition_rows, handed, legs,
            expected, stale, list(session.timeline), session.moves, session.wish,
        )  # fmt: skip

    def party_row(self, party: Party) -> _Party:
        """One party. Of one that lives in another session (FreeSWITCH connected the two) only what it is."""
        origin = party.origin
        linked = heard = offered_by = -1
        if party.session is self.home:
            for made in party.made_for.values():
                self.rendition(made)
            linked, heard = self.party(party.linked), self.rendition(party.heard)
            offered_by = self.party(party.offered_by)
        return _Party(
            party.name, party.tag, party.via_branch, party.interface, party.profile, party.is_freeswitch,
            party.received, _Origin(origin.session_id, origin.version, self.text(origin.last_in)),
            self.text(party.original), self.text(party.pending) if party.original is None else -1,
            linked, heard, offered_by, party.settled, party.gone,
        )  # fmt: skip

    def leg(self, leg: Leg, dialog: Dialog | None, shift: float) -> _Leg:
        """One leg with its dialog."""
        party = self.party
        return _Leg(
            leg.name, leg.call_id, leg.from_tag, party(leg.phone), party(leg.fs), leg.phone_calls, leg.forked,
            leg.direct, [(branch, party(one)) for branch, one in leg.callees.items()], party(leg.callee), leg.caller,
            leg.callee_uri, leg.source, leg.confirmed, leg.ended, leg.freeswitch_misled,
            None if dialog is None else _dialog_row(dialog, shift),
        )  # fmt: skip


def _dialog_row(dialog: Dialog, shift: float) -> _Dialog:
    confirmed, expires = dialog.confirmed_at, dialog.expires_at
    return _Dialog(
        _side_row(dialog.caller), _side_row(dialog.callee), _numbers_row(dialog.down), _numbers_row(dialog.up),
        dialog.phone_calls, dialog.acked, None if confirmed is None else confirmed + shift, dialog.interval,
        None if expires is None else expires + shift, dialog.refresher,
    )  # fmt: skip


def _side_row(side: Side) -> _Side:
    return _Side(side.tag, side.identity, side.listener.name, side.contact, side.alias, side.flow_addr, side.routes)


def _numbers_row(numbers: CSeqMap) -> _Numbers:
    return _Numbers(numbers.last_in, numbers.last_out, numbers.offset, numbers.reserved, numbers.recent)


# -- and back ----------------------------------------------------------------------------------------------------------


def decode_untrusted(data: bytes, listeners: dict[str, Listener], shift: float) -> Restored:
    """The session and dialogs of a snapshot. `listeners`: ours by name; a dialog that used one that is not there any
    more gets the first of them. `shift`: epoch minus monotonic, seconds. Raises BadSnapshot."""
    try:
        version = msgspec.msgpack.decode(data, type=_Version).version
        if version != VERSION:
            raise BadSnapshot(f"version {version}; this program reads {VERSION}")
        row = _unpacker.decode(data).session
        return _Reader(row, listeners, shift).restored()
    except (msgspec.MsgspecError, IndexError, UnicodeDecodeError) as error:
        raise BadSnapshot(str(error)) from error


class _Version(msgspec.Struct, array_like=True):
    version: int
    session: Any


class _Reader:
    """Makes the objects, then connects them."""

    __slots__ = ("listeners", "parties", "renditions", "row", "session", "shift")

    def __init__(self, row: _Session, listeners: dict[str, Listener], shift: float) -> None:
        self.row = row
        self.listeners = listeners
        self.shift = shift
        self.session = Session(row.id, direct=row.direct, created=row.created - shift, created_epoch=row.created)
        self.parties = [self.party(one) for one in row.parties]
        self.renditions = [self.rendition(one) for one in row.renditions]

    def text(self, number: int) -> bytes | None:
        """A text by its number."""
        return None if number < 0 else self.row.texts[number]

    def must(self, number: int) -> bytes:
        """A text that has to be there."""
        return self.row.texts[_index(number)]

    def who(self, number: int) -> Party | None:
        """A party by its number."""
        return None if number < 0 else self.parties[number]

    def restored(self) -> Restored:
        """Everything."""
        row, session = self.row, self.session
        session.ng_call_id, session.node, session.state = row.ng_call_id, row.node, row.state
        session._tags.update(row.tags)
        session._names.update(row.names)
        session.timeline.extend(row.timeline)
        session.moves, session.wish = row.moves, row.wish
        for party, about in zip(self.parties, row.parties, strict=True):
            party.linked, party.offered_by = self.who(about.linked), self.who(about.offered_by)
            party.heard = None if about.heard < 0 else self.renditions[about.heard]
        for rendition, shown in zip(self.renditions, row.renditions, strict=True):
            if shown.current:
                rendition.author.made_for[rendition.receiver] = rendition
        for host, port, number in row.handed:
            session.handed[(host, port)] = self.renditions[_index(number)]
        session.expected = self.who(row.expected)
        session.stale = [self.parties[_index(number)] for number in row.stale]
        dialogs: list[Dialog] = []
        for one in row.legs:
            leg = self.leg(one)
            (session.ended_legs if one.ended else session.legs).append(leg)
            if one.dialog is not None:
                dialogs.append(self.dialog(one.dialog, leg))
        return Restored(session, dialogs)

    def party(self, row: _Party) -> Party:
        """One party, not connected yet."""
        original = self.text(row.original)
        return Party(
            self.session, row.name, row.tag, via_branch=row.via_branch, interface=row.interface, profile=row.profile,
            is_freeswitch=row.is_freeswitch, received=row.received,
            origin=OriginKeeper.restored(row.origin.session_id, row.origin.version, self.text(row.origin.last)),
            original=original, pending=self.text(row.pending) if original is None else original,
            settled=row.settled, gone=row.gone,
        )  # fmt: skip

    def rendition(self, row: _Rendition) -> Rendition:
        """One rendition."""
        author, receiver = self.parties[_index(row.author)], self.parties[_index(row.receiver)]
        return Rendition(
            author, receiver, self.must(row.original), self.must(row.made), self.must(row.plain), row.profile,
            row.interface, row.call,
        )  # fmt: skip

    def leg(self, row: _Leg) -> Leg:
        """One leg."""
        leg = Leg(self.session, row.name, row.call_id, row.from_tag, self.parties[_index(row.phone)])
        leg.fs, leg.phone_calls, leg.forked, leg.direct = self.who(row.fs), row.phone_calls, row.forked, row.direct
        leg.callees = {branch: self.parties[_index(number)] for branch, number in row.callees}
        leg.callee, leg.caller, leg.callee_uri = self.who(row.callee), row.caller, row.callee_uri
        leg.source, leg.confirmed, leg.ended = row.source, row.confirmed, row.ended
        leg.freeswitch_misled = row.freeswitch_misled
        return leg

    def dialog(self, row: _Dialog, leg: Leg) -> Dialog:
        """The dialog of a leg."""
        dialog = Dialog(leg.call_id, self.side(row.caller), self.side(row.callee), leg)
        dialog.down, dialog.up = _numbers(row.down), _numbers(row.up)
        dialog.phone_calls, dialog.acked, dialog.interval = row.phone_calls, row.acked, row.interval
        dialog.confirmed_at = None if row.confirmed_at is None else row.confirmed_at - self.shift
        dialog.refresher = row.refresher
        dialog.expires_at = None if row.expires_at is None else row.expires_at - self.shift
        return dialog

    def side(self, row: _Side) -> Side:
        """One end of a dialog."""
        listener = self.listeners.get(row.listener) or next(iter(self.listeners.values()))
        side = Side(row.tag, row.identity, listener)
        side.contact, side.alias, side.flow_addr, side.routes = row.contact, row.alias, row.flow_addr, row.routes
        return side


def _numbers(row: _Numbers) -> CSeqMap:
    numbers = CSeqMap(row.last_in, row.last_out, row.offset)
    numbers.recent = row.recent
    if not 0 <= row.reserved <= AHEAD:
        raise BadSnapshot(f"{row.reserved} requests of ours about to leave")
    for _ in range(row.reserved):
        numbers.own()  # a request of ours was about to leave, and may have left
    numbers.skip = AHEAD
    return numbers


def _index(number: int) -> int:
    if number < 0:
        raise BadSnapshot("something that must be there is not")
    return number
