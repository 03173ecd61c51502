"""How a FreeSWITCH is found, told about its network, and named in the header."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from lab import runner, switch, topology
from lab.namespace import LabError
from lab.switch import EXAMPLE, Kind, configure, variables
from lab.topology import Shape

VERSION = "FreeSWITCH version: 1.10.12-release~64bit ( 64bit)"


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    """Put a `freeswitch` in front of PATH that prints `says`."""
    program = folder / "freeswitch"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("says", "version"),
    [
        (VERSION, "1.10.12-release"),
        ("FreeSWITCH version: 1.11.2+git~20260101T000000Z~abc~64bit (git abc 64bit)", "1.11.2+git"),
        ("FreeSWITCH version: 1.11.3-dev (64bit)", "1.11.3-dev"),
        ("what?", "unknown version"),
    ],
)
def test_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, version: str) -> None:
    pretend(tmp_path, monkeypatch, says)
    assert switch.freeswitch_version() == version
    assert switch.kinds() == [Kind.FREESWITCH, Kind.STAND_IN]
    assert f"B2BUA FreeSWITCH {version};" in runner.header([Kind.FREESWITCH])


def test_without_a_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "freeswitch_binary", lambda: None)
    assert switch.freeswitch_version() is None
    assert switch.kinds() == [Kind.STAND_IN]
    assert "no freeswitch binary here" in runner.header([Kind.STAND_IN])


def told(folder: Path) -> dict[str, str]:
    """The variables of the configuration in `folder`."""
    return dict(re.findall(r'cmd="set" data="(\w+)=([^"]*)"', (folder / "vars.xml").read_text()))


def test_only_the_variables_change(tmp_path: Path) -> None:
    configure(tmp_path / "conf", variables("10.20.0.3"))
    assert told(tmp_path / "conf") == variables("10.20.0.3")
    names = {file.relative_to(EXAMPLE) for file in EXAMPLE.rglob("*") if file.is_file()}
    assert {file.relative_to(tmp_path / "conf") for file in (tmp_path / "conf").rglob("*") if file.is_file()} == names
    for name in names - {Path("vars.xml")}:
        assert (tmp_path / "conf" / name).read_bytes() == (EXAMPLE / name).read_bytes()


def test_a_variable_the_lab_does_not_know(tmp_path: Path) -> None:
    values: dict[str, Any] = variables("10.20.0.2")
    del values["edge_port"]
    with pytest.raises(LabError, match="edge_port"):
        configure(tmp_path / "conf", values)


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
    monkeypatch.setattr(switch, "_freeswitch", lambda address, _home: switch._stand_in(address))
    with trio.fail_after(20):
        async with topology.build(Shape()) as network:
            with pytest.raises(LabError, match=r"fs1 should be the freeswitch but runs .*python"):
                async with switch.switch(network, tmp_path, Kind.FREESWITCH):
                    pytest.fail("the stand-in passed for FreeSWITCH")


async def test_a_path_freeswitch_would_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "freeswitch_binary", lambda: "/usr/bin/freeswitch")
    with pytest.raises(LabError, match=r"cannot read its configuration from .*run\[1\]"):
        switch._freeswitch(("10.20.0.2", 5060), tmp_path / "run[1]")
