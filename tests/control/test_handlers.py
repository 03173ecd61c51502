"""The backend: sessions as the anchor keeps them, a node that answers, refuses, forgets or is gone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mediactl import cli
from ng_protocol import Answer, Client, Offer, open_client
from proxy.control import handlers, schema
from proxy.control.handlers import ProxyBackend, callee_of, caller_of, describe, hold_of, roles, session_info, uri
from proxy.control.server import ControlServer
from proxy.media.anchor import Anchor
from proxy.media.policy import Policy
from proxy.media.pool import Pool
from proxy.media.sampler import Sample, Sampler, SamplerConfig
from proxy.media.session import Leg, Party, Session
from tests.fake_rtpengine import FakeNode, fake_node

EPOCH = 1_700_000_000.0


def sdp(port: int, direction: str = "sendrecv", host: str = "10.0.0.9") -> bytes:
    return (
        f"v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 8 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        f"a={direction}\r\n"
    ).encode()


def add_leg(session: Session, name: str, call_id: bytes, port: int = 4000, *, fs: bool = True) -> Leg:
    phone = Party(session, name, f"leg-{name}", original=sdp(port))
    leg = Leg(session, name, call_id, b"tag", phone)
    if fs:
        leg.fs = Party(session, f"F{name}", f"leg-F{name}", is_freeswitch=True)
    leg.caller, leg.callee_uri = b'"Al \xff" <sip:1000@example.test>;tag=x', b"sip:2000@example.test"
    session.legs.append(leg)
    return leg


def make_session(session_id: str = "edge1-0123456789abcdef", node: str = "node1") -> Session:
    """A confirmed call through the B2BUA: legs A and B."""
    session = Session(session_id, direct=False, created=100.0, created_epoch=EPOCH)
    session.node = node
    session.state = "confirmed"
    for name, call_id, port in (("A", b"call-a@phone", 4000), ("B", b"uuid-b", 5000)):
        add_leg(session, name, call_id, port).confirmed = True
    session.note(EPOCH + 1, "leg A confirmed")
    return session


@dataclass
class Bench:
    """A backend over a list of sessions and one fake node."""

    node: FakeNode
    client: Client
    sessions: list[Session] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sampler = Sampler(lambda: self.sessions, describe, {"node1": self.client}, SamplerConfig(first=1.0))
        self.backend = ProxyBackend(
            "edge1", "1.2.3", lambda: self.sessions, {"node1": self.client}, self.sampler, lambda: {"calls": 9}
        )

    async def anchor(self, session: Session) -> None:
        """Make the call on the node as the proxy would."""
        self.sessions.append(session)
        tags = {"call_id": session.id, "from_tag": "leg-A", "to_tag": "leg-B"}
        await self.client.request(Offer(**tags, sdp=sdp(4000)))
        await self.client.request(Answer(**tags, sdp=sdp(5000)))


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    async with fake_node() as node, open_client(node.address, name="node1") as client:
        yield Bench(node, client)


async def test_a_session_in_the_list(autojump_clock: MockClock) -> None:
    session = make_session()
    session.sample = Sample(140.0, EPOCH, (50, 49), (0.1, 0.2), ["PCMA/8000"])
    session.legs[0].phone.received = ("203.0.113.9", 5060)
    info = session_info(session, 143.5)
    assert info.id == session.id and info.state == "confirmed" and info.node == "node1"
    assert info.call_ids == ["call-a@phone", "uuid-b"]
    assert (info.caller, info.callee) == ("sip:1000@example.test", "sip:2000@example.test")
    assert (info.created, info.age_s) == (EPOCH, 43.5)
    assert (info.packets.caller, info.packets.callee, info.sample_age_s) == (50, 49, 3.5)
    assert info.codecs == ["PCMA/8000"] and info.hold == "" and not info.lost
    assert [(leg.name, leg.party, leg.media, leg.received) for leg in info.legs] == [
        ("A", "leg-A", "10.0.0.9:4000", "203.0.113.9:5060"),
        ("B", "leg-B", "10.0.0.9:5000", None),
    ]


def test_a_session_never_sampled_has_the_codec_of_its_sdp() -> None:
    info = session_info(make_session(), 143.5)
    assert info.sample_age_s is None and info.packets == schema.Packets() and info.codecs == ["PCMA/8000"]


def test_a_session_that_was_only_ever_lost_has_no_sample_age() -> None:
    session = make_session()
    session.sample = Sample(140.0, EPOCH, (None, None), (None, None), [], never=True, lost=True)
    info = session_info(session, 143.5)
    assert info.lost and info.sample_age_s is None


def test_a_new_session_without_anything() -> None:
    session = Session("edge1-0", direct=True, created=0.0, created_epoch=EPOCH)
    info = session_info(session, 1.0)
    assert (info.caller, info.callee, info.node, info.codecs, info.legs) == ("", "", "", [], [])
    assert describe(session) is None and roles(session) == {}


@pytest.mark.parametrize(
    ("a", "b", "hold"),
    [
        (sdp(4000), sdp(5000), ""),
        (sdp(4000, "sendonly"), sdp(5000, "recvonly"), "caller"),
        (sdp(4000), sdp(5000, "inactive"), "callee"),
        (sdp(4000, "sendonly"), sdp(5000, host="0.0.0.0"), "both"),
        (None, None, ""),
        (b"a=sendonly, and no SDP", sdp(5000), ""),
    ],
)
def test_hold(a: bytes | None, b: bytes | None, hold: str) -> None:
    session = make_session()
    session.legs[0].phone.original, session.legs[1].phone.original = a, b
    assert hold_of(session) == hold
    subject = describe(session)
    assert subject is not None and subject.talking is (not hold)


def test_what_the_sampler_is_told() -> None:
    session = make_session()
    subject = describe(session)
    assert subject is not None
    assert (subject.node, subject.call_id, subject.caller, subject.callee) == ("node1", session.id, "leg-A", "leg-B")
    assert subject.talking
    session.state = "early"
    early = describe(session)
    assert early is not None and not early.talking
    session.state = "ended"
    assert describe(session) is None
    assert describe(make_session(node="")) is None


def test_the_callee_is_who_answered() -> None:
    session = make_session()
    session.legs[1].confirmed = False
    add_leg(session, "B2", b"uuid-b2").confirmed = True
    add_leg(session, "B3", b"uuid-b3")
    assert callee_of(session) is session.legs[2].phone
    assert roles(session) == {
        "leg-A": ("caller", "A"),
        "leg-B2": ("callee", "B2"),
        "leg-FA": ("freeswitch", "A"),
        "leg-B": ("other", "B"),
        "leg-FB": ("freeswitch", "B"),
        "leg-FB2": ("freeswitch", "B2"),
        "leg-B3": ("other", "B3"),
        "leg-FB3": ("freeswitch", "B3"),
    }
    session.legs[2].confirmed = False
    assert callee_of(session) is session.legs[3].phone, "nobody answered: the one tried last"


def test_a_direct_call_has_both_phones_on_one_leg() -> None:
    session = Session("edge1-0123456789abcdef", direct=True, created=0.0, created_epoch=EPOCH)
    leg = add_leg(session, "A", b"call-a", fs=False)
    assert callee_of(session) is None
    for branch in (b"z1", b"z2"):
        leg.callees[branch] = Party(session, "B", f"leg-{branch.decode()}")
    assert callee_of(session) is leg.callees[b"z2"]
    leg.callee = leg.callees[b"z1"]
    assert callee_of(session) is leg.callee
    assert roles(session) == {"leg-A": ("caller", "A"), "leg-z1": ("callee", "A"), "leg-z2": ("other", "A")}


def test_a_call_that_freeswitch_makes_has_freeswitch_as_caller() -> None:
    session = Session("edge1-0123456789abcdef", direct=False, created=0.0, created_epoch=EPOCH)
    leg = add_leg(session, "B", b"uuid")
    leg.phone_calls = False
    assert caller_of(session) is leg.fs and callee_of(session) is leg.phone


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'"A <b>" <sip:1@x;p=q>;tag=1', "sip:1@x;p=q"),
        (b"<sip:1@x>", "sip:1@x"),
        (b"sip:1@x", "sip:1@x"),
        (b"<sip:1@x", "sip:1@x"),
        (b"", ""),
        (b"<sip:\xff@x>", "sip:\\xff@x"),
    ],
)
def test_uri(value: bytes, text: str) -> None:
    assert uri(value) == text


async def test_show_asks_the_node_now(autojump_clock: MockClock) -> None:
    async with bench() as b:
        await b.anchor(make_session())
        b.node.media(b.sessions[0].id, "leg-A", packets=50)
        b.backend._epoch = lambda: b.node._now() + 2.0
        detail = await b.backend.session("uuid-b")
        assert detail.node_error is None and not detail.session.lost
        assert [(party.role, party.leg) for party in detail.parties] == [("caller", "A"), ("callee", "B")]
        rtp = detail.parties[0].streams[0]
        assert (rtp.packets, rtp.idle_s, rtp.advertised, rtp.component) == (50, 2.0, "10.0.0.9:4000", "RTP")
        assert detail.parties[1].streams[0].idle_s is None
        assert [event.text for event in detail.timeline] == ["leg A confirmed"]


@pytest.mark.parametrize("prefix", ["edge1-0123", "0123456", "call-a", "call-a@phone", "uuid-b"])
async def test_any_id_finds_it(autojump_clock: MockClock, prefix: str) -> None:
    async with bench() as b:
        await b.anchor(make_session())
        assert (await b.backend.session(prefix)).session.id == b.sessions[0].id


async def test_an_unknown_id_asks_no_node(autojump_clock: MockClock) -> None:
    async with bench() as b:
        await b.anchor(make_session())
        with pytest.raises(schema.ControlError, match="no session"):
            await b.backend.session("nope")
        assert b.node.count("query") == 0


async def test_a_call_the_node_forgot_is_lost(autojump_clock: MockClock) -> None:
    async with bench() as b:
        await b.anchor(make_session())
        b.node.restart()
        detail = await b.backend.session("uuid-b")
        assert detail.session.lost and detail.parties == [] and detail.node_error is None


async def test_a_dead_node_leaves_what_the_proxy_knows(autojump_clock: MockClock) -> None:
    async with bench() as b:
        await b.anchor(make_session())
        b.node.pause()
        detail = await b.backend.session("uuid-b")
        assert detail.node_error is not None and "no reply" in detail.node_error and "node1" in detail.node_error
        assert detail.session.legs and detail.timeline


async def test_a_node_that_was_removed(autojump_clock: MockClock) -> None:
    async with bench() as b:
        b.sessions.append(make_session(node="gone"))
        detail = await b.backend.session("uuid-b")
        assert detail.node_error is not None and "gone is not configured" in detail.node_error


async def test_a_session_without_node_is_shown(autojump_clock: MockClock) -> None:
    async with bench() as b:
        b.sessions.append(make_session(node=""))
        detail = await b.backend.session("uuid-b")
        assert detail.node_error is None and detail.parties == [] and not detail.session.lost


async def test_the_list_is_a_snapshot_built_lazily(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    real = session_info
    monkeypatch.setattr(handlers, "session_info", lambda *args: built.append(1) or real(*args))
    async with bench() as b:
        b.sessions.extend(make_session(f"edge1-{n:016x}") for n in range(3))
        listing = b.backend.sessions()
        b.sessions.clear()
        assert built == []
        assert len(list(listing)) == len(built) == 3


async def test_nodes_and_stats_after_some_sampling(autojump_clock: MockClock) -> None:
    async with bench() as b:
        await b.anchor(make_session())
        (before,) = b.backend.nodes()
        assert (before.state, before.sessions, before.node_sessions, before.uptime_s) == ("unknown", 1, None, None)
        async with trio.open_nursery() as nursery:
            await nursery.start(b.sampler.run)
            await trio.sleep(15)
            (up,) = b.backend.nodes()
            b.node.pause()
            await trio.sleep(15)
            (down,) = b.backend.nodes()
            nursery.cancel_scope.cancel()
        assert (up.name, up.state, up.sessions, up.node_sessions) == ("node1", "up", 1, 1)
        assert (up.offers, up.answers, up.deletes, up.errors) == (1, 1, 0, 0)
        assert up.statistics_age_s is not None and up.statistics_age_s <= 10
        assert up.ports_free and up.ports_used and up.rtt_ms is not None and up.failures == 0
        assert down.state == "down" and down.last_error and down.failures
        assert down.node_sessions == 1, "the last known figures stay, with their age"
        assert b.sessions[0].sample is not None
        stats = b.backend.stats()
        assert stats["sessions"] == 1 and stats["calls"] == 9 and stats["sampler_queries"] >= 1


async def test_hello(autojump_clock: MockClock) -> None:
    async with bench() as b:
        await trio.sleep(5)
        hello = b.backend.hello()
        assert (hello.api, hello.version, hello.instance, hello.uptime_s) == (schema.API, "1.2.3", "edge1", 5.0)


def test_sessions_of_the_anchor_are_read_as_it_means_them() -> None:
    """Roles hang on what the anchor notes of a new leg, and short ids on the form of its ids."""
    anchor = Anchor(Pool({}), Policy(), instance="edge1", clock=lambda: 1.0, epoch=lambda: EPOCH)
    common = {"direct": False, "caller": b"<sip:1@x>", "callee": b"<sip:2@x>"}
    phone = anchor.new_leg(b"c1", b"t", "public", ("192.0.2.1", 5060), **common)
    assert caller_of(phone.session) is phone.phone and callee_of(phone.session) is None
    outgoing = anchor.new_leg(b"c2", b"t", "public", ("192.0.2.1", 5060), from_freeswitch=True, **common)
    assert caller_of(outgoing.session) is outgoing.fs and callee_of(outgoing.session) is outgoing.phone
    for session in anchor.sessions:
        info = session_info(session, 2.0)
        assert (info.caller, info.callee, info.state) == ("sip:1@x", "sip:2@x", "early")
        assert schema.short_id(info.id) == info.id.removeprefix("edge1-")
        assert describe(session) is None


async def test_from_the_command_line_to_the_node_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "control.sock")
    async with bench() as b, trio.open_nursery() as nursery:
        await b.anchor(make_session())
        await nursery.start(ControlServer(path, b.backend).run)
        for arguments, part in (
            (["ls"], "call-a@phone  uuid-b"),
            (["show", "0123"], "callee (B)  1  audio RTP"),
            (["nodes"], b.node.address),
            (["stats"], "control_requests"),
            (["version"], "instance edge1"),
        ):
            assert await trio.to_thread.run_sync(cli.main, ["--socket", path, *arguments]) == 0
            assert part in capsys.readouterr().out
        nursery.cancel_scope.cancel()
