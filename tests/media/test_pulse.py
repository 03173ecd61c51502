"""From pings, refusals and canary packets to evidence, on a clock that is a number."""

from __future__ import annotations

import pytest

from proxy.media.nodes import Evidence, Observed
from proxy.media.pulse import Detection, Pulse, fell, restarted


class Life:
    """A node's life in steps of 50 ms, as the watch drives it: ping, canary, ping, ..."""

    def __init__(self, *, canary: bool = True, config: Detection | None = None) -> None:
        self.now = 100.0
        self.observed = Observed.UP
        self.pulse = Pulse(config or Detection(), self.now)
        self.control = True
        self.media = canary
        self.others_heard = True
        self.seen: list[tuple[float, Evidence]] = []
        self._steps = 0
        if canary:
            self.pulse.canary_made(self.now)
        self.live(1.0)
        self.seen.clear()

    def live(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.now += 0.05
            self._steps += 1
            if self._steps % 2:
                self.pulse.pinged(self.now)
                if self.control:
                    self.pulse.answered(self.now + 0.001)
            elif self.media:
                self.pulse.media(self.now + 0.001)
            evidence = self.pulse.evidence(self.now + 0.002, self.observed, self.others_heard)
            if evidence is not None and (not self.seen or self.seen[-1][1] is not evidence):
                self.seen.append((self.now, evidence))

    def words(self) -> list[Evidence]:
        return [evidence for _, evidence in self.seen]


def test_a_healthy_node_gives_no_evidence() -> None:
    life = Life()
    life.live(5.0)
    assert life.seen == []


def test_a_dead_host_is_suspect_then_down_in_six_tenths() -> None:
    life = Life()
    start, life.control, life.media = life.now, False, False
    life.live(2.0)
    (suspect_at, suspect), (down_at, down) = life.seen
    assert (suspect, down) == (Evidence.MISSED, Evidence.SILENT)
    assert 0.2 <= suspect_at - start <= 0.4
    assert 0.5 <= down_at - start <= 0.71


def test_a_stall_of_300_ms_is_at_most_suspicious() -> None:
    life = Life()
    life.control = life.media = False
    life.live(0.3)
    life.control = life.media = True
    life.live(1.0)
    assert set(life.words()) <= {Evidence.MISSED}


def test_control_silent_and_media_heard_is_a_partition_until_the_canary_stops() -> None:
    life = Life()
    life.control = False
    life.live(0.8)
    assert life.words() == [Evidence.MISSED, Evidence.CUT_OFF]
    life.observed = Observed.PARTITIONED
    life.live(30.0)
    assert life.words()[-1] is Evidence.CUT_OFF
    stopped, life.media = life.now, False
    life.live(1.0)
    at, what = life.seen[-1]
    assert what is Evidence.SILENT and 0.5 <= at - stopped <= 0.7


def test_one_refusal_is_nothing_two_are_proof() -> None:
    life = Life()
    life.now += 0.01
    life.pulse.refusal(life.now)
    assert life.pulse.evidence(life.now, Observed.UP) is None
    life.pulse.refused(life.now + 0.02)
    assert life.pulse.evidence(life.now + 0.021, Observed.UP) is Evidence.REFUSED


@pytest.mark.parametrize("canary_first", [False, True])
def test_control_and_canary_refused_once_each_are_proof(canary_first: bool) -> None:
    """A busy proxy gets no third ICMP error out of a host that sends it one a second."""
    life = Life()
    life.live(1.0)
    for canary in (canary_first, not canary_first):
        assert not life.pulse.proven
        if canary:
            life.pulse.canary_refused()
        else:
            life.pulse.refusal(life.now + 0.01)
    assert life.pulse.proven
    assert life.pulse.evidence(life.now + 0.02, Observed.UP) is Evidence.REFUSED


def test_a_canary_that_was_never_heard_proves_nothing_by_being_refused() -> None:
    pulse = Pulse(Detection(), 0.0)
    pulse.canary_made(0.0)
    pulse.canary_refused()
    pulse.refusal(0.1)
    assert not pulse.proven


def test_a_reply_between_the_two_takes_the_canarys_refusal_back() -> None:
    life = Life()
    life.live(1.0)
    life.pulse.canary_refused()
    life.pulse.answered(life.now + 0.001)
    life.pulse.refusal(life.now + 0.002)
    assert not life.pulse.proven


def test_a_reply_takes_a_refusal_back() -> None:
    life = Life()
    life.pulse.refused(life.now)
    life.pulse.answered(life.now + 0.03)
    assert life.pulse.evidence(life.now + 0.04, Observed.UP) is None


def test_a_refusal_while_media_passes_is_a_packet_filter() -> None:
    life = Life()
    life.pulse.refusal(life.now)
    life.pulse.media(life.now + 0.001)
    life.pulse.refused(life.now + 0.02)
    assert life.pulse.evidence(life.now + 0.021, Observed.UP) is Evidence.CUT_OFF


def test_without_a_canary_silence_takes_longer_to_believe() -> None:
    life = Life(canary=False)
    start, life.control = life.now, False
    life.live(3.0)
    assert life.words() == [Evidence.MISSED, Evidence.SILENT]
    assert 1.9 <= life.seen[-1][0] - start <= 2.15


def test_a_canary_that_was_never_heard_says_nothing() -> None:
    life = Life(canary=False)
    life.pulse.canary_made(life.now)
    life.live(5.0)
    assert life.seen == [] and not life.pulse.canary_usable and not life.pulse.canary_heard(life.now)
    assert life.pulse.canary_doubtful(life.now), "but the node is asked whether it knows the call"


def test_media_that_stops_while_control_answers_is_half_dead() -> None:
    life = Life()
    stopped, life.media = life.now, False
    life.live(0.4)
    assert life.seen == [] and life.pulse.canary_doubtful(life.now)
    life.live(1.0)
    assert life.words() == [Evidence.MEDIA_SILENT] and 0.9 <= life.seen[0][0] - stopped <= 1.1
    life.observed = Observed.HALF_DEAD
    life.live(1.0)
    life.media = True
    life.live(0.2)
    assert life.words()[-1] is Evidence.MEDIA_HEARD


def test_when_no_canary_is_heard_anywhere_it_is_not_the_nodes() -> None:
    life = Life()
    life.media = life.others_heard = False
    life.live(3.0)
    assert life.seen == []


def test_a_node_that_was_down_is_up_when_it_answered_for_a_while() -> None:
    life = Life()
    life.control = life.media = False
    life.live(1.0)
    life.observed = Observed.DOWN
    life.seen.clear()
    back, life.control, life.media = life.now, True, True
    life.live(1.5)
    (at, what), *_ = life.seen
    assert what is Evidence.ANSWERS and 0.45 <= at - back <= 0.65


def test_a_node_that_comes_back_without_media_is_half_dead() -> None:
    life = Life()
    life.control = life.media = False
    life.live(2.0)
    life.observed = Observed.DOWN
    life.seen.clear()
    life.control = True
    life.live(1.5)
    assert life.words() == [Evidence.MEDIA_SILENT]


@pytest.mark.parametrize("observed", [Observed.SUSPECT, Observed.PARTITIONED])
def test_the_first_answer_ends_a_suspicion(observed: Observed) -> None:
    life = Life()
    life.control = False
    life.live(0.4)
    life.control, life.observed = True, observed
    life.live(0.1)
    assert life.words()[-1] is Evidence.ANSWERS


def test_a_pause_of_this_process_makes_nobody_silent() -> None:
    life = Life()
    life.live(0.05)
    life.pulse.pinged(life.now)
    life.now += 30.0
    life.pulse.stalled(29.95)
    assert life.pulse.evidence(life.now, Observed.UP) is None
    life.live(1.0)
    assert life.seen == []


@pytest.mark.parametrize(
    ("uptime", "known_for", "is_restart"),
    [(0, 60.0, True), (58, 60.0, True), (59, 60.0, False), (60, 60.0, False), (3000, 60.0, False), (0, 0.5, True)],
)
def test_an_unknown_canary_is_a_restart_when_the_daemon_is_younger(
    uptime: int, known_for: float, is_restart: bool
) -> None:
    assert restarted(uptime, known_for) is is_restart


@pytest.mark.parametrize(
    ("uptime", "before", "elapsed", "is_restart"),
    [(101, 100, 1.0, False), (100, 100, 1.4, False), (0, 100, 1.0, True), (1, 2, 1.0, True), (2, 2, 1.0, False)],
)
def test_an_uptime_that_fell(uptime: int, before: int, elapsed: float, is_restart: bool) -> None:
    assert fell(uptime, before, elapsed) is is_restart
