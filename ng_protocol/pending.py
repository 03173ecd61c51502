"""One command in flight, as the client keeps it until its reply, its deadline or its end.

A heap of deadlines refers to it for longer than it lives, so what ends lets go of everything dear (``client._end``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import trio

from ng_protocol.commands import Command

Done: TypeAlias = Callable[[Any], None]
"""Called with the typed reply, or with the NgError, of a submitted command."""


class Pending:
    """One command in flight. A heap entry is stale when the command has ended (``cookie`` is None) or has been
    scheduled for another time since (``next_at``)."""

    __slots__ = (
        "command",
        "cookie",
        "datagram",
        "deadline",
        "done",
        "interval",
        "next_at",
        "once",
        "quiet",
        "sent_at",
        "task",
        "tries",
    )

    def __init__(self, command: Command[Any], cookie: bytes, datagram: bytes, now: float, timeout: float) -> None:
        self.command = command
        self.cookie: bytes | None = cookie
        self.datagram = datagram
        self.sent_at = now
        self.deadline = now + timeout
        self.interval = 0.0
        self.next_at = 0.0
        self.tries = 1
        self.once = False
        self.task: trio.lowlevel.Task | None = None
        self.done: Done | None = None
        self.quiet = False  # its failure is its caller's business: not logged here
