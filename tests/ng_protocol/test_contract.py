"""What rtpengine 10.5 does with offers, answers and deletes: one suite for the fake node and for the real daemon.

The proxy relies on every line of this, and tests elsewhere rely on the fake: so both must pass the same tests.
"""

from __future__ import annotations

from typing import Any

import pytest

from ng_protocol import (
    Answer,
    Client,
    Delete,
    ListCalls,
    NgBadReply,
    NgBadRequest,
    NgError,
    NgLostCall,
    Offer,
    Ping,
    Pong,
    Query,
    Statistics,
)
from tests.ng_protocol.contract import LAN, LATCH, PORTS, PUB, REPLACE, Dialog, sdp, seen

# -- offer and answer --------------------------------------------------------------------------------------------------


async def test_ping(client: Client) -> None:
    assert await client.request(Ping()) == Pong()


async def test_an_offer_comes_back_with_the_nodes_address_and_an_even_port(dialog: Dialog) -> None:
    offered = await dialog.offer("f", "t")
    assert (offered.address, offered.origin, offered.protocol, offered.direction) == (PUB, PUB, "RTP/AVP", "sendrecv")
    assert offered.port % 2 == 0 and PORTS[0] <= offered.port <= PORTS[1]
    assert "s=call\r\n" in offered.text
    assert "o=- 77 3 " in offered.text
    assert f"a=rtcp:{offered.port + 1}" in offered.text
    assert "a=rtpmap:8 PCMA/8000" in offered.text


async def test_origin_stays_without_replace_but_connection_does_not(dialog: Dialog) -> None:
    offered = await dialog.offer("f", "t", replace=())
    assert (offered.address, offered.origin) == (PUB, "192.0.2.1")


async def test_each_party_sees_its_own_port_and_query_tells_which(dialog: Dialog) -> None:
    to_answerer, to_offerer = await dialog.establish()
    assert to_answerer.port != to_offerer.port
    offerer, answerer = await dialog.stream("f"), await dialog.stream("t")
    assert (offerer.local_port, answerer.local_port) == (to_offerer.port, to_answerer.port)
    assert (offerer.local_address, str(offerer.endpoint)) == (PUB, "192.0.2.1:4000")
    assert str(answerer.endpoint) == str(answerer.advertised_endpoint) == "192.0.2.1:5000"
    assert (offerer.is_rtp, offerer.learned, offerer.received.packets) == (True, False, 0)
    assert await dialog.hears("f") == ["t"]
    assert await dialog.hears("t") == ["f"]


async def test_a_party_without_a_tag_gets_it_from_the_answer(dialog: Dialog) -> None:
    offered = await dialog.offer("f")
    assert set((await dialog.query()).tags) >= {"f"} and "t" not in (await dialog.query()).tags
    assert (await dialog.offer("f")).port == offered.port, "the same untagged party again"
    await dialog.answer("f", "t")
    assert set((await dialog.query()).tags) == {"f", "t"}
    assert (await dialog.stream("t")).local_port == offered.port


async def test_both_tags_named_in_the_first_offer(dialog: Dialog) -> None:
    await dialog.offer("f", "t")
    call = await dialog.query()
    assert set(call.tags) == {"f", "t"}
    assert call.tags["t"].medias[0].rtp is not None
    assert call.tags["t"].medias[0].rtp.endpoint is not None and call.tags["t"].medias[0].rtp.endpoint.port == 0
    await dialog.answer("f", "t")
    assert set((await dialog.query()).tags) == {"f", "t"}


async def test_ports_are_stable_over_reoffers_from_both_sides(dialog: Dialog) -> None:
    to_answerer, to_offerer = await dialog.establish()
    for _ in range(2):
        assert (await dialog.offer("f", "t")).port == to_answerer.port
        assert (await dialog.answer("f", "t")).port == to_offerer.port
        assert (await dialog.offer("t", "f", sdp(5000))).port == to_offerer.port, "the callee's re-INVITE: tags swapped"
        assert (await dialog.answer("t", "f", sdp(4000))).port == to_answerer.port


