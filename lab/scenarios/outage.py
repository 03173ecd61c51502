"""What the stories about failing media nodes share: when a node is usable, and which one carries a call."""

from __future__ import annotations

import trio

from lab.scenario import Failed, Lab

USABLE = ("up", "unknown")


async def usable(lab: Lab, name: str, seconds: float = 10.0) -> None:
    """Wait until the edge takes the node for usable. Raises Failed."""
    state = "not listed"
    with trio.move_on_after(seconds):
        while (state := (await lab.edge.node_states()).get(name, state)) not in USABLE:  # noqa: ASYNC110
            await trio.sleep(0.05)
        return
    raise Failed(f"{seconds:g} s after {name} was well again the edge still says it is {state}")
