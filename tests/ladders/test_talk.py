"""The talk's four messages and what the edge makes of them, as files (tests/data/talk).

How it works: messages 1, 3 and 4 are what the carrier and FreeSWITCH send. Message 2 and the golden files 5 to 7 are
what the edge must send on: 5 leg B to the callee, 6 the callee's 200 to FreeSWITCH, 7 FreeSWITCH's 200 to the carrier;
they were checked by hand against the recording of the same call through Kamailio (data/edge/a_plain_caller_bye, #7,
#13, #17). Made-up values are left out of the comparison: our branch, the token in our Record-Route, which Kamailio does
not have, and the order of Via parameters. The carrier sends from port 5062, because at the port its Via and Contact
name, NAT test 19 finds nothing to repair.
"""

from __future__ import annotations

import re
from pathlib import Path

from lab.sip import Message
from tests.world import World, open_world, settle

DATA = Path(__file__).parent.parent / "data" / "talk"
SOURCE_PORT = "5062"
CONFIG = """
[[listen]]
name = "public"
address = "203.0.113.10"
[[listen]]
name = "lan"
address = "10.0.0.10"
port = 5080
side = "lan"
[[freeswitch]]
name = "fs"
address = "10.0.0.20"
[[users]]
name = "18005551234"
uri = "sip:18005551234@192.0.2.9"
[carrier]
uri = "sip:198.51.100.5"
"""


def text_of(name: str) -> str:
    """One file, its lines ended as on the wire."""
    return next(DATA.glob(f"{name}-*.txt")).read_text().rstrip("\n").replace("\n", "\r\n") + "\r\n"


def comparable(text: str) -> list[str]:
    """A message without what is made up."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    lines = []
    for line in head.split("\n"):
        line = re.sub(r";t=edge1-[^>;]+|;t=-~[^>;]+|;t=TOKEN", "", line)
        line = re.sub(r"branch=z9hG4bK[^;]*\.[^;]*|branch=OURS", "branch=OURS", line)
        if line.startswith("Via: "):
            first, *params = line.split(";")
            line = ";".join([first, *sorted(params)])
        lines.append(line)
    return [*lines, "", *body.rstrip("\n").split("\n")]


def people(world: World) -> None:
    """The talk's parties."""
    world.party("carrier", ("198.51.100.5", int(SOURCE_PORT)))
    world.party("fs", ("10.0.0.20", 5060))
    world.party("callee", ("192.0.2.9", 5060))


def sent_to(world: World, party: str, what: str) -> str:
    found = [packet for packet in world.take() if packet.to == party and packet.summary.startswith(what)]
    assert len(found) == 1, found
    return found[0].data.decode()


async def test_the_four_messages(autojump_clock: object) -> None:
    async with open_world(CONFIG) as world:
        people(world)

        # 1 in, 2 out: no Max-Forwards, a Via without a branch, a bare Contact
        world.inject("carrier", text_of("1").encode())
        await settle()
        invite = sent_to(world, "fs", "INVITE")
        wanted = text_of("2").replace("rport=5060", f"rport={SOURCE_PORT}").replace("~5060~", f"~{SOURCE_PORT}~")
        assert comparable(invite) == comparable(wanted)
        assert "Max-Forwards: 10\r\n" in invite and f";alias=198.51.100.5~{SOURCE_PORT}~1>" in invite

        # 3 in, 5 out
        world.inject("fs", text_of("3").encode())
        await settle()
        leg_b = sent_to(world, "callee", "INVITE")
        assert comparable(leg_b) == comparable(text_of("5"))

        # the callee answers, 6 out
        request = Message.parse_untrusted(leg_b)
        body = text_of("4").partition("\r\n\r\n")[2]
        answer = request.response(200, tag="uasx2cyb1", contact="<sip:18005551234@192.0.2.9:5060>", sdp=body)
        world.inject("callee", answer.encode())
        await settle()
        answered = sent_to(world, "fs", "200")
        assert comparable(answered) == comparable(text_of("6"))

        # 4 in, 7 out; the branch and the Record-Route in it are those of our INVITE
        ours = Message.parse_untrusted(invite)
        answer = Message.parse_untrusted(text_of("4"))
        for name in ("Via", "Record-Route"):
            at = next(i for i, (key, _) in enumerate(answer.headers) if key == name)
            answer.remove(name)
            answer.headers[at:at] = [(name, value) for value in ours.values(name)]
        world.inject("fs", answer.encode())
        await settle()
        reply = sent_to(world, "carrier", "200")
        assert comparable(reply) == comparable(text_of("7"))
