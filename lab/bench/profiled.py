"""`python -P profiled.py HOW FILE -m MODULE ARGUMENTS...`: run a module and look at it between two signals.

It imports nothing of ours, so it runs in front of any build.

SIGUSR1 starts, SIGUSR2 stops and writes FILE: start-up and warm-up stay out of the figures. HOW is

- `calls`    cProfile: every function with its calls. Its clock is the thread's CPU time: with a wall clock, waiting in
             poll and being preempted in sendto would fill the table.
- `samples`  the stack as it is every few milliseconds of CPU time (SIGPROF), as folded lines: `outer;inner 17`. Costs
             the program next to nothing, so its proportions are the true ones. Time in C counts for the Python function
             that called it.
- `objects`  nothing while it runs; FILE gets the objects and memory blocks alive at SIGUSR2, after a collection. Any
             number of times.
"""

import cProfile
import gc
import json
import os
import runpy
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType

INTERVAL = 0.001
"""Seconds of CPU between two samples; the kernel makes it its own tick when that is longer."""


def put(file: str, data: str) -> None:
    """The file appears whole, so that whoever waits for it never reads half of it."""
    with open(f"{file}.part", "w") as out:
        out.write(data)
    os.replace(f"{file}.part", file)


class Calls:
    """cProfile, with a dump for `pstats`."""

    def __init__(self) -> None:
        self._profile = cProfile.Profile(time.thread_time)

    def start(self) -> None:
        """Begin."""
        self._profile.enable()

    def stop(self, file: str) -> None:
        """End and write."""
        self._profile.disable()
        self._profile.dump_stats(f"{file}.part")
        os.replace(f"{file}.part", file)


class Samples:
    """Stacks by CPU time."""

    def __init__(self) -> None:
        self._seen: Counter[tuple[str, ...]] = Counter()

    def start(self) -> None:
        """Begin."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        stack: list[str] = []
        while frame is not None:
            code = frame.f_code
            module = frame.f_globals.get("__name__", "?")
            stack.append(f"{module}.{code.co_qualname}")
            frame = frame.f_back
        self._seen[tuple(reversed(stack))] += 1

    def stop(self, file: str) -> None:
        """End and write."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        put(file, "".join(f"{';'.join(stack)} {count}\n" for stack, count in sorted(self._seen.items())))


class Objects:
    """What is alive."""

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self, file: str) -> None:
        """Collect, count, write."""
        gc.collect()
        put(file, json.dumps({"objects": len(gc.get_objects()), "blocks": sys.getallocatedblocks()}))


WAYS: dict[str, Callable[[], Calls | Samples | Objects]] = {"calls": Calls, "samples": Samples, "objects": Objects}
"""What HOW may be."""


def main(arguments: list[str]) -> None:
    """Run `-m MODULE ARGUMENTS...` of `arguments` as the main program, with the two signals at work."""
    how, file, option, module, *rest = arguments
    if how not in WAYS:
        raise SystemExit(f"profiled: {how} is not one of {', '.join(WAYS)}")
    if option != "-m":
        raise SystemExit(f"profiled: expected `-m MODULE` behind {file}, not {option}")
    looking = WAYS[how]()
    signal.signal(signal.SIGUSR1, lambda *_: looking.start())
    signal.signal(signal.SIGUSR2, lambda *_: looking.stop(file))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
