"""The configuration file: one TOML file, read once, typed, checked as a whole, and passed down in pieces.

`load` goes through four steps, and each can only fail with a `ConfigError` whose text is one sentence saying where it
is, what is wrong and what to do:

1. TOML syntax (``tomllib``), with the line.
2. Unknown keys, with the key that was probably meant.
3. Types (``msgspec``), in words instead of type names.
4. Sense (``config_check``): values no field may have, and things that contradict each other, so that a proxy that has
   started can use every value it finds here without looking again.

Places are named like ``freeswitch[1].port``, counting from 0, with the line whenever the file is laid out in the usual
``[section]`` and ``key = value`` way. All times are seconds. The reference for people is docs/configuration.md.
"""

import difflib
import re
import tomllib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from proxy.config_check import Problem, check, hostport, sip_host, split_hostport

Side = Literal["public", "lan"]
Admin = Literal["active", "draining", "disabled"]

STATE_FOLDER = "/var/lib/mediactl"
"""Where a proxy keeps its state when the configuration does not say."""


class ConfigError(Exception):
    """The configuration cannot be used. ``str()`` is one sentence for a person: file, line, place, what, what to do."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every section: immutable, and a key nobody knows is an error."""


class ProxyConfig(Section, frozen=True):
    """[proxy]: the process itself."""

    instance: str = "edge1"
    """Name of this proxy; starts every ng call-id it makes, so no two proxies on one rtpengine may share it."""
    control: str = "/run/mediactl/control.sock"
    """Path of the control socket. A relative one is relative to the configuration file."""
    domains: tuple[str, ...] = ()
    """SIP domains whose users register here, without port. The listeners' own addresses always count too."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe message that is logged."""
    route: str | None = None
    """Routing script, a Python file. Relative to the configuration file. Absent: the built-in one."""
    secret: str | None = None
    """Key of the Record-Route tokens, 16 characters or more, equal on all instances. Absent: made at the first start
    and kept in [store]'s folder; without a store, random at each start."""
    max_forwards: int = 10
    """Max-Forwards given to a request that has none; hops, 1 to 255."""
    media: bool | None = None
    """Whether calls are anchored on rtpengine. Absent: yes if there is an [[rtpengine]]. Always a bool once loaded."""


class ListenConfig(Section, frozen=True):
    """[[listen]]: one UDP socket."""

    name: str
    """Name in logs and in the control API."""
    address: str
    """IP address to bind."""
    port: int = 5060
    """UDP port to bind."""
    side: Side = "public"
    """"public" towards phones and carriers, "lan" towards FreeSWITCH."""
    advertise: str | None = None
    """``ip`` or ``ip:port`` written into Via and Record-Route instead of the bound one (behind a 1:1 NAT)."""


class FreeswitchConfig(Section, frozen=True):
    """[[freeswitch]]: one B2BUA; calls are spread over all of them in turn."""

    name: str
    """Name in logs and in the control API."""
    address: str
    """Its IP address; requests from it are known by it."""
    port: int = 5060
    """Its SIP port (UDP)."""
    prefix: str = "b2bua-"
    """Put before the dialled number in requests sent to it; its dialplan matches on it. May be empty."""


class RtpengineConfig(Section, frozen=True):
    """[[rtpengine]]: one media node."""

    name: str
    """Name in logs, in the control API and in Record-Route tokens."""
    address: str
    """``ip:port`` of its ng control socket (UDP)."""
    weight: int = 1
    """Share of new calls relative to the other nodes of its tier, 1 to 1000."""
    tier: int = 0
    """0 is used first; nodes of higher tiers stand by until none of the lower ones takes the call."""
    labels: tuple[str, ...] = ()
    """What a routing script may ask of a node, such as "transcoding"."""
    set: str = ""
    """Name of the set it belongs to; a routing script may ask for one set."""
    admin: Admin = "active"
    """"draining": no new calls, those it has stay; "disabled": the same, kept out for good."""
    canary: bool = True
    """Whether the proxy sends itself a packet through the node now and then. Off where media cannot reach the proxy."""


class DispatchConfig(Section, frozen=True):
    """[[dispatch]]: a set of destinations for routing scripts (``call.dispatch(name)``)."""

    name: str
    """What scripts call it; "freeswitch" is taken."""
    destinations: tuple[str, ...] = ()
    """``ip:port`` of each, port 5060 when left out."""
    probe: bool = True
    """Whether OPTIONS are sent to find out which are alive. Without, all always count as alive until one fails."""

    def addresses(self) -> list[tuple[str, tuple[str, int]]]:
        """(as written, (ip, port)) of each destination."""
        found = [(text, split_hostport(text)) for text in self.destinations]
        return [(text, (place[0], place[1] or 5060)) for text, place in found if place is not None]


