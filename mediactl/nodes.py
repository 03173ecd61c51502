"""`mediactl node ...` and `mediactl events`: changing nodes, waiting for it, and watching what happens to them.

Results go to stdout as everywhere; progress goes to stderr, as one line that is rewritten on a terminal and as a line
every few seconds elsewhere. An evacuation belongs to the proxy: Ctrl-C ends the waiting, not the evacuation, and says
so. `events --follow` prints each event as it comes, with --json one JSON object per line, until Ctrl-C.
"""

import argparse
import sys
import time
from collections.abc import Callable

import msgspec

from mediactl.client import Proxy, socket_path
from mediactl.errors import Exit, Failure
from mediactl.output import Output
from mediactl.views import clock_time, plan_view, printable, span
from proxy.control import node_schema, schema

POLL = 0.5
"""Seconds between two looks at how far an evacuation is."""
POLL_WAIT = 5.0
"""Seconds a question for events stays open; less than the client's patience."""
QUIET_EVERY = 5.0
"""Seconds between two progress lines where there is no terminal."""

AddParser = Callable[..., argparse.ArgumentParser]

ACTIONS: dict[str, str] = {
    "undrain": "let the node take new calls again",
    "disable": "no new calls for the node, and keep it out; the calls on it stay",
    "enable": "let the node take new calls again",
    "lost": "say that the node is dead: its calls move at once (for a partition that will not heal)",
    "remove": "no new calls for the node, and forget it when its last call has ended",
}


def add_commands(add: AddParser) -> None:
    """`add(name, command, text)` adds a command of its own; `node` has commands inside."""
    node = add("node", None, "change a node: drain, undrain, disable, enable, lost, add, remove, reload")
    inside = node.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, command: Callable[[argparse.Namespace], Output], text: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = add(name, command, text, inside)
        return sub

    drain = action("drain", _drain, "no new calls for the node; the calls on it stay until they end or are moved")
    drain.add_argument("name", metavar="NAME", help="the node's configured name")
    drain.add_argument("--evacuate", action="store_true", help="move its calls to other nodes")
    drain.add_argument("--dry-run", action="store_true", help="change nothing; show which calls would be moved where")
    drain.add_argument("--wait", action="store_true", help="wait until no call is left on it, with progress")
    for name, text in ACTIONS.items():
        action(name, _act, text).add_argument("name", metavar="NAME", help="the node's configured name")
        inside.choices[name].set_defaults(action=name)
    new = action("add", _add, "use one more node, until the proxy ends; write it into the configuration file, too")
    new.add_argument("name", metavar="NAME")
    new.add_argument("address", metavar="HOST:PORT", help="its listen-ng")
    new.add_argument("--weight", type=int, default=1, metavar="N", help="share of new calls (default 1)")
    new.add_argument("--tier", type=int, default=0, metavar="N", help="0 is used first, higher tiers stand by")
    new.add_argument("--label", action="append", default=[], metavar="L", help="may be given several times")
    new.add_argument("--set", default="", metavar="S", help="the set it belongs to")
    new.add_argument("--no-canary", action="store_true", help="media of the node cannot reach the proxy")
    action("reload", _reload, "read the nodes in the proxy's configuration file again (as SIGHUP does)")
    events = add("events", _events, "what happened to the nodes")
    events.add_argument("--follow", action="store_true", help="go on, and print each event as it comes")


def _proxy(arguments: argparse.Namespace) -> Proxy:
    if arguments.node:
        raise Failure(Exit.USAGE, "--node asks one rtpengine; this is about a proxy's nodes, so leave --node out")
    return Proxy(socket_path(arguments.socket))


def _act(arguments: argparse.Namespace) -> Output:
    params = node_schema.NodeActionParams(node=arguments.name, action=arguments.action)
    return _told(_proxy(arguments).call("node", node_schema.NodeEventInfo, params))


def _told(event: node_schema.NodeEventInfo) -> Output:
    return Output(printable(event.line), {"event": event})


def _add(arguments: argparse.Namespace) -> Output:
    params = node_schema.NodeAddParams(
        name=arguments.name,
        address=arguments.address,
        weight=arguments.weight,
        tier=arguments.tier,
        labels=arguments.label,
        set=arguments.set,
        canary=not arguments.no_canary,
    )
    return _told(_proxy(arguments).call("node_add", node_schema.NodeEventInfo, params))


def _reload(arguments: argparse.Namespace) -> Output:
    done = _proxy(arguments).call("nodes_reload", node_schema.Reloaded)
    lines = [
        f"{word}: {', '.join(names)}"
        for word, names in (("added", done.added), ("leaving", done.removed), ("changed", done.changed))
        if names
    ]
    status = Exit.REFUSED if done.refused else Exit.OK
    return Output(printable_lines([*lines, *done.refused] or ["no node changed"]), done, status=status)


def printable_lines(lines: list[str]) -> str:
    """Lines that are safe to print."""
    return "\n".join(map(printable, lines))


