"""Bencode of flat dictionaries, which is nearly all that offers, answers and deletes are: the codec's fast lane.

How it works: both functions know strings, integers and lists of strings one level deep, and give up (None) at the
first thing they do not know; then the codec asks the bencode library, which alone decides what is malformed. So the
worst this file can do to a strange datagram is to waste a few microseconds. Lengths are checked before they are used,
as in the codec: a datagram cannot move the cursor back.

Pure functions over bytes, compiled with the rest of the hot path when that is wanted.
"""

from __future__ import annotations

from typing import Any, Final

_MOST_KNOWN: Final = 4096
_LONGEST_KNOWN: Final = 64
_KEYS: Final[dict[str, bytes]] = {}
_NAMES: Final[dict[bytes, str]] = {}
_LISTS: Final[dict[tuple[str, ...], bytes]] = {}
_E: Final = 0x65
_I: Final = 0x69
_D: Final = 0x64


def _text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")
    return b"%d:%b" % (len(data), data)


def _key(key: str) -> bytes:
    known = _KEYS.get(key)
    if known is None:
        known = _text(key)
        if len(_KEYS) < _MOST_KNOWN and len(key) < _LONGEST_KNOWN:
            _KEYS[key] = known
    return known


def _texts(values: tuple[str, ...]) -> bytes:
    known = _LISTS.get(values)
    if known is None:
        known = b"l%be" % b"".join([_text(value) for value in values])
        if len(_LISTS) < _MOST_KNOWN:
            _LISTS[values] = known
    return known


def encode_flat(mapping: dict[str, Any]) -> bytes | None:
    """The bencode form of a dictionary, keys sorted; None when it holds more than strings, integers, and tuples or
    lists of strings."""
    parts: list[bytes] = [b"d"]
    for key in sorted(mapping):
        value = mapping[key]
        parts.append(_key(key))
        kind = type(value)
        if kind is str:
            parts.append(_text(value))
        elif kind is bytes:
            parts.append(b"%d:%b" % (len(value), value))
        elif kind is int:
            parts.append(b"i%de" % value)
        elif kind is list or kind is tuple:
            for item in value:
                if type(item) is not str:
                    return None
            parts.append(_texts(tuple(value)))
        else:
            return None
    parts.append(b"e")
    return b"".join(parts)


def decode_flat_untrusted(data: bytes) -> dict[str, Any] | None:
    """The dictionary in a payload: str keys, bytes and int values. None for everything else: nested, malformed, or
    merely unusual. Raises nothing."""
    size = len(data)
    if size < 2 or data[0] != _D or data[size - 1] != _E:
        return None
    found: dict[str, Any] = {}
    at = 1
    last = size - 1
    while at < last:
        colon = data.find(b":", at, at + 6)
        if colon <= at:
            return None
        digits = data[at:colon]
        if not digits.isdigit() or (len(digits) > 1 and digits[0] == 0x30):
            return None
        start = colon + 1
        at = start + int(digits)
        if at >= last:
            return None
        raw = data[start:at]
        key = _NAMES.get(raw)
        if key is None:
            key = raw.decode("utf-8", "surrogateescape")
            if len(_NAMES) < _MOST_KNOWN and len(raw) < _LONGEST_KNOWN:
                _NAMES[raw] = key
        if data[at] == _I:
            end = data.find(b"e", at + 1, at + 22)
            if end < 0 or end >= last:
                return None
            digits = data[at + 1 : end]
            if not digits.isdigit() or (len(digits) > 1 and digits[0] == 0x30):
                return None
            found[key] = int(digits)
            at = end + 1
            continue
        colon = data.find(b":", at, at + 6)
        if colon <= at:
            return None
        digits = data[at:colon]
        if not digits.isdigit() or (len(digits) > 1 and digits[0] == 0x30):
            return None
        start = colon + 1
        at = start + int(digits)
        if at > last:
            return None
        found[key] = data[start:at]
    return found if at == last else None