async def test_port_latching_keeps_the_others_port_when_the_author_moves(dialog: Dialog) -> None:
    to_answerer, to_offerer = await dialog.establish()
    assert (await dialog.offer("f", "t", sdp(4444))).port == to_answerer.port
    assert (await dialog.answer("f", "t", sdp(5555))).port == to_offerer.port
    assert str((await dialog.stream("f")).endpoint) == "192.0.2.1:4444"


async def test_without_port_latching_the_others_port_changes(dialog: Dialog) -> None:
    to_answerer, to_offerer = await dialog.establish()
    assert (await dialog.offer("f", "t", sdp(4444), flags=())).port != to_answerer.port
    assert (await dialog.answer("f", "t", sdp(5000), flags=())).port == to_offerer.port, "t has not moved"
    assert (await dialog.answer("f", "t", sdp(5555), flags=())).port != to_offerer.port


async def test_early_answer_with_another_tag_makes_a_party_of_its_own(dialog: Dialog) -> None:
    """A 183 with one tag and a 200 with another, neither named in the offer: why both tags are named at once."""
    offered = await dialog.offer("f")
    early = await dialog.answer("f", "A")
    final = await dialog.answer("f", "B")
    assert early.port == final.port
    assert (await dialog.stream("A")).local_port == offered.port
    assert (await dialog.stream("B")).local_port != offered.port


async def test_a_third_party_joins_and_the_first_keeps_its_port(dialog: Dialog) -> None:
    to_t, to_f = await dialog.establish()
    to_x = await dialog.offer("f", "x")
    assert (await dialog.answer("f", "x", sdp(6000))).port == to_f.port
    assert len({to_t.port, to_f.port, to_x.port}) == 3
    assert (await dialog.hears("f"))[0] == "x"
    assert await dialog.hears("t") == []
    assert (await dialog.offer("f", "t")).port == to_t.port
    assert await dialog.hears("t") == ["f"]
    assert await dialog.hears("x") == []


async def test_two_pairs_in_one_call(dialog: Dialog) -> None:
    """Leg A with its side of the B2BUA and leg B with its own: four parties, and each pair hears itself."""
    await dialog.establish()
    await dialog.offer("x", "y")
    await dialog.answer("x", "y")
    assert [await dialog.hears(tag) for tag in ("f", "t", "x", "y")] == [["t"], ["f"], ["y"], ["x"]]
    await dialog.offer("f", "y")
    await dialog.answer("f", "y")
    assert (await dialog.hears("f"))[0] == "y"
    assert (await dialog.hears("y"))[0] == "f"
    assert (await dialog.hears("t"), await dialog.hears("x")) == ([], [])


# -- direction: the logical interfaces ---------------------------------------------------------------------------------


async def test_direction_chooses_the_interface_of_each_side(dialog: Dialog) -> None:
    to_answerer, to_offerer = await dialog.establish(direction=("pub", "lan"))
    assert (to_answerer.address, to_answerer.origin) == (LAN, LAN)
    assert (to_offerer.address, to_offerer.origin) == (PUB, PUB)


async def test_a_changed_direction_is_honoured_and_the_old_port_remembered(dialog: Dialog) -> None:
    first_t, first_f = await dialog.establish(direction=("pub", "lan"))
    second_t, second_f = await dialog.establish(direction=("lan", "pub"))
    assert (second_t.address, second_f.address) == (PUB, LAN)
    assert (await dialog.offer("f", "t")).address == PUB, "omitted: as before"
    third_t, third_f = await dialog.establish(direction=("pub", "lan"))
    assert (third_t.address, third_t.port) == (first_t.address, first_t.port)
    assert (third_f.address, third_f.port) == (first_f.address, first_f.port)


async def test_direction_of_a_swapped_offer_is_author_first(dialog: Dialog) -> None:
    first_t, first_f = await dialog.establish(direction=("pub", "lan"))
    swapped = await dialog.offer("t", "f", sdp(5000), direction=("lan", "pub"))
    assert (swapped.address, swapped.port) == (PUB, first_f.port)
    back = await dialog.answer("t", "f", sdp(4000))
    assert (back.address, back.port) == (LAN, first_t.port)


async def test_an_unknown_interface_is_silently_the_first_one(dialog: Dialog) -> None:
    assert (await dialog.offer("f", "t", direction=("pub", "nosuch"))).address == PUB


