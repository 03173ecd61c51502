"""Commands become the dictionaries rtpengine 10.5 wants."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

import ng_protocol
from ng_protocol import commands as c
from ng_protocol.codec import decode_untrusted, encode

ALL = [
    value
    for value in vars(c).values()
    if isinstance(value, type) and issubclass(value, c.Command) and not value.__name__.startswith("_")
    if value is not c.Command
]

COMMANDS_OF_10_5 = {
    "ping", "offer", "answer", "delete", "query", "list", "statistics", "start recording", "stop recording",
    "start forwarding", "stop forwarding", "block media", "unblock media", "block DTMF", "unblock DTMF",
    "silence media", "unsilence media", "play media", "stop media", "play DTMF", "publish", "subscribe request",
    "subscribe answer", "unsubscribe",
}  # fmt: skip


def test_every_command_of_10_5_is_there_and_exported() -> None:
    assert {command.name() for command in ALL} == COMMANDS_OF_10_5
    assert {command.__name__ for command in ALL} <= set(ng_protocol.__all__)


def test_defaults_are_not_sent() -> None:
    assert c.Ping().to_wire() == {"command": "ping"}
    assert c.Offer(call_id="c", from_tag="f", sdp=b"v=0").to_wire() == {
        "command": "offer",
        "call-id": "c",
        "from-tag": "f",
        "sdp": b"v=0",
    }


def test_zero_is_sent() -> None:
    assert c.Delete(call_id="c", delete_delay=0).to_wire()["delete-delay"] == 0
    assert c.ListCalls(limit=0).to_wire()["limit"] == 0


def test_every_offer_field_under_its_wire_name() -> None:
    offer = c.Offer(
        call_id="c", from_tag="f", to_tag="t", sdp=b"v=0", via_branch="b", label="l", set_label="s",
        flags=["trust-address"], replace=["origin"], direction=["pub", "lan"], interface="pub",
        received_from=["IP4", "192.0.2.1"], media_address="192.0.2.2", address_family="IP4",
        transport_protocol="RTP/AVP", ice="remove", ice_lite="off", dtls="off", dtls_reverse="passive",
        dtls_fingerprint="SHA-256", sdes=["off"], osrtp=["offer"], rtcp_mux=["demux"], codec={"strip": ["opus"]},
        ptime=20, ptime_reverse=30, t38=["decode"], supports=["load limit"], record_call="yes", metadata="m",
        endpoint_learning=["heuristic"], delay_buffer=10, drop_traffic="start", media_echo="both",
        generate_rtcp="on", tos=184, xmlrpc_callback="192.0.2.3", dtmf_security="drop",
    )  # fmt: skip
    assert offer.to_wire() == {
        "command": "offer", "call-id": "c", "from-tag": "f", "to-tag": "t", "sdp": b"v=0", "via-branch": "b",
        "label": "l", "set-label": "s", "flags": ["trust-address"], "replace": ["origin"],
        "direction": ["pub", "lan"], "interface": "pub", "received-from": ["IP4", "192.0.2.1"],
        "media-address": "192.0.2.2", "address-family": "IP4", "transport-protocol": "RTP/AVP", "ICE": "remove",
        "ICE-lite": "off", "DTLS": "off", "DTLS-reverse": "passive", "DTLS-fingerprint": "SHA-256",
        "SDES": ["off"], "OSRTP": ["offer"], "rtcp-mux": ["demux"], "codec": {"strip": ["opus"]}, "ptime": 20,
        "ptime-reverse": 30, "T.38": ["decode"], "supports": ["load limit"], "record-call": "yes", "metadata": "m",
        "endpoint-learning": ["heuristic"], "delay-buffer": 10, "drop-traffic": "start", "media-echo": "both",
        "generate-RTCP": "on", "TOS": 184, "xmlrpc-callback": "192.0.2.3", "DTMF-security": "drop",
    }  # fmt: skip
    unset = [name for name in c.Offer.__struct_fields__ if name != "extra" and getattr(offer, name) in (None, (), {})]
    assert not unset, "a new field belongs into this test"


def test_extra_is_merged_and_wins() -> None:
    offer = c.Offer(call_id="c", flags=["a"], extra={"via-branch": "auto", "flags": ["b"]})
    assert offer.to_wire() == {"command": "offer", "call-id": "c", "flags": ["b"], "via-branch": "auto"}
    assert c.Ping(extra={"x": [1]}).to_wire() == {"command": "ping", "x": [1]}


def test_tuples_and_lists_are_the_same_on_the_wire() -> None:
    one = encode(c.Offer(call_id="c", flags=("a", "b")).to_wire())
    assert one == encode(c.Offer(call_id="c", flags=["a", "b"]).to_wire())
    assert decode_untrusted(one)["flags"] == [b"a", b"b"]


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name())
def test_every_command_encodes(command: type[c.Command[Any]]) -> None:
    required: dict[str, Any] = {"call_id": "c", "to_tag": "t", "code": "1"}
    kwargs = {name: required[name] for name in command.__struct_fields__ if name in required}
    wire = decode_untrusted(encode(command(**kwargs).to_wire()))
    assert wire["command"] == command.name().encode()
    assert all("_" not in key for key in wire)


def test_commands_are_frozen() -> None:
    with pytest.raises(AttributeError):
        c.Ping().extra = {}  # type: ignore[misc]
    assert msgspec.structs.replace(c.Offer(call_id="a"), call_id="b").call_id == "b"
    assert not dataclasses.is_dataclass(c.Offer)
