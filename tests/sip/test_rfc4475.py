"""The torture test messages of RFC 4475: outcomes by table, then what the interesting fields are read as."""

from __future__ import annotations

import pytest

from proxy.sip.grammar import unquote
from proxy.sip.headers import parse_name_addr_untrusted
from proxy.sip.message import H, Request, Response, make_response
from proxy.sip.parser import BadMessage, parse_untrusted, validate_untrusted
from proxy.sip.sdp import extract_sdp
from proxy.sip.uri import parse_uri_untrusted, unescape
from tests.data.rfc4475_outcomes import FOLDER, OUTCOMES, message

ACCEPTED = [name for name, outcome in OUTCOMES.items() if outcome.parse is None]
TRAILING = {"dblreq": 450}  # bytes after Content-Length


def request(name: str) -> Request:
    parsed = parse_untrusted(message(name))
    assert isinstance(parsed, Request)
    return parsed


def response(name: str) -> Response:
    parsed = parse_untrusted(message(name))
    assert isinstance(parsed, Response)
    return parsed


def test_the_table_has_every_message():
    assert set(OUTCOMES) == {path.stem for path in FOLDER.glob("*.dat")}
    assert len(OUTCOMES) == 49


@pytest.mark.parametrize("name", OUTCOMES)
def test_outcome(name):
    outcome = OUTCOMES[name]
    if outcome.parse is not None:
        with pytest.raises(BadMessage) as caught:
            parse_untrusted(message(name))
        assert caught.value.status == outcome.parse
        assert (caught.value.partial is not None) == (outcome.kind == "request")
        return
    parsed = parse_untrusted(message(name))
    assert type(parsed) is {"request": Request, "response": Response}[outcome.kind]
    sent = message(name)
    assert parsed.to_bytes() == sent[: len(sent) - TRAILING.get(name, 0)]
    if not isinstance(parsed, Request):
        return
    if outcome.validate is None:
        validate_untrusted(parsed)
    else:
        with pytest.raises(BadMessage) as caught:
            validate_untrusted(parsed)
        assert caught.value.status == outcome.validate


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_prefix_is_refused_or_read(name):
    sent = message(name)[:4000]
    for end in range(len(sent)):
        try:
            parsed = parse_untrusted(sent[:end])
        except BadMessage:
            continue
        assert sent.startswith(parsed.to_bytes())


# Without Content-Length the rest of the datagram is body: see test_parser.
@pytest.mark.parametrize("name", [name for name in ACCEPTED if name != "inv2543"])
def test_junk_after_content_length_is_dropped(name):
    whole = parse_untrusted(message(name))
    assert parse_untrusted(whole.to_bytes() + b"\r\nINVITE junk\0").to_bytes() == whole.to_bytes()


@pytest.mark.parametrize("name", [n for n, o in OUTCOMES.items() if o.parse and o.kind == "request"])
def test_refused_requests_can_be_answered(name):
    with pytest.raises(BadMessage) as caught:
        parse_untrusted(message(name))
    partial = caught.value.partial
    assert partial is not None
    answer = make_response(partial, caught.value.status, caught.value.reason, to_tag=b"t1")
    again = parse_untrusted(answer.to_bytes())
    assert isinstance(again, Response) and again.code == caught.value.status
    assert (again.call_id, again.cseq, again.to_tag) == (partial.call_id, partial.cseq, partial.to_tag or b"t1")


