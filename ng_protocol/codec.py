"""Frames and bencode, the only module that touches the bencode.py library.

Theory of operation. An ng datagram is ``cookie SP bencode-dictionary`` (rtpengine docs/ng_control_protocol.md); the
cookie is any non-empty run of bytes without a space. Replies come from the network, and bare bencode.py can be frozen
for ever by nine bytes (``d1:a0:-5:``: a negative length moves its cursor back). So decoding goes through a subclass
that checks each number before using it: a length is 1 to 5 plain digits and stays inside the datagram, an integer
fits 64 bits, nesting ends at 32 levels (rtpengine's ``query`` uses eight). Every step then moves forward, which
bounds the work by the length of the datagram. What is flat, as nearly every command and reply is, does not come that
far: ``flat`` reads and writes it.

Dictionary keys come out as ``str``, values as ``bytes`` (an SDP is bytes), ``int``, ``list`` and ``dict``. Text is
UTF-8 with ``surrogateescape`` in both directions, so a call-id with stray bytes survives the round trip. Encoding
sorts the keys, as bencode wants; the daemon does not mind.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from bencodepy import BencodeDecodeError, BencodeDecoder, BencodeEncoder

from ng_protocol.errors import BadReply
from ng_protocol.flat import decode_flat_untrusted, encode_flat

Value: TypeAlias = Any
"""A decoded value: ``bytes``, ``int``, ``list[Value]`` or ``dict[str, Value]``."""

MAX_DATAGRAM = 65535
"""The daemon's receive buffer and the largest UDP payload, in bytes (IPv4 carries 28 bytes less)."""

MAX_DEPTH = 32
_MAX_INT_CHARS = 20  # "-9223372036854775808"
_MAX_LENGTH_CHARS = 5  # 65535


class _Encoder(BencodeEncoder):  # type: ignore[misc]
    """The library's encoder with our text rules, for what ``flat`` leaves to it: nested dictionaries, mixed lists."""

    def encode_string(self, x: str, r: Any) -> None:
        data = x.encode("utf-8", "surrogateescape")
        r.append(b"%d:%b" % (len(data), data))

    def encode_dict(self, x: Mapping[str, Value], r: Any) -> None:
        r.append(b"d")
        for key, value in sorted(x.items()):
            self.encode_string(key, r)
            self.encode_func[type(value)](value, r)
        r.append(b"e")


_DIGITS = frozenset(b"%d" % digit for digit in range(10))


@lru_cache(maxsize=512)
def _key_text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


class _Decoder(BencodeDecoder):  # type: ignore[misc]
    def decode_string(self, x: bytes, f: int, kind: str = "value", **kwargs: Any) -> tuple[bytes, int]:
        colon = x.index(b":", f, f + _MAX_LENGTH_CHARS + 1)
        digits = x[f:colon]
        if not digits.isdigit() or (digits[0] == 0x30 and len(digits) > 1):
            raise ValueError("string length is not a plain number")
        start = colon + 1
        end = start + int(digits)
        if end > len(x):
            raise ValueError("string runs past the end")
        return x[start:end], end

    def decode_int(self, x: bytes, f: int, **kwargs: Any) -> tuple[int, int]:
        end = x.index(b"e", f + 1, f + 2 + _MAX_INT_CHARS)
        text = x[f + 1 : end]
        digits = text[1:] if text[:1] == b"-" else text
        if not digits.isdigit() or (digits[0] == 0x30 and len(text) > 1):
            raise ValueError("not a plain integer")
        return int(text), end + 1

    def decode_dict(self, x: bytes, f: int, **kwargs: Any) -> tuple[dict[str, Value], int]:
        depth = kwargs.get("depth", 0)
        if depth > self.max_depth:
            raise ValueError("nested too deeply")
        functions = self.decode_func
        decode_string = self.decode_string
        r: dict[str, Value] = {}
        f += 1
        while (first := x[f : f + 1]) != b"e":
            key, f = decode_string(x, f)
            first = x[f : f + 1]
            value: Value
            if first in _DIGITS:
                value, f = decode_string(x, f)
            else:
                value, f = functions[first](x, f, depth=depth + 1)
            r[_key_text(key) if len(key) < 64 else key.decode("utf-8", "surrogateescape")] = value
        return r, f + 1


_encode = _Encoder().encode
_decode = _Decoder(max_depth=MAX_DEPTH).decode


def encode(mapping: Mapping[str, Value]) -> bytes:
    """The bencode form of a dictionary of str, bytes, int, list, tuple and dict values.

    Raises TypeError for any other type (None, float, an enum): such a value is a programming error, not network input.
    """
    if type(mapping) is dict:
        flat = encode_flat(mapping)
        if flat is not None:
            return flat
    try:
        return _encode(mapping)  # type: ignore[no-any-return]
    except KeyError as error:
        raise TypeError(f"cannot encode a value of type {error.args[0]!r}: use str, bytes, int, list or dict") from None


def decode_untrusted(data: bytes) -> dict[str, Value]:
    """The dictionary in a payload: str keys, values as in ``Value``. Raises BadReply for everything else, in linear
    time."""
    flat = decode_flat_untrusted(data)
    if flat is not None:
        return flat
    try:
        value = _decode(data)
    except BencodeDecodeError as error:
        raise BadReply(f"not a bencode dictionary: {error}; it starts with {data[:24]!r}") from None
    if type(value) is not dict:
        raise BadReply(f"a bencode {type(value).__name__} where a dictionary belongs; it starts with {data[:24]!r}")
    return value


def split_frame_untrusted(datagram: bytes) -> tuple[bytes, bytes]:
    """Cookie and payload of a datagram. Raises BadReply when there is no cookie or nothing behind it."""
    cookie, space, payload = datagram.partition(b" ")
    if not cookie or not payload:
        missing = "cookie" if not cookie else "payload" if space else "space behind the cookie"
        raise BadReply(f"no {missing} in a datagram that starts with {datagram[:24]!r}")
    return cookie, payload


def text(value: Value) -> str:
    """A decoded byte string or integer as text."""
    if type(value) is bytes:
        return value.decode("utf-8", "surrogateescape")
    return str(value)


def texts(value: Value) -> Value:
    """The same tree with every byte string as text, for replies that hold no SDP."""
    kind = type(value)
    if kind is bytes:
        return value.decode("utf-8", "surrogateescape")
    if kind is dict:
        return {key: texts(item) for key, item in value.items()}
    if kind is list:
        return [texts(item) for item in value]
    return value
