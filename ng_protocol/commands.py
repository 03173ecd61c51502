"""Every command of rtpengine 10.5 as a frozen struct.

Theory of operation. A command is a msgspec struct: fields left at their default are not sent, the others go out under
their wire name. The wire name is the Python name with hyphens, save for the exceptions in ``WIRE_NAMES``. msgspec
does this mapping in C (``to_builtins`` with ``rename`` and ``omit_defaults``), so a command costs a few microseconds.
``Command[R]`` names the reply type, so ``client.request(Query(...))`` is a ``QueryReply`` for a type checker too, and
each command parses its own reply (``parse_untrusted``, BadReply for nonsense).

Types follow 10.5, the strictest daemon: flags, replace, SDES, OSRTP, rtcp-mux, T.38, supports and endpoint-learning
are lists (a bare string is ignored there without a word), ICE is one string. ``extra`` carries any key not modelled,
wire-named; it wins. An unknown key or flag is only a warning in the daemon's log, so a typo in ``extra`` or ``flags``
is silently without effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from ng_protocol import replies as r
from ng_protocol.querytree import QueryReply
from ng_protocol.statstree import StatisticsReply

WIRE_NAMES: dict[str, str] = {
    "ice": "ICE",
    "ice_lite": "ICE-lite",
    "dtls": "DTLS",
    "dtls_reverse": "DTLS-reverse",
    "dtls_fingerprint": "DTLS-fingerprint",
    "sdes": "SDES",
    "osrtp": "OSRTP",
    "t38": "T.38",
    "tos": "TOS",
    "generate_rtcp": "generate-RTCP",
    "dtmf_security": "DTMF-security",
    "dtmf_delay": "DTMF-delay",
}
"""Python field -> wire key where underscores-to-hyphens is not enough (rtpengine README, 10.5)."""

ReplyT = TypeVar("ReplyT", covariant=True)
Extra: TypeAlias = Mapping[str, Any]


def wire_name(field: str) -> str:
    """The ng key for a Python field name: ``from_tag`` -> ``from-tag``, ``ice`` -> ``ICE``."""
    return WIRE_NAMES.get(field) or field.replace("_", "-")


class Command(
    msgspec.Struct,
    Generic[ReplyT],
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename=wire_name,
    tag_field="command",
):
    """Base of all commands. ``extra``: wire keys and values added as they are, over the modelled ones."""

    extra: Extra = {}

    def to_wire(self) -> dict[str, Any]:
        """The dictionary to encode, ``command`` included, defaults left out."""
        wire: dict[str, Any] = msgspec.to_builtins(self, builtin_types=(bytes,))
        extra = wire.pop("extra", None)
        if extra:
            wire.update(extra)
        return wire

    @classmethod
    def name(cls) -> str:
        """The wire name of the command, as ``play media``."""
        return str(cls.__struct_config__.tag)

    def parse_untrusted(self, reply: dict[str, Any]) -> ReplyT:
        """The typed reply from a decoded one whose result is ok. Raises BadReply."""
        raise NotImplementedError


class _Simple(Command[r.OkReply], frozen=True, kw_only=True):
    """A command that is answered with ``ok`` and nothing else."""

    def parse_untrusted(self, reply: dict[str, Any]) -> r.OkReply:
        return r.ok_reply_untrusted(reply)


class _MediaSession(Command[ReplyT], frozen=True, kw_only=True):
    """The keys that offer, answer, publish and subscribe share. Source: rtpengine README 10.5, "offer message"."""

    call_id: str | None = None
    from_tag: str | None = None
    to_tag: str | None = None
    sdp: bytes | None = None
    """The SDP of the party named by from_tag (offer) or to_tag (answer)."""
    via_branch: str | None = None
    """Tells forked branches apart; any unique string. Only on the initial offer and answer of a branch."""
    label: str | None = None
    set_label: str | None = None
    flags: Sequence[str] = ()
    replace: Sequence[str] = ()
    """``origin``, ``session-connection``, ``session-name``, ``sdp-version``, ``username``, ``zero-address``."""
    direction: Sequence[str] = ()
    """Two logical interface names: the author's, then the receiver's. Not in answers."""
    interface: str | None = None
    received_from: Sequence[str] = ()
    """``("IP4", "192.0.2.1")``; used with the flag SIP-source-address only."""
    media_address: str | None = None
    address_family: str | None = None
    """``IP4`` or ``IP6`` in the SDP that comes back."""
    transport_protocol: str | None = None
    """``RTP/AVP``, ``RTP/SAVP``, ``RTP/AVPF``, ``UDP/TLS/RTP/SAVPF``, ... toward the receiver."""
    ice: str | None = None
    """One of ``remove``, ``force``, ``default``, ``optional``, ``force-relay``."""
    ice_lite: str | None = None
    dtls: str | None = None
    """``off``, ``passive`` or ``active``."""
    dtls_reverse: str | None = None
    dtls_fingerprint: str | None = None
    sdes: Sequence[str] = ()
    osrtp: Sequence[str] = ()
    rtcp_mux: Sequence[str] = ()
    """``offer``, ``require``, ``demux``, ``accept``, ``reject``."""
    codec: Mapping[str, Sequence[str]] = {}
    """``strip``, ``except``, ``offer``, ``transcode``, ``mask``, ``set``, ``accept``, ``consume`` -> codec names."""
    ptime: int | None = None
    """Milliseconds."""
    ptime_reverse: int | None = None
    t38: Sequence[str] = ()
    supports: Sequence[str] = ()
    """``load limit`` makes a refusal for load tell which limit it was."""
    record_call: str | None = None
    metadata: str | None = None
    endpoint_learning: Sequence[str] = ()
    """``off``, ``immediate``, ``delayed`` or ``heuristic``; a list in 10.5."""
    delay_buffer: int | None = None
    """Milliseconds."""
    drop_traffic: str | None = None
    media_echo: str | None = None
    generate_rtcp: str | None = None
    """``on`` or ``off``."""
    tos: int | None = None
    """TOS byte of outgoing media, 0 to 255."""
    xmlrpc_callback: str | None = None
    """Address that the daemon calls when media times out."""
    dtmf_security: str | None = None


class Offer(_MediaSession[r.OfferReply], frozen=True, kw_only=True, tag="offer"):
    """An SDP offer. On an unknown call-id it always creates the call, even with a to_tag."""

    def parse_untrusted(self, reply: dict[str, Any]) -> r.OfferReply:
        return r.offer_reply_untrusted(reply)


class Answer(_MediaSession[r.AnswerReply], frozen=True, kw_only=True, tag="answer"):
    """The answer: from_tag stays the offerer's, to_tag is the answerer's. Unknown call -> NgLostCall."""

    def parse_untrusted(self, reply: dict[str, Any]) -> r.AnswerReply:
        return r.answer_reply_untrusted(reply)


class Delete(Command[r.DeleteReply], frozen=True, kw_only=True, tag="delete"):
    """Ends a call (call_id alone), a branch (from_tag + via_branch) or a party. Unknown: ok with a warning.

    ``delete_delay``: seconds the ports stay taken; 0 is now, None the daemon's default (30 s in 10.5).
    """

    call_id: str
    from_tag: str | None = None
    to_tag: str | None = None
    via_branch: str | None = None
    flags: Sequence[str] = ()
    delete_delay: int | None = None

    def parse_untrusted(self, reply: dict[str, Any]) -> r.DeleteReply:
        return r.delete_reply_untrusted(reply)


class Query(Command[QueryReply], frozen=True, kw_only=True, tag="query"):
    """What the daemon knows of a call, or of one party and those it hears. Unknown -> NgLostCall."""

    call_id: str
    from_tag: str | None = None
    to_tag: str | None = None

    def parse_untrusted(self, reply: dict[str, Any]) -> QueryReply:
        return r.query_reply_untrusted(reply)


class ListCalls(Command[r.ListReply], frozen=True, kw_only=True, tag="list"):
    """Call-ids the daemon holds, in no order; ``limit`` None is the daemon's 32."""

    limit: int | None = None

    def parse_untrusted(self, reply: dict[str, Any]) -> r.ListReply:
        return r.list_reply_untrusted(reply)


