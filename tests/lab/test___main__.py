"""The command line (`lab.__main__`): what is listed, what is wrong usage."""

from __future__ import annotations

import pytest

from lab import __main__ as command_line
from lab import scenarios


def test_list_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(scenarios.by_name())
    assert len(listed) == len(set(listed)) == len(scenarios.ALL)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "name scenarios, or use --all"),
        (["run", "plain_cal"], "no scenario plain_cal; there are plain_call,"),
        (["run", "--jobs", "0", "plain_call"], "--jobs must be 1 or more"),
    ],
)
def test_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command_line.main(arguments)
    assert said in capsys.readouterr().err
