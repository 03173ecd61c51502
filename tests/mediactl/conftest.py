"""Running mediactl inside the test process."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mediactl import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run mediactl with arguments: (status, stdout, stderr)."""
    monkeypatch.delenv("MEDIACTL_SOCKET", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = cli.main(arguments)
        except SystemExit as ended:  # argparse
            assert isinstance(ended.code, int)
            status = ended.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "control.sock")