class Ping(Command[r.Pong], frozen=True, kw_only=True, tag="ping"):
    """Is the control channel alive?"""

    def parse_untrusted(self, reply: dict[str, Any]) -> r.Pong:
        return r.pong_untrusted(reply)


class Statistics(Command[StatisticsReply], frozen=True, kw_only=True, tag="statistics"):
    """Counters of the whole daemon."""

    def parse_untrusted(self, reply: dict[str, Any]) -> StatisticsReply:
        return r.statistics_reply_untrusted(reply)


class _Recording(_Simple, frozen=True, kw_only=True):
    call_id: str
    from_tag: str | None = None
    flags: Sequence[str] = ()
    metadata: str | None = None
    output_destination: str | None = None


class StartRecording(_Recording, frozen=True, kw_only=True, tag="start recording"):
    """Record the call; silently without effect unless the daemon has a recording-dir."""


class StopRecording(_Recording, frozen=True, kw_only=True, tag="stop recording"):
    """Stop recording; the flag ``pause`` keeps the file open."""


class _Participant(_Simple, frozen=True, kw_only=True):
    """Selects a party by from_tag, by the address in its SDP or by label; the flag ``all`` selects the whole call."""

    call_id: str
    from_tag: str | None = None
    address: str | None = None
    label: str | None = None
    flags: Sequence[str] = ()


