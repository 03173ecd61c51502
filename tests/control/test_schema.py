"""The language of the control API: requests good and bad, encoding, filters, finding a session by prefix."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.control import node_schema, schema
from proxy.control.schema import BadRequest, ControlError, decode_request_untrusted, resolve, short_id

GOOD = b'{"id":7,"method":"sessions","params":{"node":"n1","number":"100","state":"early"}}'


def info(session_id: str = "edge1-0123456789abcdef", **changes: object) -> schema.SessionInfo:
    base = schema.SessionInfo(
        id=session_id,
        state="confirmed",
        call_ids=["A1@phone", "b2-uuid"],
        caller="sip:1000@Example.test",
        callee="sip:2000@example.test",
        node="node1",
        created=0.0,
        age_s=1.0,
        packets=schema.Packets(),
    )
    return msgspec.structs.replace(base, **changes)


def test_a_request_is_read_whole() -> None:
    request = decode_request_untrusted(GOOD + b"\n")
    assert request.id == 7 and request.method == "sessions"
    assert request.params == schema.SessionsParams(node="n1", number="100", state="early")


def test_every_prefix_of_a_request_is_a_bad_request() -> None:
    for end in range(len(GOOD)):
        with pytest.raises(BadRequest, match="not JSON"):
            decode_request_untrusted(GOOD[:end])


def test_trailing_junk_is_a_bad_request() -> None:
    for junk in (b"x", b"{}", b"\0", GOOD):
        with pytest.raises(BadRequest, match="not JSON"):
            decode_request_untrusted(GOOD + junk)


@given(st.binary(max_size=200))
def test_garbage_raises_bad_request_and_nothing_else(data: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_request_untrusted(data)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_byte_is_a_request_or_a_bad_request(place: int, byte: int) -> None:
    changed = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    try:
        assert decode_request_untrusted(changed).method in schema.METHODS
    except BadRequest as error:
        assert error.message


@pytest.mark.parametrize(
    ("line", "request_id", "says"),
    [
        (b"[]", None, "Expected `object`"),
        (b"null", None, "Expected `object`"),
        (b'{"id":3}', 3, "missing required field `method`"),
        (b'{"id":"x","method":4}', "x", "method"),
        (b'{"id":1.5,"method":"nodes"}', None, "id"),
        (b'{"id":3,"method":"reboot"}', 3, "no method 'reboot': use one of hello, sessions, session, nodes, stats"),
        (b'{"id":3,"method":"session"}', 3, "it takes id"),
        (b'{"id":3,"method":"session","params":{"id":5}}', 3, "Expected `str`"),
        (b'{"id":3,"method":"session","params":[]}', 3, "Expected `object`"),
        (b'{"id":3,"method":"session","params":null}', 3, "Expected `object`"),
        (b'{"id":3,"method":"nodes","params":{"node":"x"}}', 3, "unknown field `node`.*it takes none"),
        (b'{"id":3,"method":"sessions","params":{"nodee":"x"}}', 3, "unknown field `nodee`.*node, number, state"),
        (b'{"id":3,"method":"\xff"}', None, "not JSON|not understood"),
        (b"[" * 100_000, None, "not JSON|not understood"),
        (b'{"id":3,"method":"nodes","params":' + b"[" * 100_000, None, "not JSON"),
    ],
)
def test_a_bad_request_says_what_is_wrong_and_keeps_the_id(line: bytes, request_id: object, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as caught:
        decode_request_untrusted(line)
    assert caught.value.request_id == request_id


def test_every_method_can_be_asked_and_read_back() -> None:
    params: dict[str, schema.Params] = {
        "session": schema.SessionParams(id="abc"),
        "node": node_schema.NodeActionParams(node="n", action="drain"),
        "node_add": node_schema.NodeAddParams(name="n", address="127.0.0.1:1"),
        **{name: node_schema.NodeParams(node="n") for name in ("plan", "evacuate", "evacuation")},
    }
    for method in schema.METHODS:
        line = schema.encode_request(method, params.get(method), 1)
        assert line.endswith(b"\n") and line.count(b"\n") == 1
        request = decode_request_untrusted(line)
        assert request.method == method and type(request.params) is schema.METHODS[method]


def test_answers_are_one_line_each_whatever_is_in_them() -> None:
    nasty = info(caller="a\nb\u2028\x1b[31m", call_ids=["\r\n\0"])
    for line in (schema.encode_result(1, [nasty]), schema.encode_error(1, "internal", "two\nlines", ["\n"])):
        assert line.endswith(b"\n") and line.count(b"\n") == 1
    answer = msgspec.json.decode(schema.encode_result("x", [nasty]), type=schema.Answer)
    assert answer.id == "x" and answer.error is None
    assert msgspec.json.decode(answer.result, type=list[schema.SessionInfo]) == [nasty]


def test_an_error_reads_back() -> None:
    answer = msgspec.json.decode(schema.encode_error(None, "ambiguous", "two", ["a", "b"]), type=schema.Answer)
    assert answer.error == schema.Error(code="ambiguous", message="two", candidates=["a", "b"])


def test_pieces_of_a_list_make_a_list() -> None:
    one, two = info("edge1-aaaaaaaa"), info("edge1-bbbbbbbb")
    assert schema.encode_items([]) == b""
    raw = b"[" + b",".join([schema.encode_items([one]), schema.encode_items([two])]) + b"]"
    assert msgspec.json.decode(raw, type=list[schema.SessionInfo]) == [one, two]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        (schema.SessionsParams(), True),
        (schema.SessionsParams(node="node1"), True),
        (schema.SessionsParams(node="node"), False),
        (schema.SessionsParams(state="confirmed"), True),
        (schema.SessionsParams(state="early"), False),
        (schema.SessionsParams(number="1000@example"), True),
        (schema.SessionsParams(number="2000"), True),
        (schema.SessionsParams(number="EXAMPLE.TEST"), True),
        (schema.SessionsParams(number="3000"), False),
        (schema.SessionsParams(number="A1@phone"), False),
        (schema.SessionsParams(number="1000", node="node2"), False),
    ],
)
def test_filters(params: schema.SessionsParams, found: bool) -> None:
    assert schema.matches(info(), params) is found


KNOWN = [
    ("edge1-11aaaaaaaaaa", ["call-1@phone", "uuid-1"]),
    ("edge1-11bbbbbbbbbb", ["call-10@phone"]),
    ("edge1-22cccccccccc", ["call-2"]),
    ("edge1-33dddddddddd", ["call-2-more"]),
]


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("edge1-11a", 0),
        ("11a", 0),
        (" 11a\n", 0),
        ("call-1@", 0),
        ("uuid-1", 0),
        ("call-10", 1),
        ("edge1-22cccccccccc", 2),
        ("22", 2),
        ("call-2", 2),
        ("call-2-", 3),
    ],
)
def test_a_prefix_of_any_id_finds_the_session(prefix: str, found: int) -> None:
    assert resolve(prefix, KNOWN) == KNOWN[found][0]


def test_a_prefix_of_two_sessions_names_both() -> None:
    with pytest.raises(ControlError, match=r"2 sessions begin with '11'.*give more") as caught:
        resolve("11", KNOWN)
    assert caught.value.code == "ambiguous" and caught.value.candidates == [KNOWN[0][0], KNOWN[1][0]]


def test_candidates_are_bounded() -> None:
    with pytest.raises(ControlError, match=r"500 sessions begin.*, \.\.\.;") as caught:
        resolve("x", ((f"x{n}", ()) for n in range(500)))
    assert len(caught.value.candidates) == schema.MAX_CANDIDATES


def test_a_session_is_one_candidate_however_many_of_its_ids_match() -> None:
    assert resolve("a", [("a-1", ["a1", "a2"])]) == "a-1"


@pytest.mark.parametrize(("prefix", "code"), [("nope", "not_found"), ("", "bad_request"), ("  ", "bad_request")])
def test_nothing_found(prefix: str, code: str) -> None:
    with pytest.raises(ControlError) as caught:
        resolve(prefix, KNOWN)
    assert caught.value.code == code and caught.value.message


@pytest.mark.parametrize(
    ("session_id", "short"),
    [
        ("edge1-0123456789ab", "0123456789ab"),
        ("my-edge-0123456789ab", "0123456789ab"),
        ("abc", "abc"),
        ("a-b", "a-b"),
        ("-0123456789", "-0123456789"),
        ("x-12345678@1.2.3.4", "x-12345678@1.2.3.4"),
    ],
)
def test_short_id(session_id: str, short: str) -> None:
    assert short_id(session_id) == short
