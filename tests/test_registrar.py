"""The registrar, rule by rule of RFC 3261 section 10.3; every refusal leaves the table as it was."""

from dataclasses import dataclass, field

import pytest

from proxy.config import RegistrarConfig
from proxy.location import Location
from proxy.registrar import Registrar
from proxy.sip.message import H, Request, Response
from proxy.sip.parser import parse_untrusted

PHONE = ("203.0.113.9", 5060)
CONTACT = b"<sip:1000@203.0.113.9>"
DEFAULTS = RegistrarConfig()


@dataclass
class Listener:
    name: str = "public"


@dataclass
class Source:
    addr: tuple[str, int] = PHONE
    listener: Listener = field(default_factory=Listener)


class Edge:
    """A registrar and a clock; ``register`` sends a REGISTER and returns the response."""

    def __init__(self, config: RegistrarConfig = DEFAULTS) -> None:
        self.location = Location()
        hosts = [b"example.test", b"198.51.100.1", b"2001:db8::1"]
        self.registrar = Registrar(self.location, hosts, config, tag=lambda: b"t1")
        self.now = 1000.0
        self.cseq = 0

    def register(
        self,
        *contacts: bytes,
        expires: int | bytes | None = None,
        to: bytes = b"<sip:1000@example.test>",
        uri: bytes = b"sip:example.test",
        call_id: bytes = b"c1",
        cseq: int | None = None,
        via: bytes = b"203.0.113.9:5060;rport",
        source: tuple[str, int] = PHONE,
        extra: tuple[bytes, ...] = (),
    ) -> Response:
        self.cseq += 1
        lines = [
            b"REGISTER %b SIP/2.0" % uri,
            b"Via: SIP/2.0/UDP %b;branch=z9hG4bK-%d" % (via, self.cseq),
            b"From: %b;tag=f1" % to,
            b"To: " + to,
            b"Call-ID: " + call_id,
            b"CSeq: %d REGISTER" % (self.cseq if cseq is None else cseq),
            *(b"Contact: " + contact for contact in contacts),
            *extra,
        ]
        if expires is not None:
            lines.append(b"Expires: %b" % (expires if isinstance(expires, bytes) else b"%d" % expires))
        request = parse_untrusted(b"\r\n".join([*lines, b"Content-Length: 0", b"", b""]))
        assert isinstance(request, Request)
        return self.registrar.handle(request, Source(source), self.now)

    def contacts(self, aor: bytes = b"1000") -> list[bytes]:
        return [binding.contact.raw for binding in self.location.of(aor, self.now)]


def given(response: Response) -> list[bytes]:
    assert response.code == 200, response.reason
    return response.values(H.CONTACT)


def refused(response: Response) -> tuple[int, bytes]:
    return response.code, response.reason


def test_register_fetch_and_expire() -> None:
    edge = Edge()
    reply = edge.register(CONTACT, expires=600)
    assert given(reply) == [b"<sip:1000@203.0.113.9>;expires=600"]
    assert reply.get(H.TO) == b"<sip:1000@example.test>;tag=t1"
    edge.now += 100.5
    assert given(edge.register()) == [b"<sip:1000@203.0.113.9>;expires=500"], "no Contact: a question, rounded up"
    edge.now += 500
    assert given(edge.register()) == []


def test_the_reply_survives_the_wire() -> None:
    edge = Edge()
    reply = parse_untrusted(edge.register(CONTACT, expires=600).to_bytes())
    assert isinstance(reply, Response)
    assert given(reply) == [b"<sip:1000@203.0.113.9>;expires=600"]
    assert reply.cseq_method == "REGISTER"


@pytest.mark.parametrize(
    ("contact", "header", "granted"),
    [
        (CONTACT, None, 3600),  # neither: the default
        (CONTACT, 300, 300),
        (CONTACT + b";expires=120", 300, 120),  # the parameter wins
        (CONTACT, 7200, 3600),  # shortened to the longest
        (CONTACT, 4294967295, 3600),
        (CONTACT, b"soon", 3600),  # malformed: as if absent
        (CONTACT + b";expires=-1", None, 3600),
        (CONTACT + b";expires=99999999999", None, 3600),
        (CONTACT, 60, 60),  # exactly the shortest
    ],
)
def test_time_granted(contact: bytes, header: int | bytes | None, granted: int) -> None:
    edge = Edge()
    assert given(edge.register(contact, expires=header)) == [CONTACT + b";expires=%d" % granted]


