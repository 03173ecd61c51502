"""Routing scripts: the three examples as call flows, scripts with mistakes, and what a script may do with a call."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.routing import Call, ScriptError, is_stateless, load_script
from tests.ladder import play
from tests.world import DIRECT, World, open_world

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "routes"
BACKENDS = (
    DIRECT + '\n[[dispatch]]\nname = "backends"\ndestinations = ["203.0.113.21", "203.0.113.22"]\nprobe = false\n'
)


def use(world: World, name: str) -> dict[str, object]:
    """Route by an example; returns the globals of its file."""
    script = load_script(EXAMPLES / name)
    world.edge.core.run_route = script
    found: dict[str, object] = script.__globals__
    return found


async def test_load_balancer_goes_on_to_the_next_backend(autojump_clock: object) -> None:
    async with open_world(BACKENDS) as world:
        use(world, "load_balancer.py")
        world.party("one", ("203.0.113.21", 5060))
        world.party("two", ("203.0.113.22", 5060))
        order = [one.addr[0] for one in world.edge.sets["backends"].order()]
        first, second = ("one", "two") if order[1].endswith(".21") else ("two", "one")
        await play(
            world,
            f"""
            caller -> edge    INVITE sip:1000@198.51.100.1
            edge -> caller    100 Trying
            edge -> {first}   INVITE
            {first} -> edge   503 Service Unavailable
            edge -> {first}   ACK
            edge -> {second}  INVITE
            {second} -> edge  486 Busy Here
            edge -> {second}  ACK
            edge -> caller    486 Busy Here
            caller -> edge    ACK sip:1000@198.51.100.1
            """,
        )


async def test_voicemail_after_busy(autojump_clock: object) -> None:
    async with open_world(DIRECT) as world:
        use(world, "voicemail.py")
        world.party("mail", ("203.0.113.50", 5060))
        await play(
            world,
            """
            caller -> edge    INVITE sip:1000@198.51.100.1
            edge -> caller    100 Trying
            edge -> callee    INVITE
            callee -> edge    486 Busy Here
            edge -> callee    ACK
            edge -> mail      INVITE sip:voicemail@203.0.113.50:5060
            mail -> edge      404 Not Found
            edge -> mail      ACK
            edge -> caller    404 Not Found
            caller -> edge    ACK sip:1000@198.51.100.1
            """,
        )


async def test_voicemail_for_somebody_who_is_not_there(autojump_clock: object) -> None:
    async with open_world(DIRECT) as world:
        use(world, "voicemail.py")
        world.party("mail", ("203.0.113.50", 5060))
        await play(
            world,
            """
            caller -> edge    INVITE sip:nobody@198.51.100.1
            edge -> caller    100 Trying
            edge -> mail      INVITE sip:voicemail@203.0.113.50:5060
            mail -> edge      480 Gone Home
            edge -> mail      ACK
            edge -> caller    480 Gone Home
            caller -> edge    ACK sip:nobody@198.51.100.1
            """,
        )


@pytest.mark.parametrize(
    ("user", "hour", "code"),
    [
        ("09001234", 12, "403 Number not allowed"),
        ("nobody", 3, "480 Closed"),
        ("nobody", 12, "403 Caller may not use the carrier"),
    ],
)
async def test_outbound_guard(autojump_clock: object, user: str, hour: int, code: str) -> None:
    async with open_world(DIRECT) as world:
        use(world, "outbound_guard.py")["hour"] = lambda: hour
        await play(
            world,
            f"""
            caller -> edge    INVITE sip:{user}@198.51.100.1
            edge -> caller    100 Trying
            edge -> caller    {code}
            caller -> edge    ACK sip:{user}@198.51.100.1
            """,
        )


async def test_a_script_that_fails_costs_its_own_call_a_500(autojump_clock: object) -> None:
    async def route(call: Call) -> None:
        if call.user == "boom":
            raise ValueError("a mistake in a script")
        call.reply(486)

    async with open_world(DIRECT) as world:
        world.edge.core.run_route = route
        await play(
            world,
            """
            caller -> edge    INVITE sip:boom@198.51.100.1
            edge -> caller    100 Trying
            edge -> caller    500
            caller -> edge    ACK sip:boom@198.51.100.1
            caller -> edge    INVITE sip:1000@198.51.100.1  [B]
            edge -> caller    100 Trying  [B]
            edge -> caller    486  [B]
            caller -> edge    ACK sip:1000@198.51.100.1  [B]
            """,
        )
        assert world.stats["route_errors"] == 1
        world.faults = 1


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("async def route(call)\n", ":1: expected ':'; the routing script is not valid Python"),
        ("x = 1\n\n\nraise RuntimeError('no')\n", ":4: RuntimeError: no; raised while loading the script"),
        ("import nowhere_to_be_found\n", ":1: ModuleNotFoundError"),
        ("def other(call): ...\n", ":1: there is no `async def route(call)`"),
        ("route = 1\n", ":1: route must be a function"),
        ("\nclass route: ...\n", ":1: route must be a function"),
        ("\n\nasync def route(call, more): ...\n", ":3: route takes exactly one argument, the call"),
        ("\xff", ": cannot be read"),
    ],
)
def test_a_script_that_cannot_be_used_is_one_sentence(tmp_path: Path, source: str, sentence: str) -> None:
    path = tmp_path / "route.py"
    path.write_bytes(source.encode("latin-1"))
    with pytest.raises(ScriptError) as raised:
        load_script(path)
    assert str(raised.value).startswith(f"{path}{sentence}")


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="check `route` in the configuration"):
        load_script(tmp_path / "nowhere.py")


def test_a_plain_function_is_stateless(tmp_path: Path) -> None:
    path = tmp_path / "route.py"
    path.write_text("def route(call):\n    call.forward()\n")
    assert is_stateless(load_script(path))
    assert not is_stateless(load_script(EXAMPLES / "load_balancer.py"))