class StartForwarding(_Participant, frozen=True, kw_only=True, tag="start forwarding"):
    """Forward audio to the recording daemon."""

    metadata: str | None = None


class StopForwarding(_Participant, frozen=True, kw_only=True, tag="stop forwarding"):
    """End of StartForwarding."""


class BlockMedia(_Participant, frozen=True, kw_only=True, tag="block media"):
    """Drop the media a party (or everybody) sends."""


class UnblockMedia(_Participant, frozen=True, kw_only=True, tag="unblock media"):
    """End of BlockMedia."""


class SilenceMedia(_Participant, frozen=True, kw_only=True, tag="silence media"):
    """Replace the audio a party sends by silence (G.711 and G.722)."""


class UnsilenceMedia(_Participant, frozen=True, kw_only=True, tag="unsilence media"):
    """End of SilenceMedia."""


class BlockDTMF(_Participant, frozen=True, kw_only=True, tag="block DTMF"):
    """Keep DTMF events of a party from the others."""

    dtmf_security: str | None = None
    """``drop``, ``silence``, ``tone``, ``random``, ``zero``, ``DTMF`` or ``off``."""
    trigger: str | None = None
    trigger_end: str | None = None
    trigger_end_time: int | None = None
    """Milliseconds."""
    trigger_end_digits: int | None = None
    dtmf_delay: int | None = None
    """Milliseconds."""
    delay_buffer: int | None = None
    volume: int | None = None
    frequency: int | None = None
    digit: str | None = None


class UnblockDTMF(_Participant, frozen=True, kw_only=True, tag="unblock DTMF"):
    """End of BlockDTMF."""


class PlayMedia(Command[r.PlayMediaReply], frozen=True, kw_only=True, tag="play media"):
    """Play a file of the node, a blob or a database entry to the selected party."""

    call_id: str
    from_tag: str | None = None
    address: str | None = None
    label: str | None = None
    flags: Sequence[str] = ()
    file: str | None = None
    blob: bytes | None = None
    db_id: int | None = None
    repeat_times: int | None = None
    repeat_duration: int | None = None
    start_pos: int | None = None

    def parse_untrusted(self, reply: dict[str, Any]) -> r.PlayMediaReply:
        return r.play_media_reply_untrusted(reply)


class StopMedia(Command[r.StopMediaReply], frozen=True, kw_only=True, tag="stop media"):
    """Stop what PlayMedia started."""

    call_id: str
    from_tag: str | None = None
    address: str | None = None
    label: str | None = None
    flags: Sequence[str] = ()

    def parse_untrusted(self, reply: dict[str, Any]) -> r.StopMediaReply:
        return r.stop_media_reply_untrusted(reply)


class PlayDTMF(_Participant, frozen=True, kw_only=True, tag="play DTMF"):
    """Inject a DTMF event as if the selected party had pressed it; needs the flag inject-DTMF on offer and answer."""

    code: str
    """One of 0-9, *, #, A-D."""
    duration: int | None = None
    """Milliseconds, 100 to 5000; the daemon's default is 250."""
    volume: int | None = None
    """dB, the daemon's default is -8."""
    pause: int | None = None
    """Milliseconds after the event; the daemon's default is 100."""


class Publish(_MediaSession[r.PublishReply], frozen=True, kw_only=True, tag="publish"):
    """A send-only source joins the call (and creates it)."""

    def parse_untrusted(self, reply: dict[str, Any]) -> r.PublishReply:
        return r.publish_reply_untrusted(reply)


class SubscribeRequest(_MediaSession[r.SubscribeReply], frozen=True, kw_only=True, tag="subscribe request"):
    """Ask for a send-only offer of what from_tag (or from_tags, or all with the flag ``all``) sends."""

    from_tags: Sequence[str] = ()

    def parse_untrusted(self, reply: dict[str, Any]) -> r.SubscribeReply:
        return r.subscribe_reply_untrusted(reply)


class SubscribeAnswer(_MediaSession[r.OkReply], frozen=True, kw_only=True, tag="subscribe answer"):
    """The subscriber's SDP answer; to_tag as in the SubscribeReply."""

    def parse_untrusted(self, reply: dict[str, Any]) -> r.OkReply:
        return r.ok_reply_untrusted(reply)


class Unsubscribe(_Simple, frozen=True, kw_only=True, tag="unsubscribe"):
    """End of a subscription."""

    call_id: str
    to_tag: str
