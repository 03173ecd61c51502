"""The routing script's view: ``Call``, one request outside a dialog, and what can be done with it.

A routing script is a Python file with ``async def route(call)``; it is told in order, what Kamailio splits into
request, branch, reply and failure routes is the next line after an ``await``. ``proxy/talk.py`` is the built-in one
and uses nothing that another script could not. ``load_script`` turns every mistake in a file into one sentence with
file and line.

``await call.relay(...)`` returns a ``Reply`` when the round is over: a 2xx has gone up already, a failure goes up
when the script ends unless it does something else (another ``relay``, a ``reply``).
"""

from __future__ import annotations

import inspect
import traceback
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.calls import Reply, run_rounds
from proxy.dispatcher import Destination, Dispatcher
from proxy.flow import Address, Flow, Listener
from proxy.forward import next_hop_untrusted, numeric_address, own_listener, route_uri_untrusted
from proxy.relay import Relay, Target
from proxy.sip.message import Request
from proxy.sip.parser import BadMessage
from proxy.sip.uri import Uri, parse_uri_untrusted

if TYPE_CHECKING:
    from proxy.core import Core
    from proxy.location import Location
    from proxy.registrar import Registrar

Route = Callable[["Call"], Awaitable[None]]
AnyRoute = Callable[[Any], Any]


class ScriptError(Exception):
    """A routing script that cannot be used: one sentence, file and line."""


@dataclass(slots=True)
class Service:
    """What calls can use: filled by ``app`` from the configuration, one for the whole proxy."""

    core: Core
    listeners: list[Listener]
    domains: frozenset[bytes]
    freeswitch: Dispatcher
    sets: dict[str, Dispatcher]
    users: dict[bytes, bytes]
    location: Location
    registrar: Registrar
    carrier: bytes | None = None
    carrier_addresses: frozenset[str] = frozenset()
    freeswitch_reply: float = 2.0
    anchor_calls: bool = True
    strangers: Counter[str] = field(default_factory=Counter)  # unanswered calls of strangers, by FreeSWITCH's address

    def knows(self, addr: Address) -> bool:
        """Whether a user is registered from there, or a static user or the carrier is there."""
        return addr[0] in self.carrier_addresses or self.core.known_address(addr)

    @contextmanager
    def stranger_at(self, hosts: set[str]) -> Iterator[None]:
        """While a stranger's call is at one of these FreeSWITCHes."""
        self.strangers.update(hosts)
        try:
            yield
        finally:
            self.strangers.subtract(hosts)

    def listener_for(self, side: str, prefer: Listener | None = None) -> Listener:
        """A listener of that side; ``prefer`` when it is one."""
        if prefer is not None and prefer.side == side:
            return prefer
        return next((one for one in self.listeners if one.side == side), self.listeners[0])


