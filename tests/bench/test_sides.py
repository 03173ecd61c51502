"""Configurations and command lines of both proxies, and what the node must have counted."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from lab.bench.node import COMMAND, NodeTotals, totals_from
from lab.bench.sides import CONFIG, MODES, NG_FLAGS, Ours, kamailio, missing_programs
from ng_protocol import Statistics


def test_our_configuration_without_and_with_media(tmp_path: Path) -> None:
    command = Ours().command("P2", tmp_path)
    assert list(command) == [sys.executable, "-m", "proxy.app", tmp_path / "proxy.toml"]
    plain = tomllib.loads((tmp_path / "proxy.toml").read_text())
    assert "rtpengine" not in plain
    assert plain["listen"] == [{"name": "public", "side": "public", "address": "127.0.0.2", "port": 5060}]
    assert "media=False" in (tmp_path / "route.py").read_text()
    Ours().command("P3", tmp_path)
    assert tomllib.loads((tmp_path / "proxy.toml").read_text())["rtpengine"][0]["address"] == "127.0.0.1:2223"
    assert "media=True" in (tmp_path / "route.py").read_text()


@pytest.mark.parametrize("mode", MODES)
def test_our_routing_script_is_python(mode: str, tmp_path: Path) -> None:
    Ours().command(mode, tmp_path)
    tree = ast.parse((tmp_path / "route.py").read_text())
    assert [node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef)] == ["route"]


def test_the_control_socket_has_a_short_path(tmp_path: Path) -> None:
    Ours().command("P2", tmp_path)
    assert len(tomllib.loads((tmp_path / "proxy.toml").read_text())["proxy"]["control"]) < 100
    assert "{control}" in CONFIG


def test_a_profiler_goes_before_the_program(tmp_path: Path) -> None:
    command = Ours(wrapper=("-m", "cProfile", "-o", "x")).command("P2", tmp_path)
    assert list(command)[1:6] == ["-m", "cProfile", "-o", "x", "-m"]


@pytest.mark.real
@pytest.mark.parametrize("mode", MODES)
def test_kamailio_is_filled_in_whole(mode: str, tmp_path: Path) -> None:
    command = [str(part) for part in kamailio(4).command(mode, tmp_path)]
    text = (tmp_path / "kamailio.cfg").read_text()
    assert "children=4\n" in text
    assert re.findall(r"@[A-Z]+@", text) == ["@NAME@"], "only the comment's"
    assert "service@127.0.0.9:5060" in text
    assert text.count(NG_FLAGS) == 2
    assert ("WITH_MEDIA" in command) == (mode == "P3")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing_programs(["P2"]) == ["sipp", "kamailio"]
    assert missing_programs(["P2", "P3"]) == ["sipp", "kamailio", "rtpengine"]


def test_the_node_frees_ports_at_once() -> None:
    assert "--delete-delay=0" in COMMAND
    assert {"--port-min=10000", "--port-max=60000"} <= set(COMMAND)


def test_totals_prove_or_complain() -> None:
    assert NodeTotals(5, 5, 5, 0).complaint(5) == ""
    for totals in (NodeTotals(4, 5, 5, 0), NodeTotals(5, 4, 5, 0), NodeTotals(5, 5, 4, 0), NodeTotals(5, 5, 5, 1)):
        assert "for 5 calls" in totals.complaint(5)
    assert NodeTotals(5, 5, 5, 0).complaint(6)


def test_totals_from_a_statistics_reply() -> None:
    control = {
        "proxies": [{"errorcount": 2}, {"errorcount": 1}],
        **{f"total{verb}count": count for verb, count in (("offer", 7), ("answer", 6), ("delete", 5))},
    }
    payload = {"currentstatistics": {}, "totalstatistics": {}, "controlstatistics": control}
    reply = Statistics().parse_untrusted({"result": b"ok", "statistics": payload})
    assert totals_from(reply) == NodeTotals(7, 6, 5, 3)
