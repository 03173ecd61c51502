"""The stand-in B2BUA comes up where it should; which kinds there are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from lab import switch, topology
from lab.namespace import LabError
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


@pytest.mark.real
async def test_freeswitch_comes_up_and_is_freeswitch(tmp_path: Path) -> None:
    if switch.freeswitch_binary() is None:
        with pytest.raises(LabError, match="there is no freeswitch binary on this machine"):
            async with topology.build(Shape()) as network, switch.switch(network, tmp_path, Kind.FREESWITCH):
                pass
        return
    with trio.fail_after(40):
        async with topology.build(Shape()) as network, switch.switch(network, tmp_path, Kind.FREESWITCH) as running:
            assert os.readlink(f"/proc/{running.daemon.pid}/exe").endswith("/freeswitch")
            assert await running.answers()


@pytest.mark.real
async def test_a_kind_that_runs_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict must not say FreeSWITCH when the stand-in was running."""
    monkeypatch.setattr(switch, "_freeswitch", lambda _home, address: switch._stand_in(address))
    with trio.fail_after(20):
        async with topology.build(Shape()) as network:
            with pytest.raises(LabError, match=r"fs1 should be the freeswitch but runs .*python"):
                async with switch.switch(network, tmp_path, Kind.FREESWITCH):
                    pytest.fail("the stand-in passed for FreeSWITCH")


def test_the_example_configuration_gets_this_networks_addresses() -> None:
    example = (switch.EXAMPLE / "vars.xml").read_text()
    text = switch.with_values(example, "10.20.0.3")
    assert 'data="fs_ip=10.20.0.3"' in text
    assert 'data="edge_port=5080"' in text
    assert 'data="edge_cidr=10.20.0.1/32"' in text
    with pytest.raises(LabError, match="sets fs_ip 0 times, not once"):
        switch.with_values(example.replace("fs_ip", "renamed"), "10.20.0.3")


def test_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "freeswitch_binary", lambda: None)
    assert switch.kinds() == [Kind.STAND_IN]
    monkeypatch.setattr(switch, "freeswitch_binary", lambda: "/usr/bin/freeswitch")
    assert switch.kinds() == [Kind.FREESWITCH, Kind.STAND_IN]
