"""A client library for rtpengine's ``ng`` control protocol, for rtpengine 10.5 (Debian 12) and newer.

    async with open_client("127.0.0.1:2223", name="node1") as client:
        reply = await client.request(Offer(call_id="c1", from_tag="a", sdp=sdp, flags=["trust-address"]))
        client.submit(Delete(call_id="c1", delete_delay=0))

The nouns, and the direction of data: a *command* (``commands``: Offer, Answer, Delete, Query, ...) becomes a
dictionary, ``codec`` encodes it, ``client`` sends it under a *cookie* to one *node* and sends it again until a reply
with that cookie comes; ``codec`` decodes the reply without trusting it, ``replies`` (with ``querytree`` and
``statstree``) gives it a type, ``errors`` turns every other end into one ``NgError`` that says whether another node
may do better. ``rtt`` holds the retransmission timer's arithmetic, ``counters`` what the client counted.

``codec``, ``commands``, ``replies``, ``errors`` and ``rtt`` are pure; only ``client`` knows trio and sockets. A
client is one node: choosing among nodes, and what a call needs, is the caller's business.
"""

from ng_protocol.address import parse_address
from ng_protocol.client import Client, ClientConfig, open_client
from ng_protocol.codec import decode_untrusted, encode, split_frame_untrusted
from ng_protocol.commands import (
    Answer,
    BlockDTMF,
    BlockMedia,
    Command,
    Delete,
    ListCalls,
    Offer,
    Ping,
    PlayDTMF,
    PlayMedia,
    Publish,
    Query,
    SilenceMedia,
    StartForwarding,
    StartRecording,
    Statistics,
    StopForwarding,
    StopMedia,
    StopRecording,
    SubscribeAnswer,
    SubscribeRequest,
    UnblockDTMF,
    UnblockMedia,
    UnsilenceMedia,
    Unsubscribe,
)
from ng_protocol.counters import ClientStatistics
from ng_protocol.errors import (
    BadReply,
    NgBadReply,
    NgBadRequest,
    NgBusy,
    NgClosed,
    NgError,
    NgLoadLimit,
    NgLostCall,
    NgRefused,
    NgTimeout,
    classify,
)
from ng_protocol.querytree import Counters, Endpoint, Media, Quality, QueryReply, SsrcStats, Stream, Subscription, Tag
from ng_protocol.replies import (
    AnswerReply,
    DeleteReply,
    ListReply,
    OfferReply,
    OkReply,
    PlayMediaReply,
    Pong,
    PublishReply,
    StopMediaReply,
    SubscribeReply,
)
from ng_protocol.statstree import Interface, Ports, StatisticsReply, Transcoder

__all__ = [
    "Answer",
    "AnswerReply",
    "BadReply",
    "BlockDTMF",
    "BlockMedia",
    "Client",
    "ClientConfig",
    "ClientStatistics",
    "Command",
    "Counters",
    "Delete",
    "DeleteReply",
    "Endpoint",
    "Interface",
    "ListCalls",
    "ListReply",
    "Media",
    "NgBadReply",
    "NgBadRequest",
    "NgBusy",
    "NgClosed",
    "NgError",
    "NgLoadLimit",
    "NgLostCall",
    "NgRefused",
    "NgTimeout",
    "Offer",
    "OfferReply",
    "OkReply",
    "Ping",
    "PlayDTMF",
    "PlayMedia",
    "PlayMediaReply",
    "Pong",
    "Ports",
    "Publish",
    "PublishReply",
    "Quality",
    "Query",
    "QueryReply",
    "SilenceMedia",
    "SsrcStats",
    "StartForwarding",
    "StartRecording",
    "Statistics",
    "StatisticsReply",
    "StopForwarding",
    "StopMedia",
    "StopMediaReply",
    "StopRecording",
    "Stream",
    "SubscribeAnswer",
    "SubscribeReply",
    "SubscribeRequest",
    "Subscription",
    "Tag",
    "Transcoder",
    "UnblockDTMF",
    "UnblockMedia",
    "UnsilenceMedia",
    "Unsubscribe",
    "classify",
    "decode_untrusted",
    "encode",
    "open_client",
    "parse_address",
    "split_frame_untrusted",
]
