"""A stand-in for FreeSWITCH 1.10.12 as B2BUA in bypass_media, with the dialplan of the reference deployment.

    python -m lab.b2bua --listen 10.0.0.20:5060 --edge 10.0.0.10:5080 [--call-timeout 60] [--3pcc-proxy]

Theory of operation. It does what a FreeSWITCH does that was recorded behind a SIP edge: `sip:b2bua-<number>@here`
comes in as leg A and goes out as leg B, a new dialog to `sip:<number>@<edge>`, media left alone. The machine is
`lab/b2bua_core.py` (calls: `b2bua_call`, `b2bua_dialog`, `b2bua_leg`; transactions: `b2bua_stack`; descriptions:
`b2bua_sdp`); this file is its UDP socket: read what is there, tick, send. ICMP port unreachable is read from the
socket's error queue, because FreeSWITCH answers it with 503. Not there: REFER, media of its own, the event socket;
`tests/test_b2bua_traces.py` lists the recordings that need them.
"""

from __future__ import annotations

import argparse
import ipaddress
import math
import signal
import socket as stdlib_socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import trio

from lab.b2bua_config import B2buaConfig, Dialplan
from lab.b2bua_core import B2bua
from lab.sip import Address

IP_RECVERR = 11  # linux/in.h
BATCH = 64


@dataclass
class Running:
    """A stand-in at work: its machine, the address it sits on, and how many datagrams could not be sent."""

    b2bua: B2bua
    address: Address
    unsent: int = 0


async def serve(
    where: stdlib_socket.socket | Address,
    config: B2buaConfig,
    *,
    seed: int | str = 0,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a stand-in on (host, port) or on an existing UDP socket until cancelled; an empty `config.host` is taken
    from the socket."""
    sock = where if isinstance(where, stdlib_socket.socket) else stdlib_socket.socket(type=stdlib_socket.SOCK_DGRAM)
    with sock:
        if not isinstance(where, stdlib_socket.socket):
            sock.bind(where)
        sock.setblocking(False)
        sock.setsockopt(stdlib_socket.IPPROTO_IP, IP_RECVERR, 1)
        host, port = sock.getsockname()[:2]
        running = Running(B2bua(replace(config, host=config.host or host, port=port), seed), (host, port))
        task_status.started(running)
        while True:
            deadline = running.b2bua.next_deadline()
            with trio.move_on_at(math.inf if deadline is None else deadline):
                await trio.lowlevel.wait_readable(sock)
            _refusals(sock, running.b2bua)
            for _ in range(BATCH):
                try:
                    data, source = sock.recvfrom(65535)
                except BlockingIOError:
                    break
                except ConnectionRefusedError:
                    _refusals(sock, running.b2bua)
                    continue
                running.b2bua.receive(data, source[:2], trio.current_time())
            running.b2bua.tick(trio.current_time())
            _flush(sock, running)


def _refusals(sock: stdlib_socket.socket, b2bua: B2bua) -> None:
    """Tell the machine whose port was unreachable."""
    while True:
        try:
            _, _, _, destination = sock.recvmsg(0, 512, stdlib_socket.MSG_ERRQUEUE)
        except BlockingIOError:
            return
        b2bua.refused(destination[:2], trio.current_time())


def _flush(sock: stdlib_socket.socket, running: Running) -> None:
    output = running.b2bua.output
    while output:
        data, destination = output.pop(0)
        if not _literal(destination[0]):  # a name: the lab has no DNS, and asking would block
            running.unsent += 1
            continue
        for _ in range(2):  # the first try may report an earlier datagram's ICMP error instead of sending
            try:
                sock.sendto(data, destination)
                break
            except ConnectionRefusedError:
                continue
            except OSError:
                running.unsent += 1
                break


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def address(text: str, port: int = 5060) -> Address:
    """`host[:port]` as (host, port)."""
    host, colon, number = text.rpartition(":")
    if not colon:
        return text, port
    if not number.isdigit() or not host:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port")
    return host, int(number)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m lab.b2bua", description="stand-in for FreeSWITCH in bypass_media")
    parser.add_argument("--listen", type=address, required=True, metavar="IP:PORT", help="own address")
    parser.add_argument(
        "--edge",
        type=lambda text: address(text, 5080),
        metavar="IP:PORT",
        help="leg B's next hop; else the top Via's host",
    )
    parser.add_argument("--call-timeout", type=float, default=60.0, metavar="S", help="call_timeout (default 60)")
    parser.add_argument("--prefix", default="b2bua-", help="prefix of the dialled user (default b2bua-)")
    parser.add_argument("--3pcc-proxy", dest="three_pcc_proxy", action="store_true", help="enable-3pcc=proxy")
    parser.add_argument("--callid-as-uuid", action="store_true", help="inbound-use-callid-as-uuid")
    parser.add_argument("--copy-headers", action="store_true", help="sip_copy_custom_headers=true")
    parser.add_argument("--seed", default="0", help="of the generated tags and identifiers")
    return parser.parse_args(argv)


def configuration(options: argparse.Namespace) -> B2buaConfig:
    """The command line as a configuration."""
    edge_host, edge_port = options.edge or ("", 5080)
    plan = Dialplan(call_timeout=options.call_timeout, copy_headers=options.copy_headers)
    return B2buaConfig(
        host=options.listen[0],
        edge_host=edge_host,
        edge_port=edge_port,
        plans={options.prefix: plan},
        three_pcc_proxy=options.three_pcc_proxy,
        callid_as_uuid=options.callid_as_uuid,
    )


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; prints one line when ready."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            running: Running = await nursery.start(
                lambda task_status: serve(
                    options.listen, configuration(options), seed=options.seed, task_status=task_status
                )
            )
            print(f"b2bua ready on {running.address[0]}:{running.address[1]}", flush=True)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    with suppress(KeyboardInterrupt):
        trio.run(run, arguments(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
