"""Ring 2 of the proxy core: the stories, one trio task each, told in order.

A story runs when a message has to wait: for the routing script, for rtpengine's answer about an SDP, for a name. It
waits outside, then hands the message back to ring 1. While a story owns a relay, responses that need it queue up in
``relay.queue`` and ``outcome`` works them off.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from proxy.dialogs import Dialog
from proxy.driver import Wake
from proxy.flow import Flow, Listener
from proxy.forward import next_hop_untrusted
from proxy.relay import Relay, Target
from proxy.sip.message import Request, Response
from proxy.sip.parser import BadMessage

if TYPE_CHECKING:
    from proxy.core import Core
    from proxy.media.anchor import Refusal
    from proxy.routing import Call

log = logging.getLogger("proxy")


def retry_after(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """The headers that go with a refusal."""
    return [] if refusal.retry_after is None else [(b"Retry-After", b"%d" % refusal.retry_after)]


class Stories:
    """The stories of one core."""

    def __init__(self, core: Core) -> None:
        self.core = core

    async def run_route(self, call: Call) -> None:
        """A request outside a dialog: run the routing script, then make sure the request has an answer."""
        relay = call.relay_context
        relay.story = True
        core = self.core
        try:
            await core.run_route(call)
        except BadMessage as bad:
            call.reply(bad.status or 400, bad.reason.decode("latin-1"))
        except Exception:
            # The one boundary around user code: a mistake in a script costs this call a 500, not the others theirs.
            core.stats["route_errors"] += 1
            log.exception("routing script failed for %s, Call-ID %r: answered 500", call.method, relay.request.call_id)
            call.reply(500, "Routing failed")
        finally:
            relay.story = False
        if not call.dropped and not relay.final_code:
            now = core.clock()
            if relay.result is not None:
                relay.reply_best(relay.result, now)
            else:
                relay.reply(487 if relay.cancelled else 404, None, now)

    async def round_result(self, relay: Relay) -> Response:
        """Wait until the current round has its result, working off responses that need rtpengine meanwhile."""
        waiting = Wake(self.core.driver)
        relay.wake_up = waiting.wake
        try:
            while True:
                if relay.queue:
                    await self._work_off(relay)
                if relay.result is not None:
                    return relay.result
                await waiting.wait()
        finally:
            relay.wake_up = None

    async def _work_off(self, relay: Relay) -> None:
        """Ask rtpengine about each queued response, oldest first, then let it go up."""
        core = self.core
        while relay.queue:
            branch, response = relay.queue[0]
            try:
                if relay.leg is not None and core.anchor is not None and not (relay.initial and response.code >= 300):
                    tag = response.to_tag
                    if relay.is_invite and response.code < 300 and tag in relay.sent_2xx:
                        refusal = None  # a retransmission: what went up before goes up again
                    else:
                        refusal = await core.anchor.response(
                            relay.leg, relay.request, response, not relay.from_phone, branch.branch
                        )
                    if refusal is not None:
                        response = core.outcome.reject_answer(relay, branch, response, refusal)
            except BadMessage as bad:
                core.stats["bad_messages"] += 1
                log.warning("answer of %s could not be used: %s", branch.target.addr, bad)
            finally:
                relay.queue.popleft()
            relay.process(branch, response, core.clock())

    async def late_responses(self, relay: Relay) -> None:
        """Responses that need rtpengine after the relay's own story has ended: another fork's 2xx."""
        try:
            await self._work_off(relay)
        finally:
            relay.story = False
        if relay.result is not None and not relay.final_code:
            relay.reply_best(relay.result, self.core.clock())

    async def in_dialog(self, relay: Relay, leaves: Listener) -> None:
        """A re-INVITE, UPDATE or PRACK whose SDP (or missing SDP) concerns the media session."""
        core = self.core
        relay.story = True
        try:
            assert relay.leg is not None and core.anchor is not None
            request = relay.request
            media = request.copy()
            refusal = await core.anchor.request(relay.leg, media, relay.from_phone, None)
            now = core.clock()
            if refusal is not None:
                relay.reply(refusal.code, refusal.reason, now, retry_after(refusal))
                return
            if relay.dialog is not None:
                relay.dialog.translate(media, relay.from_caller)
            target = await self._target(media, relay.dialog, leaves, relay.tx.flow)
            if target is None:
                relay.reply(404, b"Destination unknown", core.clock())
                return
            relay.send(core.prepare(relay, media, target), core.clock())
            result = await self.round_result(relay)
            if not relay.final_code:
                relay.reply_best(result, core.clock())
        except BadMessage as bad:
            relay.reply(bad.status or 400, bad.reason, core.clock())
        except Exception:
            relay.reply(500, b"Internal Error", core.clock())
            raise
        finally:
            relay.story = False

    async def ack(self, request: Request, dialog: Dialog, leaves: Listener, came: Flow) -> None:
        """An ACK with an SDP: the answer to a late offer."""
        core = self.core
        assert dialog.leg is not None and core.anchor is not None
        try:
            await core.anchor.request(dialog.leg, request, dialog.from_phone(dialog.from_caller(request)), None)
            target = await self._target(request, dialog, leaves, came)
        except BadMessage as bad:
            core.stats["acks_dropped"] += 1
            log.warning("ACK of Call-ID %r dropped: %s", dialog.call_id, bad)
            return
        if target is not None:
            core.send_ack_to(request, target.flow)

    async def resolve_in_dialog(self, relay: Relay, request: Request, leaves: Listener) -> None:
        """An in-dialog request whose next hop is a name."""
        target = await self._target(request, relay.dialog, leaves, relay.tx.flow)
        now = self.core.clock()
        if target is None:
            relay.reply(404, b"Destination unknown", now)
            return
        relay.send(self.core.prepare(relay, request, target), now)

    async def resolve_ack(self, request: Request, leaves: Listener, came: Flow) -> None:
        """An ACK whose next hop is a name."""
        target = await self._target(request, None, leaves, came)
        if target is not None:
            self.core.send_ack_to(request, target.flow)

    async def _target(self, request: Request, dialog: Dialog | None, leaves: Listener, came: Flow) -> Target | None:
        core = self.core
        target = core.in_dialog_target_untrusted(request, dialog, leaves, came)
        if target is not None or core.resolve is None:
            return target
        addr = await core.resolve(next_hop_untrusted(request))
        return None if addr is None else Target(request.uri, leaves.flow(addr))
