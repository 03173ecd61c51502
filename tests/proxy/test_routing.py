"""Routing scripts: the examples as call flows, what a script sees and can do, and what happens to bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.routing import Call, ScriptError, load_script
from tests.ladder import Ladder, play
from tests.world import DIRECT, TALK, World, open_world

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "routes"
BACKENDS = '\n[[dispatch]]\nname = "backends"\ndestinations = ["192.0.2.5:5060", "192.0.2.6:5070"]\n'


def with_script(script: str | Path, text: str = DIRECT) -> str:
    """A configuration that uses a script."""
    return text.replace("[proxy]\n", f'[proxy]\nroute = "{script}"\n', 1)


async def test_example_load_balancer(autojump_clock: object) -> None:
    """In turn; the next one after ICMP; media anchored as for a direct call."""
    async with open_world(with_script(EXAMPLES / "load_balancer.py", TALK) + BACKENDS, node=True) as world:
        world.party("one", ("192.0.2.5", 5060))
        world.party("two", ("192.0.2.6", 5070))
        ladder = await play(world, """
            caller -> edge         INVITE sip:4711@198.51.100.1
                sdp: alice
            edge -> caller         100 Trying
            edge.public -> two     INVITE sip:4711@192.0.2.6:5070
                sdp: 198.51.100.2:*
        """)  # fmt: skip
        world.unreachable(world.wire[-1])
        await ladder.play("""
            edge.public -> one     INVITE sip:4711@192.0.2.5
                sdp: 198.51.100.2:*
            one -> edge            200 OK
                sdp: bob
            edge -> caller         200 OK
                sdp: 198.51.100.2:*
            caller -> edge         ACK
            edge -> one            ACK
            one -> edge            BYE
            edge -> caller         BYE
            caller -> edge         200 OK
            edge -> one            200 OK
            stranger -> edge       MESSAGE sip:1@other.test  [B]
            edge -> stranger       403 Forbidden  [B]
        """)  # fmt: skip
        await world.over()


async def test_example_voicemail(autojump_clock: object) -> None:
    """The phone first; busy, silent or absent, the call goes to voice mail; declined it does not."""
    async with open_world(with_script(EXAMPLES / "voicemail.py")) as world:
        world.party("voicemail", ("203.0.113.50", 5060))
        ladder = Ladder(world)
        await ladder.play("""
            caller -> edge       INVITE sip:1000@198.51.100.1
            edge -> caller       100 Trying
            edge -> callee       INVITE
            callee -> edge       486 Busy Here
            edge -> callee       ACK
            edge -> voicemail    INVITE sip:voicemail@203.0.113.50:5060
            voicemail -> edge    200 OK
            edge -> caller       200 OK
            caller -> edge       ACK
            edge -> voicemail    ACK
            caller -> edge       BYE
            edge -> voicemail    BYE
            voicemail -> edge    200 OK
            edge -> caller       200 OK
            caller -> edge       INVITE sip:4711@198.51.100.1  [B]
            edge -> caller       100 Trying  [B]
            edge -> voicemail    INVITE  [B]
            voicemail -> edge    480 Nobody  [B]
            edge -> voicemail    ACK  [B]
            edge -> caller       480 Nobody  [B]
            caller -> edge       ACK  [B]
            caller -> edge       INVITE sip:1000@198.51.100.1  [C]
            edge -> caller       100 Trying  [C]
            edge -> callee       INVITE  [C]
            callee -> edge       603 Decline  [C]
            edge -> callee       ACK  [C]
            edge -> caller       603 Decline  [C]
            caller -> edge       ACK  [C]
        """)  # fmt: skip
        await world.over()


async def test_example_outbound_guard(autojump_clock: object) -> None:
    """Forbidden numbers, a closed door at night; everything else as built in."""
    async with open_world(with_script(EXAMPLES / "outbound_guard.py")) as world:
        script = world.edge.core.run_route.__globals__
        script["hour"] = lambda: 12
        ladder = Ladder(world)
        await ladder.play("""
            callee -> edge       INVITE sip:0900123@198.51.100.1
            edge -> callee       100 Trying
            edge -> callee       403 Number not allowed
            callee -> edge       ACK
            callee -> edge       INVITE sip:4711@198.51.100.1  [B]
            edge -> callee       100 Trying  [B]
            edge -> carrier      INVITE sip:4711@203.0.113.77:5060  [B]
            carrier -> edge      404 Not Found  [B]
            edge -> carrier      ACK  [B]
            edge -> callee       404 Not Found  [B]
            callee -> edge       ACK  [B]
        """)  # fmt: skip
        script["hour"] = lambda: 3
        await ladder.play("""
            callee -> edge       INVITE sip:4711@198.51.100.1  [C]
            edge -> callee       100 Trying  [C]
            edge -> callee       480 Closed  [C]
                Retry-After: 3600
            callee -> edge       ACK  [C]
            caller -> edge       INVITE sip:1000@198.51.100.1  [D]
            edge -> caller       100 Trying  [D]
            edge -> callee       INVITE  [D]
            callee -> edge       486 Busy Here  [D]
            edge -> callee       ACK  [D]
            edge -> caller       486 Busy Here  [D]
            caller -> edge       ACK  [D]
        """)  # fmt: skip
        await world.over()


def test_every_example_loads_and_has_a_test() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {name.removeprefix("test_example_") for name in globals() if name.startswith("test_example_")}
    for name in names:
        load_script(EXAMPLES / f"{name}.py")


@pytest.mark.parametrize(
    ("source", "line", "says"),
    [
        ("async def route(call):\n    return (\n", 2, "not valid Python"),
        ("import nosuchmodule\nasync def route(call): ...\n", 1, "ModuleNotFoundError"),
        ("x = 1\n\ny = x / 0\n", 3, "ZeroDivisionError"),
        ("def helper():\n    raise ValueError('no')\n\nhelper()\n", 2, "ValueError: no"),
        ("async def rout(call): ...\n", 1, "no `async def route(call)`"),
        ("route = 5\n", 1, "async def"),
        ("\n\nasync def route(call, more): ...\n", 3, "exactly one argument"),
        ("async def route(): ...\n", 1, "exactly one argument"),
        ("def route():\n    pass\n", 1, "exactly one argument"),
    ],
)
def test_a_bad_script_names_file_and_line(tmp_path: Path, source: str, line: int, says: str) -> None:
    path = tmp_path / "route.py"
    path.write_text(source)
    with pytest.raises(ScriptError) as error:
        load_script(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_script_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"nowhere\.py: cannot be read"):
        load_script(tmp_path / "nowhere.py")
    (tmp_path / "latin.py").write_bytes(b"# \xff\n")
    with pytest.raises(ScriptError, match=r"latin\.py: cannot be read"):
        load_script(tmp_path / "latin.py")


async def test_a_script_that_raises_costs_its_call_a_500(direct: World, caplog: pytest.LogCaptureFixture) -> None:
    async def route(call: Call) -> None:
        if call.user == "bad":
            raise ValueError("a mistake")
        await call.relay(call.lookup("1000"))

    direct.edge.core.run_route = route
    direct.faults = 2
    ladder = await play(direct, """
        caller -> edge    INVITE sip:1000@198.51.100.1
        edge -> caller    100 Trying
        edge -> callee    INVITE
        caller -> edge    INVITE sip:bad@198.51.100.1  [B]
        edge -> caller    100 Trying  [B]
        edge -> caller    500 Routing failed  [B]
        caller -> edge    ACK  [B]
        caller -> edge    MESSAGE sip:bad@198.51.100.1  [C]
        edge -> caller    500 Routing failed  [C]
        callee -> edge    486 Busy Here
        edge -> callee    ACK
        edge -> caller    486 Busy Here
        caller -> edge    ACK
    """)  # fmt: skip
    assert direct.stats["route_errors"] == 2
    assert "a mistake" in caplog.text and f"'{ladder.names['B']}'" in caplog.text
    await direct.over()


async def test_a_mistake_after_the_answer_changes_nothing(direct: World) -> None:
    async def route(call: Call) -> None:
        await call.relay(call.lookup())
        raise ValueError("too late to matter")

    direct.edge.core.run_route = route
    direct.faults = 1
    await play(direct, """
        caller -> edge    MESSAGE sip:1000@198.51.100.1
        edge -> callee    MESSAGE
        callee -> edge    200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()


