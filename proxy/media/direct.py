"""Calls without a B2BUA on the way: caller and callee share one dialog, and each hears the other's rendition.

Theory of operation. Every fork branch of the initial INVITE has a party of its own with its own via-branch, and one
offer is made per branch, so branches with different answers do not disturb each other. The branch that answers first
with a 2xx becomes the callee of the dialog; from then on an offer from either side is one offer and one answer.
"""

from __future__ import annotations

from ng_protocol import NgError

from .dialogue import Refusal
from .engine import Engine, NoNode
from .session import Exchange, Leg, Offer, Party


class Direct:
    """Offers, answers and outcomes of a direct leg. Methods raise NgError or NoNode."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def callee(self, leg: Leg, branch: bytes | None) -> Party:
        """The party of this branch; made when the branch is new. None is the branch of a dialog without forks."""
        if leg.callee is not None:
            return leg.callee
        key = branch or b""
        party = leg.callees.get(key)
        if party is None:
            session = leg.session
            name = session.new_name("B")
            tag = session.new_tag(f"leg-{name}")
            policy = self.engine.policy
            party = Party(
                session, name, tag, via_branch=f"br-{tag[4:]}", interface=policy.public, profile=policy.callee_profile,
                origin=session.new_origin(),
            )  # fmt: skip
            leg.callees[key] = party
        return party

    async def offer(self, x: Exchange, sdp: bytes, author: Party, receiver: Party) -> bytes | Refusal:
        """An offer of `author`, as `receiver` may see it; 491 while the other side's is in progress."""
        session, now = x.leg.session, self.engine.clock()
        if not x.initial and session.busy(author, now):
            return Refusal(491, b"Request Pending")
        offer = Offer(author, author, receiver, sdp, now, x.initial)
        x.offer, x.home = offer, True
        if not x.initial:
            session.offers[author] = offer
        author.pending = sdp
        x.shown = await self.engine.offer(author, receiver, sdp)
        return receiver.origin.stamp(x.shown.made)

    async def answer(self, x: Exchange, sdp: bytes, answerer: Party) -> bytes:
        """The answer of `answerer`, as the offerer may see it."""
        assert x.offer is not None
        x.answer = await self.engine.answer(x.offer.author, answerer, sdp, x.shown)
        answerer.pending = sdp
        return x.offer.author.origin.stamp(x.answer.made)

    def agreed(self, x: Exchange, answerer: Party) -> None:
        """The answer is final."""
        offer, leg = x.offer, x.leg
        if offer is None:
            return
        author = offer.author
        author.original, author.settled, author.heard = offer.original, True, x.answer or author.heard
        answerer.original, answerer.settled, answerer.heard = answerer.pending, True, x.shown or answerer.heard
        if leg.callee is None:
            leg.callee = author if answerer is leg.phone else answerer
        leg.session.release(offer)

    async def refused(self, x: Exchange, code: int) -> None:
        """The offer is off; a re-INVITE's is undone in rtpengine too."""
        offer = x.offer
        if offer is None:
            return
        session = x.leg.session
        session.release(offer)
        offer.author.pending = offer.author.original
        if x.initial:
            return
        self.engine.note(session, f"offer of {offer.author.name} refused with {code}: rolled back")
        try:
            await self.engine.associate(offer.author, offer.receiver)
        except (NgError, NoNode) as error:
            self.engine.note(session, f"roll-back failed: {error}")
