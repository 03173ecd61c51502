"""Runs stories by hand, many in one task, and gives one a trio task of its own only when it needs one.

How it works. A story is a coroutine that mostly waits for two things, both ours: the result of a round and rtpengine's
reply. Starting a trio task for each and waking it through the event loop cost more than what it does. So the driver
steps stories itself: ``start`` queues one, ``drain`` sends into whatever is ready, and a story that awaits a ``Wake``
yields that and is simply put aside until somebody calls ``wake``.

Anything else a story awaits belongs to trio (``trio.sleep`` in a routing script, a lock, a name server). By the time
trio's trap arrives here, trio has bound it to the task that runs the driver. Then that task becomes the story's: it
starts a successor to go on driving, and serves this one story to its end. A story that awaits a ``Wake`` while a
cancel scope or a nursery of its own is open in the task (``with trio.move_on_after(5): await call.relay(...)``) is
treated in the same way, for those belong to the task as well.

So a story may use all of trio, ordinary ones cost a function call, and ready ones run in the order they became ready.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import trio

Story = Coroutine[Any, Any, object]


class Driver:
    """One per edge. ``failed`` is told, inside the handler, that a story raised; ``nursery`` must be set before the
    first story. ``polled``: somebody else calls ``drain`` often, so the task of ``run`` is not woken."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        self._failed = failed
        self._ready: deque[tuple[Story, Any]] = deque()
        self._idle: trio.lowlevel.Task | None = None
        self._started = False
        self._closed = False
        self.nursery: trio.Nursery | None = None
        self.polled = False
        self.woke_task = False  # a story with a task of its own was woken since somebody cleared this
        self.stepping: Story | None = None
        self._task: trio.lowlevel.Task | None = None
        self._outside: tuple[object, int] = (None, 0)

    def start(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Queue a story. Nothing of it has run when this returns."""
        if self._closed or self.nursery is None:
            return
        if not self._started:
            self._started = True
            self.nursery.start_soon(self.run)
        self.push(function(*args), None)  # type: ignore[arg-type]

    def push(self, story: Story, value: Any) -> None:
        """A story can go on, with this value from what it awaited."""
        self._ready.append((story, value))
        if self._idle is not None and not self.polled:
            idle, self._idle = self._idle, None
            trio.lowlevel.reschedule(idle)

    @property
    def ready(self) -> bool:
        """Whether ``drain`` has anything to do."""
        return bool(self._ready)

    def poll(self, polled: bool) -> None:
        """Whether somebody else calls ``drain`` from now on."""
        self.polled = polled
        if not polled and self._ready and self._idle is not None:
            idle, self._idle = self._idle, None
            trio.lowlevel.reschedule(idle)

    async def run(self) -> None:
        """Drive until cancelled."""
        try:
            while True:
                if not await self.drain(self.run):
                    return
                self._idle = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)
        except trio.Cancelled:
            self._closed = True
            while self._ready:
                self._ready.popleft()[0].close()
            raise

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._idle = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def drain(self, successor: Callable[[], Awaitable[object]]) -> bool:
        """Step every ready story. False when this task has become a story's own and that has ended: ``successor`` was
        started in its place, and the caller has to return."""
        ready = self._ready
        task = trio.lowlevel.current_task()
        self._outside = _scopes(task)
        while ready:
            story, value = ready.popleft()
            self.stepping, self._task = story, task
            try:
                trap = story.send(value)
            except StopIteration:
                continue
            except Exception:
                self._failed(_name(story))
                continue
            finally:
                self.stepping = self._task = None
            if type(trap) is not Wake:
                assert self.nursery is not None
                self.nursery.start_soon(successor)
                await self._serve(story, trap)
                return False
        return True

    async def _serve(self, story: Story, trap: Any) -> None:
        try:
            await _to_its_end(story, trap)
        except Exception:
            self._failed(_name(story))

    @property
    def may_park(self) -> bool:
        """Whether the story that awaits a Wake now is stepped by the driver, with nothing of its own open in the
        task."""
        task = self._task
        return task is not None and _scopes(task) == self._outside


def _scopes(task: trio.lowlevel.Task) -> tuple[object, int]:
    """What changes when a cancel scope or a nursery is opened in the task (trio keeps the former to itself)."""
    return task._cancel_status, len(task.child_nurseries)


def _name(story: Story) -> str:
    return getattr(story, "__qualname__", None) or type(story).__name__


@types.coroutine
def _to_its_end(story: Story, trap: Any) -> Generator[Any, Any, None]:
    """Be the story from here on: hand its traps to trio, and trio's answers to it."""
    try:
        while True:
            try:
                value = yield trap
            except BaseException as error:
                trap = story.throw(error)
            else:
                trap = story.send(value)
    except StopIteration:
        return


@types.coroutine
def _aside(wake: Wake) -> Generator[Any, Any, None]:
    """Tell the driver to put this story aside."""
    yield wake


class Wake:
    """What a story waits for: ``await wake.wait()`` returns what ``wake.wake(value)`` was given, now or before.

    One story waits at a time; it may be used again after that. ``driver`` None: always as a trio task."""

    __slots__ = ("_driver", "_story", "_task", "_value", "_woken")

    def __init__(self, driver: Driver | None) -> None:
        self._driver = driver
        self._story: Story | None = None
        self._task: trio.lowlevel.Task | None = None
        self._value: Any = None
        self._woken = False

    def wake(self, value: Any = None) -> None:
        """Wake who waits, or who is going to."""
        self._value = value
        self._woken = True
        story = self._story
        if story is not None:
            self._story = None
            assert self._driver is not None
            self._driver.push(story, None)
        elif self._task is not None:
            task, self._task = self._task, None
            if self._driver is not None:
                self._driver.woke_task = True
            trio.lowlevel.reschedule(task)

    async def wait(self) -> Any:
        """Sleep until ``wake``; returns at once when it was called since the last wait."""
        if not self._woken:
            driver = self._driver
            if driver is not None and driver.may_park:
                self._story = driver.stepping
                await _aside(self)
            else:
                self._task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(self._abort)
        value, self._value = self._value, None
        self._woken = False
        return value

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
