"""``mediactl-proxy``: reads the configuration, starts the edge, serves until SIGINT or SIGTERM.

The only file that knows everything: command line, logging, the control socket and the sampler around ``edge.Edge``.

Exit codes: 0 stopped on request, 1 cannot start (the sentence on stderr says why), 2 wrong command line.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path

import trio

from proxy import __version__
from proxy.config import Config, ConfigError, describe, load
from proxy.control.server import ControlServer, ControlSocketError
from proxy.edge import Edge
from proxy.routing import ScriptError, load_script
from proxy.state import open_state
from proxy.transport.udp import BindError

log = logging.getLogger("proxy")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="mediactl-proxy",
        description="SIP edge that anchors media on rtpengine and passes signalling to FreeSWITCH.",
    )
    made.add_argument("config", nargs="?", type=Path, help="configuration file (TOML)")
    made.add_argument(
        "--check", metavar="FILE", type=Path, help="check a configuration file, say what it would do, and exit"
    )
    made.add_argument("--version", action="version", version=f"mediactl-proxy {__version__}")
    return made


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = parser().parse_args(argv)
    if arguments.check is not None:
        return check(arguments.check)
    if arguments.config is None:
        parser().error("give a configuration file, or --check FILE; docs/configuration.md describes it")
    try:
        config = load(arguments.config)
        logging.basicConfig(
            level=config.proxy.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        trio.run(serve, config, str(arguments.config))
    except (ConfigError, ScriptError) as error:
        print(f"mediactl-proxy: {error}", file=sys.stderr)
        return 1
    except BaseExceptionGroup as group:
        cannot, other = group.split((ControlSocketError, BindError))
        if cannot is None or other is not None:
            raise
        print(f"mediactl-proxy: cannot start: {_first(cannot)}", file=sys.stderr)
        return 1
    return 0


def _first(error: BaseException) -> BaseException:
    """The first error inside nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def check(path: Path) -> int:
    """``--check FILE``: load it and its routing script, and print what the proxy would do."""
    try:
        config = load(path)
        if config.proxy.route:
            load_script(Path(config.proxy.route))
    except (ConfigError, ScriptError) as error:
        print(f"mediactl-proxy: {error}", file=sys.stderr)
        return 1
    print(describe(config))
    print(f"{path}: ok")
    return 0


async def serve(config: Config, path: str | None = None) -> None:
    """Run the edge with its control socket until SIGINT or SIGTERM; on SIGHUP the nodes in the file at `path` are
    compared with the running ones."""
    edge = Edge(config, state=open_state(config))
    edge.administration.path = path
    control = ControlServer(config.proxy.control, edge.backend)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(control.run)
            await nursery.start(edge.run)
            for listener in edge.listeners:
                log.info(
                    "listening on udp %s:%d (%s, %s)", listener.address, listener.port, listener.name, listener.side
                )
            edge.garbage.begin(edge.clock())
            async for number in signals:
                if number == signal.SIGHUP:
                    reload(edge)
                    continue
                log.info("stopping on %s", signal.Signals(number).name)
                break
            nursery.cancel_scope.cancel()


def reload(edge: Edge) -> None:
    """SIGHUP: the nodes of the file, by name. A file that cannot be used changes nothing."""
    try:
        changes = edge.administration.reload()
    except ConfigError as error:
        log.error("reload: nothing was changed: %s", error)
    else:
        log.info("reload: %s", changes.line())


if __name__ == "__main__":
    sys.exit(main())
