"""The story of one relayed request outside a dialog: rounds, branches, media.

``run_rounds`` is what ``await call.relay(...)`` does: for each round it makes a copy of the request per target, lets
the anchor put rtpengine's SDP in, adds Record-Route and Via, sends, and waits for the round's result. A first INVITE
makes a dialog, so that CSeq numbers, aliases and the media session can follow it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.flow import Listener
from proxy.forward import loop_hash
from proxy.relay import Branch, Relay, Target
from proxy.sip.message import H, Request, Response
from proxy.sip.uri import parse_uri_untrusted
from proxy.stories import retry_after

if TYPE_CHECKING:
    from proxy.routing import Call

_DIALOGS = ("SUBSCRIBE", "NOTIFY", "REFER")  # what makes a dialog besides INVITE (RFC 6665 4, RFC 3515)
_NEXT = (408, 503)  # what makes a hunt go on: silence, ICMP, or a 503


@dataclass(frozen=True, slots=True)
class Reply:
    """How a round ended. ``code`` 100-699; ``local`` when the response was made here (timeout, unreachable)."""

    code: int
    reason: str
    local: bool
    response: Response | None = None


async def run_rounds(call: Call, rounds: list[list[Target]], media: bool | None, b2bua: bool) -> Reply:
    """Try each round until one gives an answer that ends the hunt; see ``Call.relay``."""
    relay = call.relay_context
    if not rounds and relay.result is None:
        relay.result = relay.local_response(480)
    reply = _reply(relay, relay.result)
    for targets in rounds:
        if relay.final_code or relay.cancelled:
            return _reply(relay, relay.result)
        relay.new_round()
        if not await _send_round(call, targets, media, b2bua):
            return _reply(relay, relay.result)
        reply = _reply(relay, await call.service.core.stories.round_result(relay))
        if reply.code not in _NEXT or relay.came_back:
            # The callee's own 408 or 503, passed on by FreeSWITCH: no other FreeSWITCH would do better.
            break
    return reply


async def _send_round(call: Call, targets: list[Target], media: bool | None, b2bua: bool) -> bool:
    """Prepare and send one branch per target. False when nothing could be sent; the reason is the round's result."""
    relay = call.relay_context
    core = call.service.core
    anchored = relay.is_invite and core.anchor is not None and (call.service.anchor_calls if media is None else media)
    if anchored and relay.leg is None:
        _join_session(call, b2bua)
    prepared: list[Branch] = []
    for target in targets:
        request = relay.request.copy()
        request.set_uri(target.uri)
        for route in reversed(target.routes):
            request.prepend(H.ROUTE, route)
        out = target.flow.listener
        key = core.stack.new_branch(loop_hash(relay.request))
        if relay.leg is not None and core.anchor is not None:
            if not relay.from_phone or relay.leg.direct:
                core.anchor.set_callee(relay.leg, branch=key, side=out.side, received=target.received)
            refusal = await core.anchor.request(relay.leg, request, relay.from_phone, key)
            if refusal is not None:
                relay.result = relay.local_response(refusal.code, refusal.reason)
                for name, value in retry_after(refusal):
                    relay.result.append(name, value)
                core.anchor.branch_ended(relay.leg, key)
                continue
        if relay.is_invite:
            _into_dialog(call, request, relay, out, anchored)
        elif request.method in _DIALOGS:
            core.outcome.add_record_route(relay, request, call.flow.listener, out)
        branch = core.prepare(relay, request, target, key)
        prepared.append(branch)
    if relay.cancelled:
        relay.result = relay.local_response(487)
        return False
    if prepared:
        relay.result = None
        now = core.clock()
        for branch in prepared:
            relay.send(branch, now)
        return True
    if relay.result is None:
        relay.result = relay.local_response(480)
    return False


def _join_session(call: Call, b2bua: bool) -> None:
    """The first pass makes a session, the second finds it by the media address (rules 1 and 3)."""
    relay = call.relay_context
    core = call.service.core
    anchor = core.anchor
    assert anchor is not None
    request = relay.request
    if call.from_freeswitch:
        relay.from_phone = False
        relay.leg = anchor.second_leg(request, core.clock())
    if relay.leg is None:
        relay.leg = anchor.new_leg(
            request.call_id,
            request.from_tag,
            call.flow.listener.side,
            call.source,
            direct=not b2bua and not call.from_freeswitch,
            caller=_identity(request.get(H.FROM)),
            callee=_identity(request.get(H.TO)),
            nat=call.behind_nat,
            from_freeswitch=call.from_freeswitch,
        )
        relay.leg.session.wish = call.wish


# What most From and To values hold; the URI differs in every call, so parsing it would only fill the URI cache.
_PLAIN_IDENTITY = re.compile(rb"\A[^<]*<sips?:([A-Za-z0-9.\-_+]+)@([a-z0-9.\-]+)[:;>]")


def _identity(value: bytes | None) -> bytes:
    """``user@host`` of a From or To, as an operator reads it."""
    if value is None:
        return b""
    plain = _PLAIN_IDENTITY.search(value)
    if plain is not None:
        return b"%b@%b" % (plain[1], plain[2])
    start, end = value.find(b"<"), value.find(b">")
    uri = parse_uri_untrusted(value[start + 1 : end] if 0 <= start < end else value.partition(b";")[0].strip())
    return b"%b@%b" % (uri.user, uri.host) if uri.user else uri.host


def _into_dialog(call: Call, request: Request, relay: Relay, out: Listener, anchored: bool) -> None:
    """Record-Route always; a dialog when there is something to remember."""
    core = call.service.core
    came = call.flow.listener
    if relay.dialog is None and (anchored or call.behind_nat):
        dialog = core.outcome.new_dialog(relay, relay.request, came, out)
        dialog.phone_calls = relay.from_phone
        if call.behind_nat:
            dialog.caller.alias = call.source
    core.outcome.add_record_route(relay, request, came, out)


def _reply(relay: Relay, response: Response | None) -> Reply:
    if response is None:
        return Reply(487 if relay.cancelled else 480, "No destination", True)
    local = any(branch.local and branch.final is response for branch in relay.round)
    return Reply(response.code, response.reason.decode("latin-1"), local, response)
