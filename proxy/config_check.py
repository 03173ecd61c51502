"""The sense of a configuration: values that no field may have, and sections that contradict each other.

`check` yields every problem it sees as (place, rest of the sentence); `proxy.config.load` reports the first. Each rule
is here because breaking it would only show later: as a crash at start, a call sent to nobody, or media lost.
"""

import ipaddress
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.sip.parser import BadMessage
from proxy.sip.uri import Uri, parse_uri_untrusted

if TYPE_CHECKING:
    from proxy.config import Config, RtpengineConfig

Problem = tuple[str, str]
"""Place in the file (``freeswitch[1].port``; "" for none) and the rest of the sentence, without the full stop."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
)
_USER = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,;?/-]*")  # RFC 3261 section 25.1 `user`, unescaped
_MAX_SOCKET_PATH = 107  # bytes, sun_path of unix(7) less its NUL


def check(config: "Config") -> Iterator[Problem]:
    """Every problem of a configuration whose keys and types are right, in file order as far as possible."""
    yield from _proxy(config)
    yield from _listen(config)
    yield from _freeswitch(config)
    yield from _rtpengine(config)
    yield from _dispatch(config)
    yield from _media(config)
    yield from _nodes(config)
    yield from _users(config)
    yield from _carrier(config)
    yield from _timers(config)
    yield from _registrar(config)
    yield from _store(config)


def hostport(address: str, port: int) -> str:
    """``address:port``, with brackets around an IPv6 address."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def split_hostport(value: str) -> tuple[str, int | None] | None:
    """``ip``, ``ip:port`` or ``[ip6]:port`` taken apart (port None when absent); None when it is no such thing."""
    match = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?|([0-9.]+)(?::(\d{1,5}))?", value)
    if match:
        ip, port = match[1] or match[3], match[2] or match[4]
    else:
        ip, port = value, None
    if not _is_ip(ip) or (port is not None and not 1 <= int(port) <= 65535):
        return None
    return ip, int(port) if port else None


def sip_host(uri: str) -> str | None:
    """The host of a SIP URI when it is an IP address, else None."""
    parsed = _sip_uri(uri)
    host = parsed.hostport[0] if parsed else ""
    return host if _is_ip(host) else None


def _proxy(config: "Config") -> Iterator[Problem]:
    proxy = config.proxy
    if not _NAME.fullmatch(proxy.instance):
        yield "proxy.instance", f"is {proxy.instance!r}; give 1 to 32 letters, digits, '_', '.' or '-'"
    if not proxy.control:
        yield "proxy.control", "is empty; give the path of the control socket, or leave the line out"
    elif len(proxy.control.encode()) > _MAX_SOCKET_PATH:
        yield "proxy.control", f"is {proxy.control}, too long for a socket; give at most {_MAX_SOCKET_PATH} bytes"
    for index, domain in enumerate(proxy.domains):
        if not (_DOMAIN.fullmatch(domain) or _is_ip(domain)):
            yield (
                "proxy.domains",
                f'has {domain!r} at [{index}]; give a bare domain such as "example.test", without sip: or port',
            )
    if proxy.route is not None and not Path(proxy.route).is_file():
        yield (
            "proxy.route",
            f"is {proxy.route}, which is not a file; correct the path, or leave it out for built-in routing",
        )
    if proxy.secret is not None and len(proxy.secret) < 16:
        yield "proxy.secret", f"has {len(proxy.secret)} characters; give at least 16, or leave it out for a random one"
    if not 1 <= proxy.max_forwards <= 255:
        yield "proxy.max_forwards", f"is {proxy.max_forwards}; give a number from 1 to 255"
    if proxy.media and not config.rtpengine:
        yield "proxy.media", "is true but there is no [[rtpengine]]; add one, or set media = false"


