"""Requests of our own in calls we relay: CSeq and RAck are translated per dialog and direction, nobody can tell."""

from __future__ import annotations

from proxy.dialogs import Dialog
from tests.ladder import Ladder, play
from tests.ladders.flows import HUNG_UP, answered
from tests.media.ladder import alice, bob
from tests.world import World, settle


def dialog_of(world: World, call: str, ladder: Ladder) -> Dialog:
    """The edge's dialog of one call."""
    return next(d for d in world.edge.core.dialogs if d.call_id.decode() == ladder.names[call])


async def reinvite(world: World, ladder: Ladder, call: str, to_phone: bool, sdp: bytes) -> list[int]:
    """The anchor's own re-INVITE of one leg; the codes it ended with, once it has ended."""
    leg = dialog_of(world, call, ladder).leg
    assert leg is not None
    codes: list[int] = []

    async def run() -> None:
        response = await world.edge.supervisor.reinvite(leg, to_phone, sdp)
        codes.append(response.code)

    world.nursery.start_soon(run)
    await settle()
    return codes


async def test_a_reinvite_of_ours_and_everything_after_it(media: World) -> None:
    """To the caller as if from FreeSWITCH; FreeSWITCH then reuses the number we spent (1.10.12 does exactly that)."""
    ladder = await answered(media)
    codes = await reinvite(media, ladder, "A", True, bob())
    await ladder.play("""
        edge -> caller    INVITE sip:caller@203.0.113.8
            CSeq: 1 INVITE
            sdp: bob
            Contact: <sip:fs@10.0.0.3>
            -Record-Route
        caller -> edge    100 Trying
        caller -> edge    200 OK
            sdp: alice
        edge -> caller    ACK sip:caller@203.0.113.8
            CSeq: 1 ACK
        caller -> edge    200 OK (INVITE)
        edge -> caller    ACK
    """)  # fmt: skip
    assert codes == [200]
    await ladder.play("""
        fs -> edge        INFO
            CSeq: 1 INFO
        edge -> caller    INFO
            CSeq: 2 INFO
        caller -> edge    200 OK
        edge -> fs        200 OK
            CSeq: 1 INFO
        fs -> edge        INVITE
            CSeq: 2 INVITE
            sdp: fs B
        edge -> fs        100 Trying
            CSeq: 2 INVITE
        edge -> caller    INVITE
            CSeq: 3 INVITE
        caller -> edge    180 Ringing
        edge -> fs        180 Ringing
            CSeq: 2 INVITE
        caller -> edge    200 OK
            sdp: alice
        edge -> fs        200 OK
            CSeq: 2 INVITE
        fs -> edge        ACK
            CSeq: 2 ACK
        edge -> caller    ACK
            CSeq: 3 ACK
        caller -> edge    INFO
            CSeq: 7 INFO
        edge -> fs        INFO
            CSeq: 7 INFO
        fs -> edge        200 OK
        edge -> caller    200 OK
            CSeq: 7 INFO
        fs -> edge        BYE
            CSeq: 3 BYE
        edge -> caller    BYE
            CSeq: 4 BYE
        caller -> edge    200 OK
        edge -> fs        200 OK
            CSeq: 3 BYE
        callee -> edge    BYE  [B]
        edge -> fs        BYE  [B]
        fs -> edge        200 OK  [B]
        edge -> callee    200 OK  [B]
    """)  # fmt: skip
    await media.over()


async def test_a_reinvite_of_ours_to_freeswitch(media: World) -> None:
    ladder = await answered(media)
    codes = await reinvite(media, ladder, "A", False, alice())
    await ladder.play("""
        edge -> fs        INVITE sip:fs@10.0.0.3
            CSeq: 2 INVITE
            Contact: <sip:caller@203.0.113.8>
        fs -> edge        488 Not Acceptable Here (INVITE)
        edge -> fs        ACK
            CSeq: 2 ACK
    """)  # fmt: skip
    assert codes == [488]
    await ladder.play("""
        caller -> edge    BYE
            CSeq: 2 BYE
        edge -> fs        BYE
            CSeq: 3 BYE
        fs -> edge        200 OK
        edge -> caller    200 OK
            CSeq: 2 BYE
    """ + HUNG_UP.partition("edge -> caller    200 OK\n")[2])  # fmt: skip
    await media.over()


async def test_reinvites_of_ours_to_both_phones_at_once(media: World) -> None:
    """What a re-anchor does."""
    ladder = await answered(media)
    first = await reinvite(media, ladder, "A", True, bob())
    second = await reinvite(media, ladder, "B", True, alice())
    await ladder.play("""
        edge -> caller    INVITE
        edge -> callee    INVITE  [B]
        callee -> edge    200 OK  [B]
            sdp: bob
        edge -> callee    ACK  [B]
        caller -> edge    200 OK
            sdp: alice
        edge -> caller    ACK
    """ + HUNG_UP)  # fmt: skip
    assert (first, second) == ([200], [200])
    await media.over()


async def test_a_reinvite_of_ours_nobody_answers(media: World) -> None:
    ladder = await answered(media)
    codes = await reinvite(media, ladder, "A", True, bob())
    await ladder.play("""
        edge -> caller    INVITE
        ... 33 s
        edge -> caller    INVITE x6
    """ + HUNG_UP)  # fmt: skip
    assert codes == [408]
    await media.over()


