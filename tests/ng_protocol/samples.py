"""Replies of rtpengine 10.5.3.5, shortened, as ``decode_untrusted`` gives them."""

from __future__ import annotations

from typing import Any


def _stream(kind: bytes, port: int, peer: int, **more: Any) -> dict[str, Any]:
    return {
        "local port": port,
        "local address": b"127.0.0.1",
        "family": b"IPv4",
        "endpoint": {"family": b"IPv4", "address": b"198.51.100.7", "port": peer},
        "advertised endpoint": {"family": b"IPv4", "address": b"192.0.2.1", "port": peer},
        "last packet": 1795498254,
        "flags": [kind, b"filled", b"confirmed"],
        "stats": {"packets": 500, "bytes": b"86000", "errors": 1},
        **more,
    }


QUERY: dict[str, Any] = {
    "created": 1795498254,
    "created_us": 252797,
    "last signal": 1795498255,
    "SSRC": {
        "305419896": {
            "cumulative loss": 2,
            "average MOS": {"MOS": 43, "round-trip time": 1200, "jitter": 3, "packet loss": 1, "samples": 4},
            "lowest MOS": {"MOS": 40, "jitter": 5, "packet loss": 2, "reported at": 1795498260},
            "highest MOS": {"MOS": b"44", "jitter": 0, "packet loss": 0, "reported at": 1795498258},
            "MOS progression": {"interval": 1, "entries": []},
            "packets": 500,
            "bytes": 86000,
        }
    },
    "tags": {
        "f": {
            "tag": b"f",
            "label": b"caller",
            "created": 1795498254,
            "subscriptions": [{"tag": b"t", "type": b"offer/answer"}],
            "subscribers": [{"tag": b"t", "type": b"offer/answer"}],
            "medias": [
                {
                    "index": 1,
                    "type": b"audio",
                    "protocol": b"RTP/SAVP",
                    "codec": b"PCMA/8000",
                    "streams": [
                        _stream(b"RTP", 31010, 4000, **{"crypto suite": b"AES_CM_128_HMAC_SHA1_80", "SSRC": 305419896}),
                        _stream(b"RTCP", 31011, 4001),
                    ],
                    "flags": [b"initialized", b"send", b"recv", b"SDES"],
                }
            ],
        },
        "<untagged 1>": {
            "tag": b"",
            "via-branch": b"1",
            "created": 1795498254,
            "subscriptions": [],
            "subscribers": [],
            "medias": [
                {
                    "index": 1,
                    "type": b"audio",
                    "protocol": b"RTP/AVP",
                    "streams": [
                        {
                            "endpoint": {},
                            "advertised endpoint": {},
                            "last packet": 1795498254,
                            "flags": [b"RTP"],
                            "stats": {"packets": 0, "bytes": 0, "errors": 0},
                        }
                    ],
                    "flags": [b"send", b"recv"],
                }
            ],
        },
    },
    "totals": {
        "RTP": {"packets": 500, "bytes": 86000, "errors": 1},
        "RTCP": {"packets": 4, "bytes": 400, "errors": 0},
    },
    "result": b"ok",
}

STATISTICS: dict[str, Any] = {
    "currentstatistics": {"sessionsown": 3, "sessionsforeign": 1, "sessionstotal": 4, "packetrate": 150},
    "totalstatistics": {
        "uptime": b"3600",
        "managedsessions": 12,
        "rejectedsessions": 2,
        "avgcallduration": b"12.500000",
        "relayedpackets": 10**10,
    },
    "interfaces": [
        {
            "name": b"pub",
            "address": b"192.0.2.10",
            "ports": {"min": 30000, "max": 39999, "used": 12, "free": 9988, "totals": 10000, "used_pct": b"0.12"},
        },
        {
            "name": b"lan",
            "address": b"10.0.0.10",
            "ports": {"min": 30000, "max": 30099, "used": 90, "free": 10, "totals": 100},
        },
    ],
    "controlstatistics": {
        "proxies": [{"proxy": b"192.0.2.20", "errorcount": 3}, {"proxy": b"192.0.2.21", "errorcount": 4}],
        "totaloffercount": 20,
        "totalanswercount": 18,
        "totaldeletecount": 17,
    },
    "transcoders": [{"chain": b"PCMA -> opus", "num": 2, "packetrate": b"100"}],
    "mos": {"mos_average": b"4.300000"},
}