class Call:
    """A request outside a dialog. ``method``, ``uri`` and ``user`` are text; ``source`` is (ip, port)."""

    def __init__(self, service: Service, relay: Relay, flow: Flow, behind_nat: bool) -> None:
        self.service = service
        self.relay_context = relay
        self.flow = flow
        self.behind_nat = behind_nat
        self.request: Request = relay.request
        self.method: str = relay.request.method
        self.source: Address = flow.addr
        self.dropped = False
        self.wish: tuple[str | None, tuple[str, ...]] | None = None
        self._uri: Uri | None = None

    # -- asking ---------------------------------------------------------------------------------------------------

    @property
    def uri(self) -> Uri:
        """The Request-URI, parsed."""
        if self._uri is None:
            self._uri = parse_uri_untrusted(self.request.uri)
        return self._uri

    @property
    def user(self) -> str:
        """The user part of the Request-URI, "" when it has none."""
        return (self.uri.user or b"").decode("utf-8", "replace")

    @property
    def from_freeswitch(self) -> bool:
        """True for the second pass: FreeSWITCH is known by its address; on a public socket only when the SDP names
        media of a session of ours, since an address can be forged there."""
        if not self.service.freeswitch.is_freeswitch(self.source[0]):
            return False
        return self.flow.listener.side == "lan" or self._correlates()

    def _correlates(self) -> bool:
        anchor = self.service.core.anchor
        return anchor is not None and anchor.correlates(self.request) is not None

    @property
    def caller_is_known(self) -> bool:
        """For the second pass: whether the call this leg belongs to came from somebody we know, or FreeSWITCH makes it
        by itself. One whose SDP names no session of ours could be any caller's (a late offer, media not anchored): it
        counts as FreeSWITCH's own only while no stranger's call waits at that FreeSWITCH."""
        anchor = self.service.core.anchor
        session = anchor.correlates(self.request) if anchor is not None else None
        first = session.first_leg if session is not None else None
        if first is None:
            return not self.service.strangers[self.source[0]]
        return not first.phone_calls or self.service.knows(first.source)

    @property
    def for_us(self) -> bool:
        """True when the Request-URI's host is a domain or a listener of ours."""
        uri = self.uri
        return uri.host in self.service.domains or own_listener(uri, self.service.core.own) is not None

    @property
    def source_is_known(self) -> bool:
        """True when somebody at this address is registered, or a static user or the carrier is there."""
        inside = self.flow.listener.side == "lan" and self.service.freeswitch.is_freeswitch(self.source[0])
        return inside or self.service.knows(self.source)

    # -- where to -------------------------------------------------------------------------------------------------

    def freeswitch(self, prefix: str | None = None, user: str | None = None) -> Hunt:
        """The FreeSWITCHes in turn: ``sip:<prefix><user>@<freeswitch>``, the next one on silence, ICMP or 503."""
        return self._hunt(self.service.freeswitch, prefix, user)

    def dispatch(self, name: str, prefix: str | None = None, user: str | None = None) -> Hunt:
        """A set of destinations by name, tried in turn like ``freeswitch``."""
        found = self.service.sets.get(name)
        if found is None:
            raise KeyError(
                f"no destination set named {name!r}; there are: {', '.join(sorted(self.service.sets)) or 'none'}"
            )
        return self._hunt(found, prefix, user)

    def _hunt(self, dispatcher: Dispatcher, prefix: str | None, user: str | None) -> Hunt:
        name = self.user if user is None else user
        targets = []
        inside = dispatcher is self.service.freeswitch
        for destination in dispatcher.order():
            before = destination.prefix if prefix is None else prefix.encode()
            host, port = destination.addr
            shown = b"[%b]" % host.encode() if ":" in host else host.encode()
            tail = b"" if port == 5060 else b":%d" % port
            uri = b"sip:%b%b@%b%b" % (before, name.encode(), shown, tail)
            listener = self.service.listener_for("lan" if inside else "public", self.flow.listener)
            targets.append(
                Target(
                    uri,
                    listener.flow(destination.addr),
                    destination.name,
                    self.service.freeswitch_reply,
                    _reporter(dispatcher, destination, self.service.core),
                )
            )
        return Hunt(targets, b2bua=inside)

    def lookup(self, user: str | None = None) -> list[Target]:
        """Where a user can be reached: registered bindings (all of them, to fork to), else the static entry, else
        nothing."""
        name = (self.user if user is None else user).encode()
        service = self.service
        bindings = service.location.lookup(name, service.core.clock())
        targets = []
        for binding in bindings:
            listener = next((one for one in service.listeners if one.name == binding.listener), None)
            out = listener or service.listener_for("public")
            shown = name.decode("utf-8", "replace")
            received = binding.received if binding.nat else None
            addr = (numeric_address(route_uri_untrusted(binding.path[0])) if binding.path else None) or binding.address
            targets.append(
                Target(bytes(binding.contact), out.flow(addr), shown, received=received, routes=binding.path)
            )
        if not targets and name in service.users:
            targets.append(self._target_of(service.users[name]))
        return targets

    def carrier(self, user: str | None = None) -> list[Target]:
        """The carrier, with the dialled user in the Request-URI; empty when none is configured."""
        if self.service.carrier is None:
            return []
        uri = parse_uri_untrusted(self.service.carrier)
        return [self._target_of(bytes(uri.with_user((self.user if user is None else user).encode())))]

    def _target_of(self, raw: bytes) -> Target:
        uri = parse_uri_untrusted(raw)
        addr = numeric_address(uri)
        if addr is None:
            raise BadMessage(404, b"Destination is a name, and names are not resolved here: " + uri.host)
        inside = self.service.freeswitch.is_freeswitch(addr[0])
        listener = self.service.listener_for("lan" if inside else "public", None if inside else self.flow.listener)
        return Target(raw, listener.flow(addr))

    # -- doing ----------------------------------------------------------------------------------------------------

    def reply(self, code: int, reason: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Answer the request here. A final reply ends it; later ones are ignored."""
        extra = [(name.encode(), value.encode()) for name, value in headers]
        self.relay_context.reply(code, None if reason is None else reason.encode(), self.service.core.clock(), extra)

    def drop(self) -> None:
        """Say nothing at all (scanners learn from any answer)."""
        self.dropped = True
        core = self.service.core
        core.stats["dropped_by_route"] += 1
        core.stack.abandon(self.relay_context.tx)

    async def register(self) -> None:
        """Let the registrar answer a REGISTER."""
        core = self.service.core
        response = self.service.registrar.handle(self.request, self.flow, core.clock())
        relay = self.relay_context
        relay.final_code = response.code
        core.stack.respond(relay.tx, response.code, response.to_bytes(), core.clock())

    def use_nodes(self, set: str | None = None, labels: Iterable[str] = ()) -> None:
        """Media of this call goes to nodes of one `set`, and to nodes that have all of `labels`. Say it before
        ``relay``; with no such node that can take it the call gets 503. The second pass of a call stays where the first
        one put it."""
        self.wish = (set, tuple(labels))

    async def relay(
        self,
        to: str | Target | Sequence[Target] | Hunt | None = None,
        *,
        media: bool | None = None,
        b2bua: bool | None = None,
    ) -> Reply:
        """Send the request on and wait for the outcome.

        ``to``: a URI, a target, several (forked in parallel), a ``Hunt`` (one after the other), or None for the
        Request-URI as it stands. ``media`` anchors the SDP on rtpengine (default: for INVITEs, when nodes are
        configured); ``b2bua`` says that the far side is FreeSWITCH, which will come back (default: when ``to`` came
        from ``freeswitch()``).
        """
        rounds = self._targets(to)
        if b2bua is None:
            b2bua = isinstance(to, Hunt) and to.b2bua
        if not b2bua or self.source_is_known:
            return await run_rounds(self, rounds, media, b2bua)
        with self.service.stranger_at({target.addr[0] for targets in rounds for target in targets}):
            return await run_rounds(self, rounds, media, b2bua)

    def _targets(self, to: str | Target | Sequence[Target] | Hunt | None) -> list[list[Target]]:
        """Rounds of targets."""
        if isinstance(to, Hunt):
            return [[target] for target in to.targets]
        if to is None:
            return [[self._next_hop()]]
        if isinstance(to, str):
            return [[self._target_of(to.encode())]]
        if isinstance(to, Target):
            return [[to]]
        return [list(to)] if to else []

    def _next_hop(self) -> Target:
        addr = numeric_address(next_hop_untrusted(self.request.copy()))
        if addr is None:
            raise BadMessage(404, b"Destination is a name, and names are not resolved here")
        return Target(self.request.uri, self.service.listener_for("public", self.flow.listener).flow(addr))


@dataclass(slots=True)
class Hunt:
    """Targets to try one after the other; ``b2bua`` when they are FreeSWITCHes, which come back with a leg B."""

    targets: list[Target]
    b2bua: bool = False

    def __bool__(self) -> bool:
        return bool(self.targets)


def _reporter(dispatcher: Dispatcher, destination: Destination, core: Core) -> Callable[[str], None]:
    def report(what: str) -> None:
        now = core.clock()
        if what == "ok":
            dispatcher.mark_ok(destination, now)
        elif what in ("icmp", "503", "timeout"):
            dispatcher.mark_failed(destination, now, what)  # type: ignore[arg-type]

    return report


def is_stateless(route: AnyRoute) -> bool:
    """A plain function waits for nothing: requests are relayed statelessly (``proxy.stateless``)."""
    return not inspect.iscoroutinefunction(route)


def load_script(path: Path) -> AnyRoute:
    """Load ``async def route(call)``, or the plain ``def route(call)`` of stateless mode, from a file.

    Raises ScriptError naming file and line.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path}: cannot be read ({error}); check `route` in the configuration") from None
    module = types.ModuleType(f"route_{path.stem}")
    module.__file__ = str(path)
    try:
        code = compile(source, str(path), "exec")
        exec(code, module.__dict__)
    except SyntaxError as error:
        raise ScriptError(f"{path}:{error.lineno}: {error.msg}; the routing script is not valid Python") from None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = lines[-1] if lines else 1
        raise ScriptError(f"{path}:{where}: {type(error).__name__}: {error}; raised while loading the script") from None
    route = module.__dict__.get("route")
    if route is None:
        raise ScriptError(f"{path}:1: there is no `async def route(call)`; the script must define it")
    line = route.__code__.co_firstlineno if inspect.isfunction(route) else 1
    if not inspect.isfunction(route):
        raise ScriptError(
            f"{path}:{line}: route must be a function: `async def route(call)`, or `def` for stateless mode"
        )
    if len(inspect.signature(route).parameters) != 1:
        raise ScriptError(f"{path}:{line}: route takes exactly one argument, the call")
    checked: AnyRoute = route
    return checked
