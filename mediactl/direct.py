"""`--node HOST:PORT`: the same views straight from one rtpengine node, when no proxy runs or knows the call.

A node knows ng call-ids, tags and streams, but no SIP: there is no caller's number, no hold, no timeline, and which
of two tags was the caller is known only from their order (the daemon keeps parties in order of creation). `list` of
10.5 returns ids in hash order within one datagram, so a node with more calls than the limit shows some of them; the
reader is told (`Listing.held`). Calls that end between `list` and `query` are left out.
"""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from mediactl.errors import Exit, Failure, failure_of
from ng_protocol import (
    Client,
    ListCalls,
    NgClosed,
    NgError,
    NgLostCall,
    NgRefused,
    NgTimeout,
    Query,
    QueryReply,
    Statistics,
    open_client,
    parse_address,
)
from proxy.control import schema, streams

IN_FLIGHT = 16
"""Queries under way at a time: a tool must not be the load it came to look at."""

T = TypeVar("T")


@dataclass
class Listing:
    """`held`: calls the node counts itself, when it may hold more than are shown; else None."""

    sessions: list[schema.SessionInfo]
    held: int | None = None


def run(address: str, ask: Callable[[Client], Awaitable[T]]) -> T:
    """Connect, ask, close. Raises Failure for an address that is none, a node that does not answer or refuses."""
    try:
        parse_address(address)
    except ValueError as error:
        raise Failure(Exit.USAGE, f"--node: {error}") from None

    async def session() -> T | NgError | Failure:
        async with open_client(address) as client:
            try:
                return await ask(client)
            except (NgError, Failure) as error:
                return error

    # Nothing is raised inside `except*`: what is would come out wrapped in a group (seen with Python 3.11.2).
    failure: BaseException | None = None
    try:
        result = trio.run(session)
    except* KeyboardInterrupt:
        failure = KeyboardInterrupt()
    except* OSError as group:
        reason = group.exceptions[0]
        failure = Failure(Exit.UNREACHABLE, f"--node {address} cannot be used ({reason}): check the host name")
    if failure is not None:
        raise failure from None
    if isinstance(result, NgError):
        raise failure_of_ng(result)
    if isinstance(result, Failure):
        raise result
    return result


def failure_of_ng(error: NgError) -> Failure:
    """Silence is `UNREACHABLE`, a call the node does not know `NOT_FOUND`, everything else `NODE`."""
    if isinstance(error, (NgTimeout, NgRefused, NgClosed)):
        return Failure(Exit.UNREACHABLE, str(error))
    if isinstance(error, NgLostCall):
        return Failure(Exit.NOT_FOUND, str(error))
    return Failure(Exit.NODE, str(error))


async def sessions(client: Client, limit: int) -> Listing:
    """Every call of the node, or `limit` of them."""
    ids = (await client.request(ListCalls(limit=limit))).calls
    found: list[schema.SessionInfo] = []
    failures: list[NgError] = []
    slots = trio.CapacityLimiter(IN_FLIGHT)

    async def one(call_id: str) -> None:
        async with slots:
            if failures:
                return
            try:
                reply = await client.request(Query(call_id=call_id))
            except NgLostCall:
                return
            except NgError as error:
                failures.append(error)
            else:
                found.append(session_detail(client.name, call_id, reply, time.time()).session)

    async with trio.open_nursery() as nursery:
        for call_id in ids:
            nursery.start_soon(one, call_id)
    if failures:
        raise failures[0]
    if len(ids) < limit:
        return Listing(found)
    return Listing(found, (await client.request(Statistics())).current.sessions_total)


async def session(client: Client, prefix: str, limit: int) -> schema.SessionDetail:
    """One call: the id itself first, then the beginning of one among the `limit` ids the node lists."""
    try:
        return await _detail(client, prefix)
    except NgLostCall:
        ids = (await client.request(ListCalls(limit=limit))).calls
    try:
        call_id = schema.resolve(prefix, ((one, ()) for one in ids))
    except schema.ControlError as error:
        raise failure_of(error) from None
    return await _detail(client, call_id)


async def _detail(client: Client, call_id: str) -> schema.SessionDetail:
    return session_detail(client.name, call_id, await client.request(Query(call_id=call_id)), time.time())


async def nodes(client: Client) -> list[schema.NodeInfo]:
    """The one node, by its own statistics."""
    statistics = await client.request(Statistics())
    return [streams.node_info(client.name, client.address, statistics, client.statistics())]


def session_detail(node: str, call_id: str, reply: QueryReply, now: float) -> schema.SessionDetail:
    """What a node's `query` says about a call; its tags stand for the numbers it does not know. `now`: epoch."""
    parties = streams.parties(reply, now, _roles(reply))
    sides = [party for party in parties if party.role in ("caller", "callee")]
    counts = [streams.rtp_packets(party) for party in sides]
    codecs = [next((stream.codec for stream in party.streams if stream.codec), None) for party in sides]
    tags = [*(party.tag for party in sides), "", ""]
    created = reply.created + reply.created_us / 1e6
    info = schema.SessionInfo(
        id=call_id,
        state="answered" if len(sides) == 2 and all(map(_has_sdp, sides)) else "offered",
        call_ids=[],
        caller=tags[0],
        callee=tags[1],
        node=node,
        created=created,
        age_s=max(0.0, now - created),
        codecs=streams.codec_chain(codecs),
        packets=schema.Packets(caller=counts[0] if counts else None, callee=counts[1] if len(counts) > 1 else None),
        sample_age_s=0.0,
    )
    return schema.SessionDetail(session=info, queried=now, parties=parties)


def _has_sdp(party: schema.PartyDetail) -> bool:
    """Whether an SDP of this party was seen; until then its ports have nowhere to send to."""
    return any(stream.advertised for stream in party.streams)


def _roles(reply: QueryReply) -> dict[str, tuple[str, str]]:
    """The first two parties with media, in the daemon's order: the offerer is created first."""
    age = {key: (tag.created or math.inf) for key, tag in reply.tags.items() if tag.medias}
    first = sorted(age, key=age.__getitem__)[:2]
    return dict(zip(first, (("caller", "A"), ("callee", "B")), strict=False))
