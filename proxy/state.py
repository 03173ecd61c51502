"""The state directory: the store and the secret of the Record-Route tokens, found or made at start.

Each proxy has two files there, named after its instance: ``NAME.db`` (``store``) and ``NAME.secret``, 32 random bytes
in hex, both readable by their owner only. The secret is apart from the store, so that tokens stay good when the store
is damaged: they are what remains then. Without a usable directory the proxy runs all the same, says so in one line, and
forgets everything when it ends.
"""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from proxy.config import Config
from proxy.store import NULL, NullStore, Store, StoreError

log = logging.getLogger("proxy")


@dataclass(frozen=True, slots=True)
class State:
    """``store``: open, or a NullStore. ``secret``: of the tokens, 16 bytes or more."""

    store: Store | NullStore
    secret: bytes


def forgetful(config: Config) -> State:
    """State that ends with the process."""
    return State(NULL, _configured(config) or secrets.token_bytes(32))


def open_state(config: Config) -> State:
    """What the configuration asks for; whatever is wrong with the directory is logged, and done without. Blocks."""
    if config.store.kind == "none":
        return forgetful(config)
    folder = config.store.folder
    store = Store(folder / f"{config.proxy.instance}.db")
    try:
        store.open()
    except StoreError as error:
        log.warning("running without a store, live calls would not survive a restart: %s", error)
        return forgetful(config)
    secret = _configured(config)
    if secret is None:
        try:
            secret = kept_secret(folder / f"{config.proxy.instance}.secret")
        except OSError as error:
            log.warning("the token secret cannot be kept, tokens end with this process: %s", error)
            secret = secrets.token_bytes(32)
    return State(store, secret)


def kept_secret(path: Path) -> bytes:
    """The secret in a file, made when there is none or it is no secret. Raises OSError."""
    try:
        found = path.read_bytes().strip()
    except FileNotFoundError:
        found = b""
    if len(found) >= 32:
        return found
    made = secrets.token_hex(32).encode()
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, made + b"\n")
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(fresh, path)
    return made


def _configured(config: Config) -> bytes | None:
    return config.proxy.secret.encode() if config.proxy.secret else None
