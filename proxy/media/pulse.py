"""The pulse of one node: from pings, replies, refusals and canary packets to evidence, on a clock given from outside.

Theory of operation. `watch` tells what it does and sees, with the time; `evidence(now)` says what that amounts to, and
changes nothing. Any reply on the control channel counts as a sign of life, not only a pong. Silence begins with the
last reply and counts only while a ping is unanswered, so a slow ticker makes no node silent, and `stalled` pushes all
times forward when it was this process that slept: a paused proxy must not take its whole fleet for dead.

A refusal is proof unless a canary packet passed the node after the first refusal: then a packet filter refuses for it,
and it is a partition. Proof are two by the control port, or one by it and one by the canary's RTP port: a Linux kernel
sends one host six ICMP errors and then one a second (icmp_ratelimit), and a busy proxy has used them up before a second
refusal by the control port could tell anything. A control port that is silent is proof only together with the canary,
whose silence is counted in canary packets; without a usable canary the limit is longer (`down_after_blind`). Pure: no
clock, no sockets.
"""

from __future__ import annotations

from dataclasses import dataclass

from .nodes import Evidence, Observed

CANARY_MISSES = 3
"""Canary packets in a row that must be missing before it counts as silent."""


@dataclass(frozen=True, slots=True)
class Detection:
    """Seconds. See `[nodes]` in docs/configuration.md for what each one is."""

    ping: float = 0.1
    suspect_pings: int = 2
    down_after: float = 0.6
    down_after_blind: float = 2.0
    partition_grace: float = 0.6
    half_dead_after: float = 1.0
    steady: float = 0.5
    statistics: float = 1.0


