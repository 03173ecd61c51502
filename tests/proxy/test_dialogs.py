"""CSeq and RAck translation, as a table: what the sender writes, what we spend, what the receiver sees."""

from __future__ import annotations

import pytest

from proxy.dialogs import CSeqMap, Dialog, Dialogs, Side, dialog_key
from proxy.flow import Listener
from proxy.sip.message import H, Request
from proxy.sip.parser import parse_untrusted

# Steps: a number is a request of the sender, "own" one of ours; expected is what the receiver sees in each case.
TABLE = [
    ("nothing of ours: unchanged", [1, 2, 3], [1, 2, 3]),
    ("big first number", [123156499, 123156500], [123156499, 123156500]),
    ("gaps stay", [1, 5, 9], [1, 5, 9]),
    ("retransmission and ACK get the same", [7, 7, 7], [7, 7, 7]),
    ("own takes the next, later ones shift", [2, "own", 3, 4], [2, 3, 4, 5]),
    ("FreeSWITCH reuses exactly the number we spent", [123158250, "own", 123158251], [123158250, 123158251, 123158252]),
    ("ACK of an INVITE that passed before our own", [2, "own", 2], [2, 3, 2]),
    ("two of ours in a row", [2, "own", "own", 3], [2, 3, 4, 5]),
    ("two re-anchors with traffic between", [2, "own", 3, "own", 4, 3], [2, 3, 4, 5, 6, 4]),
    ("a gap of the sender swallows the shift of nothing", [2, "own", 10], [2, 3, 11]),
    ("own before the sender ever sent", ["own", 1, 2], [1, 2, 3]),
    ("own before the sender ever sent, big number", ["own", 101, 102], [1, 101, 102]),
    ("retransmission after a shift", [2, "own", 3, 3, 3], [2, 3, 4, 4, 4]),
]


@pytest.mark.parametrize(("steps", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_outgoing(steps: list[object], expected: list[int]) -> None:
    numbers = CSeqMap()
    seen = [numbers.own() if step == "own" else numbers.outgoing(step) for step in steps if isinstance(step, int | str)]
    assert seen == expected


@pytest.mark.parametrize(("steps", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_incoming_undoes_outgoing(steps: list[object], expected: list[int]) -> None:
    numbers = CSeqMap()
    for step in steps:
        if isinstance(step, int):
            assert numbers.incoming(numbers.outgoing(step)) == step
        else:
            numbers.own()


@pytest.mark.parametrize("steps", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_no_number_is_used_for_two_requests(steps: list[object]) -> None:
    """A number the receiver sees belongs to one request only, ours or the sender's."""
    numbers = CSeqMap()
    owner: dict[int, object] = {}
    for at, step in enumerate(steps):
        if step == "own":
            seen, who = numbers.own(), ("own", at)
        else:
            assert isinstance(step, int)
            seen, who = numbers.outgoing(step), ("sender", step)
        assert owner.setdefault(seen, who) == who


def request(method: str, cseq: int, rack: bytes = b"") -> Request:
    text = (
        b"%s sip:x@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK1\r\n"
        b"From: <sip:a@x>;tag=a\r\nTo: <sip:b@x>;tag=b\r\n"
        b"Call-ID: c\r\nCSeq: %d %s\r\n" % (method.encode(), cseq, method.encode())
    )
    made = parse_untrusted(text + (b"RAck: " + rack + b"\r\n" if rack else b"") + b"\r\n")
    assert isinstance(made, Request)
    return made


def dialog() -> Dialog:
    listener = Listener("public", "198.51.100.1", 5060)
    return Dialog(b"c", Side(b"a", b"<sip:a@x>;tag=a", listener), Side(b"b", b"<sip:b@x>;tag=b", listener))


def test_untouched_bytes_while_nothing_is_shifted() -> None:
    passing = request("INVITE", 5)
    before = passing.to_bytes()
    dialog().translate(passing, True)
    assert passing.to_bytes() == before


def test_rack_follows_its_invite() -> None:
    """RFC 3262 7.2: RAck names the INVITE's CSeq, so it shifts with it."""
    here = dialog()
    here.translate(request("INVITE", 1), True)
    here.down.own()
    invite, prack = request("INVITE", 2), request("PRACK", 3, b"776656 2 INVITE")
    here.translate(invite, True)
    here.translate(prack, True)
    assert invite.get(H.CSEQ) == b"3 INVITE"
    assert prack.get(H.CSEQ) == b"4 PRACK"
    assert prack.get(H.RACK) == b"776656 3 INVITE"


def test_rack_of_an_invite_before_the_shift_stays() -> None:
    here = dialog()
    here.translate(request("INVITE", 1), True)
    here.down.own()
    prack = request("PRACK", 2, b"1 1 INVITE")
    here.translate(prack, True)
    assert prack.get(H.RACK) == b"1 1 INVITE"


@pytest.mark.parametrize("rack", [b"", b"1", b"1 x INVITE", b"1 2 3 4"])
def test_a_bad_rack_passes_as_it_is(rack: bytes) -> None:
    here = dialog()
    here.down.own()
    prack = request("PRACK", 2, rack)
    here.translate(prack, True)
    assert prack.get(H.RACK) == (rack or None)


def test_directions_are_apart() -> None:
    here = dialog()
    here.translate(request("INVITE", 1), True)
    here.down.own()
    answer = request("INVITE", 1)
    here.translate(answer, False)
    assert answer.get(H.CSEQ) == b"1 INVITE"


def test_index_finds_both_directions_and_forgets() -> None:
    dialogs = Dialogs()
    here = dialog()
    dialogs.add(here)
    forth = request("BYE", 9)
    assert dialogs.find(forth) is here
    back = parse_untrusted(
        forth.to_bytes().replace(b"tag=a", b"tag=q").replace(b"tag=b", b"tag=a").replace(b"tag=q", b"tag=b")
    )
    assert dialogs.find(back) is here
    assert (here.from_caller(forth), isinstance(back, Request) and here.from_caller(back)) == (True, False)
    assert dialogs.get(b"c", b"a") is here
    assert dialog_key(b"c", b"a") == here.key
    dialogs.remove(here)
    assert dialogs.find(forth) is None and len(dialogs) == 0 and here.ended
