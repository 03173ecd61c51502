"""Ends calls that nobody will end: the other half of "delete on BYE".

An endpoint can vanish without a BYE: no ACK within 64*T1, a session timer that runs out, 481 to a re-INVITE, the node
knows the call no more, no packet either way for too long. Each of these comes here, and the call is hung up: a BYE to
both sides of every dialog of the session, as if from the other side, with a Reason header that says why; the media is
deleted when the BYEs are answered or given up.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from proxy.dialogs import Dialog
from proxy.sip.message import Response
from proxy.uac import OwnRequest, OwnRequests

if TYPE_CHECKING:
    from proxy.core import Core
    from proxy.media.anchor import Anchor
    from proxy.media.session import Leg, Session

log = logging.getLogger("proxy")


class Supervisor:
    """Hangs up on behalf of vanished endpoints, and sends the anchor's own re-INVITEs."""

    def __init__(self, core: Core, anchor: Anchor | None) -> None:
        self.core = core
        self.anchor = anchor
        self.own = OwnRequests(core)
        core.end_session = self.end_session
        core.refuse_callee = self.own.refuse_callee
        if anchor is not None:
            anchor.own = self

    def dialog_of(self, leg: Leg) -> Dialog | None:
        """The dialog whose media leg this is."""
        return self.core.dialogs.get(leg.call_id, leg.from_tag)

    def spawn(self, job: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run a job of the anchor as a story of its own."""
        self.core.start_story(job, *args)

    async def reinvite(self, leg: Leg, to_phone: bool, sdp: bytes) -> Response:
        """A re-INVITE of ours on one leg, to its phone or to FreeSWITCH: the final response, 481 when the dialog is
        gone."""
        dialog = self.dialog_of(leg)
        if dialog is None or dialog.ended:
            return Response(481, b"Dialog gone", b"SIP/2.0 481 Dialog gone", [], [], b"")
        to_caller = dialog.phone_calls if to_phone else not dialog.phone_calls
        return await self.own.send(dialog, to_caller, "INVITE", sdp)

    def prepare_reinvite(self, leg: Leg, to_phone: bool, sdp: bytes) -> OwnRequest | None:
        """The same, built but not sent, its CSeq number spent; None when the dialog is gone or nobody can be
        reached."""
        dialog = self.dialog_of(leg)
        if dialog is None or dialog.ended:
            return None
        to_caller = dialog.phone_calls if to_phone else not dialog.phone_calls
        return self.own.prepare(dialog, to_caller, "INVITE", sdp)

    def lost(self, session: Session) -> None:
        """The node does not know the call any more: nothing can be heard in it."""
        self.core.stats["sessions_lost"] += 1
        self.core.start_story(self.hangup, session, b'SIP;cause=503;text="Media lost"')

    def silent(self, session: Session, seconds: float) -> None:
        """No packet either way for too long, and nobody holds."""
        self.core.stats["sessions_silent"] += 1
        self.core.start_story(self.hangup, session, b'SIP;cause=408;text="No media for %d s"' % int(seconds))

    async def hangup(self, session: Session, reason: bytes) -> None:
        """End every dialog of a session."""
        self.end(session, reason)

    def end(self, session: Session, reason: bytes) -> None:
        """The same, at once."""
        self.end_dialogs([dialog for leg in list(session.legs) if (dialog := self.dialog_of(leg)) is not None], reason)

    def end_session(self, dialog: Dialog, reason: bytes) -> None:
        """End the call a dialog belongs to."""
        leg = dialog.leg
        if leg is None:
            self.end_dialogs([dialog], reason)
            return
        found = [other for one in list(leg.session.legs) if (other := self.dialog_of(one)) is not None]
        self.end_dialogs(found or [dialog], reason)

    def end_dialogs(self, dialogs: list[Dialog], reason: bytes) -> None:
        """BYE both sides of each, and let the media session go."""
        for dialog in dialogs:
            if dialog.ended:
                continue
            log.info("ending call %s: %s", dialog.call_id.decode("latin-1"), reason.decode("latin-1"))
            self.core.stats["calls_ended_here"] += 1
            self.own.hang_up(dialog, reason)
            self.core.outcome.dialog_over(dialog)