# -- hold, several sections --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["sendonly", "recvonly", "inactive", "sendrecv"])
async def test_directions_pass(dialog: Dialog, direction: str) -> None:
    to_answerer, to_offerer = await dialog.establish()
    held = await dialog.offer("f", "t", sdp(4000, f"a={direction}"))
    assert (held.direction, held.port, held.address) == (direction, to_answerer.port, PUB)
    mirrored = {"sendonly": "recvonly", "recvonly": "sendonly"}.get(direction, direction)
    answered = await dialog.answer("f", "t", sdp(5000, f"a={mirrored}"))
    assert (answered.direction, answered.port) == (mirrored, to_offerer.port)


async def test_hold_by_zero_address_stays_a_zero_address(dialog: Dialog) -> None:
    to_answerer, _ = await dialog.establish()
    held = await dialog.offer("f", "t", sdp(4000, ip="0.0.0.0"))
    assert (held.address, held.direction, held.port) == ("0.0.0.0", "sendonly", to_answerer.port)
    again = await dialog.offer("f", "t", sdp(4000))
    assert (again.address, again.direction, again.port) == (PUB, "sendrecv", to_answerer.port)


async def test_several_sections_and_a_rejected_one(dialog: Dialog) -> None:
    video = "m=video 4002 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=sendonly"
    offered = await dialog.offer("f", "t", sdp(4000, video))
    assert len(set(offered.ports)) == 2 and all(port % 2 == 0 and port for port in offered.ports)
    answered = await dialog.answer("f", "t", sdp(5000, "m=video 0 RTP/AVP 96"))
    assert answered.ports[0] and answered.ports[1] == 0
    again = await dialog.offer("f", "t", sdp(4000, "m=video 0 RTP/AVP 96"))
    assert again.ports == (offered.port, 0)


# -- forks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True], ids=["untagged", "tags named in the offers"])
async def test_forks_are_parties_of_their_own(dialog: Dialog, named: bool) -> None:
    one = await dialog.offer("f", "B1" if named else None, via_branch="1")
    two = await dialog.offer("f", "B2" if named else None, via_branch="2")
    assert one.port != two.port
    assert (await dialog.offer("f", "B1" if named else None, via_branch="1")).port == one.port
    second = await dialog.answer("f", "B2", sdp(5002), via_branch="2")
    first = await dialog.answer("f", "B1", sdp(5000), via_branch="1")
    assert first.port == second.port, "the offerer has one port whoever answers"
    assert (await dialog.stream("B1")).local_port == one.port
    assert (await dialog.stream("B2")).local_port == two.port
    assert (await dialog.hears("f"))[0] == "B1"
    assert {tag.via_branch for tag in (await dialog.query()).tags.values()} == {None, "1", "2"}


async def test_deleting_a_branch_leaves_the_other(dialog: Dialog) -> None:
    await dialog.offer("f", "B1", via_branch="1")
    two = await dialog.offer("f", "B2", via_branch="2")
    deleted = await dialog.delete(from_tag="f", via_branch="1")
    assert deleted.known
    assert deleted.call is not None and set(deleted.call.tags) == {"f", "B1", "B2"}
    assert (await dialog.stream("B1")).local_port is None, "still to be seen, without a port"
    await dialog.answer("f", "B2", via_branch="2")
    assert (await dialog.stream("B2")).local_port == two.port
    assert (await dialog.offer("f", "B2")).port == two.port
    await dialog.delete(from_tag="f", via_branch="2")
    with pytest.raises(NgLostCall):
        await dialog.query()


async def test_deleting_a_branch_the_node_never_saw_ends_the_whole_call(dialog: Dialog) -> None:
    """A trap: an unknown via-branch falls back to the from-tag. Never delete a branch whose offer may be lost."""
    await dialog.offer("f", "B1", via_branch="1")
    await dialog.answer("f", "B1", via_branch="1")
    await dialog.delete(from_tag="f", via_branch="never offered")
    with pytest.raises(NgLostCall):
        await dialog.query()


