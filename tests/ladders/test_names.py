"""Next hops that are host names: not looked up here unless somebody gives the core a resolver; Contacts of no use."""

from __future__ import annotations

from proxy.flow import Address
from proxy.sip.uri import Uri
from tests.ladder import play
from tests.world import World

UP = """
    caller -> edge    INVITE sip:1000@198.51.100.1
    edge -> caller    100 Trying
    edge -> callee    INVITE
    callee -> edge    200 OK
        Contact: <sip:callee@phone.example.test>
    edge -> caller    200 OK
"""


async def test_a_name_is_404_and_its_ack_is_dropped(direct: World) -> None:
    await play(direct, UP + """
    caller -> edge    ACK
    caller -> edge    INFO
    edge -> caller    404 Destination unknown
    caller -> edge    BYE
    edge -> caller    404 Destination unknown
    """)  # fmt: skip
    await direct.over()


async def test_a_resolver_is_asked(direct: World) -> None:
    asked: list[bytes] = []

    async def resolve(uri: Uri) -> Address | None:
        asked.append(uri.host)
        return ("203.0.113.9", 5060)

    direct.edge.core.resolve = resolve
    await play(direct, UP + """
    caller -> edge    ACK
    edge -> callee    ACK sip:callee@phone.example.test
    caller -> edge    BYE
    edge -> callee    BYE sip:callee@phone.example.test
    callee -> edge    200 OK
    edge -> caller    200 OK
    """)  # fmt: skip
    assert asked == [b"phone.example.test"] * 2
    await direct.over()


async def test_a_reinvite_with_media_to_a_name(direct_media: World) -> None:
    """The node has been asked already; the caller gets 404 and the call can still be ended."""
    await play(direct_media, UP.replace("INVITE sip:1000@198.51.100.1\n", """INVITE sip:1000@198.51.100.1
        sdp: alice
""").replace("        Contact:", "        sdp: bob\n        Contact:") + """
    caller -> edge    ACK
    callee -> edge    ACK
    callee -> edge    INFO
    edge -> caller    INFO
    caller -> edge    200 OK
    edge -> callee    200 OK
    caller -> edge    INVITE
        sdp: alice-hold
    edge -> caller    100 Trying
    edge -> caller    404 Destination unknown
    caller -> edge    ACK
    callee -> edge    BYE
    edge -> caller    BYE
    caller -> edge    200 OK
    edge -> callee    200 OK
    """.replace("    callee -> edge    ACK\n", ""))  # fmt: skip
    await direct_media.over()


async def test_our_bye_finds_a_phone_whose_contact_is_a_name(direct_media: World) -> None:
    """It goes to where the phone's last message came from."""
    await play(direct_media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
            Contact: <sip:caller@phone.example.test>
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
            sdp: bob
        edge -> caller    200 OK
        ... 32.2 s
        edge -> caller    BYE sip:caller@phone.example.test
        edge -> callee    BYE
        caller -> edge    200 OK (BYE)
        callee -> edge    200 OK (BYE)
    """)  # fmt: skip
    await direct_media.over()


async def test_our_bye_does_not_follow_an_alias_a_phone_wrote_itself(direct_media: World) -> None:
    direct_media.party("victim", ("10.0.0.99", 5060))
    await play(direct_media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
            Contact: <sip:caller@203.0.113.8;alias=10.0.0.99~5060~1>
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
            sdp: bob
        edge -> caller    200 OK
        ... 32.2 s
        edge -> caller    BYE sip:caller@203.0.113.8
        edge -> callee    BYE
        caller -> edge    200 OK (BYE)
        callee -> edge    200 OK (BYE)
    """)  # fmt: skip
    await direct_media.over()


async def test_a_side_without_a_contact_cannot_be_hung_up(direct_media: World) -> None:
    """Counted; the other side is told, and the media goes."""
    await play(direct_media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
            -Contact
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
            sdp: bob
        edge -> caller    200 OK
        ... 32.2 s
        edge -> callee    BYE
        callee -> edge    200 OK (BYE)
    """)  # fmt: skip
    assert direct_media.stats["own_requests_unroutable"] == 1
    await direct_media.over()


async def test_cancel_while_the_node_is_asked(media: World) -> None:
    """Nothing was sent to FreeSWITCH yet: 487 at once when the node has answered, and nothing goes out."""
    assert media.node is not None
    media.node.delay = 0.2
    await play(media, """
        caller -> edge    INVITE sip:1000@198.51.100.1
            sdp: alice
        edge -> caller    100 Trying
        caller -> edge    CANCEL
        edge -> caller    200 OK (CANCEL)
        ... 0.3 s
        edge -> caller    487 Request Terminated (INVITE)
        caller -> edge    ACK
    """)  # fmt: skip
    media.node.delay = 0.0
    await media.over()


async def test_responses_keep_their_order_while_the_node_is_asked(media: World) -> None:
    """A 180 behind a 183 with SDP does not overtake it, nor does the failure behind both."""
    assert media.node is not None
    media.node.delay = 0.1
    await play(media, """
        fs -> edge       INVITE sip:1000@10.0.0.1:5080
            sdp: alice
        edge -> fs       100 Trying
        ... 0.15 s
        edge -> callee   INVITE
        callee -> edge   183 Session Progress
            sdp: bob
        callee -> edge   180 Ringing
        callee -> edge   486 Busy Here
        edge -> callee   ACK
        ... 0.15 s
        edge -> fs       183 Session Progress
        edge -> fs       180 Ringing
        edge -> fs       486 Busy Here
        fs -> edge       ACK
    """)  # fmt: skip
    media.node.delay = 0.0
    await media.over()


async def test_a_request_in_a_dialog_that_names_us_is_404(direct: World) -> None:
    """Our own address in the Request-URI and no Route left: sending it on would be sending it to ourselves."""
    await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        callee -> edge    200 OK
        edge -> caller    200 OK
        caller -> edge    ACK
        edge -> callee    ACK
        caller -> edge    INFO sip:1000@198.51.100.1
        edge -> caller    404 Not here
        caller -> edge    INFO sip:1000@10.0.0.1:5080
        edge -> caller    404 Not here
        caller -> edge    BYE
        edge -> callee    BYE
        callee -> edge    200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()
