"""The state directory: what is made in it, what is found in it, and what happens without a usable one."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import msgspec
import pytest

from proxy.config import STATE_FOLDER, Config, ProxyConfig, StoreConfig
from proxy.state import State, forgetful, kept_secret, open_state
from proxy.store import NullStore, Store
from proxy.token import Signer


def config(folder: Path | None, secret: str | None = None, instance: str = "edge1", kind: str = "sqlite") -> Config:
    store = msgspec.convert({"kind": kind, "path": str(folder) if folder else None}, StoreConfig)
    return Config(proxy=ProxyConfig(secret=secret, instance=instance), store=store)


def closed(state: State) -> State:
    if isinstance(state.store, Store):
        state.store.close()
    return state


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    """A token from before a restart is good after it."""
    first = closed(open_state(config(tmp_path / "new")))
    token = Signer(first.secret).sign(b"edge1-1", b"A", b"node1")
    second = closed(open_state(config(tmp_path / "new")))
    assert second.secret == first.secret and len(first.secret) == 64
    assert Signer(second.secret).verify_untrusted(token) is not None
    path = tmp_path / "new" / "edge1.secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in path.parent.iterdir()) == ["edge1.db", "edge1.db.lock", "edge1.secret"]


def test_instances_have_their_own(tmp_path: Path) -> None:
    one, other = open_state(config(tmp_path)), open_state(config(tmp_path, instance="edge2"))
    assert isinstance(one.store, Store) and isinstance(other.store, Store)
    assert one.secret != other.secret
    closed(one)
    closed(other)


def test_a_configured_secret_is_the_secret(tmp_path: Path) -> None:
    state = closed(open_state(config(tmp_path, secret="0123456789abcdef")))
    assert state.secret == b"0123456789abcdef"
    assert not (tmp_path / "edge1.secret").exists()
    assert forgetful(config(None, secret="0123456789abcdef")).secret == b"0123456789abcdef"


@pytest.mark.parametrize("found", ["", "short\n", "\n\n"])
def test_a_secret_that_is_none_is_made_anew(tmp_path: Path, found: str) -> None:
    path = tmp_path / "edge1.secret"
    path.write_text(found)
    made = kept_secret(path)
    assert len(made) == 64 and kept_secret(path) == made
    assert [one.name for one in tmp_path.iterdir()] == ["edge1.secret"]


def test_without_a_store(tmp_path: Path) -> None:
    state = open_state(config(tmp_path, kind="none"))
    assert isinstance(state.store, NullStore) and len(state.secret) == 32
    assert list(tmp_path.iterdir()) == []
    assert open_state(config(tmp_path, kind="none")).secret != state.secret


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    state = open_state(config(tmp_path / "file"))
    assert isinstance(state.store, NullStore) and len(state.secret) == 32
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("running without a store, live calls would not survive a restart: ")
    assert str(tmp_path / "file" / "edge1.db") in record.getMessage()


def test_a_secret_that_cannot_be_kept_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "edge1.secret").mkdir()
    state = closed(open_state(config(tmp_path)))
    assert isinstance(state.store, Store) and len(state.secret) == 32
    (record,) = caplog.records
    assert "the token secret cannot be kept" in record.getMessage()


def test_a_second_process_runs_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = open_state(config(tmp_path))
    second = open_state(config(tmp_path))
    assert isinstance(second.store, NullStore)
    assert "another proxy (pid " in caplog.text
    closed(first)


def test_the_default_folder_is_the_systems() -> None:
    assert config(None).store.folder == Path(STATE_FOLDER) == Path("/var/lib/mediactl")