def test_wsinv():
    m = request("wsinv")
    assert (m.method, m.uri) == ("INVITE", b"sip:vivekg@chair-dnrc.example.com;unknownparam")
    assert m.to_tag == b"1918181833n"
    assert m.from_tag == b"98asjd8"
    sender = parse_name_addr_untrusted(m.get(H.FROM) or b"")
    assert sender.display_name == b'J Rosenberg \\"'
    assert sender.uri == b"sip:jdrosen@example.com"
    assert m.get(H.MAX_FORWARDS) == b"0068"
    assert (m.cseq, m.cseq_method) == (9, "INVITE")
    assert (m.via.transport, m.via.host, m.via.branch) == (b"UDP", b"192.0.2.2", b"390skdjuw")
    assert not m.via.has_cookie
    assert m.count(H.VIA) == 2
    vias = m.values(H.VIA)
    assert len(vias) == 3
    assert vias[1] == b"SIP  / 2.0  / TCP     spindle.example.com   ; branch  =   z9hG4bK9ikj8"
    assert m.get(H.SUBJECT) == b""
    assert m.get_name(b"newfangledheader") == b"newfangled value continued newfangled value"
    assert m.get_name(b"UnknownHeaderWithUnusualValue") == b";;,,;;,;"
    assert m.values(H.ROUTE) == [b"<sip:services.example.com;lr;unknownwith=value;unknown-no-value>"]
    contact = parse_name_addr_untrusted(m.first_value(H.CONTACT) or b"")
    assert contact.display_name == b'Quoted string ""'
    assert contact.params == [(b"newparam", b"newvalue"), (b"secondparam", None), (b"q", b"0.33")]
    assert contact.q == 0.33
    assert len(m.body) == 150


def test_wsinv_popping_vias_leaves_the_rest_alone():
    m = request("wsinv")
    while m.pop_value(H.VIA) is not None:
        pass
    before = message("wsinv")
    first = before.index(b"Via  :")
    second, after = before.index(b"v:  SIP"), before.index(b'm:"Quoted')
    assert m.to_bytes() == before[:first] + before[before.index(b"s :") : second] + before[after:]


def test_intmeth():
    m = request("intmeth")
    assert m.method == "!interesting-Method0123456789_*+`.%indeed'~" == m.cseq_method
    uri = parse_uri_untrusted(m.uri)
    assert uri.user == b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert uri.password == b"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert uri.host == b"example.com"
    assert m.from_tag == b"_token~1'+`*%!-."
    to = parse_name_addr_untrusted(m.get(H.TO) or b"")
    assert to.display_name == b"BEL:\x07 NUL:\x00 DEL:\x7f"
    sender = parse_name_addr_untrusted(m.get(H.FROM) or b"")
    assert sender.display == b"token1~` token2'+_ token3*%!.-"
    assert unquote(sender.param(b"fromParam''~+*_!.-%") or b"").decode() == "работающий"
    assert m.call_id == b"intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{"
    assert m.via.branch == b"z9hG4bK-.!%66*_+`'~"
    assert (m.get_name(b"extensionHeader-!.%*+_`'~") or b"").decode() == "\ufeff大停電"


def test_esc01():
    m = request("esc01")
    uri = parse_uri_untrusted(m.uri)
    assert (uri.user, uri.host) == (b"sips%3Auser%40example.com", b"example.net")
    assert unescape(uri.user or b"") == b"sips:user@example.com"
    assert unescape(parse_uri_untrusted(parse_name_addr_untrusted(m.get(H.TO) or b"").uri).user or b"") == b"user"
    contact = parse_uri_untrusted(parse_name_addr_untrusted(m.get(H.CONTACT) or b"").uri)
    assert [(unescape(k), unescape(v or b"")) for k, v in contact.params] == [(b"lr", b""), (b"name", b"value%41")]


def test_escnull():
    m = request("escnull")
    users = [parse_uri_untrusted(parse_name_addr_untrusted(c).uri).user for c in m.values(H.CONTACT)]
    assert users == [b"%00", b"%00%00"]
    assert unescape(users[1] or b"") == b"\0\0"
    assert m.get(H.CONTENT_LENGTH) == b"0"


def test_esc02():
    m = request("esc02")
    assert m.method == "RE%47IST%45R"
    assert parse_name_addr_untrusted(m.get(H.TO) or b"").display_name == b"%Z%45"
    assert m.via.branch == b"z9hG4bK209%fzsnel234"
    assert len(m.values(H.CONTACT)) == 2
    assert m.get_name(b"C%6Fntact") == b"<sip:alias2@host2.example.com>"


def test_lwsdisp():
    sender = parse_name_addr_untrusted(request("lwsdisp").get(H.FROM) or b"")
    assert (sender.display, sender.uri, sender.tag) == (b"caller", b"sip:caller@example.com", b"323")


