"""The judge: each finding holds on what it should and fails on what it should not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import trio

from lab.call import Call
from lab.rtp import PACKET_SECONDS, Heard, Hearing
from lab.scenario import Failed, Findings, within
from lab.topology import EDGE_PUBLIC

RTPENGINE = (EDGE_PUBLIC, 30000)


def call(
    *spans: tuple[float, float, int], source: tuple[str, int] = RTPENGINE, origins: list[tuple[str, int]] | None = None
) -> Call:
    """A call that heard `tone` from `start` to `end` for each span."""
    hearing, sequence = Hearing(), 0
    for start, end, tone in spans:
        for n in range(round((end - start) / PACKET_SECONDS)):
            sequence += 1
            hearing.packets.append(Heard(start + n * PACKET_SECONDS, source, 7, sequence, 0, tone))
    port = SimpleNamespace(hearing=hearing, tone=440, sent=0)
    return cast(Call, SimpleNamespace(port=port, hearing=hearing, origins=origins or []))


def heard(of: Call) -> list[str]:
    see = Findings()
    see.heard("caller", of, 620, 10.0, 12.0)
    return see.problems


def test_heard() -> None:
    assert heard(call((10.0, 12.0, 620))) == []
    assert heard(call((10.1, 12.0, 620))) == []
    [problem] = heard(call((10.0, 11.0, 620)))
    assert problem.startswith("caller heard 620 Hz for 0.8")
    assert "of 1.85 s (received 4" in problem
    [problem] = heard(call((10.0, 12.0, 440)))
    assert "0.00 s of 1.85 s (received 9" in problem
    assert "440 Hz; sent 0" in problem
    assert "received 0 packets: nothing" in heard(call())[0]


def test_media_past_rtpengine_is_a_problem() -> None:
    [problem] = heard(call((10.0, 12.0, 620), source=("203.0.113.9", 20000)))
    assert problem == "caller got media past rtpengine, from 203.0.113.9:20000"


def test_media_may_come_from_any_of_the_nodes() -> None:
    see = Findings(media_addresses=frozenset({"198.51.100.2", "198.51.100.3"}))
    for node in ("198.51.100.2", "198.51.100.3"):
        see.heard("caller", call((10.0, 12.0, 620), source=(node, 30_000)), 620, 10.0, 12.0)
    assert see.problems == []
    see.heard("caller", call((10.0, 12.0, 620)), 620, 10.0, 12.0)
    assert see.problems == ["caller got media past rtpengine, from 198.51.100.1:30000"]


def test_which_node_it_comes_from() -> None:
    see = Findings()
    one = call((10.0, 12.0, 620), source=("198.51.100.2", 30_000))
    see.from_node("caller", one, "198.51.100.2", 10.0, 12.0, "before")
    assert see.problems == []
    see.from_node("caller", one, "198.51.100.3", 10.0, 12.0, "after")
    see.from_node("caller", one, "198.51.100.3", 12.5, 13.0, "later")
    assert see.problems == [
        "caller's RTP after comes from 198.51.100.2, not 198.51.100.3",
        "caller's RTP later comes from nowhere, not 198.51.100.3",
    ]


def test_silent() -> None:
    see = Findings()
    see.silent("caller", call((9.0, 10.1, 620), (12.0, 13.0, 620)), 10.0, 12.0, "while held")
    assert see.problems == []
    see.silent("caller", call((11.0, 11.1, 620)), 10.0, 12.0, "while held")
    assert see.problems == ["caller received 5 packets while held (received 5 packets: 620 Hz; sent 0)"]


def test_once() -> None:
    see = Findings()
    see.once("caller", call((10.0, 11.0, 620)))
    assert see.problems == []
    twice = call((10.0, 11.0, 620))
    twice.hearing.packets.append(twice.hearing.packets[0])
    see.once("caller", twice)
    see.once("caller", call((10.0, 10.1, 440)))
    assert see.problems == [
        "caller received 1 packets more than once: media is relayed twice",
        "caller heard its own tone for 0.10 s: media loops",
    ]


def test_one_origin() -> None:
    see = Findings()
    see.one_origin("caller", call(origins=[("7", 1), ("7", 1), ("7", 4)]))
    assert see.problems == []
    see.one_origin("caller", call(origins=[("7", 1), ("8", 2)]))
    see.one_origin("caller", call(origins=[("7", 2), ("7", 1)]))
    assert see.problems == ["caller saw the o= session id change: 7, 8", "caller saw the o= version fall: [2, 1]"]


def test_equal() -> None:
    see = Findings()
    see.equal("status", 486, 486)
    see.equal("status", 480, 486)
    assert see.problems == ["status: got 480, expected 486"]


async def test_within(autojump_clock: trio.testing.MockClock) -> None:
    event = trio.Event()
    with pytest.raises(Failed, match=r"it never came \(waited 5 s\)"):
        await within(event.wait, 5.0, "it never came")
    assert trio.current_time() == 5.0
    event.set()
    await within(event.wait, 5.0, "it never came")


def test_limits_of_time_count_only_where_time_does() -> None:
    timed, told = Findings(), Findings(timed=False)
    for see in (timed, told):
        see.in_time(True, "never said")
        see.in_time(False, "too late")
    assert timed.problems == ["too late"]
    assert (told.problems, told.notes) == ([], ["not judged here: too late"])