# Draining -------------------------------------------------------------------------------------------------------------


def _drain(arguments: argparse.Namespace) -> Output:
    proxy = _proxy(arguments)
    name = arguments.name
    if arguments.dry_run:
        plan = proxy.call("plan", list[node_schema.PlannedMoveInfo], node_schema.NodeParams(node=name))
        stuck = sum(not move.to for move in plan)
        note = f"{stuck} of them have nowhere to go" if stuck else ""
        return Output(plan_view(plan), {"plan": plan}, note)
    event = proxy.call("node", node_schema.NodeEventInfo, node_schema.NodeActionParams(node=name, action="drain"))
    evacuation: node_schema.EvacuationInfo | None = None
    text = printable(event.line)
    if arguments.evacuate:
        evacuation = proxy.call("evacuate", node_schema.EvacuationInfo, node_schema.NodeParams(node=name))
        if arguments.wait:
            evacuation = _wait_for_evacuation(proxy, name, evacuation)
        text += "\n" + printable(progress(evacuation))
    elif arguments.wait:
        _wait_for_end(proxy, name)
        text += f"\nnode {name}: no call is left on it"
    failed = evacuation is not None and evacuation.done and evacuation.failed
    return Output(text, {"event": event, "evacuation": evacuation}, status=Exit.REFUSED if failed else Exit.OK)


def progress(evacuation: node_schema.EvacuationInfo) -> str:
    """How far an evacuation is, in one line."""
    failed = f", {evacuation.failed} could not be moved" if evacuation.failed else ""
    line = f"node {evacuation.node}: {evacuation.moved} of {evacuation.total} calls moved{failed}"
    if evacuation.done:
        return line + "; done"
    left = f", about {span(evacuation.eta_s)} left" if evacuation.eta_s is not None else ""
    return f"{line}, {evacuation.left} to go{left}"


def _wait_for_evacuation(proxy: Proxy, name: str, evacuation: node_schema.EvacuationInfo) -> node_schema.EvacuationInfo:
    line = _ProgressLine()
    try:
        while not evacuation.done:
            line.show(progress(evacuation))
            time.sleep(POLL)
            params = node_schema.NodeParams(node=name)
            evacuation = proxy.call("evacuation", node_schema.EvacuationInfo, params)
    except KeyboardInterrupt:
        line.end()
        print(f"mediactl: the evacuation of {name} goes on; mediactl events tells how it ends", file=sys.stderr)
        raise
    line.end()
    return evacuation


def _wait_for_end(proxy: Proxy, name: str) -> None:
    line = _ProgressLine()
    first: tuple[float, int] | None = None
    try:
        while True:
            nodes = {node.name: node for node in proxy.call("nodes", list[schema.NodeInfo])}
            calls = (nodes[name].sessions or 0) if name in nodes else 0
            if not calls:
                break
            now = time.monotonic()
            first = first or (now, calls)
            ended, took = first[1] - calls, now - first[0]
            eta = f", about {span(calls * took / ended)} left at this rate" if ended > 0 else ""
            line.show(f"node {name}: {calls} calls are still on it{eta}")
            time.sleep(POLL)
    except KeyboardInterrupt:
        line.end()
        print(f"mediactl: {name} stays drained; mediactl node undrain {name} takes it back", file=sys.stderr)
        raise
    line.end()


class _ProgressLine:
    """One line on stderr that says how far something is."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown_at: float | None = None

    def show(self, text: str) -> None:
        now = time.monotonic()
        if self._terminal:
            sys.stderr.write(f"\r\x1b[K{printable(text)}")
        elif self._shown_at is None or now - self._shown_at >= QUIET_EVERY:
            sys.stderr.write(printable(text) + "\n")
        else:
            return
        self._shown_at = now
        sys.stderr.flush()

    def end(self) -> None:
        if self._terminal and self._shown_at is not None:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# Events ---------------------------------------------------------------------------------------------------------------


def event_line(event: node_schema.NodeEventInfo) -> str:
    """As `mediactl events` prints it."""
    return printable(f"{clock_time(event.at)}  {event.line}")


def _events(arguments: argparse.Namespace) -> Output:
    proxy = _proxy(arguments)
    found = proxy.call("events", node_schema.Events, node_schema.EventsParams())
    if arguments.follow:
        _follow(proxy, found, arguments.json)
    return Output("\n".join(map(event_line, found.events)), {"events": found.events})


def _follow(proxy: Proxy, found: node_schema.Events, as_json: bool) -> None:
    """Prints what there is and what comes, until Ctrl-C or the proxy's end."""
    while True:
        for event in found.events:
            print(msgspec.json.encode(event).decode() if as_json else event_line(event), flush=True)
        stream = found.stream
        params = node_schema.EventsParams(after=found.last, wait_s=POLL_WAIT)
        found = proxy.call("events", node_schema.Events, params)
        if found.stream != stream:  # the proxy has started anew, and its numbers with it
            found = proxy.call("events", node_schema.Events, node_schema.EventsParams())
