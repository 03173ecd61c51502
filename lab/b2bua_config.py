"""What the stand-in B2BUA is told: addresses, and the FreeSWITCH settings that change what it sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Dialplan:
    """One dialplan extension. `call_timeout` in seconds (FreeSWITCH gives up a little earlier); `copy_headers` is
    sip_copy_custom_headers, which the example configuration sets to false."""

    call_timeout: float = 60.0
    copy_headers: bool = False


@dataclass(frozen=True)
class B2buaConfig:
    """`host`, `port`: our own address. `edge_host`, `edge_port`: where leg B goes; an empty host means the host in
    leg A's top Via (`${sip_via_host}`), port 0 means none in the URI. `plans` maps a prefix of the dialled user to
    its extension. `three_pcc_proxy` is enable-3pcc=proxy, `callid_as_uuid` is inbound-use-callid-as-uuid."""

    host: str
    port: int = 5060
    edge_host: str = ""
    edge_port: int = 5080
    plans: Mapping[str, Dialplan] = field(default_factory=lambda: {"b2bua-": Dialplan()})
    three_pcc_proxy: bool = False
    callid_as_uuid: bool = False
