"""Tables: cells, columns, ids, and what a stranger's bytes must not do to a terminal."""

import pytest

from mediactl import views
from proxy.control import schema


def info(session_id: str = "edge1-0123456789abcdef", **changes: object) -> schema.SessionInfo:
    fields: dict[str, object] = {
        "id": session_id,
        "state": "confirmed",
        "call_ids": ["a-very-long-call-id@10.0.0.1", "b-uuid"],
        "caller": "sip:1000@example.test",
        "callee": "sips:+4930123456@carrier.test;transport=tls",
        "node": "node1",
        "created": 1000.0,
        "age_s": 125.9,
        "codecs": ["PCMA/8000"],
        "packets": schema.Packets(caller=1502, callee=1498),
        "sample_age_s": 3.2,
    }
    return schema.SessionInfo(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0s"),
        (-3, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (125, "2m05s"),
        (3600, "1h00m"),
        (86399, "23h59m"),
        (86400 * 4 + 3 * 3600, "4d03h"),
    ],
)
def test_span(seconds: float | None, text: str) -> None:
    assert views.span(seconds) == text


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("sip:1000@example.test", "1000"),
        ("SIPS:+49@x;transport=tls", "+49"),
        ("sip:example.test;lr", "example.test"),
        ("sip:@example.test", "@example.test"),
        ("tel:+4930", "tel:+4930"),
        ("leg-A", "leg-A"),
        ("", ""),
    ],
)
def test_party_name(address: str, name: str) -> None:
    assert views.party_name(address) == name


def test_the_table_of_sessions() -> None:
    lines = views.sessions_view([info()]).splitlines()
    assert lines[0].split() == (
        ["ID", "STATE", "CALLER", "CALLEE", "NODE", "AGE", "CODECS", "PACKETS", "a>/b>", "SAMPLE", "CALL-IDS"]
    )
    assert lines[1].split() == [
        "01234567", "confirmed", "1000", "+4930123456", "node1", "2m05s", "PCMA", "1502/1498", "3s",
        "a-very-long…", "b-uuid",
    ]  # fmt: skip
    assert len(lines) == 2


def test_wide_shows_everything() -> None:
    wide = views.sessions_view([info(hold="callee")], wide=True)
    for text in ("HOLD", "edge1-0123456789abcdef", "a-very-long-call-id@10.0.0.1", "carrier.test;transport=tls"):
        assert text in wide
    assert "…" not in wide


def test_what_was_never_learned_is_a_dash() -> None:
    row = views.sessions_view([info(codecs=[], packets=schema.Packets(), sample_age_s=None, node="", caller="")])
    assert row.splitlines()[1].split()[2:9] == ["-", "+4930123456", "-", "2m05s", "-", "-/-", "-"]


@pytest.mark.parametrize(
    ("changes", "state"),
    [({}, "confirmed"), ({"hold": "both"}, "confirmed hold"), ({"lost": True, "hold": "caller"}, "lost")],
)
def test_the_state_shows_what_is_urgent(changes: dict[str, object], state: str) -> None:
    assert views.state(info(**changes)) == state


def test_a_codec_chain() -> None:
    assert views.codecs(info(codecs=["opus/48000", "PCMA/8000"])) == "opus/48000>PCMA"


def test_an_empty_table_has_its_titles() -> None:
    assert views.sessions_view([]).split()[:2] == ["ID", "STATE"]
    assert views.nodes_view([]).split()[0] == "NODE"


def test_the_newest_session_is_last() -> None:
    rows = views.sessions_view([info("edge1-bbbbbbbb11", created=2.0), info("edge1-aaaaaaaa11", created=1.0)])
    assert [line.split()[0] for line in rows.splitlines()[1:]] == ["aaaaaaaa", "bbbbbbbb"]


def test_short_ids_are_as_long_as_they_must_be() -> None:
    assert views.short_ids([]) == []
    assert views.short_ids(["edge1-0123456789ab"]) == ["01234567"]
    assert views.short_ids(["e-0123456789ab", "e-012345678fff", "e-999999999999"]) == [
        "0123456789",
        "012345678f",
        "9999999999",
    ]
    assert views.short_ids(["one-0123456789", "two-0123456789"]) == ["0123456789"] * 2, "no endless search"


def test_each_cell_is_computed_once_however_many_rows() -> None:
    """The cost of a listing is rows times columns, nothing more."""
    calls = 0

    def cell(row: int) -> str:
        nonlocal calls
        calls += 1
        return str(row)

    columns = [views.Column("A", cell), views.Column("B", cell, right=True), views.Column("C", cell, wide=True)]
    text = views.table(columns, range(10_000))
    assert calls == 20_000
    assert len(text.splitlines()) == 10_001


