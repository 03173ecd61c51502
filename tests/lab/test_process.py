"""Daemons: ready when they answer, told apart when they die, gone at the end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from lab.namespace import LabError
from lab.process import daemon


async def never() -> bool:
    return False


async def always() -> bool:
    return True


async def test_output_goes_to_a_file_and_the_process_ends(tmp_path: Path) -> None:
    with trio.fail_after(5):
        async with daemon("talker", ["sh", "-c", "echo hello; exec sleep 1000"], folder=tmp_path) as child:
            log = tmp_path / "talker.log"

            async def spoke() -> bool:
                return log.read_text() == "hello\n"

            await child.ready(spoke)
            assert child.returncode is None
            assert child.death() == ""
    assert child.returncode == -signal.SIGTERM
    assert child.death() == ""


async def test_a_daemon_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with trio.fail_after(5):
        async with daemon("broken", ["sh", "-c", "echo no such option >&2; exit 3"], folder=tmp_path) as child:
            with pytest.raises(LabError, match=r"broken exited with code 3: no such option \(see .*broken.log\)"):
                await child.ready(never)


async def test_one_that_never_answers(tmp_path: Path) -> None:
    with trio.fail_after(5):
        async with daemon("mute", ["sleep", "1000"], folder=tmp_path) as child:
            with pytest.raises(LabError, match=r"mute did not answer within 0.1 s"):
                await child.ready(never, seconds=0.1)


async def test_one_that_ignores_sigterm_or_is_stopped_is_killed(tmp_path: Path) -> None:
    with trio.fail_after(8):
        async with daemon(
            "deaf", ["sh", "-c", "trap '' TERM; echo on; while :; do sleep 1; done"], folder=tmp_path
        ) as child:

            async def on() -> bool:
                return bool((tmp_path / "deaf.log").read_text())

            await child.ready(on)
            child.send_signal(signal.SIGSTOP)
            await child.stop(patience=0.1)
            assert child.returncode == -signal.SIGKILL


async def test_a_killed_one_is_expected_to_be_dead(tmp_path: Path) -> None:
    with trio.fail_after(5):
        async with daemon("victim", ["sleep", "1000"], folder=tmp_path) as child:
            await child.ready(always)
            child.send_signal(signal.SIGKILL)
            assert await child.wait() == -signal.SIGKILL
            assert child.death() == ""


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with trio.fail_after(5):
        async with daemon("ghost", ["/no/such/program"], folder=tmp_path) as child:
            with pytest.raises(LabError, match="ghost exited with code 127"):
                await child.ready(never)
