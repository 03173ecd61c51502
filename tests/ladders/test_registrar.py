"""Registrations, and calls to whoever registered: NAT, several contacts, expiry, removal."""

from __future__ import annotations

from tests.ladder import Ladder
from tests.world import World

AOR = """
            To: <sip:2000@example.test>
            From: <sip:2000@example.test>;tag=r
"""


async def test_register_call_expire(direct: World) -> None:
    direct.party("phone", ("192.0.2.20", 40112), contact=("192.168.1.7", 5060))
    ladder = Ladder(direct)
    await ladder.play("""
        phone -> edge     REGISTER sip:example.test  [R]""" + AOR + """
            Expires: 60
        edge -> phone     200 OK  [R]
            Contact: <sip:phone@192.168.1.7>;expires=60
        caller -> edge    MESSAGE sip:2000@example.test
        edge -> phone     MESSAGE sip:phone@192.168.1.7
        phone -> edge     200 OK
        edge -> caller    200 OK
        ... 59 s
        caller -> edge    MESSAGE sip:2000@example.test  [B]
        edge -> phone     MESSAGE sip:phone@192.168.1.7  [B]
        phone -> edge     200 OK  [B]
        edge -> caller    200 OK  [B]
        ... 2 s
        caller -> edge    MESSAGE sip:2000@example.test  [C]
        edge -> caller    403 Caller may not use the carrier  [C]
    """)  # fmt: skip
    assert len(direct.edge.location) == 0
    await direct.over()


async def test_refresh_query_and_removal(direct: World) -> None:
    direct.party("phone", ("192.0.2.20", 5060))
    direct.party("desk", ("192.0.2.21", 5060))
    ladder = Ladder(direct)
    await ladder.play("""
        phone -> edge     REGISTER sip:example.test  [R]""" + AOR + """
        edge -> phone     200 OK  [R]
            Contact: <sip:phone@192.0.2.20>;expires=3600
        ... 10 s
        desk -> edge      REGISTER sip:example.test  [D]""" + AOR + """
        edge -> desk      200 OK  [D]
            Contact: <sip:phone@192.0.2.20>;expires=3590
            Contact: <sip:desk@192.0.2.21>;expires=3600
        phone -> edge     REGISTER sip:example.test  [R]""" + AOR + """
            Expires: 120
        edge -> phone     200 OK  [R]
            Contact: <sip:phone@192.0.2.20>;expires=120
            Contact: <sip:desk@192.0.2.21>;expires=3600
        desk -> edge      REGISTER sip:example.test  [D]""" + AOR + """
            -Contact
        edge -> desk      200 OK  [D]
            Contact: <sip:phone@192.0.2.20>;expires=120
            Contact: <sip:desk@192.0.2.21>;expires=3600
        phone -> edge     REGISTER sip:example.test  [R]""" + AOR + """
            Contact: *
            Expires: 0
        edge -> phone     200 OK  [R]
            -Contact
        caller -> edge    MESSAGE sip:2000@example.test
        edge -> caller    403 *
    """)  # fmt: skip
    await direct.over()


async def test_registrations_that_are_refused(direct: World) -> None:
    ladder = Ladder(direct)
    await ladder.play("""
        caller -> edge    REGISTER sip:other.test  [A]""" + AOR + """
        edge -> caller    403 *  [A]
        caller -> edge    REGISTER sip:example.test  [B]""" + AOR + """
            Expires: 10
        edge -> caller    423 Interval Too Brief  [B]
            Min-Expires: 60
        caller -> edge    REGISTER sip:example.test  [C]""" + AOR + """
            Require: outbound
        edge -> caller    420 Bad Extension  [C]
            Unsupported: outbound
        caller -> edge    REGISTER sip:example.test  [D]""" + AOR + """
            Contact: not a contact <
        edge -> caller    400 *  [D]
        caller -> edge    REGISTER sip:example.test  [E]""" + AOR + """
            Max-Forwards: 0
        edge -> caller    483 Too Many Hops  [E]
    """)  # fmt: skip
    assert len(direct.edge.location) == 0
    await direct.over()


async def test_a_retransmitted_register_is_answered_by_its_transaction(direct: World) -> None:
    ladder = Ladder(direct)
    await ladder.play("""
        caller -> edge    REGISTER sip:example.test""" + AOR + """
        edge -> caller    200 OK
            Contact: <sip:caller@203.0.113.8>;expires=3600
    """)  # fmt: skip
    direct.inject("caller", direct.parties["caller"].calls[ladder.names["A"]].sent["REGISTER"].encode())
    await ladder.play("edge -> caller    200 OK")
    assert direct.stats["retransmissions_absorbed"] == 1
    await direct.over()
