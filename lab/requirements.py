"""What the lab needs of this machine, asked once: a missing part makes a scenario UNSUPPORTED, by name.

Theory of operation. Programs are looked for in PATH, with the Debian package that has them; kernel features are tried
in a namespace made for it. `missing(shape)` gives the sentences for one scenario's network, empty when all is there.
"""

from __future__ import annotations

import os
import shutil
from functools import cache

from lab import namespace, nat
from lab.namespace import LabError
from lab.nat import Nat
from lab.topology import Shape

PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "rtpengine": "rtpengine-daemon (ngcp-rtpengine-daemon)",
    "setpriv": "util-linux",
    "tcpdump": "tcpdump",
}
"""Program -> Debian package."""


def missing(shape: Shape) -> list[str]:
    """One sentence per missing part."""
    absent = [f"program {name} (package {package})" for name, package in PROGRAMS.items() if shutil.which(name) is None]
    if absent:
        return absent
    if why := _namespaces():
        return [why]
    return [why for kind in (shape.caller_nat, shape.callee_nat) if kind is not None and (why := _nat(kind))]


def forget() -> None:
    """Ask the kernel again next time."""
    _namespaces.cache_clear()
    _nat.cache_clear()


@cache
def _namespaces() -> str:
    name = f"{namespace.PREFIX}{os.getpid()}-0-probe"
    try:
        namespace.create(name)
        namespace.join(name, "left", name, "right")
    except LabError as error:
        return f"kernel feature network namespaces: {error}"
    except OSError as error:
        return f"kernel feature veth: {error}"
    finally:
        namespace.remove(name)
    return ""


@cache
def _nat(kind: Nat) -> str:
    name = f"{namespace.PREFIX}{os.getpid()}-0-probe-{kind}"
    try:
        namespace.create(name)
        namespace.nft(name, nat.rules(kind, "203.0.113.17", "192.168.1.2"))
    except LabError as error:
        return f"kernel feature nftables NAT ({kind}): {error}"
    finally:
        namespace.remove(name)
    return ""
