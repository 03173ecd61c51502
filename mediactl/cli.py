"""The command line of mediactl: reads arguments, asks a proxy or a node, prints a view or JSON, ends with a status.

`main` is the only place that prints and the only one that turns failures into statuses; `run` is the same without the
process around it. Global options may stand before or after the command. With --json stdout carries one JSON document
or nothing; errors are a sentence on stderr in every mode. `direct` brings trio along and is imported only where it is
used: asking a proxy needs plain sockets, and loading trio takes longer than listing a thousand sessions.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from mediactl import nodes, views
from mediactl.client import DEFAULT_SOCKET, Proxy, socket_path
from mediactl.errors import Exit, Failure
from mediactl.output import Output
from mediactl.verdict import verdict
from proxy.control import schema

DEFAULT_LIMIT = 500
MAX_LIMIT = 1500
"""About as many call-ids as fit the one UDP datagram of a `list` reply."""

Command = Callable[[argparse.Namespace], Output]

EPILOG = """\
exit status:
  0  done
  1  no such session or node, or the beginning of an id fits several
  2  wrong command line, or a request the proxy did not understand
  3  proxy or node cannot be reached
  4  an rtpengine node failed while answering
  5  the proxy could not make the change, or calls could not be moved
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point. Returns the exit status; argparse itself exits with 2, and 0 after --help."""
    arguments = parser().parse_args(argv)
    try:
        output = run(arguments)
        if output.note:
            print(f"mediactl: {output.note}", file=sys.stderr)
        print(_json(output.data) if arguments.json else output.text, flush=True)
        return output.status
    except Failure as failure:
        print(f"mediactl: {failure.message}", file=sys.stderr)
        return failure.code
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def run(arguments: argparse.Namespace) -> Output:
    """Carry out parsed arguments. Raises Failure."""
    command: Command = arguments.command
    return command(arguments)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="mediactl",
        parents=[_common()],
        description="Show the media sessions of a running proxy, or of one rtpengine node; change a proxy's nodes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, command: Command | None, text: str, inside: Any = commands) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = inside.add_parser(name, parents=[_common()], help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    ls = add("ls", _ls, "list the sessions")
    ls.add_argument("--wide", action="store_true", help="whole ids, addresses and Call-IDs")
    ls.add_argument("--on", metavar="NODE", help="only sessions on this node, by its configured name")
    ls.add_argument("--number", metavar="TEXT", help="only sessions with this in caller or callee")
    ls.add_argument("--state", choices=("early", "confirmed", "ended"), help="only sessions in this state")
    ls.add_argument("--limit", type=_limit, metavar="N", help=f"with --node: calls to list (default {DEFAULT_LIMIT})")
    show = add("show", _show, "one session in full, its node asked now")
    show.add_argument("id", metavar="ID", help="the beginning of a session id or of a SIP Call-ID of the call")
    show.add_argument("--wide", action="store_true", help="with the tags of the parties")
    add("nodes", _nodes, "the rtpengine nodes")
    nodes.add_commands(add)
    add("stats", _stats, "counters of the proxy")
    add("version", _version, "versions of mediactl and of the proxy")
    top.set_defaults(socket=None, node=None, json=False)
    return top


def _common() -> argparse.ArgumentParser:
    """The global options. Made anew for each parser, without defaults: those of a sub-parser would overwrite what stood
    before the command."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    where = common.add_mutually_exclusive_group()
    where.add_argument(
        "--socket", metavar="PATH", help=f"control socket of the proxy (default: $MEDIACTL_SOCKET or {DEFAULT_SOCKET})"
    )
    where.add_argument("--node", metavar="HOST:PORT", help="ask this rtpengine node (its listen-ng), not a proxy")
    common.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return common


def _limit(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_LIMIT}")
    return int(text)


def _proxy(arguments: argparse.Namespace) -> Proxy:
    return Proxy(socket_path(arguments.socket))


def _ls(arguments: argparse.Namespace) -> Output:
    params = schema.SessionsParams(node=arguments.on, number=arguments.number, state=arguments.state)
    note = ""
    if arguments.node:
        from mediactl import direct

        if arguments.on or arguments.state:
            raise Failure(Exit.USAGE, "--on and --state need a proxy: leave them out with --node")
        listing = direct.run(arguments.node, partial(direct.sessions, limit=arguments.limit or DEFAULT_LIMIT))
        found = [info for info in listing.sessions if schema.matches(info, params)]
        if listing.held is not None:
            note = (
                f"the list was cut at {arguments.limit or DEFAULT_LIMIT} calls, the node holds {listing.held}: "
                f"raise --limit (at most {MAX_LIMIT}), or ask the proxy, which knows its own calls without limit"
            )
    elif arguments.limit:
        raise Failure(Exit.USAGE, "--limit is for --node: a proxy lists all its sessions")
    else:
        found = _proxy(arguments).call("sessions", list[schema.SessionInfo], params)
    return Output(views.sessions_view(found, arguments.wide), {"sessions": found, "truncated": bool(note)}, note)


def _show(arguments: argparse.Namespace) -> Output:
    if arguments.node:
        from mediactl import direct

        detail = direct.run(arguments.node, partial(direct.session, prefix=arguments.id, limit=MAX_LIMIT))
    else:
        params = schema.SessionParams(id=arguments.id)
        detail = _proxy(arguments).call("session", schema.SessionDetail, params)
    sentence = verdict(detail)
    data = msgspec.structs.asdict(detail) | {"verdict": sentence}
    status = Exit.NODE if detail.node_error else Exit.OK
    return Output(views.detail_view(detail, sentence, arguments.wide), data, status=status)


def _nodes(arguments: argparse.Namespace) -> Output:
    if arguments.node:
        from mediactl import direct

        found = direct.run(arguments.node, direct.nodes)
    else:
        found = _proxy(arguments).call("nodes", list[schema.NodeInfo])
    return Output(views.nodes_view(found), {"nodes": found})


def _stats(arguments: argparse.Namespace) -> Output:
    if arguments.node:
        raise Failure(Exit.USAGE, "stats are counters of a proxy: use `mediactl nodes --node ...` for those of a node")
    stats = _proxy(arguments).call("stats", dict[str, int | float])
    return Output(views.stats_view(stats), stats)


def _version(arguments: argparse.Namespace) -> Output:
    """Mediactl's own version needs nobody; the proxy's is told when there is one."""
    ours = own_version()
    hello: schema.Hello | None = None
    missing = "not asked (--node)"
    if not arguments.node:
        try:
            hello = _proxy(arguments).hello()
        except Failure as failure:
            missing = failure.message
    theirs = f"{hello.version}, instance {hello.instance}, up {views.span(hello.uptime_s)}" if hello else missing
    text = f"mediactl {ours}, control API {schema.API}\nproxy {theirs}"
    return Output(text, {"mediactl": ours, "api": schema.API, "proxy": hello, "missing": None if hello else missing})


def own_version() -> str:
    """Of the installed distribution, or a note that it runs from a source tree."""
    try:
        return version("mediactl")
    except PackageNotFoundError:
        return "not installed"


def _json(data: object) -> str:
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode()


if __name__ == "__main__":
    sys.exit(main())