def test_too_short_a_time_is_refused_with_the_shortest() -> None:
    edge = Edge()
    for reply in (edge.register(CONTACT, expires=59), edge.register(CONTACT + b";expires=1", expires=600)):
        assert refused(reply) == (423, b"Interval Too Brief")
        assert reply.get(H.MIN_EXPIRES) == b"60"
    assert edge.contacts() == []


def test_unregistering() -> None:
    edge = Edge()
    edge.register(CONTACT, b"<sip:1000@203.0.113.10>")
    assert given(edge.register(CONTACT + b";expires=0")) == [b"<sip:1000@203.0.113.10>;expires=3600"]
    assert given(edge.register(CONTACT, expires=0)) == [b"<sip:1000@203.0.113.10>;expires=3600"], "unknown: no error"
    assert given(edge.register(b"*", expires=0)) == []
    assert given(edge.register(b"*", expires=0)) == []
    assert len(edge.location) == 0


@pytest.mark.parametrize(
    ("contacts", "expires"), [((b"*",), None), ((b"*",), 60), ((b"*",), b"x"), ((b"*", CONTACT), 0), ((b"*", b"*"), 0)]
)
def test_star_stands_alone_and_with_expires_0(contacts: tuple[bytes, ...], expires: int | bytes | None) -> None:
    edge = Edge()
    edge.register(CONTACT)
    assert refused(edge.register(*contacts, expires=expires)) == (
        400,
        b"Contact * stands alone and with Expires: 0 only",
    )
    assert edge.contacts() == [b"sip:1000@203.0.113.9"]


def test_several_contacts_in_one_request_and_their_order() -> None:
    edge = Edge()
    joined = b'"A, B" <sip:1000@203.0.113.9>;q=0.5, sip:1000@203.0.113.10;expires=70, <sip:1000@203.0.113.11>;q=0.9'
    assert given(edge.register(joined, expires=600)) == [
        b"<sip:1000@203.0.113.9>;expires=600;q=0.5",
        b"<sip:1000@203.0.113.10>;expires=70",
        b"<sip:1000@203.0.113.11>;expires=600;q=0.9",
    ]
    looked_up = [b.contact.host for b in edge.location.lookup(b"1000", edge.now)]
    assert looked_up == [b"203.0.113.10", b"203.0.113.11", b"203.0.113.9"]


def test_the_same_contact_is_refreshed_not_doubled() -> None:
    edge = Edge()
    edge.register(b"<sip:1000@phone.example.test:5060>", expires=600)
    edge.now += 300
    # RFC 3261 section 19.1.4: host and scheme in any case, unknown parameters in one only
    assert given(edge.register(b"<SIP:1000@PHONE.example.test:5060;x=1>", expires=600)) == [
        b"<SIP:1000@PHONE.example.test:5060;x=1>;expires=600"
    ]
    assert given(edge.register(b"<sip:1000@phone.example.test>", expires=600))[1:] == [
        b"<sip:1000@phone.example.test>;expires=600"
    ], "a port named and a port not named differ"


def test_two_equal_contacts_in_one_request_count_once() -> None:
    edge = Edge()
    assert given(edge.register(CONTACT + b";expires=100", CONTACT + b";expires=200")) == [CONTACT + b";expires=200"]


def test_equivalence_that_is_not_transitive() -> None:
    edge = Edge()
    edge.register(b"<sip:1000@203.0.113.9>")
    # both are equivalent to the binding, but not to each other: the last one wins, and nothing breaks
    reply = edge.register(b"<sip:1000@203.0.113.9;x=1>;expires=0", b"<sip:1000@203.0.113.9;x=2>;expires=0")
    assert given(reply) == []
    assert len(edge.location) == 0


def test_cseq_has_to_rise_within_a_call_id() -> None:
    edge = Edge()
    edge.register(CONTACT, expires=600, cseq=5)
    late = (500, b"A later REGISTER of this Call-ID was here already: raise the CSeq")
    assert refused(edge.register(CONTACT, expires=0, cseq=4)) == late
    assert refused(edge.register(CONTACT, expires=0, cseq=5)) == late
    assert refused(edge.register(b"*", expires=0, cseq=4)) == late
    assert edge.contacts() == [b"sip:1000@203.0.113.9"]
    assert given(edge.register(CONTACT, expires=700, cseq=6)) == [CONTACT + b";expires=700"]
    assert given(edge.register(CONTACT, expires=800, cseq=1, call_id=b"rebooted")) == [CONTACT + b";expires=800"]
    assert given(edge.register(CONTACT, expires=0, cseq=7)) == [], "another Call-ID than the binding's: carried out"


