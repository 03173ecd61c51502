"""Header names and ids."""

from __future__ import annotations

import pytest

from proxy.sip.names import CANONICAL_NAMES, HEADER_IDS, LIST_HEADERS, H, OddLine, header_id


def test_every_id_has_one_name_of_its_own():
    ids = {name: value for name, value in vars(H).items() if name.isupper() and name != "OTHER"}
    assert sorted(ids.values()) == sorted(CANONICAL_NAMES)
    for attribute, hid in ids.items():
        assert CANONICAL_NAMES[hid].upper().replace(b"-", b"_").decode() == attribute
    assert LIST_HEADERS.issubset(ids.values())


COMPACT = """v=Via f=From t=To i=Call-ID m=Contact l=Content-Length c=Content-Type e=Content-Encoding k=Supported
s=Subject o=Event r=Refer-To b=Referred-By x=Session-Expires u=Allow-Events a=Accept-Contact j=Reject-Contact
d=Request-Disposition n=Identity-Info y=Identity"""


@pytest.mark.parametrize(("short", "name"), [pair.split("=") for pair in COMPACT.split()])
def test_compact_forms(short, name):
    assert header_id(short.encode()) == header_id(short.upper().encode()) == header_id(name.encode()) != H.OTHER


def test_any_case_and_white_space_before_the_colon():
    assert HEADER_IDS[b"mAx-fOrWaRdS \t"] == H.MAX_FORWARDS
    assert HEADER_IDS[b"cseq"] == HEADER_IDS[b"CSEQ"] == HEADER_IDS[b"CSeq"] == H.CSEQ
    assert HEADER_IDS[b"X-Unheard-Of"] == H.OTHER


@pytest.mark.parametrize("name", [b"", b" Via", b"\tfolded", b"Vi a", b"Via\r", b"V\xc3\xafa", b"a,b"])
def test_what_is_no_name(name):
    with pytest.raises(OddLine):
        HEADER_IDS[name]
    with pytest.raises(ValueError, match="not a SIP header name"):
        header_id(name)


def test_invented_names_do_not_fill_the_memory():
    for i in range(6000):
        assert HEADER_IDS[b"X-Invented-%d" % i] == H.OTHER
    assert HEADER_IDS[b"X" * 1000] == H.OTHER
    assert len(HEADER_IDS) <= 4096 and b"X" * 1000 not in HEADER_IDS
    assert HEADER_IDS[b"vIA"] == H.VIA
