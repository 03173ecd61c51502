"""The stand-in B2BUA comes up where it should; which kinds there are."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from lab import switch, topology
from lab.switch import Kind
from lab.topology import Shape


@pytest.mark.real
async def test_the_stand_in_comes_up(tmp_path: Path) -> None:
    with trio.fail_after(20):
        async with (
            topology.build(Shape(b2buas=2)) as network,
            switch.switch(network, tmp_path, Kind.STAND_IN) as one,
            switch.switch(network, tmp_path, Kind.STAND_IN, 1) as two,
        ):
            assert (one.address, two.address) == (("10.20.0.2", 5060), ("10.20.0.3", 5060))
            assert await one.answers()
            assert await two.answers()


def test_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "freeswitch_binary", lambda: None)
    assert switch.kinds() == [Kind.STAND_IN]
    monkeypatch.setattr(switch, "freeswitch_binary", lambda: "/usr/bin/freeswitch")
    assert switch.kinds() == [Kind.FREESWITCH, Kind.STAND_IN]
