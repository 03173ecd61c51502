"""Typed replies, and the functions that make them from decoded dictionaries.

Theory of operation. A reply reaches this module as a decoded dictionary whose ``result`` said ok. The small, frequent
ones (offer, answer, delete) are picked apart by hand; ``query`` and ``statistics`` are trees that msgspec converts in
one go: numbers may be integers or decimal strings (10.5 mixes them), unknown keys of newer daemons are ignored but
kept in ``raw``, a wrong type is a BadReply that names the place. Times are epoch seconds, sizes bytes, unless said
otherwise. Source: rtpengine mr10.5.3.5 daemon/call_interfaces.c and statistics.c, checked against the running daemon.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from ng_protocol.codec import text, texts
from ng_protocol.errors import BadReply
from ng_protocol.querytree import QueryReply
from ng_protocol.statstree import StatisticsReply

T = TypeVar("T")


class OkReply(msgspec.Struct, frozen=True, kw_only=True):
    """``ok`` and at most a warning."""

    warning: str | None = None


class OfferReply(msgspec.Struct, frozen=True, kw_only=True):
    """``sdp``: the rewritten SDP, to be sent to the receiver. ``recordings``: files the daemon writes."""

    sdp: bytes
    recordings: tuple[str, ...] = ()


class AnswerReply(msgspec.Struct, frozen=True, kw_only=True):
    """``sdp``: the rewritten SDP, to be sent to the offerer. ``recordings``: files the daemon writes."""

    sdp: bytes
    recordings: tuple[str, ...] = ()


class DeleteReply(msgspec.Struct, frozen=True, kw_only=True):
    """``warning``: set when nothing matched. ``call``: last state, only when a tag or branch was named (10.5)."""

    warning: str | None = None
    call: QueryReply | None = None

    @property
    def known(self) -> bool:
        """Whether the call (and the party, if named) existed."""
        return self.warning is None


class ListReply(msgspec.Struct, frozen=True, kw_only=True):
    """``calls``: call-ids in no order, those inside their delete-delay included."""

    calls: tuple[str, ...]


class Pong(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon's control channel works."""


class PlayMediaReply(msgspec.Struct, frozen=True, kw_only=True):
    """``duration``: of the media in milliseconds, when the daemon can tell."""

    duration: int | None = None


class StopMediaReply(msgspec.Struct, frozen=True, kw_only=True):
    """``last_frame_pos``: milliseconds played (rtpengine 11.2 and newer)."""

    last_frame_pos: int | None = None


class PublishReply(msgspec.Struct, frozen=True, kw_only=True):
    """``sdp``: the receive-only answer. call_id and from_tag: rtpengine 13 and newer."""

    sdp: bytes
    call_id: str | None = None
    from_tag: str | None = None


class SubscribeReply(msgspec.Struct, frozen=True, kw_only=True):
    """``sdp``: a send-only offer. ``to_tag``: names the subscription in answer and unsubscribe. Sources in
    from_tag(s)."""

    sdp: bytes
    to_tag: str
    from_tag: str | None = None
    from_tags: tuple[str, ...] = ()
    tag_medias: tuple[dict[str, Any], ...] = ()
    """With the flag SIPREC: one dictionary per source (tag, label, medias)."""
    media_labels: dict[str, dict[str, Any]] = {}


def _sdp(reply: dict[str, Any]) -> bytes:
    sdp = reply.get("sdp")
    if type(sdp) is not bytes:
        raise BadReply(f"no sdp in the reply, which has the keys {sorted(reply)[:12]}")
    return sdp


def _optional_text(reply: dict[str, Any], key: str) -> str | None:
    value = reply.get(key)
    if value is None or type(value) is bytes:
        return None if value is None else text(value)
    raise BadReply(f"{key!r} in the reply is a {type(value).__name__}, not a string")


def _text_list(reply: dict[str, Any], key: str) -> tuple[str, ...]:
    value = reply.get(key)
    if value is None:
        return ()
    if type(value) is not list or any(type(item) is not bytes for item in value):
        raise BadReply(f"{key!r} in the reply is not a list of strings")
    return tuple(map(text, value))


def _optional_int(reply: dict[str, Any], key: str) -> int | None:
    value = reply.get(key)
    if value is None or type(value) is int:
        return value
    if type(value) is bytes and value.isdigit() and len(value) < 20:
        return int(value)
    raise BadReply(f"{key!r} in the reply is not a number")


