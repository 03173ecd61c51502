"""Snapshots of sessions: the same call comes back, at any moment of its life, and nothing else than a snapshot does."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator

import msgspec
import pytest

from proxy.dialogs import CSeqMap, Dialog, Side
from proxy.flow import Listener
from proxy.media.session import Leg, OriginKeeper, Party, Rendition, Session
from proxy.snapshot import AHEAD, VERSION, BadSnapshot, decode_untrusted, encode
from tests.fake_rtpengine import fake_node
from tests.media.ladder import Call, Stage, alice, bob, crypto, establish, on
from tests.media.test_random_calls import Life

PUBLIC, LAN = Listener("public", "198.51.100.1", 5060), Listener("lan", "10.0.0.1", 5080, "lan")
LISTENERS = {"public": PUBLIC, "lan": LAN}


def nobody(leg: Leg) -> None:
    """No leg has a dialog."""


@pytest.fixture
async def stage(autojump_clock: object) -> AsyncGenerator[Stage, None]:
    async with fake_node() as node, on(node) as made:
        yield made


def view_of(rendition: Rendition | None) -> tuple[object, ...] | None:
    """A rendition without identities."""
    if rendition is None:
        return None
    one = rendition
    return (one.author.tag, one.receiver.tag, one.original, one.made, one.plain, one.profile, one.interface, one.call)


def view(session: Session) -> dict[str, object]:
    """Everything of a session that has to come back, without identities."""

    def party(one: Party | None) -> str | None:
        return None if one is None else one.tag

    everybody: dict[str, Party] = {}

    def meet(one: Party | None) -> None:
        if one is not None and one.tag not in everybody and one.session is session:
            everybody[one.tag] = one
            for other in (one.linked, one.offered_by, one.heard.author if one.heard else None, *one.made_for):
                meet(other)

    for leg in session.all_legs:
        for one in (leg.phone, leg.fs, leg.callee, *leg.callees.values()):
            meet(one)
    meet(session.expected)
    return {
        "session": (session.id, session.ng_call_id, session.direct, session.created_epoch, session.node, session.state),
        "moves": (session.moves, session.wish),
        "tags": session._tags,
        "names": session._names,
        "expected": party(session.expected),
        "stale": [one.tag for one in session.stale],
        "timeline": list(session.timeline),
        "handed": {address: view_of(shown) for address, shown in session.handed.items()},
        "legs": [
            (
                leg.name, leg.call_id, leg.from_tag, party(leg.phone), party(leg.fs), leg.phone_calls, leg.forked,
                leg.direct, {branch: one.tag for branch, one in leg.callees.items()}, party(leg.callee), leg.caller,
                leg.callee_uri, leg.source, leg.confirmed, leg.ended, leg.freeswitch_misled,
            )
            for leg in session.all_legs
        ],
        "parties": {
            tag: (
                one.name, one.via_branch, one.interface, one.profile, one.is_freeswitch, one.received, one.original,
                one.pending if one.original is None else one.original, party(one.linked), party(one.offered_by),
                view_of(one.heard), one.settled, one.gone,
                {receiver.tag: view_of(made) for receiver, made in one.made_for.items()},
                (one.origin.session_id, one.origin.version, one.origin.last_in),
            )
            for tag, one in everybody.items()
        },
    }  # fmt: skip


def restart(stage: Stage, call: Call) -> None:
    """The session of a call is replaced by what its snapshot comes to."""
    old = call.session
    before = view(old)
    found = decode_untrusted(encode(old, nobody, 0.0), {}, 0.0).session
    assert view(found) == before
    for leg in old.legs:
        stage.table.drop_leg(leg)
    stage.table.drop(old)
    stage.anchor.adopt(found)
    by_call_id = {leg.call_id: leg for leg in found.legs}
    for dialog in (call.a, call.b):
        dialog.leg = by_call_id[dialog.call_id]


@pytest.mark.parametrize("seed", range(24))
async def test_a_call_goes_on_from_any_moment_of_its_life(stage: Stage, seed: int) -> None:
    """Random holds, moves, refusals, glare, FreeSWITCH in and out, and restarts in between: all rules still hold."""
    rng = random.Random(seed)
    secure = seed % 3 == 2
    call = await establish(stage, crypto(alice()) if secure else alice(), bob())
    life = Life(stage, call, rng, secure=secure)
    for _ in range(20):
        if rng.random() < 0.5:
            restart(stage, call)
        await life.step()
    restart(stage, call)
    if life.inside:
        await life.step_out()
    await call.reinvite("a", life.sdp("a"), life.sdp("b"))
    one, two = call.session.phones
    assert one.linked is two and two.linked is one
    stage.check_shown()
    await call.hang_up()
    assert stage.commands().count("delete") == 1
    stage.clean()


async def test_each_moment_of_a_set_up(stage: Stage) -> None:
    """Committed while it is early, say: whatever is there comes back."""
    a = stage.dialog("a", nat=True)
    session = a.leg.session

    def check() -> None:
        assert view(decode_untrusted(encode(session, nobody, 0.0), {}, 0.0).session) == view(session)

    check()
    first = await a.request(alice(), from_phone=True)
    check()
    session.wish = ("gold", ("frankfurt", "srtp"))
    b, second = await stage.second("b", stage.fs(first.out))
    check()
    await b.respond(second, 183, bob())
    check()
    await b.respond(second, 200, bob())
    check()
    a.bye()
    check()
    assert session.ended_legs and session.legs


async def test_a_party_of_another_session(stage: Stage) -> None:
    """Two calls that FreeSWITCH connects: what refers to the other session is a name then, not that session."""
    call = await establish(stage)
    session = call.session
    other = Session("other", direct=False, created=0.0, created_epoch=0.0)
    guest = Party(other, "X", "leg-X", original=b"v=0")
    guest.made_for[session.phones[0]] = Rendition(guest, session.phones[0], b"v=0", b"v=0", b"v=0", "rtp", None)
    author = session.phones[0]
    session.handed[(b"192.0.2.1", b"9")] = Rendition(author, guest, b"v=0", b"v=0", b"v=0", "rtp", None)
    found = decode_untrusted(encode(session, nobody, 0.0), {}, 0.0).session
    shown = found.handed[(b"192.0.2.1", b"9")]
    assert (shown.author.tag, shown.receiver.tag, shown.receiver.made_for) == (author.tag, "leg-X", {})


def dialog_of(session: Session) -> Dialog:
    """A dialog with something in every field."""
    caller, callee = Side(b"tag1", b"<sip:a@x>;tag=tag1", PUBLIC), Side(b"tag2", b"<sip:b@x>;tag=tag2", LAN)
    caller.contact, caller.alias, caller.flow_addr = b"sip:a@192.168.1.2", ("203.0.113.8", 40000), ("203.0.113.8", 1)
    caller.routes, callee.contact = [b"<sip:198.51.100.9;lr>"], b"sip:b@10.0.0.3"
    dialog = Dialog(b"cid", caller, callee, session.legs[0])
    dialog.down, dialog.up = CSeqMap(7, 9, 2), CSeqMap(1, 1)
    dialog.down.recent = {6: 7, 7: 9}
    dialog.phone_calls, dialog.acked, dialog.confirmed_at = False, True, 50.0
    dialog.interval, dialog.expires_at, dialog.refresher = 1800, 950.0, False
    return dialog


def small() -> Session:
    """A session with one leg."""
    session = Session("edge1-00", direct=True, created=40.0, created_epoch=1040.0)
    leg = Leg(session, "A", b"cid", b"tag1", Party(session, "A", "leg-A", original=b"v=0"))
    session.legs.append(leg)
    session.state = "confirmed"
    return session


def test_a_dialog_comes_back_with_its_times_on_the_new_clock() -> None:
    session = small()
    before = dialog_of(session)
    data = encode(session, lambda leg: before, 1000.0)
    found = decode_untrusted(data, LISTENERS, 1500.0)  # a machine that started later: its clock stands lower
    (after,) = found.dialogs
    assert after.leg is found.session.legs[0]
    for one, other in ((before.caller, after.caller), (before.callee, after.callee)):
        for name in ("tag", "identity", "listener", "contact", "alias", "flow_addr", "routes"):
            assert getattr(one, name) == getattr(other, name)
    for name in ("call_id", "phone_calls", "acked", "ended", "interval", "refresher"):
        assert getattr(before, name) == getattr(after, name)
    assert (after.confirmed_at, after.expires_at) == (-450.0, 450.0)
    assert (found.session.created, found.session.created_epoch) == (-460.0, 1040.0)
    assert (after.down.last_in, after.down.last_out, after.down.offset, after.down.recent) == (7, 9, 2, {6: 7, 7: 9})
    assert after.key == before.key


def test_a_listener_that_is_gone_is_replaced() -> None:
    session = small()
    data = encode(session, lambda leg: dialog_of(session), 0.0)
    assert decode_untrusted(data, {"new": PUBLIC}, 0.0).dialogs[0].callee.listener is PUBLIC


@pytest.mark.parametrize("numbers", [CSeqMap(), CSeqMap(5, 5), CSeqMap(5, 8, 3)])
@pytest.mark.parametrize("passed", [0, 1, 5])
def test_cseq_numbers_only_rise_after_a_crash(numbers: CSeqMap, passed: int) -> None:
    """Some requests passed that no snapshot saw; then ours and theirs alternate. Nobody sees a number twice."""
    session = small()
    dialog = dialog_of(session)
    dialog.down = numbers
    data = encode(session, lambda leg: dialog, 0.0)
    theirs = max(numbers.last_in, 0)
    seen = [max(numbers.last_out, 0)]
    for _ in range(passed):
        theirs += 1
        seen.append(numbers.outgoing(theirs))
    after = decode_untrusted(data, LISTENERS, 0.0).dialogs[0].down
    seen.append(after.own())
    for _ in range(3):
        theirs += 1
        seen += [after.outgoing(theirs), after.own(), after.own()]
    assert seen == sorted(set(seen))


def test_a_number_about_to_be_spent_counts_as_spent() -> None:
    session = small()
    dialog = dialog_of(session)
    dialog.up = CSeqMap(4, 4)
    dialog.up.reserved = 1
    data = encode(session, lambda leg: dialog, 0.0)
    after = decode_untrusted(data, LISTENERS, 0.0).dialogs[0].up
    assert after.outgoing(5) == 6, "5 may have been used by a request of ours"
    assert after.outgoing(6) == 7
    assert after.own() == 8 + AHEAD
    assert after.own() == 9 + AHEAD, "only once"


@pytest.mark.parametrize("last_in", [None, b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"])
def test_an_origin_goes_on_where_it_was(last_in: bytes | None) -> None:
    kept = OriginKeeper(77)
    if last_in is not None:
        kept.stamp(b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=other\r\n")
        kept.stamp(last_in)
    again = OriginKeeper.restored(kept.session_id, kept.version, kept.last_in)
    for sdp in (last_in or b"", b"v=0\r\no=- 5 5 IN IP4 192.0.2.1\r\ns=x\r\n", b"v=0\r\no=- 6 6 IN IP4 192.0.2.1\r\n"):
        assert again.stamp(sdp) == kept.stamp(sdp)
        assert again.version == kept.version


# -- what is no snapshot -----------------------------------------------------------------------------------------------


async def test_damage_is_found_or_harmless(stage: Stage) -> None:
    """Bytes changed, cut, doubled (seeds fixed): BadSnapshot, or a session; never another error."""
    call = await establish(stage)
    dialog = dialog_of(call.session)
    good = encode(call.session, lambda leg: dialog, 0.0)
    rng = random.Random(4)
    refused = 0
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(data))
            kind = rng.randrange(3)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + rng.randrange(1, 20)]
            else:
                data[at:at] = data[at : at + rng.randrange(1, 20)]
        try:
            decode_untrusted(bytes(data), LISTENERS, 0.0)
        except BadSnapshot:
            refused += 1
    assert refused > 1000


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode([1]), msgspec.msgpack.encode("x")])
def test_no_snapshot_at_all(data: bytes) -> None:
    with pytest.raises(BadSnapshot):
        decode_untrusted(data, LISTENERS, 0.0)


def test_another_version_is_named() -> None:
    data = msgspec.msgpack.encode([VERSION + 1, {"quite": "different"}])
    with pytest.raises(BadSnapshot, match=f"version {VERSION + 1}; this program reads {VERSION}"):
        decode_untrusted(data, LISTENERS, 0.0)


def test_every_text_is_there_once() -> None:
    """Small rows: an SDP that several renditions share is stored once."""
    session = small()
    phone = session.legs[0].phone
    other = Party(session, "B", "leg-B")
    sdp = b"v=0\r\n" + b"x" * 900
    for receiver in (other, phone):
        phone.made_for[receiver] = Rendition(phone, receiver, sdp, bytes(bytearray(sdp)), sdp, "rtp", None)
    assert len(encode(session, nobody, 0.0)) < 1400
