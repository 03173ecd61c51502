"""`python -m lab`: list, run, demo, failover-peer, clean."""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from lab import demo, failover_peer, namespace, runner, scenarios, switch
from lab.switch import Kind


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description="Real daemons and phones in networks of namespaces."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what scenarios there are")
    commands.add_parser("demo", help="one call through the whole picture, explained")
    commands.add_parser("clean", help="remove namespaces of runs that were killed")
    peer = commands.add_parser("failover-peer", help="node_dies_500_calls with Kamailio as the edge, measured")
    peer.add_argument("--calls", type=int, default=500, metavar="N", help="how many calls (default 500)")
    peer.add_argument("--talking", type=int, default=100, metavar="N", help="how many with RTP (default 100)")
    run = commands.add_parser("run", help="run scenarios")
    run.add_argument("names", nargs="*", metavar="NAME", help="scenarios, as `list` names them")
    run.add_argument("--all", action="store_true", help="all of them; limits of time are told, not judged")
    run.add_argument("--strict", action="store_true", help="UNSUPPORTED counts as FAIL")
    run.add_argument("--keep", action="store_true", help="leave each running after its check, until Ctrl-C")
    run.add_argument("--jobs", type=int, default=2, metavar="N", help="how many side by side (default 2)")
    run.add_argument(
        "--out", type=Path, default=Path("lab-runs"), metavar="DIR", help="where logs go (default lab-runs)"
    )
    run.add_argument(
        "--b2bua",
        type=Kind,
        choices=list(Kind),
        metavar="KIND",
        help="only freeswitch, or only stand-in (default: all here)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code: 0 fine, 1 a scenario failed, 2 usage, 130 interrupted."""
    parser = _parser()
    args = parser.parse_args(arguments)
    # rtpengine 10.5 crashes now and then while it shuts down; its core would land in the working directory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a crowd has a socket for each phone, a node more
    known = scenarios.by_name()
    if args.command == "list":
        for name, scenario in known.items():
            print(f"{name:<24} {scenario.summary}")
        return 0
    if args.command == "demo":
        return trio.run(demo.run)
    if args.command == "failover-peer":
        if not 0 < args.talking <= args.calls:
            parser.error("--talking must be 1 or more, and not more than --calls")
        return trio.run(failover_peer.run, args.calls, args.talking)
    if args.command == "clean":
        for name in namespace.sweep():
            print(f"removed {name}")
        return 0
    names = list(known) if args.all else args.names
    if not names:
        parser.error("name scenarios, or use --all; `python -m lab list` shows them")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    if args.jobs < 1:
        parser.error("--jobs must be 1 or more")
    if args.b2bua is Kind.FREESWITCH and switch.freeswitch_binary() is None:
        parser.error("there is no freeswitch binary on this machine")
    kinds = [args.b2bua] if args.b2bua else switch.kinds()
    options = runner.Options(
        out=args.out, jobs=args.jobs, strict=args.strict, keep=args.keep, timed=not args.all, kinds=kinds
    )
    return trio.run(runner.run, [known[name] for name in names], options)


if __name__ == "__main__":
    sys.exit(main())
