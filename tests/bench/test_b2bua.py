"""The bench's B2BUA, message by message: two dialogs, one SDP, nothing sent twice without being counted."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from lab.bench.b2bua import ADDRESS, HERE, Switch, Totals, read
from lab.bench.processes import BenchError, Daemon

SDP = b"v=0\r\no=- 1 1 IN IP4 198.51.100.2\r\n"
ANSWER = b"v=0\r\no=- 2 2 IN IP4 198.51.100.2\r\n"


def message(first: str, body: bytes = b"", **headers: str) -> bytes:
    """A message from the edge; values with a line break are header lines of their own."""
    given = {"Via": "SIP/2.0/UDP 127.0.0.3:5080;branch=z9hG4bKe", "From": "<sip:caller@127.0.0.8:5060>;tag=a1"}
    given |= {"To": "<sip:service@127.0.0.2:5060>", "Call-ID": "1@127.0.0.8", "CSeq": "1 INVITE"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {line}" for name, value in given.items() for line in value.split("\n")]
    return "\r\n".join([first, *lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


ROUTES = "<sip:127.0.0.3:5080;r2=on;lr>\n<sip:127.0.0.2;r2=on;lr>"
INVITE = message(
    "INVITE sip:b2bua-service@127.0.0.7:5060 SIP/2.0", SDP, Record_Route=ROUTES, Contact="<sip:caller@127.0.0.8:5060>"
)
ON_B = {"Call_ID": "B-1@127.0.0.8", "From": "<sip:caller@127.0.0.8:5060>;tag=fb1"}
TO_B = "<sip:service@127.0.0.3:5080>;tag=b1"
CALLEE = "<sip:callee@127.0.0.9:5060>"


def header(data: bytes, name: str) -> list[str]:
    head = data.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return [line[len(name) + 2 :] for line in head if line.startswith(f"{name}: ")]


def up(switch: Switch) -> tuple[bytes, bytes]:
    """A call answered: ACK for leg B and 200 for leg A."""
    switch.received(INVITE)
    switch.received(message("SIP/2.0 180 Ringing", To=TO_B, **ON_B))
    ok = message("SIP/2.0 200 OK", ANSWER, To=TO_B, Record_Route=ROUTES.replace("\n", ", "), Contact=CALLEE, **ON_B)
    ack, answer = switch.received(ok)
    return ack, answer


def test_an_invite_makes_a_second_dialog_with_the_same_sdp() -> None:
    trying, leg_b = Switch().received(INVITE)
    assert trying.startswith(b"SIP/2.0 100 Trying\r\n")
    assert leg_b.startswith(b"INVITE sip:service@127.0.0.3:5080 SIP/2.0\r\n")
    assert header(leg_b, "Call-ID") == ["B-1@127.0.0.8"]
    assert header(leg_b, "From") == ["<sip:caller@127.0.0.8:5060>;tag=fb1"]
    assert len(header(leg_b, "X-PGPX")[0]) == 36
    assert not header(leg_b, "Record-Route"), "leg B is a dialog of its own"
    assert leg_b.endswith(b"\r\n\r\n" + SDP)
    assert header(leg_b, "Content-Length") == [str(len(SDP))]


def test_ringing_goes_back_with_leg_as_headers() -> None:
    switch = Switch()
    switch.received(INVITE)
    (ringing,) = switch.received(message("SIP/2.0 180 Ringing", To=TO_B, **ON_B))
    assert ringing.startswith(b"SIP/2.0 180 Ringing\r\n")
    assert header(ringing, "Call-ID") == ["1@127.0.0.8"]
    assert header(ringing, "To") == ["<sip:service@127.0.0.2:5060>;tag=fa1"]
    assert header(ringing, "Record-Route") == ROUTES.split("\n")


def test_the_answer_is_acknowledged_and_passed_on() -> None:
    ack, answer = up(Switch())
    assert ack.startswith(b"ACK sip:callee@127.0.0.9:5060 SIP/2.0\r\n")
    assert header(ack, "Route") == ROUTES.split("\n")[::-1], "the route set of a caller is Record-Route upside down"
    assert (header(ack, "Call-ID"), header(ack, "To"), header(ack, "CSeq")) == (["B-1@127.0.0.8"], [TO_B], ["1 ACK"])
    assert answer.startswith(b"SIP/2.0 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n" + ANSWER)
    assert header(answer, "Contact") == [f"<sip:b2bua@{HERE.decode()}>"]


def test_the_caller_hangs_up() -> None:
    switch = Switch()
    up(switch)
    assert switch.received(message("ACK sip:b2bua@127.0.0.7:5060 SIP/2.0", CSeq="1 ACK")) == []
    ok, bye = switch.received(message("BYE sip:b2bua@127.0.0.7:5060 SIP/2.0", CSeq="2 BYE"))
    assert ok.startswith(b"SIP/2.0 200 OK\r\n")
    assert bye.startswith(b"BYE sip:callee@127.0.0.9:5060 SIP/2.0\r\n")
    assert header(bye, "Call-ID") == ["B-1@127.0.0.8"]
    assert switch.received(message("SIP/2.0 200 OK", CSeq="2 BYE", To=TO_B, **ON_B)) == []
    assert switch.totals == Totals(calls=1, ended=1)
    assert not switch.bridges


def test_the_callee_hangs_up() -> None:
    switch = Switch()
    up(switch)
    ok, bye = switch.received(message("BYE sip:b2bua@127.0.0.7:5060 SIP/2.0", CSeq="1 BYE", **ON_B))
    assert ok.startswith(b"SIP/2.0 200 OK\r\n")
    assert bye.startswith(b"BYE sip:caller@127.0.0.8:5060 SIP/2.0\r\n")
    assert header(bye, "Route") == ROUTES.split("\n")
    assert header(bye, "From") == ["<sip:service@127.0.0.2:5060>;tag=fa1"]
    assert header(bye, "To") == ["<sip:caller@127.0.0.8:5060>;tag=a1"]
    assert header(bye, "Call-ID") == ["1@127.0.0.8"]


def test_a_probe_is_answered() -> None:
    (ok,) = Switch().received(message("OPTIONS sip:127.0.0.7:5060 SIP/2.0", CSeq="1 OPTIONS"))
    assert ok.startswith(b"SIP/2.0 200 OK\r\n")
    assert header(ok, "To") == ["<sip:service@127.0.0.2:5060>;tag=o"]


def test_what_comes_again_is_answered_again_and_counted() -> None:
    switch = Switch()
    _, answer = up(switch)
    assert switch.received(INVITE) == [answer]
    ok = message("SIP/2.0 200 OK", ANSWER, To=TO_B, Record_Route=ROUTES, Contact=CALLEE, **ON_B)
    assert switch.received(ok)[0].startswith(b"ACK ")
    bye = message("BYE sip:b2bua@127.0.0.7:5060 SIP/2.0", CSeq="2 BYE")
    switch.received(bye)
    assert switch.received(bye)[0].startswith(b"SIP/2.0 200 OK\r\n")
    switch.received(message("SIP/2.0 200 OK", CSeq="2 BYE", To=TO_B, **ON_B))
    assert switch.received(bye)[0].startswith(b"SIP/2.0 200 OK\r\n")
    assert switch.totals == Totals(calls=1, ended=1, retransmissions=4)


def test_what_it_does_not_expect_is_told() -> None:
    switch = Switch()
    switch.received(INVITE)
    switch.received(message("SIP/2.0 503 Service Unavailable", To=TO_B, **ON_B))
    assert (switch.totals.unexpected, switch.totals.examples) == (1, ["SIP/2.0 503 Service Unavailable"])
    assert "1 messages it did not expect ['SIP/2.0 503" in switch.totals.complaint(1)


def test_totals_prove_or_complain() -> None:
    assert Totals(calls=5, ended=5).complaint(5) == ""
    assert Totals(calls=5, ended=4).complaint(5).startswith("the B2BUA saw 5 calls begin and 4 end of 5")
    assert Totals(calls=5, ended=5).complaint(6)


def test_it_serves_until_told_to_stop_and_leaves_its_totals(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "totals.json"
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c"]
    inner = f"ip link set lo up && exec {sys.executable} -m lab.bench.b2bua {file}"
    if subprocess.run([*command[:-2], "true"], capture_output=True).returncode:
        command = ["sh", "-c"]
        inner = f"exec {sys.executable} -m lab.bench.b2bua {file}"
    env = {**os.environ, "PYTHONPATH": str(repository)}
    with Daemon("B2BUA", [*command, inner], tmp_path / "log", tmp_path, env) as daemon:
        table = Path(f"/proc/{daemon.pid}/net/udp")
        wanted = f"{int.from_bytes(bytes(map(int, ADDRESS[0].split('.'))), 'little'):08X}:{ADDRESS[1]:04X}"
        while wanted not in table.read_text():
            daemon.check()
        daemon.stop(signal.SIGTERM)
    assert json.loads(file.read_text()) == asdict(Totals())
    assert read(file) == Totals()


def test_totals_that_were_not_written_are_told(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"the B2BUA left no totals in .*none\.json"):
        read(tmp_path / "none.json")
