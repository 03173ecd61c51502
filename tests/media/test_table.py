"""Media addresses and who they belong to."""

from __future__ import annotations

import pytest

from proxy.media.session import Party, Rendition, Session
from proxy.media.table import MediaTable, addresses
from tests.media.ladder import alice


def party(session: Session, name: str, **options: object) -> Party:
    return Party(session, name, session.new_tag(f"leg-{name}"), **options)  # type: ignore[arg-type]


@pytest.fixture
def session() -> Session:
    return Session("edge1-1", direct=False, created=0.0, created_epoch=1000.0)


@pytest.mark.parametrize(
    ("sdp", "expected"),
    [
        (b"c=IN IP4 1.2.3.4\r\nm=audio 10 RTP/AVP 0\r\n", [(b"1.2.3.4", b"10")]),
        (
            b"c=IN IP4 1.2.3.4\nm=audio 10 RTP/AVP 0\nm=video 12/2 RTP/AVP 9\n",
            [(b"1.2.3.4", b"10"), (b"1.2.3.4", b"12")],
        ),
        (b"c=IN IP4 1.2.3.4\r\nm=audio 0 RTP/AVP 0\r\nm=video 12 RTP/AVP 9\r\nc=IN IP6 ::2\r\n", [(b"::2", b"12")]),
        (b"c=IN IP4 0.0.0.0\r\nm=audio 10 RTP/AVP 0\r\n", []),
        (b"m=audio 10 RTP/AVP 0\r\nc=IN IP4 224.2.1.1/127\r\n", [(b"224.2.1.1", b"10")]),
        (b"c=IN IP4 1.2.3.4\r\n", []),
        (b"", []),
    ],
)
def test_addresses(sdp: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert list(addresses(sdp)) == expected


def rendition(author: Party, sdp: bytes) -> Rendition:
    return Rendition(author, author, sdp, sdp, sdp, "rtp", None)


def test_entries_live_as_long_as_their_session(session: Session) -> None:
    table = MediaTable()
    table.add(session)
    one = rendition(party(session, "A"), alice())
    table.record(one)
    table.record(one)
    assert table.find(addresses(alice())) is one and table.address_count == 1 and len(table) == 1
    other = Session("edge1-2", direct=False, created=0.0, created_epoch=0.0)
    two = rendition(party(other, "A"), alice())
    table.add(other)
    table.record(two)
    assert table.find(addresses(alice())) is two
    table.drop(other)
    assert table.find(addresses(alice())) is one
    table.drop(session)
    table.drop(session)
    assert table.find(addresses(alice())) is None and table.address_count == 0 and len(table) == 0