def _convert(tree: dict[str, Any], kind: type[T], what: str) -> T:
    tree = texts(tree)
    try:
        return msgspec.convert({**tree, "raw": tree}, kind, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter: stray bytes where a number belongs
        raise BadReply(f"{what}: {error}") from None


def ok_reply_untrusted(reply: dict[str, Any]) -> OkReply:
    """Raises BadReply when ``warning`` is no string."""
    return OkReply(warning=_optional_text(reply, "warning"))


def pong_untrusted(reply: dict[str, Any]) -> Pong:
    """Raises BadReply when the result is ok instead of pong."""
    if reply.get("result") != b"pong":
        raise BadReply("a ping was answered with something else than pong")
    return Pong()


def offer_reply_untrusted(reply: dict[str, Any]) -> OfferReply:
    """Raises BadReply without an sdp: 10.5 answers so to an empty SDP, and to the flag ``fragment``."""
    if "recordings" in reply:
        return OfferReply(sdp=_sdp(reply), recordings=_text_list(reply, "recordings"))
    return OfferReply(sdp=_sdp(reply))


def answer_reply_untrusted(reply: dict[str, Any]) -> AnswerReply:
    """As ``offer_reply_untrusted``."""
    if "recordings" in reply:
        return AnswerReply(sdp=_sdp(reply), recordings=_text_list(reply, "recordings"))
    return AnswerReply(sdp=_sdp(reply))


def delete_reply_untrusted(reply: dict[str, Any]) -> DeleteReply:
    """Raises BadReply when the warning or the call's last state is malformed."""
    call = query_reply_untrusted(reply) if "tags" in reply else None
    return DeleteReply(warning=_optional_text(reply, "warning"), call=call)


def query_reply_untrusted(reply: dict[str, Any]) -> QueryReply:
    """Raises BadReply, naming the place in the tree."""
    return _convert(reply, QueryReply, "query")


def statistics_reply_untrusted(reply: dict[str, Any]) -> StatisticsReply:
    """Raises BadReply, naming the place in the tree."""
    tree = reply.get("statistics")
    if type(tree) is not dict:
        raise BadReply("no statistics in the reply")
    return _convert(tree, StatisticsReply, "statistics")


def list_reply_untrusted(reply: dict[str, Any]) -> ListReply:
    """Raises BadReply when ``calls`` is not a list of strings."""
    if "calls" not in reply:
        raise BadReply("no list of calls in the reply")
    return ListReply(calls=_text_list(reply, "calls"))


def play_media_reply_untrusted(reply: dict[str, Any]) -> PlayMediaReply:
    """Raises BadReply when the duration is no number."""
    return PlayMediaReply(duration=_optional_int(reply, "duration"))


def stop_media_reply_untrusted(reply: dict[str, Any]) -> StopMediaReply:
    """Raises BadReply when the position is no number."""
    return StopMediaReply(last_frame_pos=_optional_int(reply, "last-frame-pos"))


def publish_reply_untrusted(reply: dict[str, Any]) -> PublishReply:
    """Raises BadReply without an sdp."""
    return PublishReply(
        sdp=_sdp(reply), call_id=_optional_text(reply, "call-id"), from_tag=_optional_text(reply, "from-tag")
    )


def subscribe_reply_untrusted(reply: dict[str, Any]) -> SubscribeReply:
    """Raises BadReply without an sdp or a to-tag."""
    to_tag = _optional_text(reply, "to-tag")
    if to_tag is None:
        raise BadReply("no to-tag in the reply to a subscribe request")
    medias = reply.get("tag-medias", [])
    labels = reply.get("media-labels", {})
    if type(medias) is not list or type(labels) is not dict:
        raise BadReply("tag-medias or media-labels in the reply has the wrong type")
    if any(type(item) is not dict for item in medias) or any(type(item) is not dict for item in labels.values()):
        raise BadReply("tag-medias or media-labels in the reply holds something else than dictionaries")
    return SubscribeReply(
        sdp=_sdp(reply),
        to_tag=to_tag,
        from_tag=_optional_text(reply, "from-tag"),
        from_tags=_text_list(reply, "from-tags"),
        tag_medias=tuple(texts(medias)),
        media_labels=texts(labels),
    )
