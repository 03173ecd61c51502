"""The running proxy: builds the parts from a configuration, connects them, and serves until cancelled.

``Edge(config, nursery)`` constructs; ``serve(config)`` opens the sockets and runs everything in one nursery:

    one task per UDP socket       drains it into the stack (ring 1 runs inside that task)
    ticker                        transaction timers, alarms, probes of FreeSWITCH, the registrar's expiry
    media nodes                   a client per rtpengine, pings and canaries (``media_nodes``)
    control server, sampler       what mediactl sees
    a story per new request       started through ``start_story``
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from proxy import __version__, talk
from proxy.config import Config
from proxy.control.administration import NodeAdministration
from proxy.control.handlers import ProxyBackend, describe
from proxy.core import Core
from proxy.dispatcher import Destination, Dispatcher
from proxy.driver import Driver
from proxy.flow import Address, Flow, Listener
from proxy.garbage import Garbage
from proxy.location import Location
from proxy.media.anchor import Anchor
from proxy.media.mover import Mover
from proxy.media.nodes import NodeEvent
from proxy.media.policy import Policy
from proxy.media.reconcile import Reconciler
from proxy.media.sampler import Sampler, SamplerConfig
from proxy.media.session import Session
from proxy.media.table import MediaTable
from proxy.media_nodes import MediaNodes
from proxy.pacing import Pacer
from proxy.registrar import Registrar
from proxy.relay import Relay, Target
from proxy.restore import Keeper
from proxy.routing import AnyRoute, Call, Service, is_stateless, load_script
from proxy.sip.message import Response, make_request
from proxy.sip.transaction import Timers
from proxy.sip.uri import parse_uri_untrusted
from proxy.stack import Stack, Transaction
from proxy.state import State, forgetful
from proxy.stateless import Stateless
from proxy.store import Store
from proxy.supervisor import Supervisor
from proxy.token import Signer
from proxy.transport.udp import UdpSocket

log = logging.getLogger("proxy")

TICK = 0.1  # seconds: the longest the ticker sleeps; shorter deadlines are met exactly
FINEST = 0.01  # seconds: the shortest
PACED_ROUNDS = 8  # looks at the sockets between two looks at the clock, under load


class CoreTimers:
    """Timers of the core in seconds; ``cancel`` and ``timer_c`` are the RFC's own (9.1, 16.6 item 11)."""

    def __init__(self, config: Config) -> None:
        timers = config.timers
        self.first_reply = timers.first_reply
        self.invite = timers.invite
        self.ack = timers.ack
        self.cancel = 64 * timers.t1
        self.timer_c = max(185.0, timers.invite)


