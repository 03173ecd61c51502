"""Origin lines, tags, turns, and what operators see."""

from __future__ import annotations

import random

import pytest

from proxy.media.session import OriginKeeper, Party, Session, direction_of, without_origin
from tests.media.ladder import alice, origin


def party(session: Session, name: str, **options: object) -> Party:
    return Party(session, name, session.new_tag(f"leg-{name}"), **options)  # type: ignore[arg-type]


@pytest.fixture
def session() -> Session:
    return Session("edge1-1", direct=False, created=0.0, created_epoch=1000.0)


def test_origin_rises_only_with_what_it_describes() -> None:
    keeper = OriginKeeper(99)
    first = keeper.stamp(alice())
    assert origin(first) == (b"99", 1) and without_origin(first) == without_origin(alice())
    assert first.split(b"\r\n")[1] == b"o=- 99 1 IN IP4 127.0.0.8"
    assert keeper.stamp(alice(version=7)) == first, "another o= is nothing new"
    assert origin(keeper.stamp(alice("sendonly"))) == (b"99", 2)
    assert origin(keeper.stamp(alice())) == (b"99", 3), "back again is a change too"


def test_origin_of_odd_descriptions() -> None:
    assert OriginKeeper(5).stamp(b"v=0\r\ns=-\r\n") == b"v=0\r\ns=-\r\n"
    assert OriginKeeper(5).stamp(b"v=0\no=x 1 1 IN IP4 1.2.3.4\ns=-\n") == b"v=0\no=- 5 1 IN IP4 1.2.3.4\ns=-\n"
    assert without_origin(b"v=0\r\no=x") == b"v=0\r\n"


def test_directions() -> None:
    assert [direction_of(alice(way)) for way in ("sendrecv", "sendonly", "recvonly", "inactive")] == [
        "sendrecv", "sendonly", "recvonly", "inactive",
    ]  # fmt: skip
    assert direction_of(b"v=0\r\nm=audio x\r\na=sendonly\r\n") == "sendrecv", "unreadable: nothing is said"


def test_tags_and_names_are_never_reused(session: Session) -> None:
    session.rng = random.Random(1)
    assert [session.new_tag("leg-B") for _ in range(3)] == ["leg-B", "leg-B.2", "leg-B.3"]
    assert [session.new_name("B") for _ in range(3)] == ["B", "B2", "B3"]
    session.free_name("B")
    assert session.new_name("B") == "B"


def test_the_timeline_is_bounded(session: Session) -> None:
    for number in range(200):
        session.note(float(number), f"event {number}")
    assert len(session.timeline) == 64 and session.timeline[-1] == (199.0, "event 199")


def test_views_of_a_session_without_media(session: Session) -> None:
    assert (session.codecs, session.holding, session.caller, session.call_ids, session.bridged) == (
        [],
        [],
        b"",
        [],
        False,
    )
    assert party(session, "A").media_address == "" == party(session, "C").received_address


def test_turns_are_handed_over_in_order(session: Session) -> None:
    told: list[str] = []

    def one() -> None:
        told.append("one")

    def two() -> None:
        told.append("two")

    assert session.take_turn() and not session.take_turn()
    session.await_turn(one)
    session.await_turn(two)
    session.leave_turn()
    assert told == ["one"] and session.in_flight
    session.abandon_turn(one)
    assert told == ["one", "two"], "who gives up with the turn in hand passes it on"
    session.leave_turn()
    assert not session.in_flight


def test_a_waiter_that_gives_up_leaves_the_line(session: Session) -> None:
    told: list[str] = []

    def one() -> None:
        told.append("one")

    assert session.take_turn()
    session.await_turn(one)
    session.abandon_turn(one)
    session.leave_turn()
    assert told == [] and session.take_turn()
