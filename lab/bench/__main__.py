"""`python -m lab.bench`: compare our proxy with Kamailio, print a line a mode, write docs/performance.md.

It re-executes itself in a network namespace of its own through `unshare` (as root directly, else in a user namespace),
so that addresses and ports are free, nothing leaves the machine, and nothing is left when it ends. Exit status: 0 every
mode has a ratio and memory was flat, 1 a mode is invalid, memory grew or the bench broke, 2 wrong arguments.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from platform import python_version

from lab.bench import page, plot
from lab.bench.build import Build, choose
from lab.bench.memory import PROOFS, prove
from lab.bench.modes import MODES, Mode
from lab.bench.pairs import Result, Run, compare
from lab.bench.processes import BenchError
from lab.bench.profiling import record, table
from lab.bench.report import Context, line, machine, memory_part, profile_part, results_part
from lab.bench.runs import run_side
from lab.bench.sides import Kamailio, Ours, Side, kamailio, missing_programs
from lab.bench.sipp import Load

INSIDE = "--inside"
REPORT = Path("docs/performance.md")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _modes(text: str) -> list[Mode]:
    for name in text.split(","):
        if name not in MODES:
            raise argparse.ArgumentTypeError(f"unknown mode {name!r}; known: {', '.join(MODES)}")
    return [MODES[name] for name in text.split(",")]


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m lab.bench",
        description="CPU per call beside Kamailio, in pairs of runs.",
        epilog="modes: " + "; ".join(f"{mode.name} {mode.words}" for mode in MODES.values()),
    )
    add = parser.add_argument
    add("--modes", type=_modes, default=list(MODES.values()), metavar="P2,P3", help="modes to measure (default: all)")
    add("--pairs", type=_positive, default=5, help="pairs of runs that must count (default 5)")
    add("--rate", type=_positive, help="calls a second (default: the mode's own)")
    add("--calls", type=_positive, help="calls a run (default: the mode's own)")
    add("--children", default="1,2,4", metavar="1,2,4", help="Kamailio settings to choose the best from")
    add("--settle", type=float, default=0.0, help="seconds between the load and the second CPU reading")
    add("--runs", type=Path, default=Path("lab-runs"), help="folder for logs and configurations")
    add("--report", type=Path, help=f"page to write to (default {REPORT}, by a run of full size)")
    build = parser.add_mutually_exclusive_group()
    build.add_argument(
        "--ours", type=Path, metavar="DIR", help="folder with the build of ours (default build/compiled if fresh)"
    )
    build.add_argument("--pure", action="store_true", help="measure the sources, whatever has been compiled")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--profile", action="store_true", help="no comparison: our side under cProfile, and a flame graph, of each mode"
    )
    kind.add_argument("--memory", action="store_true", help="no comparison: memory before and after very many calls")
    kind.add_argument("--self-check", action="store_true", help="Kamailio on both sides: how far from 1.00 is noise?")
    add(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        options.children = [int(part) for part in options.children.split(",")]
    except ValueError:
        parser.error(f"--children takes numbers with commas between, not {options.children!r}")
    return options


def load_of(mode: Mode, options: argparse.Namespace) -> Load:
    """What is driven through a mode: its own load, or the one asked for."""
    return Load(options.calls or mode.calls, options.rate or mode.rate)


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


def versions(modes: Sequence[Mode]) -> str:
    """Versions of everything that takes part."""
    peer = first_line(["kamailio", "-v"]).removeprefix("version: ")
    media = any(mode.media for mode in modes)
    node = [first_line(["rtpengine", "--version"]).replace("Version: ", "rtpengine ")] if media else []
    return ", ".join([peer, f"Python {python_version()}", *node, first_line(["sipp", "-v"]).rstrip(".")])


def tell(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


def measure(options: argparse.Namespace, build: Build | None, folder: Path) -> list[Result]:
    """All modes, one after the other; without a build, Kamailio stands on our side."""
    ours: Side = Kamailio("kamailio as ours", options.children[0]) if build is None else Ours(build=build)
    candidates: list[Side] = [kamailio(children) for children in options.children]
    results = []
    for mode in options.modes:
        done = 0
        load = load_of(mode, options)

        def run(side: Side, mode: Mode = mode, load: Load = load) -> Run:
            nonlocal done
            done += 1
            name = side.name.replace(" ", "-").replace("=", "")
            return run_side(side, mode, load, folder / f"{mode.name}-{done:02d}-{name}", options.settle)

        tell(f"{mode.name}: {mode.words}, {load.calls} calls a run at {load.rate} a second")
        result = compare(mode.name, ours, candidates, options.pairs, run, lambda text: tell(f"  {text}"))
        results.append(result)
        tell(line(result, load))
    return results


def compared(options: argparse.Namespace, build: Build | None, folder: Path) -> int:
    """Every mode beside the peer."""
    target = options.report or (REPORT if worth_keeping(options) else None)
    if target is not None:
        plot.require()
    results = measure(options, build, folder)
    loads = {mode.name: load_of(mode, options) for mode in options.modes}
    context = Context(datetime.now().date(), machine(), versions(options.modes), build, loads, options.settle)
    if target is not None:
        page.write(target, "results", results_part(results, context))
        plot.draw(results, target.with_suffix(".svg"), f"{context.day}, {context.machine}, {build or 'self-check'}")
        tell(f"written: {target}, {target.with_suffix('.svg')}")
    tell(f"{context.machine}; {context.versions}; our build: {build or 'none'}")
    for result in results:
        tell(line(result, loads[result.mode]))
    return 1 if any(result.ratio is None for result in results) else 0


def profiled(options: argparse.Namespace, folder: Path) -> int:
    """Our side alone, looked at."""
    profiles = []
    for mode in options.modes:
        load = load_of(mode, options)
        profile = record(mode, load, folder / f"{mode.name}-profile")
        profiles.append(profile)
        tell(
            f"profile {mode.name}: dump {profile.dump}, flame graph {profile.flame}\n{table(profile.dump, load.calls)}"
        )
    if options.report is not None:
        page.write(options.report, "profile", profile_part(profiles, datetime.now().date()))
        for profile in profiles:
            shutil.copyfile(profile.flame, options.report.parent / profile.flame.name)
        tell(f"written: {options.report}, and the flame graphs beside it")
    return 0


def remembered(options: argparse.Namespace, build: Build, folder: Path) -> int:
    """Memory before and after. `--calls` and `--rate` make a small try of it, which no page is written from."""
    outcomes = []
    small = bool(options.calls or options.rate)
    for number, proof in enumerate(PROOFS, 1):
        outcomes.append(prove(proof.scaled(options.calls, options.rate), build, folder / f"memory-{number}", tell))
        tell(str(outcomes[-1]))
    target = options.report or (None if small else REPORT)
    if target is not None:
        page.write(target, "memory", memory_part(outcomes, datetime.now().date(), build))
        tell(f"written: {target}")
    return 1 if any(outcome.complaint for outcome in outcomes) else 0


def bench(options: argparse.Namespace) -> int:
    """What happens inside the namespace."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    build = None
    if not (options.self_check or options.profile):
        build, remark = choose(options.ours, options.pure)
        tell(f"our build: {build}, {build.folder}" + (f" ({remark})" if remark else ""))
    folder = (options.runs / f"bench-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}").resolve()
    folder.mkdir(parents=True)
    tell(f"logs and configurations: {folder}")
    if options.profile:
        return profiled(options, folder)
    if options.memory and build is not None:
        return remembered(options, build, folder)
    return compared(options, build, folder)


def worth_keeping(options: argparse.Namespace) -> bool:
    """Whether a run of this size may replace the results on the page: all modes with their own loads against every
    setting of the peer, five pairs."""
    whole = options.modes == list(MODES.values()) and options.children == [1, 2, 4] and not options.self_check
    return whole and options.pairs >= 5 and options.calls is None and options.rate is None


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
