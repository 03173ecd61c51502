"""`python -m lab demo`: one call through the whole picture, told on a screen or two.

Theory of operation. The demo is a scenario like the others (`nat_caller`'s network, both registered), played on the
same stage; while the two talk it asks `mediactl ls`, afterwards it reads the edge's capture for the ladder. It ends
with `demo: ok`, or with what failed and a non-zero exit code.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import trio

from lab import namespace, pcap, runner, switch
from lab.nat import Nat
from lab.scenario import CALLEE, CALLEE_TONE, CALLER, CALLER_TONE, Findings, Lab
from lab.scenarios.basic import LOOK_AFTER, Conversation
from lab.stage import Outcome, play
from lab.topology import B2BUA_LAN, EDGE_LAN, EDGE_PUBLIC, Shape

PICTURE = f"""\
    phone {CALLER}                                                      phone {CALLEE}
    192.168.1.2                                                     203.0.113.9
        |                                                                |
     [ NAT ] 203.0.113.17                                                |
        |                                                                |
        +---------------------- the internet ----------------------------+
                                     |
                              {EDGE_PUBLIC}:5060
                    [ edge: SIP proxy ] --ng--> [ rtpengine ]
                              {EDGE_LAN}:5080
                                     |  private LAN
                              {B2BUA_LAN[0]}:5060
                    [ B2BUA: every call comes back as a second dialog ]
"""


class Demo(Conversation):
    """A call of three seconds from behind NAT."""

    name = "demo"
    summary = "the story for a newcomer"
    shape = Shape(caller_nat=Nat.PORT_RESTRICTED)
    talk = 3.0
    listing = ""

    async def during(self, lab: Lab) -> None:
        await trio.sleep(LOOK_AFTER)
        self.listing = await lab.edge.mediactl("ls")

    def check(self, see: Findings) -> None:
        super().check(see)
        see.that(bool(self.listing.strip()), "`mediactl ls` printed nothing during the call")


async def run(say: Callable[[str], None] = print) -> int:
    """Tell the story; the exit code."""
    await trio.to_thread.run_sync(namespace.sweep)
    kind = switch.kinds()[0]
    say(runner.header([kind]))
    say(f"\n{PICTURE}")
    say(f"Phone {CALLER} calls {CALLEE}. The edge hands the call to the B2BUA, which sends it back as a new one,")
    say("and the edge delivers that; rtpengine carries the audio of both legs as one call. Running it...\n")
    demo = Demo()
    folder = Path(tempfile.gettempdir()) / f"lab-demo-{time.strftime('%Y%m%d-%H%M%S')}"
    verdict = await play(demo, kind, folder)
    if verdict.outcome is Outcome.UNSUPPORTED:
        say(f"demo: failed: {verdict.reason}")
        return 1
    say("SIP as the edge saw it (REGISTERs left out):\n")
    for line in _ladder(folder / "edge.pcap"):
        say(f"  {line}")
    say("\n`mediactl ls` in the middle of the call:\n")
    for line in demo.listing.splitlines() or ["(nothing)"]:
        say(f"  {line}")
    say("")
    for line in _heard(demo):
        say(line)
    if verdict.outcome is not Outcome.PASS:
        say(f"Logs and capture: {folder}")
        for problem in verdict.problems:
            say(f"demo: failed: {problem}")
        return 1
    say("After the BYE: rtpengine holds no call, the edge lists no session, networks and daemons are gone.")
    say(f"Logs and capture: {folder}")
    say("demo: ok")
    return 0


def _ladder(file: Path) -> list[str]:
    if not file.exists():
        return ["(no capture)"]
    packets = [p for p in pcap.sip(pcap.datagrams(file)) if p.message.cseq[1] in ("INVITE", "ACK", "BYE", "CANCEL")]
    names = {
        "203.0.113.17": "caller (NAT)",
        EDGE_PUBLIC: "edge",
        EDGE_LAN: "edge",
        B2BUA_LAN[0]: "B2BUA",
        "203.0.113.9": "callee",
    }
    return pcap.ladder(packets, ("caller (NAT)", "edge", "B2BUA", "callee"), names)


def _heard(demo: Demo) -> list[str]:
    if not hasattr(demo, "stopped"):
        return ["The call never got as far as talking."]
    span = (demo.started, demo.stopped)
    caller = demo.call.hearing.seconds(CALLEE_TONE, *span)
    callee = demo.incoming.hearing.seconds(CALLER_TONE, *span)
    talked = demo.stopped - demo.started
    return [
        f"They talked for {talked:.1f} s. From the RTP that arrived at the phones: the caller heard the callee's",
        f"{CALLEE_TONE} Hz for {caller:.2f} s, the callee heard the caller's {CALLER_TONE} Hz for {callee:.2f} s.",
    ]
