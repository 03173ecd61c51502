"""`python -m lab.bench.profiled DUMP -m MODULE ARGUMENTS...`: run a module, profile it between two signals.

SIGUSR1 starts the profiler, SIGUSR2 stops it and writes DUMP: start-up and warm-up stay out of the figures. Its clock
is the thread's CPU time: with a wall clock, waiting in poll and being preempted in sendto would fill the table.
"""

import cProfile
import os
import runpy
import signal
import sys
import time


def main(arguments: list[str]) -> None:
    """Run `-m MODULE ARGUMENTS...` of `arguments` as the main program, with the two signals at work."""
    dump, option, module, *rest = arguments
    if option != "-m":
        raise SystemExit(f"profiled: expected `-m MODULE` behind {dump}, not {option}")
    profile = cProfile.Profile(time.thread_time)

    def stop(*_: object) -> None:
        profile.disable()
        profile.dump_stats(f"{dump}.part")
        os.replace(f"{dump}.part", dump)

    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, stop)
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