def _listen(config: "Config") -> Iterator[Problem]:
    if not config.listen:
        yield "", "there is no [[listen]] section; add one with a name and an address"
    yield from _names("listen", [item.name for item in config.listen])
    seen: list[tuple[str, int]] = []
    for index, item in enumerate(config.listen):
        place = f"listen[{index}]"
        yield from _address(f"{place}.address", item.address)
        yield from _port(f"{place}.port", item.port)
        if item.advertise is not None:
            if split_hostport(item.advertise) is None:
                yield (
                    f"{place}.advertise",
                    f'is {item.advertise!r}; give an IP address, or one with a port, such as "203.0.113.9:5060"',
                )
        elif _is_wildcard(item.address):
            yield (
                f"{place}.address",
                f"is {item.address}, which no peer can reply to; give a real one, or say in advertise what peers see",
            )
        for other, (address, port) in enumerate(seen):
            if port == item.port and _overlap(address, item.address):
                both = hostport(item.address, item.port)
                yield (
                    place,
                    f"listens on {both}, which listen[{other}] has already; give one of them another address or port",
                )
        seen.append((item.address, item.port))


def _freeswitch(config: "Config") -> Iterator[Problem]:
    yield from _names("freeswitch", [item.name for item in config.freeswitch])
    lans = [item for item in config.listen if item.side == "lan"]
    if config.freeswitch and not lans:
        yield "freeswitch[0]", 'needs a listener towards it, and no [[listen]] has side = "lan"; add one'
    ours = {(listen.address, listen.port): index for index, listen in enumerate(config.listen)}
    seen: dict[tuple[str, int], int] = {}
    for index, item in enumerate(config.freeswitch):
        place = f"freeswitch[{index}]"
        yield from _address(f"{place}.address", item.address)
        yield from _port(f"{place}.port", item.port)
        if not _USER.fullmatch(item.prefix):
            yield (
                f"{place}.prefix",
                f"is {item.prefix!r}; give only characters that may stand in the user part of a SIP URI",
            )
        at = (item.address, item.port)
        if at in ours:
            yield place, f"is at {hostport(*at)}, where listen[{ours[at]}] of this proxy listens; correct one of them"
        if at in seen:
            yield place, f"is at {hostport(*at)} like freeswitch[{seen[at]}]; give each its own address and port"
        seen.setdefault(at, index)
        if _is_ip(item.address) and lans and not any(_same_family(lan.address, item.address) for lan in lans):
            family = "IPv6" if ":" in item.address else "IPv4"
            yield f"{place}.address", f'is {family}, and no [[listen]] with side = "lan" is; add one of that family'


def _dispatch(config: "Config") -> Iterator[Problem]:
    yield from _names("dispatch", [item.name for item in config.dispatch])
    for index, item in enumerate(config.dispatch):
        place = f"dispatch[{index}]"
        if item.name == "freeswitch":
            yield f"{place}.name", "is freeswitch, which names the [[freeswitch]] entries; give the set another name"
        if not item.destinations:
            yield f"{place}.destinations", 'is empty; give addresses such as ["10.0.0.5:5060"]'
        for at, text in enumerate(item.destinations):
            if split_hostport(text) is None:
                yield (
                    f"{place}.destinations",
                    f'has {text!r} at [{at}]; give an IP address, or one with a port, such as "10.0.0.5:5060"',
                )


def _rtpengine(config: "Config") -> Iterator[Problem]:
    yield from _names("rtpengine", [item.name for item in config.rtpengine])
    seen: dict[str, int] = {}
    for index, item in enumerate(config.rtpengine):
        place = f"rtpengine[{index}]"
        yield from node_problems(item, place)
        if item.address in seen:
            yield f"{place}.address", f"is {item.address}, like rtpengine[{seen[item.address]}]; name each node once"
        seen.setdefault(item.address, index)


def node_problems(item: "RtpengineConfig", place: str = "rtpengine") -> Iterator[Problem]:
    """What is wrong with one [[rtpengine]] by itself, its name's form included."""
    if not _NAME.fullmatch(item.name):
        yield f"{place}.name", f"is {item.name!r}; give 1 to 32 letters, digits, '_', '.' or '-'"
    where = split_hostport(item.address)
    if where is None or where[1] is None:
        yield f"{place}.address", f'is {item.address!r}; give the ip:port of its ng socket, such as "127.0.0.1:2223"'
    if not 1 <= item.weight <= 1000:
        yield f"{place}.weight", f"is {item.weight}; give 1 to 1000, or remove the section to stop using the node"
    if not 0 <= item.tier <= 100:
        yield f"{place}.tier", f"is {item.tier}; give 0 for the nodes to use first, 1 to 100 for those that stand by"
    if item.set and not _NAME.fullmatch(item.set):
        yield f"{place}.set", f"is {item.set!r}; give 1 to 32 letters, digits, '_', '.' or '-'"
    for number, label in enumerate(item.labels):
        if not _NAME.fullmatch(label):
            yield f"{place}.labels", f"has {label!r} at [{number}]; give 1 to 32 letters, digits, '_', '.' or '-'"


