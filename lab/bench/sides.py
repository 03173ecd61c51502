"""What is compared: how each proxy is configured and started for a mode. The only place that knows either.

Both do the same work. P1: a stateless relay. P2 and P8: a stateful relay with Record-Route, Max-Forwards and 100
Trying. P3: the same, with one rtpengine offer on the INVITE, one answer on the 200 and one delete on the BYE, with the
same flags. P4: the call of the talk. A caller outside, the B2BUA on the LAN socket, the call back as a new dialog, the
callee outside; NAT checks, look-up of the callee and probes of the B2BUA on both sides. Kamailio anchors the media on
each pass, as its rtpengine module does; our proxy has its built-in routing and one anchor for the whole call.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.bench.b2bua import ADDRESS as SWITCH
from lab.bench.b2bua import LAN, PREFIX
from lab.bench.build import ROOT, Build
from lab.bench.modes import Mode
from lab.bench.node import ADDRESS as NODE_ADDRESS
from lab.bench.node import NG_PORT
from lab.bench.processes import BenchError
from lab.bench.sipp import BUFFER, CALLEE, PORT, PROXY

NG_FLAGS = "replace-origin replace-session-connection trust-address port-latching"
"""What our proxy sends for a plain RTP leg, in the words of Kamailio's rtpengine module."""

ROUTE = '''"""Every call goes to the callee of the bench."""


async def route(call):
    await call.relay("sip:service@{callee}", media={media})
'''

ROUTE_STATELESS = '''"""Every call goes to the callee of the bench, nothing is remembered."""


def route(call):
    call.forward("sip:service@{callee}")
'''

CONFIG = """\
[proxy]
instance = "bench"
control = "{control}"
{route}log_level = "warning"
media = {media}

[store]
kind = "none"

[[listen]]
name = "public"
side = "public"
address = "{proxy}"
port = {port}
"""

CONFIG_SWITCH = """
[[listen]]
name = "lan"
side = "lan"
address = "{lan[0]}"
port = {lan[1]}

[[freeswitch]]
name = "b2bua"
address = "{switch[0]}"
port = {switch[1]}
prefix = "{prefix}"

[[users]]
name = "service"
uri = "sip:service@{callee}"
"""

CONFIG_NODE = """
[[rtpengine]]
name = "node1"
address = "{node}"
canary = false
"""


@dataclass(frozen=True)
class Side:
    """A proxy to be measured; `name` is what the report calls it."""

    name: str

    def command(self, mode: Mode, folder: Path) -> Sequence[str | Path]:
        """Write its configuration for `mode` into `folder` and return the command line that starts it."""
        raise NotImplementedError

    def environment(self) -> dict[str, str] | None:
        """Environment of its process; None: ours."""
        return None

    def anchors(self, mode: Mode) -> int:
        """Offers, and answers, and deletes, it owes the node for one call."""
        return 1 if mode.media else 0


@dataclass(frozen=True)
class Ours(Side):
    """Our proxy under this Python; `wrapper` goes between the interpreter and `-m proxy.app` (a profiler)."""

    name: str = "ours"
    wrapper: tuple[str, ...] = ()
    build: Build = field(default_factory=lambda: Build(ROOT))

    def command(self, mode: Mode, folder: Path) -> Sequence[str | Path]:
        # Short: the path of a socket has 107 bytes at most.
        control = Path(tempfile.gettempdir()) / f"mediactl-bench-{os.getpid()}.sock"
        route = "" if mode.switch else f'route = "{folder}/route.py"\n'
        media = str(mode.media).lower()
        config = CONFIG.format(route=route, control=control, media=media, proxy=PROXY, port=PORT)
        if mode.switch:
            address = f"{CALLEE}:{PORT}"
            config += CONFIG_SWITCH.format(lan=LAN, switch=SWITCH, prefix=PREFIX.decode(), callee=address)
        if mode.media:
            config += CONFIG_NODE.format(node=f"{NODE_ADDRESS}:{NG_PORT}")
        (folder / "proxy.toml").write_text(config)
        if route:
            template = ROUTE_STATELESS if mode.stateless else ROUTE
            (folder / "route.py").write_text(template.format(callee=f"{CALLEE}:{PORT}", media=mode.media))
        return [sys.executable, "-P", *self.wrapper, "-m", "proxy.app", folder / "proxy.toml"]

    def environment(self) -> dict[str, str]:
        return self.build.environment()


@dataclass(frozen=True)
class Kamailio(Side):
    """Kamailio with `children` UDP workers on each socket, and a receive buffer like ours: its own limit is 256 kB,
    which overflows at 2,000 calls a second as soon as it waits for its turn on the processor."""

    name: str = "kamailio"
    children: int = 1

    def command(self, mode: Mode, folder: Path) -> Sequence[str | Path]:
        template = "talk" if mode.switch else "stateless" if mode.stateless else "stateful"
        text = Path(__file__).with_name(f"kamailio-{template}.cfg").read_text()
        for key, value in (
            ("CHILDREN", str(self.children)),
            ("PROXY", f"{PROXY}:{PORT}"),
            ("LAN", "{}:{}".format(*LAN)),
            ("CALLEE", f"{CALLEE}:{PORT}"),
            ("PREFIX", PREFIX.decode()),
            ("FOLDER", str(folder)),
            ("MODULES", kamailio_modules()),
            ("NODE", f"{NODE_ADDRESS}:{NG_PORT}"),
            ("FLAGS", NG_FLAGS),
        ):
            text = text.replace(f"@{key}@", value)
        (folder / "kamailio.cfg").write_text(text)
        (folder / "dispatcher.list").write_text("1 sip:{}:{}\n".format(*SWITCH))
        defines = ["-A", "WITH_MEDIA"] if mode.media else []
        return ["kamailio", "-DD", "-E", "-m", "256", "-b", str(BUFFER), *defines, "-f", folder / "kamailio.cfg"]

    def anchors(self, mode: Mode) -> int:
        return 2 if mode.media and mode.switch else super().anchors(mode)


def kamailio(children: int) -> Kamailio:
    """The peer with this many workers."""
    return Kamailio(f"kamailio children={children}", children)


def kamailio_modules() -> str:
    """Where this machine keeps Kamailio's modules (Debian: a folder per architecture)."""
    found = sorted(Path("/usr/lib").glob("*/kamailio/modules")) + sorted(Path("/usr").glob("lib*/kamailio/modules"))
    if not found:
        raise BenchError("Kamailio's modules were not found under /usr/lib: install the package kamailio")
    return f"{found[0]}/"


def missing_programs(modes: Sequence[Mode]) -> list[str]:
    """Programs a run of these modes needs and this machine lacks."""
    wanted = ["sipp", "kamailio", *(["rtpengine"] if any(mode.media for mode in modes) else [])]
    return [program for program in wanted if shutil.which(program) is None]