def test_numbers_stand_right_and_stay_as_they_are() -> None:
    columns = [views.Column[str]("TEXT", str), views.Column[str]("NUMBER", str, right=True)]
    assert views.table(columns, ["1e5", "007"]).splitlines() == ["TEXT  NUMBER", "1e5      1e5", "007      007"]


@pytest.mark.parametrize("nasty", ["\x1b[2J", "a\nb", "\x07", "\u202etxt", "\x9b31m", "\r", "\ud800"])
def test_no_strangers_bytes_reach_the_terminal(nasty: str) -> None:
    evil = info(caller=nasty, callee=f"sip:{nasty}@x", call_ids=[nasty], codecs=[nasty], node=nasty, state=nasty)
    stream = schema.StreamDetail(
        media=1, kind=nasty, component="RTP", protocol="", local=nasty, learned=nasty, advertised=nasty, packets=0,
        bytes=0, errors=0, idle_s=None, codec=nasty, crypto=nasty, flags=[nasty],
    )  # fmt: skip
    leg = schema.LegInfo(name=nasty, call_id=nasty, party=nasty, media=nasty)
    detail = schema.SessionDetail(
        session=info(caller=nasty, legs=[leg]),
        queried=0.0,
        parties=[schema.PartyDetail(tag=nasty, role="caller", streams=[stream])],
        timeline=[schema.Event(at=0.0, text=nasty)],
        node_error=nasty,
    )
    node = schema.NodeInfo(name=nasty, address=nasty, state=nasty, last_error=nasty)
    shown = [
        views.sessions_view([evil]),
        views.sessions_view([evil], wide=True),
        views.detail_view(detail, nasty, wide=True),
        views.nodes_view([node]),
        views.stats_view({nasty: 1}),
    ]
    for text in shown:
        assert all(line.isprintable() for line in text.split("\n")), text
    assert len(shown[0].split("\n")) == 2 and len(shown[4].split("\n")) == 1


def test_printable_keeps_ordinary_text_of_any_language() -> None:
    assert views.printable("Jörg 日本 …") == "Jörg 日本 …"
    assert views.printable("a\x1bb") == "a\\x1bb"


def test_nodes_view() -> None:
    nodes = [
        schema.NodeInfo(name="node1", address="127.0.0.1:2223", state="up", sessions=3, node_sessions=4, rtt_ms=0.71,
                        uptime_s=90.0, ports_free=100, ports_used=12, offers=3, answers=2, deletes=1, errors=0,
                        failures=0, statistics_age_s=4.0, admin="draining", owed=2, canary="heard"),
        schema.NodeInfo(name="node2", address="127.0.0.1:2224", state="down", last_error="no reply: start it",
                        why="nothing listens"),
    ]  # fmt: skip
    lines = views.nodes_view(nodes).splitlines()
    assert lines[1].split() == [
        "node1",
        "127.0.0.1:2223",
        "up",
        "draining",
        "3",
        "4",
        "2",
        "heard",
        "0.7",
        "1m30s",
        "100",
        "12",
        "3",
        "2",
        "1",
        "0",
        "0",
        "4s",
    ]
    assert lines[2].split() == ["node2", "127.0.0.1:2224", "down", *["-"] * 15]
    assert lines[3:] == ["node2 is down: nothing listens", "node2: no reply: start it"]


def test_stats_view() -> None:
    assert views.stats_view({"b": 2, "aaa": 1.25}) == "aaa  1.2\nb    2"
    assert views.stats_view({}) == ""


def test_detail_view_has_every_part() -> None:
    stream = schema.StreamDetail(
        media=1, kind="audio", component="RTP", protocol="RTP/AVP", local="192.0.2.1:30000", learned="203.0.113.9:4000",
        advertised="10.0.0.9:4000", packets=50, bytes=8600, errors=0, idle_s=0.4, codec="PCMA/8000", crypto=None,
        flags=["send", "recv"],
    )  # fmt: skip
    leg = schema.LegInfo(
        name="A", call_id="call-a", party="leg-A", profile="rtp", interface="pub", media="10.0.0.9:4000",
        received="203.0.113.9:5060",
    )  # fmt: skip
    detail = schema.SessionDetail(
        session=info(legs=[leg]),
        queried=0.0,
        parties=[schema.PartyDetail(tag="leg-A", role="caller", leg="A", streams=[stream])],
        timeline=[schema.Event(at=0.5, text="answered")],
    )
    text = views.detail_view(detail, "media flows both ways")
    for part in (
        "session   edge1-0123456789abcdef",
        "leg A     call-a  (rtp, interface pub, SDP 10.0.0.9:4000, received from 203.0.113.9:5060, tag leg-A)",
        "caller (A)  1  audio RTP  192.0.2.1:30000  10.0.0.9:4000  203.0.113.9:4000",
        ".500  answered",
        "verdict: media flows both ways",
    ):
        assert part in text, text
    assert "TAG" not in text and "TAG" in views.detail_view(detail, None, wide=True)
