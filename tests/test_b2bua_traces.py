"""Every recorded FreeSWITCH ladder, replayed through the stand-in B2BUA in virtual time (see lab/b2bua_replay.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.b2bua_config import B2buaConfig, Dialplan
from lab.b2bua_replay import Replay, load

DATA = Path(__file__).parent / "data" / "freeswitch"
PLANS = {
    "b2bua-": Dialplan(),
    "to5-": Dialplan(call_timeout=5),
    "copy-": Dialplan(copy_headers=True),
    "unset-": Dialplan(copy_headers=True),
}
SETTINGS: dict[str, dict[str, object]] = {
    "v1.10.12": {},
    "v1.10.12-3pcc-proxy": {"three_pcc_proxy": True},
    "v1.10.12-sendto-noport": {"edge_port": 0},
    "v1.10.12-callid-as-uuid": {"callid_as_uuid": True},
}
XFAIL: dict[str, str] = {}
SCENARIOS = sorted(path.relative_to(DATA) for path in DATA.glob("*/*.txt.gz"))


def replay(path: Path) -> Replay:
    """The replay of one recording with the settings of its directory."""
    config = B2buaConfig(host="10.99.0.3", plans=PLANS, **SETTINGS[path.parent.name])  # type: ignore[arg-type]
    icmp = [("10.99.0.7", 5080)] if path.name.startswith("g_icmp") else []
    return Replay(load(DATA / path), config, icmp=icmp, tolerance=0.6 if path.name.startswith("g_noanswer") else 0.1)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path).removesuffix(".txt.gz"))
def test_recording(path: Path) -> None:
    run = replay(path)
    run.run()
    assert run.pairs == sum(item.sent for item in run.recording)
