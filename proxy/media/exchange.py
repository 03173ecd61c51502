"""The offer/answer machine of one SIP transaction (RFC 3264, RFC 6337 section 2): what is the SDP in this message?

Theory of operation. An exchange starts with a request that may carry an offer (INVITE, UPDATE, or PRACK when the
INVITE's own exchange is not waiting for the answer in it) and moves with every message of that transaction. The whole
machine is `TABLE`: (state, event) -> (role of the message, next state). A pair that is not in the table is a message
without influence on the media: `step` answers NOTHING and the state stays.

Leniencies. An SDP in an unreliable provisional response is only a preview of the answer (RFC 3261 section 13.2.1) but
everybody plays it, so it is an ANSWER that a later one may replace: the next fork's, or the final one. An offer in an
unreliable provisional response is forbidden (RFC 3261 section 13.2.1) and still seen from late-offer gateways; it is
taken as the offer that the 200 repeats. SDP after the final answer of the same transaction comes from another fork
(another To tag), so it is treated as an answer again.
"""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where the exchange stands. `COUNTER`: the request had no offer, so the response made one."""

    START = "start"
    OFFERED = "offered"
    EARLY = "early"
    ANSWERED = "answered"
    EMPTY = "empty"
    COUNTER = "counter"
    ENDED = "ended"

    __hash__ = object.__hash__


class Event(Enum):
    """A message, seen by this machine. `RELIABLE_SDP`: 101-199 with Require: 100rel (RFC 3262)."""

    REQUEST_SDP = "request with SDP"
    REQUEST = "request"
    PROVISIONAL_SDP = "1xx with SDP"
    RELIABLE_SDP = "reliable 1xx with SDP"
    OK_SDP = "2xx with SDP"
    OK = "2xx"
    FAILED = "3xx-6xx"
    ACK_SDP = "ACK or PRACK with SDP"
    ACK = "ACK"

    __hash__ = object.__hash__


class Role(Enum):
    """What the message means for the media.

    `FINAL_ANSWER` is an answer that nothing in this transaction takes back. `COMMIT`: no SDP, the preview stands.
    `REFUSED`: the offer is off, the session is as it was before it (RFC 3261 section 14.1).
    """

    NOTHING = "nothing"
    OFFER = "offer"
    ANSWER = "answer"
    FINAL_ANSWER = "final answer"
    COMMIT = "commit"
    REFUSED = "refused"


_S, _E, _R = State, Event, Role
TABLE: dict[tuple[State, Event], tuple[Role, State]] = {
    # The offer is in the request (RFC 6337 table 1, patterns 1, 3, 5, 6).
    (_S.START, _E.REQUEST_SDP): (_R.OFFER, _S.OFFERED),
    (_S.OFFERED, _E.PROVISIONAL_SDP): (_R.ANSWER, _S.EARLY),
    (_S.OFFERED, _E.RELIABLE_SDP): (_R.FINAL_ANSWER, _S.ANSWERED),
    (_S.OFFERED, _E.OK_SDP): (_R.FINAL_ANSWER, _S.ANSWERED),
    (_S.OFFERED, _E.OK): (_R.REFUSED, _S.ENDED),  # no answer at all: nothing was agreed
    (_S.OFFERED, _E.FAILED): (_R.REFUSED, _S.ENDED),
    (_S.EARLY, _E.PROVISIONAL_SDP): (_R.ANSWER, _S.EARLY),
    (_S.EARLY, _E.RELIABLE_SDP): (_R.FINAL_ANSWER, _S.ANSWERED),
    (_S.EARLY, _E.OK_SDP): (_R.FINAL_ANSWER, _S.ANSWERED),
    (_S.EARLY, _E.OK): (_R.COMMIT, _S.ANSWERED),
    (_S.EARLY, _E.FAILED): (_R.REFUSED, _S.ENDED),
    (_S.ANSWERED, _E.PROVISIONAL_SDP): (_R.ANSWER, _S.ANSWERED),
    (_S.ANSWERED, _E.RELIABLE_SDP): (_R.FINAL_ANSWER, _S.ANSWERED),
    (_S.ANSWERED, _E.OK_SDP): (_R.FINAL_ANSWER, _S.ANSWERED),
    (_S.ANSWERED, _E.OK): (_R.COMMIT, _S.ANSWERED),
    (_S.ANSWERED, _E.FAILED): (_R.REFUSED, _S.ENDED),  # a re-INVITE that fails late undoes its changes (RFC 6337 3.4)
    # The offer is in the response (patterns 2 and 4).
    (_S.START, _E.REQUEST): (_R.NOTHING, _S.EMPTY),
    (_S.EMPTY, _E.PROVISIONAL_SDP): (_R.OFFER, _S.COUNTER),
    (_S.EMPTY, _E.RELIABLE_SDP): (_R.OFFER, _S.COUNTER),
    (_S.EMPTY, _E.OK_SDP): (_R.OFFER, _S.COUNTER),
    (_S.EMPTY, _E.FAILED): (_R.NOTHING, _S.ENDED),
    (_S.COUNTER, _E.PROVISIONAL_SDP): (_R.OFFER, _S.COUNTER),
    (_S.COUNTER, _E.RELIABLE_SDP): (_R.OFFER, _S.COUNTER),
    (_S.COUNTER, _E.OK_SDP): (_R.OFFER, _S.COUNTER),
    (_S.COUNTER, _E.ACK_SDP): (_R.FINAL_ANSWER, _S.ANSWERED),
    (_S.COUNTER, _E.ACK): (_R.REFUSED, _S.ENDED),
    (_S.COUNTER, _E.FAILED): (_R.REFUSED, _S.ENDED),
    (_S.ANSWERED, _E.ACK_SDP): (_R.FINAL_ANSWER, _S.ANSWERED),  # the ACK of a retransmitted 2xx
}
"""Every transition that means something."""


def step(state: State, event: Event) -> tuple[Role, State]:
    """The role of a message and the state after it; (NOTHING, `state`) for a pair without a row."""
    return TABLE.get((state, event)) or (Role.NOTHING, state)


def request_event(has_sdp: bool) -> Event:
    """The event of an INVITE, UPDATE or PRACK that starts an exchange."""
    return Event.REQUEST_SDP if has_sdp else Event.REQUEST


def ack_event(has_sdp: bool) -> Event:
    """The event of an ACK, or of a PRACK that the INVITE's exchange awaits an answer in."""
    return Event.ACK_SDP if has_sdp else Event.ACK


def response_event(code: int, has_sdp: bool, reliable: bool) -> Event | None:
    """The event of a response; None for one that has no influence (100, 1xx without SDP)."""
    if code >= 300:
        return Event.FAILED
    if code >= 200:
        return Event.OK_SDP if has_sdp else Event.OK
    if not has_sdp or code == 100:
        return None
    return Event.RELIABLE_SDP if reliable else Event.PROVISIONAL_SDP