REFUSED_AND_HEALED = """
        caller -> edge    INVITE
            sdp: alice-hold
            CSeq: {phone} INVITE
        edge -> caller    100 Trying
        edge -> fs        INVITE
            CSeq: {fs} INVITE
        fs -> edge        INVITE  [B]
            sdp: fs A
        edge -> fs        100 Trying  [B]
        edge -> callee    INVITE  [B]
        callee -> edge    488 Not Acceptable Here  [B]
        edge -> callee    ACK  [B]
        edge -> fs        488 Not Acceptable Here  [B]
        fs -> edge        ACK  [B]
        fs -> edge        488 Not Acceptable Here (INVITE)
            CSeq: {fs} INVITE
        edge -> fs        ACK
        edge -> caller    488 Not Acceptable Here
            CSeq: {phone} INVITE
        edge -> fs        INVITE
            CSeq: {own} INVITE
        caller -> edge    ACK
        fs -> edge        200 OK (INVITE)
            sdp: fs B
        edge -> fs        ACK
"""


async def test_a_refusal_after_a_reinvite_of_ours_is_a_refusal_too(media: World) -> None:
    """Seen with FreeSWITCH 1.10.12: the heal after a first refusal shifts the numbers, and the second refusal was no
    longer known as the answer to its offer: no heal, and 491 to the other side for ever."""
    ladder = await answered(media)
    await ladder.play(REFUSED_AND_HEALED.format(phone=2, fs=2, own=3))
    await ladder.play(REFUSED_AND_HEALED.format(phone=3, fs=4, own=5))
    assert [session.offers for session in media.edge._sessions()] == [{}]
    await ladder.play(HUNG_UP)
    await media.over()


async def test_a_reinvite_of_a_call_that_is_gone(media: World) -> None:
    ladder = await answered(media)
    leg = dialog_of(media, "A", ladder).leg
    assert leg is not None
    await ladder.play(HUNG_UP)
    response = await media.edge.supervisor.reinvite(leg, True, bob())
    assert response.code == 481
    await media.over()


async def test_cancel_of_a_translated_reinvite(media: World) -> None:
    ladder = await answered(media)
    codes = await reinvite(media, ladder, "A", True, bob())
    await ladder.play("""
        edge -> caller    INVITE
        caller -> edge    200 OK
            sdp: alice
        edge -> caller    ACK
        fs -> edge        INVITE
            CSeq: 1 INVITE
            sdp: fs B
        edge -> fs        100 Trying
        edge -> caller    INVITE
            CSeq: 2 INVITE
        caller -> edge    180 Ringing
        edge -> fs        180 Ringing
        fs -> edge        CANCEL
        edge -> fs        200 OK (CANCEL)
            CSeq: 1 CANCEL
        edge -> caller    CANCEL
            CSeq: 2 CANCEL
        caller -> edge    200 OK (CANCEL)
        caller -> edge    487 Request Terminated (INVITE)
        edge -> caller    ACK
            CSeq: 2 ACK
        edge -> fs        487 Request Terminated (INVITE)
            CSeq: 1 INVITE
        fs -> edge        ACK
    """ + HUNG_UP)  # fmt: skip
    assert codes == [200]
    await media.over()


async def test_prack_names_the_invite_by_the_number_its_receiver_knows(direct_media: World) -> None:
    """RFC 3262 7.2. The re-INVITE that is PRACKed was translated, so its number in RAck is too."""
    ladder = Ladder(direct_media)
    await ladder.play("""
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    183 Session Progress
            sdp: bob
            Require: 100rel
            RSeq: 9
        edge -> caller    183 Session Progress
            RSeq: 9
        caller -> edge    PRACK
        edge -> callee    PRACK
            RAck: 9 1 INVITE
        callee -> edge    200 OK (PRACK)
        edge -> caller    200 OK (PRACK)
        callee -> edge    200 OK (INVITE)
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> callee    ACK
    """)  # fmt: skip
    codes = await reinvite(direct_media, ladder, "A", False, alice())
    await ladder.play("""
        edge -> callee    INVITE
            CSeq: 3 INVITE
        callee -> edge    200 OK (INVITE)
            sdp: bob
        edge -> callee    ACK
        caller -> edge    INVITE
            sdp: alice-hold
            CSeq: 3 INVITE
        edge -> caller    100 Trying
        edge -> callee    INVITE
            CSeq: 4 INVITE
        callee -> edge    183 Session Progress (INVITE)
            Require: 100rel
            RSeq: 20
        edge -> caller    183 Session Progress
            CSeq: 3 INVITE
        caller -> edge    PRACK
            RAck: 20 3 INVITE
            CSeq: 4 PRACK
        edge -> callee    PRACK
            CSeq: 5 PRACK
            RAck: 20 4 INVITE
        callee -> edge    200 OK (PRACK)
        edge -> caller    200 OK (PRACK)
            CSeq: 4 PRACK
        callee -> edge    200 OK (INVITE)
            sdp: bob-held
        edge -> caller    200 OK (INVITE)
            CSeq: 3 INVITE
        caller -> edge    ACK
            CSeq: 3 ACK
        edge -> callee    ACK
            CSeq: 4 ACK
        callee -> edge    BYE
        edge -> caller    BYE
        caller -> edge    200 OK
        edge -> callee    200 OK
    """)  # fmt: skip
    assert codes == [200]
    await direct_media.over()


async def test_without_requests_of_ours_numbers_pass_as_they_are(direct: World) -> None:
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            CSeq: 2147483646 INVITE
        edge -> caller    100 Trying
        edge -> callee    INVITE
            CSeq: 2147483646 INVITE
        callee -> edge    200 OK
        edge -> caller    200 OK
            CSeq: 2147483646 INVITE
        caller -> edge    ACK
            CSeq: 2147483646 ACK
        edge -> callee    ACK
            CSeq: 2147483646 ACK
        callee -> edge    BYE
            CSeq: 17 BYE
        edge -> caller    BYE
            CSeq: 17 BYE
        caller -> edge    200 OK
        edge -> callee    200 OK
    """)  # fmt: skip
    await direct.over()