async def test_what_a_script_sees(direct: World) -> None:
    seen: list[object] = []

    async def route(call: Call) -> None:
        seen.append((call.method, call.user, call.uri.host, call.source, call.behind_nat, call.for_us))
        seen.append((call.source_is_known, call.from_freeswitch, len(call.carrier()), bool(call.freeswitch())))
        with pytest.raises(KeyError, match="no destination set named 'nosuch'; there are: freeswitch"):
            call.dispatch("nosuch")
        reply = await call.relay("sip:1000@203.0.113.9")
        seen.append((reply.code, reply.reason, reply.local))
        call.reply(480, "Gone away", [("X-Why", "script")])
        call.reply(200)  # too late, ignored

    direct.edge.core.run_route = route
    await play(direct, """
        stranger -> edge   MESSAGE sip:%34711@example.test
        edge -> callee     MESSAGE sip:1000@203.0.113.9
        callee -> edge     404 Nobody Here
        edge -> stranger   480 Gone away
            X-Why: script
    """)  # fmt: skip
    assert seen == [
        ("MESSAGE", "%34711", b"example.test", ("192.0.2.66", 5060), False, True),
        (False, False, 1, False),
        (404, "Nobody Here", False),
    ]
    await direct.over()


async def test_a_script_that_says_nothing_is_404_and_one_that_drops_is_silent(direct: World) -> None:
    async def route(call: Call) -> None:
        if call.user == "drop":
            call.drop()

    direct.edge.core.run_route = route
    await play(direct, """
        caller -> edge    INVITE sip:nothing@198.51.100.1
        edge -> caller    100 Trying
        edge -> caller    404 Not Found
        caller -> edge    ACK
        caller -> edge    MESSAGE sip:drop@198.51.100.1  [B]
    """)  # fmt: skip
    await direct.over()


@pytest.mark.parametrize("to", [[], "sip:x@name.example", "nonsense", None])
async def test_destinations_that_are_none(direct: World, to: object) -> None:
    """Nobody to send to is 480; a name that would have to be looked up is 404; a URI that is none 400."""

    async def route(call: Call) -> None:
        await call.relay(to)  # type: ignore[arg-type]

    direct.edge.core.run_route = route
    wanted = {"[]": 480, "sip:x@name.example": 404, "nonsense": 400, "None": 404}[str(to)]
    await play(direct, f"""
        caller -> edge    INVITE sip:1000@name.example
        edge -> caller    100 Trying
        edge -> caller    {wanted}
        caller -> edge    ACK
    """)  # fmt: skip
    await direct.over()


async def test_relay_to_nothing_but_the_request_uri(direct: World) -> None:
    async def route(call: Call) -> None:
        await call.relay(media=False)

    direct.edge.core.run_route = route
    await play(direct, """
        caller -> edge    MESSAGE sip:anybody@203.0.113.9
        edge -> callee    MESSAGE sip:anybody@203.0.113.9
        callee -> edge    200 OK
        edge -> caller    200 OK
    """)  # fmt: skip
    await direct.over()