class Edge:
    """All parts of one proxy, connected. Nothing is opened before ``run``."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = trio.current_time,
        epoch: Callable[[], float] = time.time,
        state: State | None = None,
    ) -> None:
        self.config = config
        state = state or forgetful(config)
        self.clock = clock
        self.epoch = epoch
        self.garbage = Garbage()
        self.driver = Driver(lambda name: self._internal_error(f"story {name}"))
        self.started_at = epoch()
        self.nursery: trio.Nursery | None = None
        timers = config.timers
        self.stack = Stack(Timers(timers.t1, timers.t2, timers.t4), secrets.token_hex(3).encode())
        self.media_nodes = MediaNodes(config, self._calls_on, clock=clock, epoch=epoch)
        self.clients = self.media_nodes.clients
        self.pool = self.media_nodes.pool
        self.anchor: Anchor | None = None
        if config.proxy.media and self.clients:
            self.anchor = Anchor(
                self.pool,
                Policy(
                    public=config.media.public,
                    lan=config.media.lan,
                    bypass=config.media.bypass,
                    delete_delay=config.media.delete_delay,
                ),
                MediaTable(),
                instance=config.proxy.instance,
                clock=clock,
                epoch=epoch,
            )
        script: AnyRoute = load_script(Path(config.proxy.route)) if config.proxy.route else talk.route
        self.core = Core(
            self.stack,
            CoreTimers(config),
            Signer(state.secret),
            clock=clock,
            start_story=self.start_story,
            run_route=talk.route if is_stateless(script) else script,
            anchor=self.anchor,
            max_forwards=config.proxy.max_forwards,
        )
        self.listeners = [
            Listener(one.name, one.address, one.port, one.side, _advertised(one.advertise, one.port))
            for one in config.listen
        ]
        for listener in self.listeners:
            self.core.add_listener(listener)
        self.dispatcher = Dispatcher(
            [Destination(fs.name, (fs.address, fs.port), fs.prefix.encode()) for fs in config.freeswitch],
            timers.options,
        )
        self.probed = [self.dispatcher]
        self.sets = {
            one.name: Dispatcher([Destination(text, address) for text, address in one.addresses()], timers.options)
            for one in config.dispatch
        } | {"freeswitch": self.dispatcher}
        self.probed += [self.sets[one.name] for one in config.dispatch if one.probe]
        domains = frozenset(domain.encode().lower() for domain in config.proxy.domains)
        self.location = Location()
        self.registrar = Registrar(
            self.location, domains | {host for listener in self.listeners for host, _ in listener.own}, config.registrar
        )
        self.service = Service(
            core=self.core,
            listeners=self.listeners,
            domains=domains,
            freeswitch=self.dispatcher,
            sets=self.sets,
            users={user.name.encode(): user.uri.encode() for user in config.users},
            location=self.location,
            registrar=self.registrar,
            carrier=config.carrier.uri.encode() if config.carrier else None,
            carrier_addresses=frozenset(config.carrier.addresses if config.carrier else ()),
            freeswitch_reply=timers.freeswitch_reply,
            anchor_calls=self.anchor is not None,
        )
        self._static = {address for uri in self.service.users.values() if (address := _address_of(uri)) is not None}
        self.core.is_freeswitch = self.dispatcher.is_freeswitch
        self.core.known_address = self._known_address
        self.core.is_destination = self._is_destination
        self.core.make_call = self._make_call
        self.stateless = Stateless(self.service, script, config.proxy.max_forwards) if is_stateless(script) else None
        self.core.driver = self.driver
        if self.anchor is not None:
            self.anchor.engine.driver = self.driver
        self.supervisor = Supervisor(self.core, self.anchor)
        self.mover: Mover | None = None
        if self.anchor is not None:
            rate = config.nodes.move_rate
            store = state.store if isinstance(state.store, Store) else None
            self.mover = Mover(self.anchor, self.supervisor, store=store, lost=self.supervisor.lost, rate=rate)
            self.media_nodes.mover = self.mover
        lost = self.supervisor.lost if self.mover is None else self.mover.session_lost
        self.keeper = Keeper(self.core, self.anchor, state.store, clock=clock, epoch=epoch, session_lost=lost)
        self.reconciler = self._reconciler() if self.anchor is not None and config.store.reconcile else None
        self.sampler: Sampler[Session] = Sampler(
            self._sessions,
            describe,
            self.clients,
            SamplerConfig(
                interval=config.media.sample_interval,
                first=min(SamplerConfig.first, config.media.sample_interval),
                silence=config.media.silence,
                statistics=0.0,  # the watch asks for them
            ),
            on_lost=self.supervisor.lost if self.mover is None else self.mover.session_lost,
            on_silent=self.supervisor.silent,
        )
        self.administration = NodeAdministration(self.media_nodes, self.started_at)
        self.backend = ProxyBackend(
            config.proxy.instance,
            __version__,
            self._sessions,
            self.clients,
            self.sampler,
            self._counters,
            administration=self.administration,
            clock=clock,
            epoch=epoch,
        )
        self.media_nodes.came.append(self.sampler.add_node)
        self.media_nodes.went.append(self.sampler.remove_node)

    def _reconciler(self) -> Reconciler:
        return Reconciler(
            self.config.proxy.instance,
            self._sessions,
            lambda: {name: node.client for name, node in self.pool.nodes.items() if node.reachable},
            self.pool.delete,
            lambda *what: self.pool.emit(NodeEvent(self.epoch(), *what)),
            interval=self.config.store.reconcile,
            delete_delay=self.config.media.delete_delay,
            clock=self.clock,
        )

    def _sessions(self) -> Iterable[Session]:
        return () if self.anchor is None else self.anchor.sessions

    def _calls_on(self, node: str) -> int:
        return sum(session.node == node for session in self._sessions())

    def _counters(self) -> dict[str, int | float]:
        """Counters for ``mediactl stats``."""
        return {
            **self.stack.stats,
            **self.keeper.store.statistics(),
            "dialogs": len(self.core.dialogs),
            "bindings": len(self.location),
            "server_transactions": len(self.stack.server),
            "client_transactions": len(self.stack.client),
        }

    # -- hooks of the core ----------------------------------------------------------------------------------------

    def start_story(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run a story; a bug in it costs its own call, not the others theirs."""
        driver = self.driver
        if driver.nursery is None:
            driver.nursery = self.nursery
        driver.start(function, *args)

    def _internal_error(self, where: str) -> None:
        self.stack.stats["internal_errors"] += 1
        log.exception("internal error (%s); please report it", where)

    def _make_call(self, relay: Relay, flow: Flow, behind_nat: bool) -> Call:
        return Call(self.service, relay, flow, behind_nat)

    def _known_address(self, addr: Address) -> bool:
        """Somebody registered from there, or a static user is there."""
        return addr in self._static or self.location.knows_address(addr)

    def _is_destination(self, addr: Address) -> bool:
        """A destination of a set, or the carrier."""
        carrier = self.service.carrier
        if carrier is not None and _address_of(carrier) == addr:
            return True
        return any(one.addr == addr for dispatcher in self.sets.values() for one in dispatcher.destinations)

    # -- running --------------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open everything and serve until cancelled. Raises BindError when a socket cannot be bound."""
        sockets = [UdpSocket(listener, *self._receivers(listener), self.stack.stats) for listener in self.listeners]
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            self.keeper.restore()
            if self.mover is not None:
                await nursery.start(self.mover.run)
                self.mover.resume()
            await nursery.start(self.keeper.store.run)
            await nursery.start(self.media_nodes.run)
            nursery.start_soon(self.keeper.verify)
            if self.reconciler is not None:
                nursery.start_soon(self.reconciler.run)
            for sock in sockets:
                nursery.start_soon(sock.run)
            nursery.start_soon(self.ticker, sockets)
            await nursery.start(self.sampler.run)
            task_status.started()

    def _receivers(
        self, listener: Listener
    ) -> tuple[Callable[[bytes, Address], None], Callable[[bytes, Address], None]]:
        stack, flow, clock = self.stack, listener.flow, self.clock
        stateless = self.stateless

        def received_stateless(data: bytes, addr: Address) -> None:
            assert stateless is not None
            try:
                if stack.tap is not None:
                    stack.tap("in", data, flow(addr))
                stateless.received(data, flow(addr))
            except Exception:
                self._internal_error(f"datagram from {addr[0]}:{addr[1]}, {data[:60]!r}")

        def received(data: bytes, addr: Address) -> None:
            try:
                if stack.tap is not None:
                    stack.tap("in", data, flow(addr))
                stack.received(data, flow(addr), clock())
            except Exception:
                self._internal_error(f"datagram from {addr[0]}:{addr[1]}, {data[:60]!r}")

        def unreachable(quoted: bytes, addr: Address) -> None:
            stack.unreachable(quoted, addr, clock())

        return received if stateless is None else received_stateless, unreachable

    async def ticker(self, sockets: list[UdpSocket], pacer: Pacer | None = None) -> None:
        """Everything that happens by the clock; under load that includes looking at the sockets (``pacing``)."""
        pacer = pacer or Pacer(sockets, self.media_nodes.drains)
        driver = self.driver
        again = partial(self.ticker, sockets, pacer)
        look_at = 0.0
        while True:
            now = self.clock()
            try:
                for sock in sockets:
                    sock.report_errors()
                self.core.tick(now)
                if now >= look_at:
                    look_at = now + 1.0
                    self.garbage.step(pacer.busy, now)
                self.location.tick(now)
                for dispatcher in self.probed:
                    for destination in dispatcher.due(now):
                        self._probe(dispatcher, destination, now)
            except Exception:
                self._internal_error("timer")
            due = self.core.next_deadline()
            wait = TICK if due is None else min(max(due - self.clock(), FINEST), TICK)
            if pacer.measure():
                driver.poll(True)
                for _ in range(PACED_ROUNDS):
                    pacer.round()
                    if driver.ready and not await driver.drain(again):
                        return
                    if driver.woke_task:
                        driver.woke_task = False
                        # Twice: trio runs the tasks of one turn in any order, so this one may be back before a story
                        # has run at all, and would then nap in front of it.
                        await trio.lowlevel.checkpoint()
                        await trio.lowlevel.checkpoint()
                # Everybody else: control socket, sampler, and whoever wants to stop us.
                await trio.lowlevel.checkpoint()
            else:
                driver.poll(False)
                await trio.sleep(wait)

    def _probe(self, dispatcher: Dispatcher, destination: Destination, now: float) -> None:
        """OPTIONS to one FreeSWITCH or one destination of a set."""
        listener = self.service.listener_for("lan" if dispatcher is self.dispatcher else "public")
        host, port = destination.addr
        uri = b"sip:" + (b"[%b]" if ":" in host else b"%b") % host.encode() + (b"" if port == 5060 else b":%d" % port)
        branch = self.stack.new_branch(0)
        tag = secrets.token_hex(4).encode()
        request = make_request(
            "OPTIONS",
            uri,
            [
                (b"Via", b"SIP/2.0/UDP " + listener.via + b";branch=" + branch),
                (b"Max-Forwards", b"10"),
                (b"From", b"<sip:probe@%b>;tag=%b" % (listener.uri, tag)),
                (b"To", b"<" + uri + b">"),
                (b"Call-ID", secrets.token_hex(8).encode()),
                (b"CSeq", b"1 OPTIONS"),
            ],
        )
        self.stack.send_request(request, branch, listener.flow(destination.addr), _Probe(dispatcher, destination), now)


class _Probe:
    """Reports how an OPTIONS went; one attempt, the next probe is due soon enough."""

    def __init__(self, dispatcher: Dispatcher, destination: Destination) -> None:
        self.dispatcher = dispatcher
        self.destination = destination

    def on_response(self, tx: Transaction, response: Response, now: float) -> None:
        if response.code >= 200:
            self.dispatcher.probe_result(self.destination, response.code != 503, now)

    def on_timeout(self, tx: Transaction, now: float) -> None:
        """Counted by the dispatcher when the next probe was due."""

    def on_unreachable(self, tx: Transaction, now: float) -> None:
        self.dispatcher.mark_failed(self.destination, now, "icmp")


def _advertised(value: str | None, port: int) -> Address | None:
    if value is None:
        return None
    host, colon, shown = value.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return (value.strip("[]"), port)
    return (host.strip("[]"), int(shown))


def _address_of(raw: bytes) -> Address | None:
    from proxy.forward import numeric_address

    return numeric_address(parse_uri_untrusted(raw))


__all__ = ["Edge", "Target"]
