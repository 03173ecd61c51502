"""The response context of RFC 3261 16.7: one request on its way to one or more branches, and its answers coming back.

How it works: a ``Relay`` belongs to a server transaction and holds a ``Branch`` per destination tried. Everything
here is ring 1: a response goes up in the same call in which it came in. Only when its SDP needs an answer from
rtpengine is it put into ``queue`` for the story (a trio task, ``core``/``routing``) which hands it back to
``process`` afterwards; once something is queued, later responses queue behind it, so order is kept.

Branches are tried in rounds (one ``await call.relay(...)`` each). A round ends with a 2xx, which is passed on at
once, or when every branch of it has failed; then its best response (``best_of``) is the round's result and the
routing script, or for in-dialog requests the relay itself, decides what goes up. 408 and 503 for branches that time
out or cannot be reached are made in ``Branch.fail`` and nowhere else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from proxy.flow import Address, Flow
from proxy.sip.message import H, Request, Response, make_cancel, make_response
from proxy.sip.parser import BadMessage
from proxy.sip.transaction import TERMINATED
from proxy.stack import Ignored, Transaction

if TYPE_CHECKING:
    from proxy.core import Alarm, Core
    from proxy.dialogs import Dialog
    from proxy.media.session import Leg

_PREFERRED = (401, 407, 415, 420, 484)


class Target:
    """One place a request can be sent to.

    ``uri`` becomes the Request-URI, ``addr`` is where the datagram goes; ``first_reply`` (seconds) is how long to wait
    for any answer at all; ``report`` is told how it went ("ok", "icmp", "503", "timeout"); ``received`` is the outer
    address of a phone behind NAT; ``routes`` are Route values to be put on top, first hop first (RFC 3327).
    """

    __slots__ = ("addr", "first_reply", "flow", "name", "received", "report", "routes", "uri")

    def __init__(
        self,
        uri: bytes,
        flow: Flow,
        name: str = "",
        first_reply: float | None = None,
        report: Callable[[str], None] | None = None,
        received: Address | None = None,
        routes: tuple[bytes, ...] = (),
    ) -> None:
        self.uri = uri
        self.flow = flow
        self.addr: Address = flow.addr
        self.name = name
        self.first_reply = first_reply
        self.report = report
        self.received = received
        self.routes = routes


class Branch:
    """One destination of a relay: the copy of the request sent there and what came of it. A ``ClientUser`` of the
    stack."""

    __slots__ = (
        "alarms",
        "answered",
        "branch",
        "cancel_wanted",
        "cancelled",
        "final",
        "given_up",
        "leg",
        "local",
        "relay",
        "request",
        "target",
        "timer_c_at",
        "tx",
    )

    def __init__(self, relay: Relay, request: Request, branch: bytes, target: Target) -> None:
        self.relay = relay
        self.request = request
        self.branch = branch
        self.target = target
        self.tx: Transaction | None = None
        self.final: Response | None = None
        self.local = False  # the final response was made here
        self.given_up = False  # nobody waits for the peer's responses any more
        self.answered = False  # anything at all came back
        self.cancel_wanted = False
        self.cancelled = False
        self.timer_c_at = 0.0
        self.alarms: list[Alarm] = []  # what still waits for a final response

    # -- from the stack -------------------------------------------------------------------------------------------

    def on_response(self, tx: Transaction, response: Response, now: float) -> None:
        """A response that the transaction machine let through."""
        relay = self.relay
        report = self.target.report
        if report is not None:
            # FreeSWITCH passes a callee's 503 on with the same code: only without a leg B is it FreeSWITCH's own.
            if response.code == 503 and not relay.came_back:
                report("503")
            elif not self.answered:
                report("ok")
        self.answered = True
        if not _usable(response):
            self._unusable(response, now)
            return
        if response.code < 200:
            if self.cancel_wanted and not self.cancelled:
                self._send_cancel(now)
            if response.code == 100 or self.given_up:
                return
            if relay.is_invite:
                self.timer_c_at = now + relay.core.timers.timer_c
        elif relay.is_invite and response.code < 300 and (self.given_up or relay.final_code >= 300):
            relay.core.outcome.unwanted_2xx(relay, self, response, now)
            return
        if relay.media_must_see(response):
            relay.queue.append((self, response))
            relay.wake()
            return
        relay.process(self, response, now)

    def _unusable(self, response: Response, now: float) -> None:
        """A response that cannot be passed on; when it was the final one, the request still needs an answer."""
        self.relay.core.stats["responses_unusable"] += 1
        if response.code >= 200:
            self.fail(502, now, "bad_response")

    def on_timeout(self, tx: Transaction, now: float) -> None:
        """Timer B or F: nobody answered."""
        self.fail(408, now, "timeout")

    def on_unreachable(self, tx: Transaction, now: float) -> None:
        """ICMP: nothing listens there."""
        self.fail(503, now, "icmp")

    # -- our own doing --------------------------------------------------------------------------------------------

    def fail(self, code: int, now: float, why: str) -> None:
        """End this branch with a response of our own: the one place that makes 408 and 503 (RFC 3261 16.8, 16.9)."""
        if self.final is not None:
            return
        if self.target.report is not None and not (self.answered and why == "timeout"):
            self.target.report(why)
        self.local = self.given_up = True
        relay = self.relay
        relay.core.stats[f"branch_{why}"] += 1
        response = relay.local_response(487 if relay.cancelled else code)
        if relay.queue:
            relay.queue.append((self, response))
            relay.wake()
            return
        relay.process(self, response, now)

    def cancel(self, now: float) -> None:
        """CANCEL a pending branch, at once or when its first provisional response allows it (RFC 3261 9.1)."""
        if self.final is not None or self.cancelled or not self.relay.is_invite:
            return
        self.cancel_wanted = True
        if self.answered:
            self._send_cancel(now)

    def _send_cancel(self, now: float) -> None:
        self.cancelled = True
        core = self.relay.core
        request = make_cancel(self.request)
        if self.relay.cancel_reason is not None:
            request.append(H.REASON, self.relay.cancel_reason)
        core.stack.send_request(request, self.branch, self.target.flow, _CANCEL_USER, now)
        core.alarm(now + core.timers.cancel, self._cancel_unanswered)

    def _cancel_unanswered(self, now: float) -> None:
        """RFC 3261 9.1: no final response 64*T1 after the CANCEL, the transaction counts as cancelled."""
        self.relay.core.drop_client(self.tx)
        self.fail(487, now, "cancelled")

    def first_reply_due(self, now: float) -> None:
        """No response of any kind in time. Should one come later, a provisional one is answered with CANCEL."""
        if not self.answered and self.final is None and self.tx is not None:
            self.relay.core.stack.hush(self.tx)
            self.cancel(now)
            self.fail(408, now, "timeout")

    def too_large(self, now: float) -> None:
        """With our headers on it the request does not fit into a datagram (RFC 3261 21.5.14)."""
        self.fail(513, now, "too_large")

    def invite_due(self, now: float) -> None:
        """The INVITE timer, or timer C (RFC 3261 16.8): ringing for too long."""
        if self.final is not None or self.cancelled:
            return
        if now < self.timer_c_at and self.timer_c_at < self.relay.started + self.relay.core.timers.invite:
            self.alarms.append(self.relay.core.alarm(self.timer_c_at, self.invite_due))
            return
        self.cancel(now)
        self.fail(408, now, "timeout")


def _usable(response: Response) -> bool:
    """Whether its To can be read and somebody's Via is left below ours (RFC 3261 16.7 item 3)."""
    try:
        _ = response.to_tag
    except BadMessage:
        return False
    return response.has_more_vias


