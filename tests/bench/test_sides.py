"""Configurations and command lines of both proxies, and what the node must have counted."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lab.bench.build import Build
from lab.bench.modes import MODES
from lab.bench.node import COMMAND, NodeTotals, totals_from
from lab.bench.sides import CONFIG, NG_FLAGS, Ours, kamailio, missing_programs
from ng_protocol import Statistics


def ours(mode: str, folder: Path) -> dict[str, Any]:
    """Our configuration for a mode."""
    command = Ours().command(MODES[mode], folder)
    assert list(command) == [sys.executable, "-P", "-m", "proxy.app", folder / "proxy.toml"]
    return tomllib.loads((folder / "proxy.toml").read_text())


def test_our_configuration_without_and_with_media(tmp_path: Path) -> None:
    plain = ours("P2", tmp_path)
    assert "rtpengine" not in plain
    assert plain["listen"] == [{"name": "public", "side": "public", "address": "127.0.0.2", "port": 5060}]
    assert "media=False" in (tmp_path / "route.py").read_text()
    assert ours("P3", tmp_path)["rtpengine"][0]["address"] == "127.0.0.1:2223"
    assert "media=True" in (tmp_path / "route.py").read_text()


def test_our_configuration_for_the_talks_call(tmp_path: Path) -> None:
    talk = ours("P4", tmp_path)
    assert [listener["side"] for listener in talk["listen"]] == ["public", "lan"]
    assert talk["freeswitch"] == [{"name": "b2bua", "address": "127.0.0.7", "port": 5060, "prefix": "b2bua-"}]
    assert talk["users"] == [{"name": "service", "uri": "sip:service@127.0.0.9:5060"}]
    assert talk["rtpengine"]
    assert "route" not in talk["proxy"], "the built-in routing is what is measured"


@pytest.mark.parametrize("mode", MODES)
def test_our_routing_script_is_python(mode: str, tmp_path: Path) -> None:
    if "route" not in ours(mode, tmp_path)["proxy"]:
        assert MODES[mode].switch
        return
    tree = ast.parse((tmp_path / "route.py").read_text())
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert function.name == "route"
    assert isinstance(function, ast.FunctionDef) == MODES[mode].stateless, "a plain function makes the proxy stateless"


def test_who_owes_the_node_what() -> None:
    owed = {name: (Ours().anchors(mode), kamailio(1).anchors(mode)) for name, mode in MODES.items()}
    none = (0, 0)
    assert owed == {"P1": none, "P1_500": none, "P2": none, "P3": (1, 1), "P4": (1, 2), "P8": none}


def test_our_build_is_what_runs(tmp_path: Path) -> None:
    assert Ours(build=Build(tmp_path)).environment()["PYTHONPATH"] == str(tmp_path)
    assert kamailio(1).environment() is None


def test_the_control_socket_has_a_short_path(tmp_path: Path) -> None:
    Ours().command(MODES["P2"], tmp_path)
    assert len(tomllib.loads((tmp_path / "proxy.toml").read_text())["proxy"]["control"]) < 100
    assert "{control}" in CONFIG


def test_a_profiler_goes_before_the_program(tmp_path: Path) -> None:
    command = Ours(wrapper=("-m", "cProfile", "-o", "x")).command(MODES["P2"], tmp_path)
    assert list(command)[1:7] == ["-P", "-m", "cProfile", "-o", "x", "-m"]


@pytest.mark.real
@pytest.mark.parametrize("mode", MODES)
def test_kamailio_is_filled_in_whole_and_understands_it(mode: str, tmp_path: Path) -> None:
    command = [str(part) for part in kamailio(4).command(MODES[mode], tmp_path)]
    text = (tmp_path / "kamailio.cfg").read_text()
    assert "children=4\n" in text
    assert re.findall(r"@[A-Z]+@", text) == ["@NAME@"], "only the comment's"
    assert "service@127.0.0.9:5060" in text
    assert ("WITH_MEDIA" in command) == MODES[mode].media
    if MODES[mode].media:
        assert text.count(f'("{NG_FLAGS}")') == (3 if MODES[mode].switch else 2)
    checked = subprocess.run([command[0], "-c", *command[1:]], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing_programs([MODES["P2"]]) == ["sipp", "kamailio"]
    assert missing_programs([MODES["P2"], MODES["P4"]]) == ["sipp", "kamailio", "rtpengine"]


def test_the_node_frees_ports_at_once() -> None:
    assert "--delete-delay=0" in COMMAND
    assert {"--port-min=10000", "--port-max=60000"} <= set(COMMAND)


def test_totals_prove_or_complain() -> None:
    assert NodeTotals(5, 5, 5, 0).complaint(5) == ""
    for totals in (NodeTotals(4, 5, 5, 0), NodeTotals(5, 4, 5, 0), NodeTotals(5, 5, 4, 0), NodeTotals(5, 5, 5, 1)):
        assert "for 5 calls" in totals.complaint(5)
    assert NodeTotals(5, 5, 5, 0).complaint(6)
    assert NodeTotals(10, 10, 10, 0).complaint(5, anchors=2) == ""
    assert NodeTotals(6, 6, 7, 1) - NodeTotals(1, 1, 2, 1) == NodeTotals(5, 5, 5, 0)
    assert "with 2 anchors each" in NodeTotals(5, 5, 5, 0).complaint(5, anchors=2)


def test_totals_from_a_statistics_reply() -> None:
    control = {
        "proxies": [{"errorcount": 2}, {"errorcount": 1}],
        **{f"total{verb}count": count for verb, count in (("offer", 7), ("answer", 6), ("delete", 5))},
    }
    payload = {"currentstatistics": {}, "totalstatistics": {}, "controlstatistics": control}
    reply = Statistics().parse_untrusted({"result": b"ok", "statistics": payload})
    assert totals_from(reply) == NodeTotals(7, 6, 5, 3)