class MediaConfig(Section, frozen=True):
    """[media]: how calls are anchored."""

    public: str | None = None
    """rtpengine's name of the interface towards phones (its ``interface =`` line). Absent: its default interface."""
    lan: str | None = None
    """rtpengine's name of the interface towards FreeSWITCH. Both are given, or neither."""
    bypass: bool = True
    """Whether FreeSWITCH is expected to stay out of the media (``bypass_media``) on routes that do not say."""
    delete_delay: int = 0
    """Seconds rtpengine keeps a call's ports after its end."""
    silence: float = 90.0
    """Seconds without a packet either way, outside hold, after which a call counts as silent."""
    sample_interval: float = 30.0
    """Seconds within which every live call's counters are read once."""


class NodesConfig(Section, frozen=True):
    """[nodes]: how rtpengine nodes are watched, and what follows. Times in seconds."""

    ping: float = 0.1
    """Time between two pings of a node, and between two packets of its canary."""
    down_after: float = 0.6
    """A node whose control port and canary are silent for this long is down: its calls move."""
    down_after_blind: float = 2.0
    """The same for a node without a canary: there is no second opinion."""
    partition_grace: float = 0.6
    """Silence of the canary after which a node whose control port was silent before is down."""
    half_dead_after: float = 1.0
    """A node that answers but whose canary is silent for this long gets no new calls."""
    steady: float = 0.5
    """A node that was down takes new calls after answering for this long."""
    statistics: float = 1.0
    """Time between two looks at a node's load."""
    evacuate_half_dead: bool = False
    """Whether the calls of a half-dead node are moved."""
    move_rate: float = 2000.0
    """Calls moved to other nodes per second, at most."""


class UserConfig(Section, frozen=True):
    """[[users]]: a number with a fixed address, reachable without registering."""

    name: str
    """User part of its address-of-record, unescaped."""
    uri: str
    """``sip:`` URI it is reached at; the host is an IP address."""


class CarrierConfig(Section, frozen=True):
    """[carrier]: where numbers go that are no user of ours."""

    uri: str
    """``sip:`` URI of its gateway; the host is an IP address."""
    addresses: tuple[str, ...] = ()
    """IP addresses its requests come from. Empty: the host of ``uri``."""


class TimerConfig(Section, frozen=True):
    """[timers]: how long to wait, in seconds."""

    t1: float = 0.5
    """First retransmission interval (T1, RFC 3261 section 17.1.1.1)."""
    t2: float = 4.0
    """Longest retransmission interval of non-INVITE requests and of INVITE responses (T2)."""
    t4: float = 5.0
    """How long a message may stay in the network (T4)."""
    freeswitch_reply: float = 2.0
    """A FreeSWITCH that answers an INVITE with nothing for this long is left for the next one."""
    first_reply: float = 4.0
    """Any other next hop that answers an INVITE with nothing for this long is given up (408)."""
    invite: float = 75.0
    """Longest ringing: an INVITE without a final reply is cancelled (timer C; RFC 3261 section 16.6 item 11)."""
    ack: float = 32.0
    """A 2xx that gets no ACK for this long ends the call (64*T1; RFC 3261 section 13.3.1.4)."""
    options: float = 2.0
    """Time between two OPTIONS probes of a FreeSWITCH."""


class RegistrarConfig(Section, frozen=True):
    """[registrar]: bindings of users who register here."""

    min_expires: int = 60
    """Shortest registration granted, seconds; a shorter wish is refused with 423."""
    max_expires: int = 3600
    """Longest registration granted, seconds; a longer wish is shortened."""
    default_expires: int = 3600
    """Registration granted to a request that states no time, seconds."""
    max_contacts: int = 10
    """Contacts one user may have at a time."""
    max_bindings: int = 300_000
    """Contacts of all users together."""


class StoreConfig(Section, frozen=True):
    """[store]: what survives a restart."""

    kind: Literal["sqlite", "none"] = "sqlite"
    """"sqlite": live calls and owed deletes are kept in a file. "none": everything ends with the process."""
    path: str | None = None
    """Folder of the files, made when it is not there. Relative to the configuration file. Absent:
    ``/var/lib/mediactl``, if it can be written."""
    reconcile: float = 60.0
    """Seconds between two looks at the nodes for calls of ours that nobody owns; 0: never."""

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return Path(self.path or STATE_FOLDER)


class Config(Section, frozen=True):
    """The whole file. Sections that may repeat are tuples in file order."""

    proxy: ProxyConfig = ProxyConfig()
    listen: tuple[ListenConfig, ...] = ()
    freeswitch: tuple[FreeswitchConfig, ...] = ()
    rtpengine: tuple[RtpengineConfig, ...] = ()
    dispatch: tuple[DispatchConfig, ...] = ()
    media: MediaConfig = MediaConfig()
    nodes: NodesConfig = NodesConfig()
    users: tuple[UserConfig, ...] = ()
    carrier: CarrierConfig | None = None
    timers: TimerConfig = TimerConfig()
    registrar: RegistrarConfig = RegistrarConfig()
    store: StoreConfig = StoreConfig()