async def test_deleting_a_branch_by_its_own_tag_is_safe(dialog: Dialog) -> None:
    """to-tag wins over via-branch in 10.5, and an unknown one deletes nothing."""
    await dialog.offer("f", "B1", via_branch="1")
    await dialog.offer("f", "B2", via_branch="2")
    assert not (await dialog.delete(from_tag="f", to_tag="B9", via_branch="9")).known
    assert (await dialog.stream("B1")).local_port is not None
    assert (await dialog.delete(from_tag="f", to_tag="B1", via_branch="1")).known
    assert (await dialog.stream("B1")).local_port is None
    assert (await dialog.stream("B2")).local_port is not None


# -- delete ------------------------------------------------------------------------------------------------------------


async def test_deleting_the_whole_call(dialog: Dialog) -> None:
    await dialog.establish()
    deleted = await dialog.delete()
    assert (deleted.known, deleted.call) == (True, None), "10.5 tells no figures when only the call-id is named"
    with pytest.raises(NgLostCall):
        await dialog.query()
    again = await dialog.delete()
    assert (again.known, again.warning) == (False, "Call-ID not found or tags didn't match")


async def test_deleting_what_does_not_match_leaves_the_call(dialog: Dialog) -> None:
    await dialog.establish()
    assert not (await dialog.delete(from_tag="nobody")).known
    assert not (await dialog.delete(from_tag="f", to_tag="nobody")).known
    with pytest.raises(NgLostCall, match="Call-ID not found or tags didn't match"):
        await dialog.delete(from_tag="nobody", flags=["fatal"])
    assert set((await dialog.query()).tags) == {"f", "t"}


async def test_deleting_one_of_two_parties_ends_the_call_of_four_only_its_pair(dialog: Dialog) -> None:
    await dialog.establish()
    await dialog.offer("x", "y")
    await dialog.answer("x", "y")
    await dialog.delete(from_tag="f")
    assert await dialog.hears("x") == ["y"], "the other pair talks on"
    await dialog.delete(from_tag="x")
    with pytest.raises(NgLostCall):
        await dialog.query()


async def test_a_deleted_call_stays_visible_for_its_delay_and_an_offer_revives_it(dialog: Dialog) -> None:
    await dialog.establish()
    await dialog.client.request(Delete(call_id=dialog.call_id, delete_delay=30))
    assert set((await dialog.query()).tags) == {"f", "t"}
    await dialog.offer("f", "t")
    assert dialog.call_id in (await dialog.client.request(ListCalls(limit=1000))).calls


# -- lost calls and bad requests ---------------------------------------------------------------------------------------


async def test_an_offer_creates_whatever_it_names_but_an_answer_does_not(dialog: Dialog) -> None:
    """A node that lost a call takes its re-INVITE without a word; only ``answer`` and ``query`` tell."""
    with pytest.raises(NgLostCall, match="Unknown call-id"):
        await dialog.answer("f", "t")
    with pytest.raises(NgLostCall, match="Unknown call-id"):
        await dialog.query()
    await dialog.offer("f", "t")
    assert set((await dialog.query()).tags) == {"f", "t"}