def _media(config: "Config") -> Iterator[Problem]:
    media = config.media
    for key, value in (("public", media.public), ("lan", media.lan)):
        if value is None:
            continue
        if not config.rtpengine:
            yield (
                f"media.{key}",
                "names an interface of rtpengine but there is no [[rtpengine]]; add one, or remove the line",
            )
        if not _NAME.fullmatch(value):
            yield f"media.{key}", f"is {value!r}; give the interface's name as in rtpengine's own configuration"
    if (media.public is None) != (media.lan is None):
        given, missing = ("public", "lan") if media.lan is None else ("lan", "public")
        yield f"media.{given}", f"is given without {missing}; give both interface names, or neither"
    if media.delete_delay < 0:
        yield "media.delete_delay", f"is {media.delete_delay}; give 0 or more seconds"
    yield from _positive("media", ("silence", media.silence), ("sample_interval", media.sample_interval))
    if media.silence < media.sample_interval:
        yield (
            "media.silence",
            f"is {media.silence:g}, less than sample_interval ({media.sample_interval:g}); "
            "silence shows only in samples, so give at least that",
        )


def _nodes(config: "Config") -> Iterator[Problem]:
    nodes = config.nodes
    times = ("ping", "down_after", "down_after_blind", "partition_grace", "half_dead_after", "steady", "statistics")
    yield from _positive("nodes", *((name, getattr(nodes, name)) for name in (*times, "move_rate")))
    for name in ("down_after", "partition_grace", "half_dead_after"):
        if getattr(nodes, name) < 4 * nodes.ping:
            yield (
                f"nodes.{name}",
                f"is {getattr(nodes, name):g}, less than four pings ({nodes.ping:g}); a lost packet is no dead node, "
                f"so give at least {4 * nodes.ping:g}",
            )
    if nodes.down_after_blind < nodes.down_after:
        yield (
            "nodes.down_after_blind",
            f"is {nodes.down_after_blind:g}, less than down_after ({nodes.down_after:g}); without a canary there is "
            "less evidence, so give at least that",
        )


def _users(config: "Config") -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, user in enumerate(config.users):
        if not user.name or not _USER.fullmatch(user.name):
            yield f"users[{index}].name", f'is {user.name!r}; give the user part of a SIP address, such as "1000"'
        if user.name in seen:
            yield f"users[{index}].name", f"is {user.name!r}, like users[{seen[user.name]}]; name each user once"
        seen.setdefault(user.name, index)
        yield from _target(f"users[{index}].uri", user.uri, config)


def _carrier(config: "Config") -> Iterator[Problem]:
    if config.carrier is None:
        return
    yield from _target("carrier.uri", config.carrier.uri, config)
    servers = {item.address: index for index, item in enumerate(config.freeswitch)}
    for index, address in enumerate(config.carrier.addresses):
        yield from _address("carrier.addresses", address, f"has {address!r} at [{index}]")
        if address in servers:
            yield (
                "carrier.addresses",
                f"has {address}, freeswitch[{servers[address]}]'s own; peers are told apart by it, so correct one",
            )


def _timers(config: "Config") -> Iterator[Problem]:
    timers = config.timers
    yield from _positive("timers", *((name, getattr(timers, name)) for name in timers.__struct_fields__))
    for shorter, longer in (
        ("t1", "t2"),
        ("t1", "freeswitch_reply"),  # else no INVITE is ever repeated before its target is given up
        ("t1", "first_reply"),
        ("first_reply", "invite"),
        ("freeswitch_reply", "invite"),
    ):
        low, high = getattr(timers, shorter), getattr(timers, longer)
        if low > high:
            yield f"timers.{longer}", f"is {high:g}, less than {shorter} ({low:g}); give at least {low:g}"