def load(path: str | Path) -> Config:
    """Read and check a configuration file; relative paths in it come out absolute, ``proxy.media`` as a bool.

    Raises ConfigError, and nothing else, for everything that can be wrong with the file.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{path} cannot be read: {reason}; give the path of a configuration file.") from error
    try:
        text = raw.decode()
        data = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text; save the file as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(path, text, error)) from error
    problem = next(_unknown_keys(Config, data, ""), None)
    if problem is None:
        try:
            config = msgspec.convert(data, Config)
        except msgspec.ValidationError as error:
            problem = _type_problem(str(error))
        else:
            config = _resolved(config, Path(path).resolve().parent)
            problem = next(check(config), None)
            if problem is None:
                return config
    place, sentence = problem
    line_number = _line_of(text, place)
    where = f"{path}, line {line_number}" if line_number else f"{path}"
    raise ConfigError(f"{where}: {f'{place} ' if place else ''}{sentence}{'' if sentence.endswith('?') else '.'}")


def describe(config: Config) -> str:
    """What the proxy would do with this configuration, for a person, one thing a line (``--check``)."""
    proxy = config.proxy
    lines = [f"instance {proxy.instance}, control socket {proxy.control}, log level {proxy.log_level}"]
    lines += [
        f"listen {listen.name}: {listen.side} side, udp {hostport(listen.address, listen.port)}"
        + (f", known outside as {listen.advertise}" if listen.advertise else "")
        for listen in config.listen
    ]
    lines.append(f"domains: {', '.join(proxy.domains) or 'only the addresses of the listeners'}")
    lines.append(f"routing: {proxy.route or 'built in'}")
    lines += [
        f"freeswitch {fs.name}: {hostport(fs.address, fs.port)}, numbers prefixed {fs.prefix!r}"
        for fs in config.freeswitch
    ] or ["freeswitch: none, calls go straight to the callee"]
    lines += [
        f"dispatch {one.name}: {', '.join(one.destinations)}{'' if one.probe else ', not probed'}"
        for one in config.dispatch
    ]
    if proxy.media:
        lines += [f"rtpengine {node.name}: {_node(node)}" for node in config.rtpengine]
        media = config.media
        faces = f"interfaces {media.public} (public) and {media.lan} (lan)" if media.public else "default interface"
        lines.append(
            f"media: {faces}, sampled every {media.sample_interval:g} s, silent after {media.silence:g} s, "
            f"ports freed {media.delete_delay} s after the call"
        )
        nodes = config.nodes
        lines.append(
            f"nodes: pinged every {nodes.ping:g} s, down after {nodes.down_after:g} s of silence, half-dead ones "
            f"{'evacuated' if nodes.evacuate_half_dead else 'quarantined'}, {nodes.move_rate:g} calls moved a second"
        )
    else:
        lines.append("media: not anchored, SDP passes unchanged")
    lines += [f"user {user.name}: {user.uri}" for user in config.users]
    if config.carrier:
        lines.append(f"carrier: {config.carrier.uri}, calls from {', '.join(config.carrier.addresses)}")
    registrar = config.registrar
    lines.append(
        f"registrar: {registrar.min_expires} to {registrar.max_expires} s, {registrar.default_expires} s by default, "
        f"{registrar.max_contacts} contacts a user, {registrar.max_bindings} in all"
    )
    timers = msgspec.structs.asdict(config.timers)
    lines.append("timers: " + ", ".join(f"{name} {value:g} s" for name, value in timers.items()))
    store = config.store
    lost = store.kind == "none"
    lines.append("store: none, live calls end with the proxy" if lost else f"store: {store.folder}/{proxy.instance}.db")
    kept = "random secret, lost at restart" if lost else f"secret kept in {store.folder}/{proxy.instance}.secret"
    lines.append(f"record-route tokens: {'secret from the file' if proxy.secret else kept}")
    return "\n".join(lines)


def _node(node: RtpengineConfig) -> str:
    parts = [node.address, f"weight {node.weight}"]
    parts += [f"tier {node.tier}"] if node.tier else []
    parts += [f"set {node.set}"] if node.set else []
    parts += [f"labels {', '.join(node.labels)}"] if node.labels else []
    parts += [node.admin] if node.admin != "active" else []
    parts += ["no canary"] if not node.canary else []
    return ", ".join(parts)


def _resolved(config: Config, folder: Path) -> Config:
    """Fill in what depends on the rest of the file or on where the file is."""
    proxy, carrier = config.proxy, config.carrier
    if carrier and not carrier.addresses and (host := sip_host(carrier.uri)):
        carrier = msgspec.structs.replace(carrier, addresses=(host,))
    proxy = msgspec.structs.replace(
        proxy,
        control=str(folder / proxy.control) if proxy.control else "",
        route=str(folder / proxy.route) if proxy.route else proxy.route,
        domains=tuple(domain.lower() for domain in proxy.domains),
        media=bool(config.rtpengine) if proxy.media is None else proxy.media,
    )
    store = config.store
    if store.path:
        store = msgspec.structs.replace(store, path=str(folder / store.path))
    return msgspec.structs.replace(config, proxy=proxy, carrier=carrier, store=store)


# --- saying what is wrong ---------------------------------------------------------------------------------------------

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list in [ ]",
    "object": "a section",
}


def _syntax(path: str | Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    message, _, position = str(error).partition(" (at ")
    match = re.match(r"line (\d+)", position)
    line = int(match[1]) if match else max(1, len(text.splitlines()))
    return f"{path}, line {line}: not valid TOML, {message[:1].lower()}{message[1:]}; correct the syntax of this line."


def _unknown_keys(kind: Any, data: Any, place: str) -> Iterator[Problem]:
    """Keys in ``data`` that the section type ``kind`` does not have, depth first in file order."""
    struct = _struct_in(kind)
    if struct is None:
        return
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield from _unknown_keys(struct, item, f"{place}[{index}]")
    elif isinstance(data, dict):
        fields = {field.name: field.type for field in msgspec.structs.fields(struct)}
        for key, value in data.items():
            inner = f"{place}.{key}" if place else key
            if key in fields:
                yield from _unknown_keys(fields[key], value, inner)
                continue
            close = difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            thing = "key" if place or not isinstance(value, dict | list) else "section"
            home = next((name for name, inside in fields.items() if key in _field_names(inside)), None)
            if thing == "key" and home:
                yield inner, f"stands outside its section; move it under [{home}]"
                continue
            advice = f"did you mean {close[0]}?" if close else f"known here: {', '.join(fields)}"
            yield inner, f"is not a known {thing}; {advice}"


def _field_names(kind: Any) -> tuple[str, ...]:
    struct = _struct_in(kind)
    return struct.__struct_fields__ if struct else ()


def _struct_in(kind: Any) -> type[Section] | None:
    """The section type inside ``X``, ``X | None`` or ``tuple[X, ...]``."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return kind
    if typing.get_origin(kind) in (tuple, typing.Union, types.UnionType):
        return next(filter(None, map(_struct_in, typing.get_args(kind))), None)
    return None