class Pulse:
    """What is known of one node's signs of life. Times are monotonic seconds."""

    __slots__ = (
        "_asked",
        "_canary_refused",
        "_canary_since",
        "_config",
        "_heard",
        "_media_heard",
        "_missed",
        "_refused",
        "_refused_first",
        "_steady_since",
    )

    def __init__(self, config: Detection, now: float) -> None:
        self._config = config
        self._heard = now
        self._asked: float | None = None
        self._missed = 0
        self._steady_since: float | None = now
        self._refused = False
        self._refused_first: float | None = None
        self._canary_refused = False
        self._canary_since: float | None = None
        self._media_heard: float | None = None

    # -- what the watch does and sees ------------------------------------------------------------------------------

    def pinged(self, now: float) -> None:
        """A ping left."""
        if self._asked is None:
            self._asked = now
            self._missed = 0
        else:
            self._missed += 1
            if self._missed >= self._config.suspect_pings:
                self._steady_since = None

    def answered(self, now: float) -> None:
        """A reply came, to whatever command."""
        if now < self._heard:
            return
        self._heard = now
        self._asked = None
        self._refused = False
        self._refused_first = None
        self._canary_refused = False
        if self._steady_since is None:
            self._steady_since = now

    def refusal(self, now: float) -> None:
        """One ICMP error from the control port, which proves something only together with the canary's."""
        if self._refused_first is None:
            self._refused_first = now
        if self._canary_refused:
            self._prove()

    def refused(self, now: float) -> None:
        """Refused twice by the control port, without a reply in between."""
        self.refusal(now)
        self._prove()

    def canary_refused(self) -> None:
        """One ICMP error from the RTP port of a canary that was heard."""
        self._canary_refused = self.canary_usable
        if self._canary_refused and self._refused_first is not None:
            self._prove()

    @property
    def proven(self) -> bool:
        """Whether refusals have proven that nobody is there."""
        return self._refused

    def _prove(self) -> None:
        self._refused = True
        self._steady_since = None

    def canary_made(self, now: float) -> None:
        """The canary call stands; packets are on their way."""
        self._canary_since = now
        self._media_heard = None

    def canary_gone(self) -> None:
        """There is no canary call (any more)."""
        self._canary_since = None
        self._media_heard = None

    def media(self, now: float) -> None:
        """A canary packet came through the node."""
        if self._canary_since is not None:
            self._media_heard = now

    def stalled(self, seconds: float) -> None:
        """This process did not run for so long: none of that time was the node's silence."""
        self._heard += seconds
        if self._asked is not None:
            self._asked += seconds
        if self._media_heard is not None:
            self._media_heard += seconds
        if self._steady_since is not None:
            self._steady_since += seconds

    # -- what it amounts to ----------------------------------------------------------------------------------------

    @property
    def canary_usable(self) -> bool:
        """A canary that was heard at least once since it was made; another one's silence says nothing."""
        return self._media_heard is not None

    def answering(self) -> bool:
        """Whether no ping is unanswered but, perhaps, the last one."""
        return not self._refused and (self._asked is None or self._missed == 0)

    def media_quiet(self, now: float) -> float | None:
        """Seconds since the last canary packet; None: no usable canary."""
        return None if self._media_heard is None else now - self._media_heard

    def canary_heard(self, now: float) -> bool:
        """Whether there is a usable canary that is not silent."""
        quiet = self.media_quiet(now)
        return quiet is not None and quiet < self._canary_limit

    def canary_doubtful(self, now: float) -> bool:
        """A canary that misses more than one packet although control answers: ask the node whether it knows it."""
        since = self._canary_since if self._media_heard is None else self._media_heard
        return since is not None and now - since > 1.75 * self._config.ping and self.answering()

    @property
    def _canary_limit(self) -> float:
        return (CANARY_MISSES + 0.5) * self._config.ping

    def evidence(self, now: float, observed: Observed, others_heard: bool = True) -> Evidence | None:
        """What the signs amount to for a node in this state, None when nothing is new. `others_heard`: whether canaries
        of other nodes are heard, or there are none: if all are silent, it is not the nodes."""
        config = self._config
        quiet = self.media_quiet(now)
        if self._refused:
            since = self._refused_first
            passed = since is not None and self._media_heard is not None and self._media_heard > since
            return Evidence.CUT_OFF if passed else Evidence.REFUSED
        if self._asked is not None:
            silent = now - self._heard
            if silent >= config.down_after:
                if quiet is None:
                    return Evidence.SILENT if silent >= config.down_after_blind else Evidence.MISSED
                limit = config.partition_grace if observed is Observed.PARTITIONED else self._canary_limit
                return Evidence.CUT_OFF if quiet < limit else Evidence.SILENT
            if now - self._asked >= config.suspect_pings * config.ping and silent > config.suspect_pings * config.ping:
                return Evidence.MISSED
            return None
        return self._evidence_while_answering(now, observed, quiet, others_heard)

    def _evidence_while_answering(
        self, now: float, observed: Observed, quiet: float | None, others_heard: bool
    ) -> Evidence | None:
        config = self._config
        steady = self._steady_since is not None and now - self._steady_since >= config.steady
        dead_media = quiet is not None and quiet >= config.half_dead_after and others_heard
        if observed in (Observed.SUSPECT, Observed.PARTITIONED):
            return Evidence.ANSWERS
        if observed is Observed.DOWN:
            if not steady:
                return None
            if quiet is None or quiet < self._canary_limit:
                return Evidence.ANSWERS
            return Evidence.MEDIA_SILENT if dead_media and now - (self._steady_since or 0.0) >= 1.0 else None
        if observed is Observed.HALF_DEAD:
            return Evidence.MEDIA_HEARD if quiet is not None and quiet < self._canary_limit else None
        return Evidence.MEDIA_SILENT if dead_media else None


def restarted(uptime: int, known_for: float) -> bool:
    """Whether a daemon that is up for `uptime` whole seconds, and no longer knows a call that was made `known_for`
    seconds ago, has been restarted since; else only that call is gone. A call younger than the clock is fine is taken
    for lost with all others."""
    return known_for <= 2.0 or known_for > uptime + 1.0


def fell(uptime: int, before: int, elapsed: float) -> bool:
    """Whether an uptime proves a restart, `elapsed` seconds after it was `before`. One second less proves nothing."""
    return uptime + 1.5 < before + elapsed
