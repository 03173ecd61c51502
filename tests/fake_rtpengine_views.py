"""What the fake node shows in query, delete and statistics replies: the daemon's trees, made from the model.

Theory of operation. Pure functions from the model to dictionaries ready to be encoded, keys spelled as rtpengine
10.5.3.5 does. A stream of a deleted branch has no local address; one that never got an SDP has empty endpoints.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.fake_rtpengine_model import Call, Media, Party, Ports

Tree = dict[str, Any]


def call_tree(call: Call, parties: list[Party], interfaces: dict[str, str], now: int) -> Tree:
    """A query reply that shows these parties of the call."""
    tags = {}
    for number, party in enumerate(parties, 1):
        tags[party.tag or f"<untagged {number}>"] = _tag_tree(call, party, interfaces)
    medias = [media for party in call.parties for media in party.medias]
    zero = {"packets": 0, "bytes": 0, "errors": 0}
    rtp = {key: sum(getattr(media, key) for media in medias) for key in zero}
    times = {"created": call.created, "created_us": 0, "last signal": now}
    return {**times, "SSRC": {}, "tags": tags, "totals": {"RTP": rtp, "RTCP": zero}}


def _tag_tree(call: Call, party: Party, interfaces: dict[str, str]) -> Tree:
    hearers = [other for other in call.parties if party in other.hears]
    tree: Tree = {
        "tag": party.tag,
        "created": party.created,
        "subscriptions": [{"tag": other.tag, "type": party.kind} for other in party.hears],
        "subscribers": [{"tag": other.tag, "type": other.kind} for other in hearers],
        "medias": [_media_tree(party, media, index, interfaces) for index, media in enumerate(party.medias, 1)],
    }
    optional = {"via-branch": party.via_branch, "label": party.label}
    return tree | {key: value for key, value in optional.items() if value}


def _media_tree(party: Party, media: Media, index: int, interfaces: dict[str, str]) -> Tree:
    flags = ["initialized"] if media.endpoint else []
    tree: Tree = {"index": index, "type": media.kind, "protocol": media.protocol}
    tree["streams"] = [_stream_tree(party, media, offset, interfaces) for offset in (0, 1)]
    return tree | {"flags": [*flags, "send", "recv"]}


def _stream_tree(party: Party, media: Media, offset: int, interfaces: dict[str, str]) -> Tree:
    flags = ["RTCP" if offset else "RTP"]
    stream: Tree = {"endpoint": {}, "advertised endpoint": {}}
    port = media.ports.get(party.interface)
    if port is not None:
        stream |= {"local address": interfaces[party.interface], "local port": port + offset, "family": "IPv4"}
    if media.endpoint is not None:
        for key, (host, said) in (
            ("endpoint", media.learned or media.endpoint),
            ("advertised endpoint", media.endpoint),
        ):
            stream[key] = {"family": "IPv4", "address": host, "port": said + offset}
        flags.append("filled")
    if media.learned:
        flags.append("confirmed")
    figures = (0, 0, 0) if offset else (media.packets, media.bytes, media.errors)
    stream["stats"] = dict(zip(("packets", "bytes", "errors"), figures, strict=True))
    return stream | {"last packet": media.last_packet or party.created, "flags": flags}


def interfaces_tree(interfaces: dict[str, str], ports: Ports) -> list[Tree]:
    """The ports of each logical interface."""
    trees = []
    for name, address in interfaces.items():
        used, total = ports.used(name), ports.total()
        figures: Tree = {"min": ports.low, "max": ports.high, "used": used, "free": total - used, "totals": total}
        trees.append({"name": name, "address": address, "ports": figures | {"used_pct": f"{100 * used / total:.2f}"}})
    return trees


def control_tree(counts: Counter[str], errors: int) -> Tree:
    """How many commands were executed."""
    names = ("offer", "answer", "delete", "query", "list", "ping", "statistics")
    wire = {"statistics": "stats"}
    tree: Tree = {f"total{wire.get(name, name)}count": counts[name] for name in names}
    return tree | {"proxies": [{"proxy": "127.0.0.1", "errorcount": errors}]}
