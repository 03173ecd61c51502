"""Stories by hand: in order, without a task, and with one of their own as soon as they need trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from proxy.driver import Driver, Wake

settle = trio.testing.wait_all_tasks_blocked


class Stage:
    """A driver in a nursery, and what its stories did."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.failures: list[str] = []
        self.driver = Driver(self.failures.append)
        self.driver.nursery = nursery
        self.seen: list[object] = []
        self.tasks: set[trio.lowlevel.Task] = set()

    def saw(self, what: object) -> None:
        self.seen.append(what)
        self.tasks.add(trio.lowlevel.current_task())


@asynccontextmanager
async def staged() -> AsyncGenerator[Stage, None]:
    async with trio.open_nursery() as nursery:
        yield Stage(nursery)
        nursery.cancel_scope.cancel()


async def test_nothing_runs_before_its_turn_and_all_run_in_order() -> None:
    async with staged() as stage:

        async def story(number: int) -> None:
            stage.saw(number)

        for number in range(5):
            stage.driver.start(story, number)
        assert stage.seen == []
        await settle()
        assert stage.seen == [0, 1, 2, 3, 4]
        assert len(stage.tasks) == 1


async def test_a_wake_brings_its_value_early_or_late() -> None:
    async with staged() as stage:
        early, late = Wake(stage.driver), Wake(stage.driver)

        async def story() -> None:
            stage.saw(await early.wait())
            stage.saw(await late.wait())
            stage.saw(await late.wait())

        early.wake("early")
        stage.driver.start(story)
        await settle()
        assert stage.seen == ["early"]
        late.wake("late")
        await settle()
        late.wake("again")
        await settle()
        assert stage.seen == ["early", "late", "again"]
        assert len(stage.tasks) == 1


async def test_many_stories_wait_in_one_task() -> None:
    async with staged() as stage:
        wakes = [Wake(stage.driver) for _ in range(50)]

        async def story(number: int) -> None:
            stage.saw(await wakes[number].wait())

        for number in range(50):
            stage.driver.start(story, number)
        await settle()
        for number in reversed(range(50)):
            wakes[number].wake(number)
        await settle()
        assert stage.seen == list(reversed(range(50)))
        assert len(stage.tasks) == 1


async def test_a_story_that_needs_trio_gets_the_task(autojump_clock: trio.testing.MockClock) -> None:
    """It sleeps as long as it likes, awaits a Wake afterwards, and keeps nobody waiting."""
    async with staged() as stage:
        wake = Wake(stage.driver)

        async def sleeper() -> None:
            await trio.sleep(5)
            stage.saw("slept")
            stage.saw(await wake.wait())

        async def other() -> None:
            stage.saw("other")

        stage.driver.start(sleeper)
        stage.driver.start(other)
        await trio.sleep(1)
        assert stage.seen == ["other"]
        await trio.sleep(5)
        wake.wake("woken")
        await settle()
        assert stage.seen == ["other", "slept", "woken"]
        assert stage.driver.woke_task
        stage.driver.start(other)
        await settle()
        assert stage.seen[-1] == "other"


async def test_a_cancel_scope_of_a_story_is_its_own(autojump_clock: trio.testing.MockClock) -> None:
    """A story that waits for a Wake inside move_on_after is moved on, and nobody else is."""
    async with staged() as stage:
        never, later = Wake(stage.driver), Wake(stage.driver)

        async def hurried() -> None:
            with trio.move_on_after(2) as scope:
                await never.wait()
            stage.saw(scope.cancelled_caught)

        async def patient() -> None:
            stage.saw(await later.wait())

        stage.driver.start(hurried)
        stage.driver.start(patient)
        await trio.sleep(3)
        assert stage.seen == [True]
        later.wake("patient")
        await settle()
        assert stage.seen == [True, "patient"]


async def test_a_nursery_of_a_story_is_its_own() -> None:
    async with staged() as stage:
        first, second = Wake(stage.driver), Wake(stage.driver)

        async def child() -> None:
            stage.saw(await second.wait())

        async def parent() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
                stage.saw(await first.wait())
            stage.saw("both")

        stage.driver.start(parent)
        await settle()
        first.wake(1)
        await settle()
        second.wake(2)
        await settle()
        assert stage.seen == [1, 2, "both"]


@pytest.mark.parametrize("own_task", [False, True])
async def test_an_error_is_told_and_costs_nobody_else(own_task: bool) -> None:
    async with staged() as stage:

        async def wrong() -> None:
            if own_task:
                await trio.lowlevel.checkpoint()
            raise ValueError("wrong")

        async def right() -> None:
            stage.saw("right")

        stage.driver.start(wrong)
        stage.driver.start(right)
        await settle()
        assert stage.seen == ["right"]
        assert len(stage.failures) == 1
        assert "wrong" in stage.failures[0]


async def test_errors_of_trio_reach_a_story_with_a_task() -> None:
    async with staged() as stage:

        async def story() -> None:
            with trio.move_on_after(0.0):
                await trio.sleep_forever()
            try:
                await trio.to_thread.run_sync(int, "x")
            except ValueError:
                stage.saw("caught")

        stage.driver.start(story)
        with trio.fail_after(5):
            while not stage.seen:
                await trio.lowlevel.checkpoint()
        assert stage.failures == []


async def test_polled_it_leaves_its_task_alone() -> None:
    async with staged() as stage:

        async def story(number: int) -> None:
            stage.saw(number)

        stage.driver.start(story, 1)
        await settle()
        stage.driver.poll(True)
        stage.driver.start(story, 2)
        await settle()
        assert stage.seen == [1]
        assert stage.driver.ready
        assert await stage.driver.drain(stage.driver.run)
        assert stage.seen == [1, 2]
        assert not stage.driver.ready
        stage.driver.start(story, 3)
        stage.driver.poll(False)
        await settle()
        assert stage.seen == [1, 2, 3]


async def test_the_task_that_drains_is_replaced() -> None:
    async with staged() as stage:
        replaced: list[str] = []

        async def successor() -> None:
            replaced.append("yes")

        async def story() -> None:
            await trio.lowlevel.checkpoint()
            stage.saw(trio.lowlevel.current_task())

        stage.driver.poll(True)
        stage.driver.start(story)
        assert not await stage.driver.drain(successor)
        assert stage.seen == [trio.lowlevel.current_task()]
        await settle()
        assert replaced == ["yes"]


async def test_after_the_end_nothing_is_left_unawaited() -> None:
    """What was queued when the driver is cancelled is closed, and later stories are not begun."""
    async with trio.open_nursery() as nursery:
        stage = Stage(nursery)

        async def story() -> None:
            stage.saw("ran")

        stage.driver.start(story)
        await settle()
        stage.driver.poll(True)
        stage.driver.start(story)
        nursery.cancel_scope.cancel()
    stage.driver.start(story)
    assert stage.seen == ["ran"]
    assert not stage.driver.ready