def test_longreq():
    m = request("longreq")
    assert m.from_tag == b"1" + b"298" * 50 + b"2424"
    to = parse_uri_untrusted(parse_name_addr_untrusted(m.get(H.TO) or b"").uri)
    assert to.port == 6000
    assert to.param(b"unknownparam1") == b"very" + b"long" * 20 + b"value"
    assert len(m.values(H.VIA)) == 34
    assert m.via.host == b"sip33.example.com"


def test_dblreq():
    m = request("dblreq")
    assert (m.method, m.body, m.call_id) == ("REGISTER", b"", b"dblreq.0ha0isndaksdj99sdfafnl3lk233412")


def test_semiuri():
    uri = parse_uri_untrusted(request("semiuri").uri)
    assert (uri.user, uri.host, uri.params) == (b"user;par=u%40example.net", b"example.com", ())


def test_transports():
    m = request("transports")
    assert [v.split()[0].rsplit(b"/", 1)[1] for v in m.values(H.VIA)] == [b"UDP", b"SCTP", b"TLS", b"UNKNOWN", b"TCP"]
    assert m.pop_value(H.VIA) == b"SIP/2.0/UDP t1.example.com;branch=z9hG4bKkdjuw"
    assert m.via.transport == b"SCTP"


def test_mpart01():
    m = request("mpart01")
    assert len(m.body) == 553
    assert b"\x00" in m.body and b"\r\n--7a9cbec02ceef655--" in m.body
    assert extract_sdp(m) is None
    assert (m.via.host, m.via.port, m.via.rport) == (b"127.0.0.1", 5070, b"")


def test_unreason_and_noreason():
    assert response("unreason").reason.decode() == "= 2**3 * 5**2 но сто девяносто девять - простое"
    assert (response("noreason").code, response("noreason").reason) == (100, b"")


def test_scalarlg_has_no_readable_cseq():
    with pytest.raises(BadMessage):
        _ = response("scalarlg").cseq


def test_badbranch_is_no_transaction_id():
    via = request("badbranch").via
    assert via.branch == b"z9hG4bK" and not via.has_cookie


def test_baddn_with_its_empty_line():
    parsed = parse_untrusted(message("baddn") + b"\r\n")
    assert isinstance(parsed, Request)
    with pytest.raises(BadMessage) as caught:
        validate_untrusted(parsed)
    assert caught.value.status == 400 and caught.value.partial is parsed


def test_regbadct_contact_is_refused_by_whoever_reads_it():
    with pytest.raises(BadMessage):
        parse_name_addr_untrusted(request("regbadct").get(H.CONTACT) or b"")


def test_unksm2_addresses_of_other_schemes():
    m = request("unksm2")
    assert parse_name_addr_untrusted(m.get(H.TO) or b"").uri == b"isbn:2983792873"
    assert parse_name_addr_untrusted(m.get(H.CONTACT) or b"").uri == b"name:John_Smith"


def test_bext01_lists():
    m = request("bext01")
    assert m.values(H.PROXY_REQUIRE) == [b"noProxiesSupportThis", b"norDoAnyProxiesSupportThis"]
    assert m.values(H.REQUIRE) == [b"nothingSupportsThis", b"nothingSupportsThisEither"]


def test_cparams():
    header = parse_name_addr_untrusted(request("cparam01").get(H.CONTACT) or b"")
    assert (header.uri, header.params) == (b"sip:+19725552222@gw1.example.net", [(b"unknownparam", None)])
    inside = parse_name_addr_untrusted(request("cparam02").get(H.CONTACT) or b"")
    assert inside.params == [] and parse_uri_untrusted(inside.uri).has(b"unknownparam")


def test_regescrt_uri_headers():
    contact = parse_name_addr_untrusted(request("regescrt").get(H.CONTACT) or b"")
    assert parse_uri_untrusted(contact.uri).headers == b"Route=%3Csip:sip.example.com%3E"


def test_inv2543():
    m = request("inv2543")
    assert (m.via.branch, m.from_tag, m.to_tag) == (None, b"", b"")
    to = parse_name_addr_untrusted(m.get(H.TO) or b"")
    assert (to.uri, to.params) == (b"sip:+16505552222@ss1.example.net", [(b"user", b"phone")])
    assert m.body.startswith(b"v=0")