BROKEN = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Offer(), "No SDP body in message"),
        (Offer(sdp=sdp()), "No call-id in message"),
        (Offer(call_id="c", sdp=sdp()), "No from-tag in message"),
        (Offer(call_id="c", from_tag="f"), "No SDP body in message"),
        (Offer(call_id="c", from_tag="f", sdp=b"garbage"), "Failed to parse SDP"),
        (Offer(call_id="c", from_tag="f", sdp=b"v=0\r\nm=x\r\n"), "Failed to parse SDP"),
        (Offer(call_id="c", from_tag="f", sdp=BROKEN), "Incomplete SDP specification"),
        (Answer(call_id="c", from_tag="f", to_tag="t"), "No SDP body in message"),
        (Answer(call_id="c", from_tag="f", sdp=sdp()), "No to-tag in message"),
        (Ping(extra={"command": "delete"}), "No call-id in message"),
        (Ping(extra={"command": "query"}), "No call-id in message"),
        (ListCalls(limit=-1), "invalid limit, must be >= 0"),
        (Ping(extra={"command": "nonsense"}), "Unrecognized command"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_bad_requests(client: Client, command: Any, reason: str) -> None:
    with pytest.raises(NgError) as caught:
        await client.request(command)
    assert (type(caught.value), caught.value.detail) == (NgBadRequest, reason)


async def test_a_refused_first_offer_leaves_no_call(dialog: Dialog) -> None:
    with pytest.raises(NgBadRequest):
        await dialog.offer("f", "t", b"garbage")
    with pytest.raises(NgLostCall):
        await dialog.query()


async def test_a_refused_reoffer_leaves_the_call_as_it_was(dialog: Dialog) -> None:
    to_answerer, _ = await dialog.establish()
    with pytest.raises(NgBadRequest):
        await dialog.offer("f", "t", b"garbage")
    assert (await dialog.offer("f", "t")).port == to_answerer.port


async def test_an_empty_sdp_is_answered_ok_without_an_sdp(client: Client) -> None:
    """10.5 says ``ok`` and nothing else: a reply nobody can use, so the caller must not offer an empty body."""
    with pytest.raises(NgBadReply, match="no sdp in the reply"):
        await client.request(Offer(call_id="empty", from_tag="f", sdp=b""))


# -- views -------------------------------------------------------------------------------------------------------------


async def test_query_of_one_party_shows_it_and_whom_it_hears(dialog: Dialog) -> None:
    await dialog.establish()
    await dialog.offer("x", "y")
    assert set((await dialog.query(from_tag="f")).tags) == {"f", "t"}
    assert set((await dialog.query(to_tag="y")).tags) == {"x", "y"}
    assert (await dialog.query(from_tag="nobody")).tags == {}
    assert set((await dialog.query()).tags) == {"f", "t", "x", "y"}


async def test_list_and_its_limit(client: Client) -> None:
    calls = [f"list-{number}" for number in range(3)]
    for call_id in calls:
        await client.request(Offer(call_id=call_id, from_tag="f", sdp=sdp()))
    assert set((await client.request(ListCalls(limit=1000))).calls) >= set(calls)
    assert (await client.request(ListCalls(limit=0))).calls == ()
    assert len((await client.request(ListCalls(limit=2))).calls) == 2
    for call_id in calls:
        await client.request(Delete(call_id=call_id, delete_delay=0))
    assert not set((await client.request(ListCalls(limit=1000))).calls) & set(calls)


async def test_statistics_count_sessions_ports_and_commands(dialog: Dialog) -> None:
    before = await dialog.client.request(Statistics())
    await dialog.establish(direction=("pub", "pub"))
    after = await dialog.client.request(Statistics())
    assert [interface.name for interface in after.interfaces] == ["pub", "lan"]
    assert [interface.address for interface in after.interfaces] == [PUB, LAN]
    assert after.current.sessions_own == before.current.sessions_own + 1
    assert after.current.sessions_total == before.current.sessions_total + 1
    assert after.ports_used == before.ports_used + 4, "two parties, RTP and RTCP"
    assert after.interfaces[0].ports.free == before.interfaces[0].ports.free - 4
    assert (after.interfaces[0].ports.min, after.interfaces[0].ports.max) == PORTS
    for name in ("offer", "answer"):
        assert after.commands(name) == before.commands(name) + 1
    assert 0 <= before.uptime <= after.uptime
    with pytest.raises(NgLostCall):
        await dialog.client.request(Query(call_id="nobody"))
    await dialog.delete()
    last = await dialog.client.request(Statistics())
    assert (last.errors, last.commands("delete")) == (after.errors + 1, after.commands("delete") + 1)
    assert last.current.sessions_own == before.current.sessions_own
    assert last.ports_used == before.ports_used
    assert last.totals.managed_sessions == before.totals.managed_sessions + 1


async def test_labels_are_shown(dialog: Dialog) -> None:
    await dialog.offer("f", "t", label="caller")
    await dialog.answer("f", "t", label="callee")
    assert {tag.tag: tag.label for tag in (await dialog.query()).tags.values()} == {"f": "caller", "t": "callee"}


async def test_received_from_counts_with_the_flag_only(dialog: Dialog) -> None:
    received: dict[str, Any] = {"received_from": ("IP4", "198.51.100.9")}
    await dialog.offer("f", "t", **received)
    assert str((await dialog.stream("f")).endpoint) == "192.0.2.1:4000"
    await dialog.offer("x", "y", flags=("SIP-source-address",), **received)
    assert str((await dialog.stream("x")).endpoint) == "198.51.100.9:4000"


# -- profiles ----------------------------------------------------------------------------------------------------------

FINGERPRINT = "a=fingerprint:sha-256 " + ":".join(f"{number:02X}" for number in range(32))
WEBRTC = sdp(
    9,
    "a=ice-ufrag:abcd",
    "a=ice-pwd:0123456789012345678901",
    "a=candidate:1 1 udp 2122260223 192.0.2.7 40000 typ host",
    FINGERPRINT,
    "a=setup:actpass",
    "a=mid:0",
    "a=rtcp-mux",
    protocol="UDP/TLS/RTP/SAVPF",
)
TO_PLAIN: dict[str, Any] = {"transport_protocol": "RTP/AVP", "ice": "remove", "dtls": "off", "rtcp_mux": ("demux",)}
TO_WEBRTC: dict[str, Any] = {
    "transport_protocol": "UDP/TLS/RTP/SAVPF",
    "ice": "force",
    "dtls": "passive",
    "sdes": ("off",),
    "rtcp_mux": ("offer", "require"),
}


async def test_a_browsers_offer_to_a_plain_phone(dialog: Dialog) -> None:
    plain = await dialog.offer("f", "t", WEBRTC, **TO_PLAIN)
    assert (plain.protocol, plain.address, plain.port % 2) == ("RTP/AVP", PUB, 0)
    for attribute in ("ice-ufrag", "candidate", "fingerprint", "setup", "rtcp-mux", "crypto"):
        assert not plain.has(attribute), attribute
    assert plain.has("mid")
    browser = await dialog.answer("f", "t")
    assert browser.protocol == "UDP/TLS/RTP/SAVPF"
    for attribute in ("ice-ufrag", "candidate", "fingerprint", "setup", "rtcp-mux"):
        assert browser.has(attribute), attribute
    assert not browser.has("crypto")
    assert "a=setup:active" in browser.text
    assert f"a=rtcp:{browser.port}\r\n" in browser.text, "one port for both, which may be odd"
    assert (await dialog.answer("f", "t")).port == browser.port


async def test_a_plain_offer_to_a_browser(dialog: Dialog) -> None:
    browser = await dialog.offer("f", "t", **TO_WEBRTC)
    assert (browser.protocol, browser.address) == ("UDP/TLS/RTP/SAVPF", PUB)
    for attribute in ("ice-ufrag", "candidate", "fingerprint", "setup", "rtcp-mux"):
        assert browser.has(attribute), attribute
    assert not browser.has("crypto")
    assert f"a=rtcp:{browser.port}\r\n" in browser.text, "one port for both, which may be odd"
    assert (await dialog.offer("f", "t", **TO_WEBRTC)).port == browser.port
    assert "a=setup:actpass" in browser.text, "10.5 offers actpass even when told DTLS=passive"
    plain = await dialog.answer("f", "t", WEBRTC.replace(b"actpass", b"active"))
    assert (plain.protocol, plain.has("ice-ufrag"), plain.has("fingerprint")) == ("RTP/AVP", False, False)


async def test_srtp_by_sdes(dialog: Dialog) -> None:
    secure = await dialog.offer("f", "t", transport_protocol="RTP/SAVP", dtls="off")
    assert (secure.protocol, secure.has("crypto"), secure.has("fingerprint")) == ("RTP/SAVP", True, False)
    crypto = "a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
    plain = await dialog.answer("f", "t", sdp(5000, crypto, protocol="RTP/SAVP"))
    assert (plain.protocol, plain.has("crypto")) == ("RTP/AVP", False)


async def test_the_profile_of_a_receiver_may_change_and_its_port_stays(dialog: Dialog) -> None:
    first = await dialog.offer("f", "t", transport_protocol="RTP/AVP")
    second = await dialog.offer("f", "t", transport_protocol="RTP/SAVP", dtls="off")
    assert (second.protocol, second.port) == ("RTP/SAVP", first.port)


async def test_offers_and_answers_take_the_same_flags_as_lists_or_tuples(client: Client) -> None:
    for number, kind in enumerate((tuple, list)):
        command = Offer(call_id=f"kind-{number}", from_tag="f", sdp=sdp(), flags=kind(LATCH), replace=kind(REPLACE))
        assert seen((await client.request(command)).sdp).origin == PUB