def test_a_request_is_carried_out_whole_or_not_at_all() -> None:
    edge = Edge()
    edge.register(CONTACT, expires=600, cseq=5)
    fresh = b"<sip:1000@203.0.113.10>"
    assert edge.register(fresh, CONTACT, expires=600, cseq=5).code == 500
    assert edge.register(fresh, CONTACT + b";expires=1", expires=600, cseq=9).code == 423
    assert edge.register(fresh, b"<tel:+49301234>", expires=600, cseq=9).code == 400
    assert edge.register(fresh, b"<sip:>", expires=600, cseq=9).code == 400
    assert edge.contacts() == [b"sip:1000@203.0.113.9"]


def test_domains() -> None:
    edge = Edge()
    for uri in (b"sip:example.test", b"sip:198.51.100.1:5060", b"sip:EXAMPLE.test", b"sip:[2001:db8::1]"):
        assert edge.register(CONTACT, uri=uri, call_id=uri).code == 200
    assert edge.register(CONTACT, to=b"<sip:1000@198.51.100.1>", call_id=b"x").code == 200
    assert edge.contacts() == [b"sip:1000@203.0.113.9"], "one user, whichever of our names was used"
    assert refused(edge.register(CONTACT, uri=b"sip:other.test")) == (
        403,
        b"This registrar does not serve the domain in the Request-URI",
    )
    for to in (b"<sip:1000@other.test>", b"<sip:example.test>", b"<tel:1000>"):
        assert refused(edge.register(CONTACT, to=to)) == (404, b"No such address-of-record in this domain")
    assert edge.register(CONTACT, uri=b"tel:1000").code == 416


def test_the_user_is_unescaped_and_case_sensitive() -> None:
    edge = Edge()
    edge.register(CONTACT, to=b"<sip:j%61ne@example.test>")
    assert edge.contacts(b"jane") == [b"sip:1000@203.0.113.9"]
    assert edge.contacts(b"Jane") == []


def test_limits() -> None:
    edge = Edge(RegistrarConfig(max_contacts=2, max_bindings=3))
    one, two, three = (b"<sip:1000@203.0.113.%d>" % n for n in (1, 2, 3))
    assert edge.register(one, two).code == 200
    assert refused(edge.register(three)) == (403, b"Too many contacts for this user: at most 2")
    assert edge.register(one, two).code == 200, "refreshing is always possible"
    assert edge.register(one + b";expires=0", three).code == 200, "and so is replacing"
    assert edge.register(CONTACT, to=b"<sip:1001@example.test>").code == 200
    full = edge.register(CONTACT, to=b"<sip:1002@example.test>")
    assert refused(full) == (503, b"No room for more registrations")
    assert full.get(H.RETRY_AFTER) == b"60"
    many = b", ".join(b"<sip:1000@203.0.113.9:%d>" % port for port in range(2000, 5000))
    assert edge.register(many).code == 403
    assert len(edge.location) == 3
    edge.now += 3600
    edge.location.tick(edge.now)
    assert edge.register(CONTACT, to=b"<sip:1002@example.test>").code == 200


@pytest.mark.parametrize(
    ("contact", "via", "source", "nat", "address"),
    [
        # no NAT: the contact is where it says
        (b"<sip:1000@203.0.113.9:5062>", b"203.0.113.9:5062", ("203.0.113.9", 5062), False, ("203.0.113.9", 5062)),
        # private contact and Via behind a NAT: back to where it came from
        (b"<sip:1000@192.168.1.7>", b"192.168.1.7", ("203.0.113.9", 40112), True, ("203.0.113.9", 40112)),
        # a Contact repaired by an ALG, but the Via tells
        (b"<sip:1000@203.0.113.9:5060>", b"192.168.1.7", ("203.0.113.9", 40112), True, ("203.0.113.9", 40112)),
        # right address, other port: a NAT that changes ports only
        (b"<sip:1000@203.0.113.9:5060>", b"203.0.113.9:5060", ("203.0.113.9", 1024), True, ("203.0.113.9", 1024)),
        # private contact alone
        (b"<sip:1000@10.0.0.7>", b"203.0.113.9:5060", PHONE, True, PHONE),
        # a browser's contact names no address
        (b"<sip:x@7b3f.invalid;transport=ws>", b"203.0.113.9:5060", PHONE, False, PHONE),
    ],
)
def test_nat(contact: bytes, via: bytes, source: tuple[str, int], nat: bool, address: tuple[str, int]) -> None:
    edge = Edge()
    reply = edge.register(contact, via=via, source=source)
    assert given(reply) == [contact + b";expires=3600"], "the phone sees its contact as it wrote it"
    binding = edge.location.of(b"1000", edge.now)[0]
    assert (binding.nat, binding.address, binding.received, binding.listener) == (nat, address, source, "public")
    assert b"received" not in reply.to_bytes()


