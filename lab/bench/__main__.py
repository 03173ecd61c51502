"""`python -m lab.bench`: compare our proxy with Kamailio, print a line a mode, write docs/performance.md.

It re-executes itself in a network namespace of its own through `unshare` (as root directly, else in a user namespace),
so that addresses and ports are free, nothing leaves the machine, and nothing is left when it ends. Exit status: 0 every
mode has a ratio, 1 a mode is invalid or the bench broke, 2 wrong arguments.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from platform import python_version

from lab.bench.pairs import Result, Run, compare
from lab.bench.processes import BenchError
from lab.bench.profiling import record, table
from lab.bench.report import Context, line, machine, markdown
from lab.bench.runs import run_side
from lab.bench.sides import MODES, Kamailio, Ours, Side, kamailio, missing_programs
from lab.bench.sipp import Load

INSIDE = "--inside"
REPORT = Path("docs/performance.md")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _modes(text: str) -> list[str]:
    modes = text.split(",")
    for mode in modes:
        if mode not in MODES:
            raise argparse.ArgumentTypeError(f"unknown mode {mode!r}; known: {', '.join(MODES)}")
    return modes


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.bench", description="CPU per call beside Kamailio, in pairs of runs."
    )
    parser.add_argument(
        "--modes", type=_modes, default=list(MODES), metavar="P2,P3", help="modes to measure (default: all)"
    )
    parser.add_argument(
        "--pairs", type=_positive, default=3, help="pairs of runs that must count (default 3; 5 is better)"
    )
    parser.add_argument("--rate", type=_positive, default=500, help="calls a second (default 500)")
    parser.add_argument("--calls", type=_positive, default=5000, help="calls a run (default 5000)")
    parser.add_argument(
        "--children", default="1,2,4", metavar="1,2,4", help="Kamailio settings to choose the best from"
    )
    parser.add_argument("--settle", type=float, default=0.0, help="seconds between the load and the second CPU reading")
    parser.add_argument("--runs", type=Path, default=Path("lab-runs"), help="folder for logs and configurations")
    parser.add_argument(
        "--report", type=Path, help=f"where to write the report (default {REPORT}, by a run of full size)"
    )
    parser.add_argument("--profile", action="store_true", help="run our side once under cProfile and print the top 30")
    parser.add_argument("--self-check", action="store_true", help="Kamailio on both sides: how far from 1.00 is noise?")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        options.children = [int(part) for part in options.children.split(",")]
    except ValueError:
        parser.error(f"--children takes numbers with commas between, not {options.children!r}")
    return options


def namespace_command(arguments: Sequence[str]) -> list[str]:
    """The command that runs this bench in a network namespace of its own."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--net", sys.executable, "-m", "lab.bench", INSIDE, *arguments]


def enter_namespace(arguments: Sequence[str]) -> None:
    """Become this bench inside a new network namespace; BenchError when this machine does not allow one."""
    command = namespace_command(arguments)
    trial = subprocess.run([*command[: command.index(sys.executable)], "true"], capture_output=True, text=True)
    if trial.returncode:
        raise BenchError(f"no network namespace of its own ({trial.stderr.strip()}): run it as root")
    os.execvp(command[0], command)


def first_line(command: Sequence[str]) -> str:
    """First non-empty line a program prints about itself."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    lines = [text.strip() for text in (done.stdout + done.stderr).splitlines() if text.strip()]
    return lines[0] if lines else "unknown"


def versions(modes: Sequence[str]) -> str:
    """Versions of everything that takes part."""
    peer = first_line(["kamailio", "-v"]).removeprefix("version: ")
    node = [first_line(["rtpengine", "--version"]).replace("Version: ", "rtpengine ")] if "P3" in modes else []
    return ", ".join([peer, f"Python {python_version()}", *node, first_line(["sipp", "-v"]).rstrip(".")])


def tell(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


def measure(options: argparse.Namespace, folder: Path) -> list[Result]:
    """All modes, one after the other."""
    load = Load(options.calls, options.rate)
    ours: Side = Ours()
    if options.self_check:
        ours = Kamailio("kamailio as ours", options.children[0])
    candidates: list[Side] = [kamailio(children) for children in options.children]
    results = []
    for mode in options.modes:
        done = 0

        def run(side: Side, mode: str = mode) -> Run:
            nonlocal done
            done += 1
            name = side.name.replace(" ", "-").replace("=", "")
            return run_side(side, mode, load, folder / f"{mode}-{done:02d}-{name}", options.settle)

        tell(f"{mode}: {MODES[mode]}, {load.calls} calls a run at {load.rate} a second")
        result = compare(mode, ours, candidates, options.pairs, run, lambda text: tell(f"  {text}"))
        results.append(result)
    return results


def bench(options: argparse.Namespace) -> int:
    """What happens inside the namespace."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    folder = (options.runs / f"bench-{datetime.now():%Y%m%d-%H%M%S}").resolve()
    folder.mkdir(parents=True)
    load = Load(options.calls, options.rate)
    tell(f"logs and configurations: {folder}")
    if options.profile:
        for mode in options.modes:
            dump = record(mode, load, folder / f"{mode}-profile")
            tell(f"profile {mode}: dump {dump}\n{table(dump, load.calls)}")
        return 0
    results = measure(options, folder)
    context = Context(datetime.now().date(), machine(), versions(options.modes), load, options.settle)
    target = options.report or (REPORT if worth_keeping(options) else None)
    (folder / "performance.md").write_text(markdown(results, context))
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(markdown(results, context))
        tell(f"written: {target}")
    tell(f"{context.machine}; {context.versions}")
    for result in results:
        tell(line(result, load))
    return 1 if any(result.ratio is None for result in results) else 0


def worth_keeping(options: argparse.Namespace) -> bool:
    """Whether a run of this size may replace the report: all modes against every setting of the peer, three pairs."""
    whole = options.modes == list(MODES) and options.children == [1, 2, 4] and not options.self_check
    return whole and options.pairs >= 3 and options.calls >= 3000


def _terminated(*_: object) -> None:
    raise SystemExit(143)


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit status."""
    options = parse_arguments(arguments)
    try:
        missing = missing_programs(options.modes)
        if missing:
            raise BenchError(f"not installed: {', '.join(missing)}. `make bench` installs what is missing")
        if not options.inside:
            enter_namespace(arguments)
        signal.signal(signal.SIGTERM, _terminated)
        return bench(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
