"""What is compared: how each proxy is configured and started for a mode. The only place that knows either.

Both do the same work. P2: a stateful relay with Record-Route, Max-Forwards and 100 Trying. P3: the same, with one
rtpengine offer on the INVITE, one answer on the 200 and one delete on the BYE, with the same flags.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.bench.node import ADDRESS as NODE_ADDRESS
from lab.bench.node import NG_PORT
from lab.bench.processes import BenchError
from lab.bench.sipp import CALLEE, PORT, PROXY

MODES = {"P2": "stateful relay", "P3": "stateful relay with rtpengine offer, answer, delete"}
"""Modes by name, with the words of the report."""

NG_FLAGS = "replace-origin replace-session-connection trust-address port-latching"
"""What our proxy sends for a plain RTP leg, in the words of Kamailio's rtpengine module."""

ROUTE = '''"""Every call goes to the callee of the bench."""


async def route(call):
    await call.relay("sip:service@{callee}", media={media})
'''

CONFIG = """\
[proxy]
instance = "bench"
control = "{control}"
route = "{folder}/route.py"
log_level = "warning"
media = {media}

[store]
path = "{folder}/state"

[[listen]]
name = "public"
side = "public"
address = "{proxy}"
port = {port}
"""

CONFIG_NODE = """
[[rtpengine]]
name = "node1"
address = "{node}"
"""


@dataclass(frozen=True)
class Side:
    """A proxy to be measured; `name` is what the report calls it."""

    name: str

    def command(self, mode: str, folder: Path) -> Sequence[str | Path]:
        """Write its configuration for `mode` into `folder` and return the command line that starts it."""
        raise NotImplementedError


@dataclass(frozen=True)
class Ours(Side):
    """Our proxy under this Python; `wrapper` goes between the interpreter and `-m proxy.app` (a profiler)."""

    name: str = "ours"
    wrapper: tuple[str, ...] = ()

    def command(self, mode: str, folder: Path) -> Sequence[str | Path]:
        media = mode == "P3"
        control = (
            Path(tempfile.gettempdir()) / f"mediactl-bench-{os.getpid()}.sock"
        )  # short: a socket path has 107 bytes
        config = CONFIG.format(folder=folder, control=control, media=str(media).lower(), proxy=PROXY, port=PORT)
        if media:
            config += CONFIG_NODE.format(node=f"{NODE_ADDRESS}:{NG_PORT}")
        (folder / "proxy.toml").write_text(config)
        (folder / "route.py").write_text(ROUTE.format(callee=f"{CALLEE}:{PORT}", media=media))
        return [sys.executable, *self.wrapper, "-m", "proxy.app", folder / "proxy.toml"]


@dataclass(frozen=True)
class Kamailio(Side):
    """Kamailio with `children` UDP workers."""

    name: str = "kamailio"
    children: int = 1

    def command(self, mode: str, folder: Path) -> Sequence[str | Path]:
        text = Path(__file__).with_name("kamailio.cfg").read_text()
        for key, value in (
            ("CHILDREN", str(self.children)),
            ("PROXY", f"{PROXY}:{PORT}"),
            ("CALLEE", f"{CALLEE}:{PORT}"),
            ("MODULES", kamailio_modules()),
            ("NODE", f"{NODE_ADDRESS}:{NG_PORT}"),
            ("FLAGS", NG_FLAGS),
        ):
            text = text.replace(f"@{key}@", value)
        (folder / "kamailio.cfg").write_text(text)
        defines = ["-A", "WITH_MEDIA"] if mode == "P3" else []
        return ["kamailio", "-DD", "-E", "-m", "256", *defines, "-f", folder / "kamailio.cfg"]


def kamailio(children: int) -> Kamailio:
    """The peer with this many workers."""
    return Kamailio(f"kamailio children={children}", children)


def kamailio_modules() -> str:
    """Where this machine keeps Kamailio's modules (Debian: a folder per architecture)."""
    found = sorted(Path("/usr/lib").glob("*/kamailio/modules")) + sorted(Path("/usr").glob("lib*/kamailio/modules"))
    if not found:
        raise BenchError("Kamailio's modules were not found under /usr/lib: install the package kamailio")
    return f"{found[0]}/"


def missing_programs(modes: Sequence[str]) -> list[str]:
    """Programs a run of these modes needs and this machine lacks."""
    wanted = ["sipp", "kamailio", *(["rtpengine"] if "P3" in modes else [])]
    return [program for program in wanted if shutil.which(program) is None]