def _type_problem(message: str) -> Problem:
    """msgspec's message in words."""
    what, _, place = message.partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    if match := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return place, f"has no {match[1]}; add the line {match[1]} = ..."
    if match := re.fullmatch(r"Invalid enum value '(.*)'", what, re.DOTALL):
        return place, f"is {match[1]!r}; give one of {_choices(place)}"
    if match := re.fullmatch(r"Expected `([^`]+)`, got `(\w+)`", what):
        expected, got = match[1].removesuffix(" | null"), match[2]
        top = place.partition("[")[0]
        if (expected, got) == ("array", "object") and "." not in place:
            return place, f"may be given several times; write [[{top}]] with two brackets"
        if (expected, got) == ("object", "array") and "." not in place:
            return place, f"is given once only; write [{top}] with one bracket"
        return place, f"is {_KINDS.get(got, f'a {got}')}; give {_KINDS.get(expected, expected)}"
    return place, f"cannot be used ({what}); see docs/configuration.md"


def _choices(place: str) -> str:
    """The values a Literal field may have."""
    kind: Any = Config
    for name in re.sub(r"\[\d+\]", "", place).split("."):
        struct = _struct_in(kind)
        assert struct is not None
        kind = next(field.type for field in msgspec.structs.fields(struct) if field.name == name)
    return ", ".join(f'"{value}"' for value in typing.get_args(kind))


def _line_of(text: str, place: str) -> int | None:
    """Line of ``section.key`` or ``section[n].key``, or of its section header; None when the layout is unusual."""
    match = re.fullmatch(r"(\w+)(?:\[(\d+)\])?(?:\.([\w-]+))?.*", place)
    if not match:
        return None
    section, index, key = match[1], int(match[2] or 0), match[3]
    found: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            if found:
                break
            if re.match(rf"\[\[?\s*{re.escape(section)}\s*\]", stripped):
                if index == 0:
                    found = number
                index -= 1
        elif found and key and re.match(rf'"?{re.escape(key)}"?\s*=', stripped):
            return number
    return found
