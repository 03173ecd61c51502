"""The language of the control API: NDJSON requests and answers as msgspec structs. Pure: no I/O, no clock.

One request per line, one answer per line, answers in the order of the requests of that connection:

    {"id":1,"method":"sessions","params":{"node":"node1"}}
    {"id":1,"result":[...]}      or      {"id":1,"error":{"code":"not_found","message":"...","candidates":[]}}

`id` is the client's own mark (integer, string or absent) and comes back unchanged; it is null in answers to lines
that could not be read. `METHODS` names every method with the type of its parameters; parameters are checked strictly
(an unknown field is an error, so a typo is never silently ineffective), while clients must ignore fields they do not
know in results: that is how `API` stays at 1 while fields are added. `API` rises when a field is removed or changes
its meaning.

Units everywhere: seconds as floats (`*_s`), milliseconds where the name says `_ms`, points in time as seconds since
the epoch, addresses as text "ip:port" ("[v6]:port").
"""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from proxy.control import node_schema

API = 1
"""Version of the schema, told by `hello`."""

MAX_LINE = 1024 * 1024
"""Longest request line a server reads, in bytes, newline excluded."""

MAX_CANDIDATES = 10
"""An `ambiguous` error names at most this many sessions."""

ErrorCode = Literal["not_found", "ambiguous", "bad_request", "internal", "node", "refused"]
"""`not_found` and `ambiguous`: the session or node asked for; `bad_request`: the line, method or parameters;
`internal`: a fault of the proxy, logged there; `node`: rtpengine did not answer or refused; `refused`: a change that
cannot be made as things are."""

RequestId = int | str | None


