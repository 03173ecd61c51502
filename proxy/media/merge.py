"""A leg joins another session (rule 10): two ng calls become one when FreeSWITCH connects what it had kept apart.

Theory of operation. When FreeSWITCH answers a call itself and bridges it later (IVR, queue, REFER), or when no SDP went
through it at first (late offer), the dialogs of one call are in two sessions. They merge when the first SDP arrives on
a leg that names a party of the other session. The leg gets fresh parties there, with tags of their own, which keep what
the endpoints know (o=, agreed SDP); addresses FreeSWITCH was shown before stay valid as aliases. Once the offer is
answered the old session ends if it has no legs left; if it is refused the leg goes back.
"""

from __future__ import annotations

from .engine import Engine
from .session import Former, Leg, Party, Rendition, Session


def move(engine: Engine, leg: Leg, session: Session) -> None:
    """FreeSWITCH shows that this leg is in `session`'s call: it gets parties there, for good once it is agreed."""
    old, before, fs_before = leg.session, leg.phone, leg.fs
    assert fs_before is not None
    expected = session.expected
    name = expected.name if expected is not None else session.new_name("B")
    phone = _twin(before, session, name)
    fs = _twin(fs_before, session, "F" + name)
    leg.former = Former(old, before, fs_before, leg.name)
    leg.session, leg.phone, leg.fs, leg.name = session, phone, fs, name
    for x in leg.exchanges:
        x.fork = None
    old.legs.remove(leg)
    session.legs.append(leg)
    for rendition in list(before.made_for.values()):
        alias = Rendition(
            phone, rendition.receiver, rendition.original, rendition.made, rendition.plain, rendition.profile,
            rendition.interface,
        )  # fmt: skip
        engine.table.record(alias)
    for key, twin in ((before, phone), (fs_before, fs)):
        offer = old.offers.pop(key, None)
        if offer is not None:
            offer.speaker, offer.author, offer.made = twin, twin, {}
            session.offers[twin] = offer
    if expected is not None:
        session.expected = None
        phone.tag, phone.via_branch, phone.offered_by = expected.tag, expected.via_branch, expected.offered_by
        _inherit(session, expected, phone)
    engine.note(session, f"leg {name} joins from session {old.id}")
    engine.note(old, f"leg moves to session {session.id}")
    if not old.node:
        finish_move(engine, leg)


def _inherit(session: Session, expected: Party, phone: Party) -> None:
    author = expected.offered_by
    if author is None:
        return
    pending = session.offers.get(author)
    if pending is not None and pending.receiver is expected:
        pending.receiver = phone
    for made in (author.made_for, pending.made if pending is not None else {}):
        rendition = made.pop(expected, None)
        if rendition is not None:
            rendition.receiver = phone
            made[phone] = rendition


def _twin(party: Party, session: Session, name: str) -> Party:
    tag = session.new_tag(f"leg-{name}")
    return Party(
        session, name, tag, via_branch=f"br-{tag[4:]}", interface=party.interface, profile=party.profile,
        is_freeswitch=party.is_freeswitch, received=party.received, origin=party.origin,
        original=party.original, pending=party.pending,
    )  # fmt: skip


def finish_move(engine: Engine, leg: Leg) -> None:
    """The move is agreed; the session that has lost its last leg by it ends."""
    former, leg.former = leg.former, None
    assert former is not None
    session, old = leg.session, former.session
    session.created = min(session.created, old.created)
    session.created_epoch = min(session.created_epoch, old.created_epoch)
    if not old.legs:
        engine.delete(old)


def move_back(leg: Leg) -> None:
    """The move was refused: everything is as it was before."""
    former, leg.former = leg.former, None
    assert former is not None
    leg.session.legs.remove(leg)
    former.session.legs.append(leg)
    leg.session, leg.phone, leg.fs, leg.name = former.session, former.phone, former.fs, former.name