def test_a_phone_whose_nat_gives_it_a_new_port_keeps_one_binding() -> None:
    edge = Edge()
    for port in (40112, 40999):
        edge.register(b"<sip:1000@192.168.1.7>", via=b"192.168.1.7", source=("203.0.113.9", port))
    assert [b.address for b in edge.location.of(b"1000", edge.now)] == [("203.0.113.9", 40999)]


def test_path_is_kept_and_repeated() -> None:
    edge = Edge()
    path = (b"Path: <sip:p1.test;lr>, <sip:p2.test;lr>", b"Supported: path")
    reply = edge.register(CONTACT, extra=path)
    assert reply.values(H.PATH) == [b"<sip:p1.test;lr>", b"<sip:p2.test;lr>"]
    assert edge.location.of(b"1000", edge.now)[0].path == (b"<sip:p1.test;lr>", b"<sip:p2.test;lr>")


def test_extensions_it_does_not_have() -> None:
    edge = Edge()
    assert edge.register(CONTACT, extra=(b"Require: path",)).code == 200
    reply = edge.register(CONTACT, extra=(b"Require: path, outbound, gruu",))
    assert (reply.code, reply.get(H.UNSUPPORTED)) == (420, b"outbound, gruu")


def test_instance_and_reg_id_identify_a_phone_that_moved() -> None:
    edge = Edge()
    who = b';+sip.instance="<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>"'
    edge.register(b"<sip:1000@203.0.113.9>" + who + b";reg-id=1")
    moved = edge.register(b"<sip:1000@203.0.113.99>" + who + b";reg-id=1", call_id=b"c2")
    assert given(moved) == [b"<sip:1000@203.0.113.99>;expires=3600" + who + b";reg-id=1"]
    assert len(given(edge.register(b"<sip:1000@203.0.113.99>" + who + b";reg-id=2", call_id=b"c3"))) == 2


def test_old_style_phones() -> None:
    """No rport, no brackets around the contact, compact header names, a Via without branch (RFC 2543)."""
    edge = Edge()
    request = parse_untrusted(
        b"REGISTER sip:example.test SIP/2.0\r\nv: SIP/2.0/UDP 203.0.113.9\r\nf: sip:1000@example.test\r\n"
        b"t: sip:1000@example.test\r\ni: old\r\nCSeq: 1 REGISTER\r\nm: sip:1000@203.0.113.9;expires=90\r\n\r\n"
    )
    assert isinstance(request, Request)
    assert given(edge.registrar.handle(request, Source(), edge.now)) == [CONTACT + b";expires=90"]


@pytest.mark.parametrize(
    "contact", [b"", b"<>", b"<sip:1000@203.0.113.9", b"garbage", b"<sip:a b@c>", b"<http://x.test>", b"\xff\xfe"]
)
def test_malformed_contacts(contact: bytes) -> None:
    edge = Edge()
    reply = edge.register(contact)
    assert reply.code == (200 if contact == b"" else 400)
    assert edge.contacts() == []


def test_every_prefix_of_a_contact_gets_an_answer_and_never_a_crash() -> None:
    whole = b'"J. D\\"oe" <sip:1000@203.0.113.9:5062;transport=udp>;q=0.7;expires=90;+sip.instance="<urn:x>";reg-id=1'
    codes = {Edge().register(whole[:n]).code for n in range(len(whole) + 1)}
    assert codes <= {200, 400, 423}
    assert Edge().register(whole + b";junk=\xff\x00").code in (200, 400)


def test_date() -> None:
    edge = Edge()
    edge.registrar = Registrar(
        edge.location, [b"example.test"], RegistrarConfig(), date=lambda: b"Tue, 24 Nov 2026 05:26:00 GMT"
    )
    assert edge.register(CONTACT).get(H.DATE) == b"Tue, 24 Nov 2026 05:26:00 GMT"
    tags = {edge.register(CONTACT).to_tag for _ in range(20)}
    assert len(tags) == 20