class ControlError(Exception):
    """An answer that is an error: raised by a backend, sent by the server, raised again by a client.

    `message` is a sentence that says what was wrong and what to do; `candidates` are session ids (`ambiguous` only).
    """

    def __init__(self, code: ErrorCode, message: str, candidates: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = message
        self.candidates = list(candidates)


class BadRequest(Exception):
    """A request line that cannot be served. `request_id` is the client's mark as far as it could be read."""

    def __init__(self, message: str, request_id: RequestId = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id


# Results -------------------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, kw_only=True):
    """Who answers. `version`: of the proxy; `instance`: its configured name, the prefix of its session ids."""

    api: int = API
    version: str
    instance: str
    uptime_s: float


class Packets(msgspec.Struct, kw_only=True):
    """RTP packets rtpengine received from each side, as of the last sample; None: unknown."""

    caller: int | None = None
    callee: int | None = None


class LegInfo(msgspec.Struct, kw_only=True):
    """One SIP dialog of a session: its phone and where that phone's media is.

    `party`: the tag rtpengine knows it by; `profile`: rtp, srtp or webrtc; `interface`: rtpengine's logical interface,
    "" for its default; `media`: the address in the phone's own SDP; `received`: the address its SIP came from.
    """

    name: str
    call_id: str
    party: str
    profile: str = ""
    interface: str = ""
    media: str | None = None
    received: str | None = None


class SessionInfo(msgspec.Struct, kw_only=True):
    """One session (one rtpengine call), as the proxy knows it without asking the node.

    `id`: the ng call-id; `state`: early, confirmed or ended (straight from a node: offered or answered);
    `hold`: "" or who holds: caller, callee, both; `codecs`: what rtpengine said at the last sample, caller first;
    `sample_age_s`: None when the node was never asked; `lost`: the node said it does not know this call.
    """

    id: str
    state: str
    call_ids: list[str]
    caller: str
    callee: str
    node: str
    created: float
    age_s: float
    codecs: list[str] = []
    hold: str = ""
    packets: Packets
    sample_age_s: float | None = None
    lost: bool = False
    legs: list[LegInfo] = []


class StreamDetail(msgspec.Struct, kw_only=True):
    """One port rtpengine opened toward a party (RTP, RTCP or both muxed). Source: the `query` reply.

    `learned`: where packets come from or go to now; `advertised`: what the party's SDP said; `packets`, `bytes`,
    `errors`: received on this port; `idle_s`: since the last packet, None when there was none; `crypto`: the SRTP
    suite, None for plain RTP and while DTLS is unfinished; `flags`: of the m-line and the stream, as rtpengine says.
    """

    media: int
    kind: str
    component: str
    protocol: str
    local: str | None
    learned: str | None
    advertised: str | None
    packets: int
    bytes: int
    errors: int
    idle_s: float | None
    codec: str | None
    crypto: str | None
    flags: list[str]


class PartyDetail(msgspec.Struct, kw_only=True):
    """One party of the rtpengine call. `role`: caller, callee, freeswitch, or other (a fork, a party not ours)."""

    tag: str
    role: str
    leg: str = ""
    streams: list[StreamDetail] = []


class Event(msgspec.Struct, kw_only=True):
    """One line of a session's timeline. `at`: seconds since the epoch."""

    at: float
    text: str


class SessionDetail(msgspec.Struct, kw_only=True):
    """A session with what its node says now. `node_error`: why `parties` is empty (a sentence), else None."""

    session: SessionInfo
    queried: float
    parties: list[PartyDetail] = []
    timeline: list[Event] = []
    node_error: str | None = None


class NodeInfo(msgspec.Struct, kw_only=True):
    """One rtpengine node. Fields that are None were never learned.

    `state`: what is seen of it: up, suspect, partitioned, down, half-dead, or unknown (not asked yet); straight from a
    node: up. `admin`: what the operator wants: active, draining, disabled; `why`: the evidence for a state that is not
    up. `leaving`: it was removed and goes when its last call has ended. `tier`, `weight`, `set`, `labels`: as
    configured; `generation`: restarts seen. `canary`: heard, silent, none (not made, or turned off). `owed`: deletes to
    be sent when it answers again. `packet_rate`: RTP packets per second it relays.
    `sessions`: of this proxy; `node_sessions`: what the node counts itself (with those of other controllers and those
    in delete-delay); `rtt_ms`: smoothed; `ports_free`: on its fullest interface; `ports_used`: on all of them;
    `offers`, `answers`, `deletes`: commands it counted since its start; `errors`: commands it answered with an error;
    `failures`: commands of this proxy that it did not answer; `statistics_age_s`: how old the node's own numbers are.
    """

    name: str
    address: str
    state: str
    sessions: int | None = None
    node_sessions: int | None = None
    rtt_ms: float | None = None
    uptime_s: float | None = None
    ports_free: int | None = None
    ports_used: int | None = None
    offers: int | None = None
    answers: int | None = None
    deletes: int | None = None
    errors: int | None = None
    failures: int | None = None
    statistics_age_s: float | None = None
    last_error: str | None = None
    admin: str | None = None
    why: str | None = None
    leaving: bool = False
    tier: int | None = None
    weight: float | None = None
    set: str = ""
    labels: list[str] = []
    generation: int | None = None
    canary: str | None = None
    owed: int | None = None
    packet_rate: int | None = None


Stats = dict[str, int | float]
"""Counters since the start of the proxy, name -> value."""


class Error(msgspec.Struct, kw_only=True):
    """The `error` of an answer."""

    code: str
    message: str
    candidates: list[str] = []


class Answer(msgspec.Struct, kw_only=True):
    """One answer line as a client reads it: `result` stays raw until its type is known."""

    id: RequestId = None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: Error | None = None


# Requests ------------------------------------------------------------------------------------------------------------


class NoParams(msgspec.Struct, forbid_unknown_fields=True):
    """Parameters of hello, nodes and stats: none."""


class SessionsParams(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Filters of `sessions`, all optional, all must hold.

    `node`: name of the node; `number`: part of the caller or of the callee, in any case of letters;
    `state`: early, confirmed or ended.
    """

    node: str | None = None
    number: str | None = None
    state: str | None = None


class SessionParams(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`id`: the beginning of a session id (with or without the instance's name) or of any SIP Call-ID of the call."""

    id: str


Params = NoParams | SessionsParams | SessionParams | node_schema.NodeRequest

METHODS: dict[str, type[Params]] = {
    "hello": NoParams,
    "sessions": SessionsParams,
    "session": SessionParams,
    "nodes": NoParams,
    "stats": NoParams,
    **node_schema.METHODS,
}


class Request(msgspec.Struct, kw_only=True):
    """A request that passed every check: `method` is in METHODS and `params` is of its type."""

    id: RequestId
    method: str
    params: Any


class _Envelope(msgspec.Struct):
    method: str
    id: RequestId = None
    params: msgspec.Raw = msgspec.Raw(b"{}")


class _IdOnly(msgspec.Struct):
    id: RequestId = None


_EXAMPLE = 'send one JSON object per line, such as {"id":1,"method":"sessions","params":{}}'
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_request_untrusted(line: bytes) -> Request:
    """One line (without or with its newline) to a Request. Raises BadRequest, and nothing else."""
    try:
        envelope = msgspec.json.decode(line, type=_Envelope)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the request is not understood ({error}): {_EXAMPLE}", _id_of_untrusted(line)) from None
    except _UNREADABLE as error:
        raise BadRequest(f"the line is not JSON ({error}): {_EXAMPLE}") from None
    kind = METHODS.get(envelope.method)
    if kind is None:
        known = ", ".join(METHODS)
        raise BadRequest(f"there is no method {envelope.method[:40]!r}: use one of {known}", envelope.id)
    try:
        params = msgspec.json.decode(envelope.params, type=kind)
    except _UNREADABLE as error:
        takes = ", ".join(field.name for field in msgspec.structs.fields(kind)) or "none"
        raise BadRequest(
            f"parameters of {envelope.method!r} are wrong ({error}): it takes {takes}", envelope.id
        ) from None
    return Request(id=envelope.id, method=envelope.method, params=params)


def _id_of_untrusted(line: bytes) -> RequestId:
    """The mark of a request that is JSON but not a request, so that the client can match the error."""
    try:
        return msgspec.json.decode(line, type=_IdOnly).id
    except _UNREADABLE:
        return None


_encode = msgspec.json.Encoder().encode


def encode_request(method: str, params: Params | None = None, request_id: RequestId = None) -> bytes:
    """A request line with its newline. None values are left out."""
    given = {} if params is None else {k: v for k, v in msgspec.structs.asdict(params).items() if v is not None}
    return _encode({"id": request_id, "method": method, "params": given}) + b"\n"


def encode_result(request_id: RequestId, result: Any) -> bytes:
    """An answer line with its newline; `result` is any of the result types, a list of them, or `msgspec.Raw`."""
    return _encode({"id": request_id, "result": result}) + b"\n"


def encode_items(items: Iterable[msgspec.Struct]) -> bytes:
    """A piece of a JSON list without brackets, so that a long list can be encoded in slices. b"" for no items."""
    return b",".join(_encode(item) for item in items)


def encode_error(request_id: RequestId, code: ErrorCode, message: str, candidates: Iterable[str] = ()) -> bytes:
    """An error line with its newline."""
    return _encode({"id": request_id, "error": Error(code=code, message=message, candidates=list(candidates))}) + b"\n"


# Filters -------------------------------------------------------------------------------------------------------------


def matches(info: SessionInfo, params: SessionsParams) -> bool:
    """Whether a session passes the filters of `sessions`."""
    if params.node is not None and info.node != params.node:
        return False
    if params.state is not None and info.state != params.state:
        return False
    if params.number is not None:
        wanted = params.number.casefold()
        return wanted in info.caller.casefold() or wanted in info.callee.casefold()
    return True


def short_id(session_id: str) -> str:
    """The part of a session id after the instance's name: "edge1-7f3c..." -> "7f3c...". Other ids stay whole."""
    instance, dash, rest = session_id.rpartition("-")
    return rest if instance and dash and len(rest) >= 8 and rest.isalnum() else session_id


def resolve(prefix: str, known: Iterable[tuple[str, Iterable[str]]]) -> str:
    """The one session meant by `prefix`; `known` yields (session id, its SIP Call-IDs).

    A whole id or Call-ID wins over the beginning of another. Raises ControlError `not_found`, or `ambiguous` with the
    candidates in it.
    """
    wanted = prefix.strip()
    if not wanted:
        raise ControlError("bad_request", "the session id is empty: give the beginning of an ID or of a SIP Call-ID")
    found: list[str] = []
    for session_id, call_ids in known:
        names = (session_id, short_id(session_id), *call_ids)
        if wanted in names:
            return session_id
        if any(name.startswith(wanted) for name in names):
            found.append(session_id)
    if len(found) == 1:
        return found[0]
    if not found:
        raise ControlError(
            "not_found",
            f"no session whose id or SIP Call-ID begins with {wanted[:80]!r}: it may have ended; list what is there",
        )
    named = ", ".join(found[:MAX_CANDIDATES]) + (", ..." if len(found) > MAX_CANDIDATES else "")
    raise ControlError(
        "ambiguous",
        f"{len(found)} sessions begin with {wanted[:80]!r}: {named}; give more characters",
        found[:MAX_CANDIDATES],
    )
