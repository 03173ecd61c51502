"""Every recorded FreeSWITCH ladder, replayed through the stand-in B2BUA in virtual time (see lab/b2bua_replay.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from lab.b2bua_config import B2buaConfig, Dialplan
from lab.b2bua_replay import Difference, Replay, load

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
REFER = "REFER is executed by FreeSWITCH itself, with its own media"
SOCKET = "driven by an event socket command"
DIALPLAN = "another dialplan: FreeSWITCH's own media"
TALK = "NOTIFY Event: talk makes FreeSWITCH transfer the call to its own media"
XFAIL = {
    "h_message_options_notify": TALK,
    "h_notify_talk": TALK,
    "h_refer_callee": REFER,
    "h_refer_caller": REFER,
    "h_refer_ok_callee": REFER,
    "h_refer_ok_caller": REFER,
    "h_refer_replaces": REFER,
    "i_bypass_after_bridge": DIALPLAN,
    "i_media_mode": DIALPLAN,
    "i_originate": SOCKET,
    "i_park_after": DIALPLAN,
    "i_proxy_media": DIALPLAN,
    "i_uuid_bridge": SOCKET,
    "i_uuid_broadcast": SOCKET,
    "i_uuid_hold": SOCKET,
    "i_uuid_kill": SOCKET,
    "i_uuid_kill_ringing": SOCKET,
    "i_uuid_media": SOCKET,
    "i_uuid_record": SOCKET,
    "i_uuid_simplify": SOCKET,
    "i_uuid_transfer": SOCKET,
}
SCENARIOS = sorted(path.relative_to(DATA) for path in DATA.glob("*/*.txt.gz"))


def scenario(path: Path) -> ParameterSet:
    """One recording as a test case; those out of scope must fail, for the reason in the id."""
    name = path.name.removesuffix(".txt.gz")
    reason = XFAIL.get(name)
    if reason is None:
        return pytest.param(path, id=f"{path.parent}/{name}")
    marks = pytest.mark.xfail(reason=reason, strict=True, raises=Difference)
    return pytest.param(path, id=f"{path.parent}/{name}-OUT-OF-SCOPE-{reason}", marks=marks)


def replay(path: Path) -> Replay:
    """The replay of one recording with the settings of its directory."""
    config = B2buaConfig(host="10.99.0.3", plans=PLANS, **SETTINGS[path.parent.name])  # type: ignore[arg-type]
    icmp = [("10.99.0.7", 5080)] if path.name.startswith("g_icmp") else []
    return Replay(load(DATA / path), config, icmp=icmp, tolerance=0.6 if path.name.startswith("g_noanswer") else 0.1)


def test_all_recordings_are_there() -> None:
    names = {path.name.removesuffix(".txt.gz") for path in SCENARIOS}
    assert len(SCENARIOS) == 99
    assert set(XFAIL) <= names


@pytest.mark.parametrize("path", [scenario(path) for path in SCENARIOS])
def test_recording(path: Path) -> None:
    run = replay(path)
    run.run()
    assert run.pairs == sum(item.sent for item in run.recording)


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("Supported: timer, path, replaces", "Supported: timer", "Supported"),
        ("SIP/2.0 180 Ringing", "SIP/2.0 183 Session Progress", "ours is SIP/2.0 180"),
        ("CSeq: 123156500 BYE", "CSeq: 123156501 BYE", "CSeq"),
        ("Content-Disposition: session\n", "", "headers"),
        (";tag=6a66eX85Dv87H", ";tag=another", "To"),
    ],
)
def test_a_changed_recording_is_noticed(old: str, new: str, told: str) -> None:
    """The comparison can fail: one altered line in what FreeSWITCH sent is reported."""
    path = Path("v1.10.12/a_plain_caller_bye.txt.gz")
    run = replay(path)
    changed = [item for item in run.recording if item.sent and old in item.head]
    assert changed
    changed[-1].head = changed[-1].head.replace(old, new)
    again = replay(path)
    with pytest.raises(Difference, match=told):
        type(again)(run.recording, again.config).run()


def test_a_changed_body_is_noticed() -> None:
    run = replay(Path("v1.10.12/e_hold_both.txt.gz"))
    changed = next(item for item in reversed(run.recording) if item.sent and b"a=sendonly" in item.body)
    changed.body = changed.body.replace(b"a=sendonly", b"a=sendrecv")
    with pytest.raises(Difference, match="body"):
        Replay(run.recording, run.config).run()


def test_a_missing_message_is_noticed() -> None:
    run = replay(Path("v1.10.12/a_plain_caller_bye.txt.gz"))
    kept = [item for item in run.recording if item.number != 23]
    with pytest.raises(Difference, match="unexpected at"):
        Replay(kept, run.config).run()