def _registrar(config: "Config") -> Iterator[Problem]:
    registrar = config.registrar
    yield from _positive("registrar", *((name, getattr(registrar, name)) for name in registrar.__struct_fields__))
    if not registrar.min_expires <= registrar.max_expires:
        yield (
            "registrar.max_expires",
            f"is {registrar.max_expires}, less than min_expires ({registrar.min_expires}); exchange or correct them",
        )
    if not registrar.min_expires <= registrar.default_expires <= registrar.max_expires:
        low, high = registrar.min_expires, registrar.max_expires
        yield (
            "registrar.default_expires",
            f"is {registrar.default_expires}; give a time from min_expires ({low}) to max_expires ({high})",
        )


def _store(config: "Config") -> Iterator[Problem]:
    store = config.store
    if not (store.reconcile == 0 or (store.reconcile >= 1 and math.isfinite(store.reconcile))):
        yield "store.reconcile", f"is {store.reconcile:g}; give 1 or more seconds, or 0 for never"
    if store.path is None or store.kind == "none":
        return
    folder = next(one for one in (store.folder, *store.folder.parents) if one.exists())
    if not folder.is_dir():
        yield "store.path", f"is {store.path}, and {folder} is no folder; give a folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        what = "cannot be written" if folder == store.folder else f"cannot be made in {folder}"
        yield "store.path", f'is {store.path}, which {what} by this user; change its owner, or set kind = "none"'


def _names(section: str, names: list[str]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, name in enumerate(names):
        if not _NAME.fullmatch(name):
            yield f"{section}[{index}].name", f"is {name!r}; give 1 to 32 letters, digits, '_', '.' or '-'"
        if name in seen:
            yield f"{section}[{index}].name", f"is {name!r}, like {section}[{seen[name]}].name; give each its own name"
        seen.setdefault(name, index)


def _positive(section: str, *values: tuple[str, float]) -> Iterator[Problem]:
    for name, value in values:
        if not (value > 0 and math.isfinite(value)):
            yield f"{section}.{name}", f"is {value:g}; give a number greater than 0"


def _address(place: str, address: str, what: str = "") -> Iterator[Problem]:
    if not _is_ip(address):
        yield place, f"{what or f'is {address!r}'}; give an IP address (names are not looked up)"


def _port(place: str, port: int) -> Iterator[Problem]:
    if not 1 <= port <= 65535:
        yield place, f"is {port}; give a port from 1 to 65535"


def _target(place: str, uri: str, config: "Config") -> Iterator[Problem]:
    """A URI calls are sent to: SIP over UDP, at an IP address that is not ours."""
    parsed = _sip_uri(uri)
    if parsed is None:
        yield place, f'is {uri!r}, not a SIP URI; write it like "sip:1000@203.0.113.9:5060"'
        return
    transport = parsed.param(b"transport")
    if parsed.scheme != b"sip" or (transport is not None and transport.lower() != b"udp"):
        yield place, f"is {uri!r}; only sip: URIs over UDP can be reached, so leave out sips: and transport="
    host, port = parsed.hostport
    if not _is_ip(host):
        yield place, f"has the host {host!r}; give an IP address (names are not looked up)"
    for index, listen in enumerate(config.listen):
        if (listen.address, listen.port) == (host, port or 5060):
            yield (
                place,
                f"is {uri!r}, where listen[{index}] listens; calls would come straight back, so correct it",
            )


def _sip_uri(uri: str) -> Uri | None:
    try:
        parsed = parse_uri_untrusted(uri.encode())
    except BadMessage:
        return None
    return parsed if parsed.scheme in (b"sip", b"sips") else None


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_wildcard(text: str) -> bool:
    return _is_ip(text) and ipaddress.ip_address(text).is_unspecified


def _same_family(one: str, other: str) -> bool:
    return _is_ip(one) and _is_ip(other) and ipaddress.ip_address(one).version == ipaddress.ip_address(other).version


def _overlap(one: str, other: str) -> bool:
    """Whether two sockets bound to these addresses and one port would collide."""
    if not (_is_ip(one) and _is_ip(other)):
        return one == other
    return ipaddress.ip_address(one) == ipaddress.ip_address(other) or (
        _same_family(one, other) and any(map(_is_wildcard, (one, other)))
    )
