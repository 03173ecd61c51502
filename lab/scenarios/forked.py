"""One INVITE answered by two branches behind the callee's own proxy: two To tags."""

from __future__ import annotations

import trio

from lab.call import IncomingCall
from lab.scenario import (
    CALLEE,
    CALLEE_TONE,
    CALLER_TONE,
    SECOND_BRANCH_TONE,
    Findings,
    Lab,
    answered,
    hung_up,
    invited,
    within,
)
from lab.scenarios.basic import Conversation


class ForkedCallee(Conversation):
    """The first branch rings with early media and loses; the second, with another To tag, port and voice, answers."""

    name = "forked_callee"
    summary = "two To tags: the first branch's early media is heard, the second answers and is the only one heard"
    loser: IncomingCall
    early_from: float
    early_until: float

    async def run(self, lab: Lab) -> None:
        caller, callee = await lab.pair()
        self.call = await caller.call(CALLEE)
        self.loser = await invited(callee, self.call)
        self.incoming = await self.loser.fork()
        self.loser.progress()
        await within(self.call.early.wait, 5.0, "the caller never got the first branch's 183 with SDP")
        self.early_from = trio.current_time()
        await trio.sleep(1.2)
        self.early_until = trio.current_time()
        self.incoming.ring()
        await answered(self.call, self.incoming)
        self.loser.finish("the other branch answered")
        self.started = trio.current_time()
        await trio.sleep(self.talk)
        self.stopped = trio.current_time()
        await hung_up(self.call, self.incoming)

    def check(self, see: Findings) -> None:
        see.heard("caller", self.call, CALLEE_TONE, self.early_from, self.early_until, "from the first branch")
        see.heard("caller", self.call, SECOND_BRANCH_TONE, self.started, self.stopped, "from the second branch")
        see.heard("callee", self.incoming, CALLER_TONE, self.started, self.stopped)
        see.once("caller", self.call)
        see.once("callee", self.incoming)
        see.one_origin("caller", self.call)