_CANCEL_USER = Ignored()


class Relay:
    """One request being relayed. ``tx`` is its server transaction, ``reply_to`` where its responses go."""

    __slots__ = (
        "branches",
        "cancel_reason",
        "cancelled",
        "core",
        "dialog",
        "final_code",
        "from_caller",
        "from_phone",
        "initial",
        "is_invite",
        "leg",
        "nat",
        "on_cancelled",
        "queue",
        "request",
        "result",
        "round",
        "sent_2xx",
        "started",
        "story",
        "tx",
        "wake_up",
    )

    def __init__(self, core: Core, request: Request, tx: Transaction, now: float) -> None:
        self.core = core
        self.request = request
        self.tx = tx
        self.is_invite = request.method == "INVITE"
        self.started = now
        self.branches: list[Branch] = []
        self.round: list[Branch] = []
        self.result: Response | None = None  # of the current round
        self.final_code = 0  # of the final response sent up, 0 while none was
        self.cancelled = False
        self.cancel_reason: bytes | None = None
        self.queue: deque[tuple[Branch, Response]] = deque()
        self.sent_2xx: dict[bytes, bytes] = {}
        self.dialog: Dialog | None = None
        self.leg: Leg | None = None
        self.from_caller = True
        self.from_phone = True  # the request comes from the media leg's phone (in a direct call: from the caller)
        self.initial = True
        self.nat = False  # the responder's side is behind NAT: alias for Contacts of its responses
        self.story = False  # a task is waiting for the round's result
        self.wake_up: Callable[[], None] | None = None
        self.on_cancelled: Callable[[], None] | None = None
        tx.user = self

    @property
    def came_back(self) -> bool:
        """Whether FreeSWITCH has made a leg B of this call: a failure may then be the callee's."""
        leg = self.leg
        return leg is not None and not leg.direct and leg.session.bridged

    # -- rounds ---------------------------------------------------------------------------------------------------

    def new_round(self) -> None:
        """Forget the last round's result; its branches are over."""
        self.round = []
        self.result = None

    def send(self, branch: Branch, now: float) -> None:
        """Send a prepared branch."""
        core = self.core
        self.branches.append(branch)
        self.round.append(branch)
        branch.tx = core.stack.send_request(branch.request, branch.branch, branch.target.flow, branch, now)
        if branch.tx.state is TERMINATED:
            core.alarm(now, branch.too_large)  # soon, not now: the round's other branches are still to be sent
            return
        if self.is_invite:
            first = branch.target.first_reply
            branch.timer_c_at = now + core.timers.timer_c
            branch.alarms = [
                core.alarm(now + (core.timers.first_reply if first is None else first), branch.first_reply_due),
                core.alarm(now + min(core.timers.invite, core.timers.timer_c), branch.invite_due),
            ]

    # -- answers --------------------------------------------------------------------------------------------------

    def media_must_see(self, response: Response) -> bool:
        """Does this response wait for rtpengine, or for an earlier one that does?"""
        if self.queue:
            return True
        leg = self.leg
        if leg is None:
            return False
        anchor = self.core.anchor
        return anchor is not None and anchor.needs(leg, response, self.request)

    def wake(self) -> None:
        """Tell the story, or start one when the last has ended (a second 2xx after the call's task is gone)."""
        if self.wake_up is not None:
            self.wake_up()
        elif not self.story:
            self.story = True
            self.core.start_story(self.core.stories.late_responses, self)

    def process(self, branch: Branch, response: Response, now: float) -> None:
        """One response, its SDP already taken care of (RFC 3261 16.7 steps 3 to 10)."""
        code = response.code
        if code < 200:
            if not self.final_code:
                self.send_up(branch, response, now)
            return
        first = branch.final is None
        branch.final = response
        if branch.alarms:
            for alarm in branch.alarms:
                alarm.cancel()
            branch.alarms = []
        if code < 300:
            if self.is_invite or not self.final_code:
                self._pass_2xx(branch, response, now)
            return
        if not first or branch not in self.round:
            return
        self.core.outcome.branch_failed(self, branch, response)
        if code >= 600:
            self.cancel_others(branch, now)
        if self.result is None and all(other.final is not None for other in self.round):
            self.finish_round(self._best(), now)

    def _best(self) -> Response:
        """What a failed round comes to; of a cancelled request 487 (RFC 3261 9.2), whatever failed before."""
        if not self.cancelled:
            return best_of(self.round)
        finals = (branch.final for branch in self.round)
        return next((one for one in finals if one is not None and one.code == 487), None) or self.local_response(487)

    def _pass_2xx(self, branch: Branch, response: Response, now: float) -> None:
        tag = response.to_tag
        again = self.sent_2xx.get(tag) if self.is_invite else None
        if again is not None:
            self.core.stack.respond(self.tx, response.code, again, now)
            return
        data = self.send_up(branch, response, now)
        if self.is_invite:
            self.sent_2xx[tag] = data
            self.cancel_others(branch, now)
        if self.result is None:
            self.result = response
            self.core.outcome.relay_done(self, branch, response, now)
        if self.wake_up is not None:
            self.wake_up()

    def finish_round(self, best: Response, now: float) -> None:
        """All branches failed: tell the story, or send the best response up ourselves."""
        self.result = best
        if self.wake_up is not None:
            self.wake_up()
        elif not self.story:
            self.reply_best(best, now)

    def reply_best(self, best: Response, now: float) -> None:
        """Send a round's best failure up (RFC 3261 16.7 item 6)."""
        if self.final_code:
            return
        chosen = next((branch for branch in self.round if branch.final is best), None)
        if best.code == 503 and chosen is not None:
            # A 503 says that *we* cannot take requests: pass a branch's failure on as 500 (16.7 item 6), but let our
            # own 503 stand (no rtpengine takes the call: the next request would fare no better).
            best.set_status(500, b"Server Internal Error")
        if best.code == 408 and not self.is_invite and (chosen is None or chosen.local):
            # RFC 4320 4.2: no 408 for a non-INVITE that nobody answered; the client's own timer has run out as well.
            self.core.stack.abandon(self.tx)
            self.core.outcome.relay_done(self, chosen, best, now)
            return
        self._add_challenges(best)
        self.send_up(chosen, best, now)
        self.core.outcome.relay_done(self, chosen, best, now)

    def _add_challenges(self, best: Response) -> None:
        """Item 7: a 401 or 407 carries the challenges of all branches that gave one."""
        if best.code not in (401, 407):
            return
        for branch in self.round:
            other = branch.final
            if other is None or other is best or other.code not in (401, 407):
                continue
            for header in (H.WWW_AUTHENTICATE, H.PROXY_AUTHENTICATE):
                for value in other.values(header):
                    best.append(header, value)

    def send_up(self, branch: Branch | None, response: Response, now: float) -> bytes:
        """Pass one response on to whoever sent the request; returns the bytes sent."""
        local = branch is None or (branch.local and response is branch.final)
        if not local:
            assert branch is not None
            response.pop_via()
            self.core.outcome.fix_response(self, branch, response)
        data = response.to_bytes()
        if response.code >= 200 and (self.final_code == 0 or response.code < 300):
            self.final_code = response.code
        self.core.stack.respond(self.tx, response.code, data, now)
        return data

    def local_response(self, code: int, reason: bytes | None = None) -> Response:
        """A response made here for the request of this relay."""
        return make_response(
            self.request, code, reason, to_tag=None if code == 100 else self.core.local_tag(self.request)
        )

    def reply(
        self, code: int, reason: bytes | None, now: float, extra: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        """Answer the request ourselves."""
        if self.final_code:
            return
        response = self.local_response(code, reason)
        for name, value in extra or ():
            response.append(name, value)
        if code >= 200:
            self.final_code = code
        self.core.stack.respond(self.tx, code, response.to_bytes(), now)
        if code >= 200:
            for branch in self.branches:
                branch.cancel(now)
            self.core.outcome.relay_done(self, None, response, now)

    # -- cancelling -----------------------------------------------------------------------------------------------

    def cancel(self, now: float) -> None:
        """The caller gave up: CANCEL every pending branch; their 487s end the round."""
        if self.cancelled or self.final_code:
            return
        self.cancelled = True
        for branch in self.round:
            branch.cancel(now)
        if self.on_cancelled is not None:
            self.on_cancelled()
        if not any(branch.final is None for branch in self.round):
            self.finish_round(self.local_response(487), now)

    def cancel_others(self, winner: Branch, now: float) -> None:
        """A 2xx or 6xx decides: CANCEL the rest (RFC 3261 16.7 item 10)."""
        for branch in self.round:
            if branch is not winner:
                branch.cancel(now)

    # -- from the stack -------------------------------------------------------------------------------------------

    def on_ack(self, tx: Transaction, request: Request, now: float) -> None:
        """An ACK that matched the INVITE's transaction although it was accepted: an RFC 2543 peer; it goes end to
        end."""
        self.core.on_ack(request, tx.flow, now)

    def on_over(self) -> None:
        """The server transaction has ended: let go of the branches, which hold this relay."""
        self.branches = []
        self.round = []


def best_of(round_: list[Branch]) -> Response:
    """The best failure of a round (RFC 3261 16.7 item 6): any 6xx, else the lowest class, within 4xx those that tell
    the caller how to try again; a response from the network before one made here."""

    def rank(branch: Branch) -> tuple[int, int, int]:
        response = branch.final
        assert response is not None
        code = response.code
        if code >= 600:
            return (0, 0, code)
        return (code // 100, 0 if code in _PREFERRED else 2 if branch.local else 1, code)

    best = min(round_, key=rank).final
    assert best is not None
    return best
