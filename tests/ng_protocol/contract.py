"""What the contract tests say about an SDP and a call, in few words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ng_protocol import Answer, Client, Delete, DeleteReply, Offer, Query, QueryReply, Stream

PORTS = (34000, 34999)
PUB, LAN = "127.0.0.1", "127.0.0.2"
LATCH = ("trust-address", "port-latching")
REPLACE = ("origin", "session-connection")


def sdp(port: int = 4000, *lines: str, ip: str = "192.0.2.1", protocol: str = "RTP/AVP") -> bytes:
    """One audio section, G.711, with more lines at its end."""
    head = ["v=0", f"o=- 77 3 IN IP4 {ip}", "s=call", f"c=IN IP4 {ip}", "t=0 0"]
    return ("\r\n".join([*head, f"m=audio {port} {protocol} 8 0", *lines]) + "\r\n").encode()


@dataclass(frozen=True)
class Seen:
    """What a rewritten SDP says: connection address, first port, profile, direction, address of o=, all m= ports."""

    text: str
    address: str
    port: int
    protocol: str
    direction: str
    origin: str
    ports: tuple[int, ...]

    def has(self, attribute: str) -> bool:
        """Whether a line ``a=attribute`` is there, with or without a value."""
        return re.search(rf"^a={re.escape(attribute)}(:|\r?$)", self.text, re.MULTILINE) is not None


def seen(body: bytes) -> Seen:
    """Reads a rewritten SDP."""
    text = body.decode()
    medias = re.findall(r"^m=\w+ (\d+) (\S+)", text, re.MULTILINE)
    connections = re.findall(r"^c=IN IP4 (\S+)", text, re.MULTILINE)
    directions = re.findall(r"^a=(sendrecv|sendonly|recvonly|inactive)\r?$", text, re.MULTILINE)
    origin = re.search(r"^o=\S+ \S+ \S+ IN IP4 (\S+)", text, re.MULTILINE)
    assert medias and connections and origin, text
    ports = tuple(int(port) for port, _ in medias)
    direction = directions[0] if directions else ""
    return Seen(text, connections[-1], ports[0], medias[0][1], direction, origin[1], ports)


class Dialog:
    """Offers and answers on one ng call; ``direction`` and ``port-latching`` as the proxy sends them."""

    def __init__(self, client: Client, call_id: str) -> None:
        self.client = client
        self.call_id = call_id

    async def offer(self, author: str, receiver: str | None = None, body: bytes | None = None, **more: Any) -> Seen:
        """The SDP for the receiver."""
        options = {"flags": LATCH, "replace": REPLACE, **more}
        command = Offer(call_id=self.call_id, from_tag=author, to_tag=receiver, sdp=body or sdp(), **options)
        return seen((await self.client.request(command)).sdp)

    async def answer(self, offerer: str, author: str, body: bytes | None = None, **more: Any) -> Seen:
        """The SDP for the offerer."""
        options = {"flags": LATCH, "replace": REPLACE, **more}
        command = Answer(call_id=self.call_id, from_tag=offerer, to_tag=author, sdp=body or sdp(5000), **options)
        return seen((await self.client.request(command)).sdp)

    async def establish(self, **more: Any) -> tuple[Seen, Seen]:
        """A call between f and t: what each of them sees, the answerer first."""
        return await self.offer("f", "t", **more), await self.answer("f", "t")

    async def delete(self, **more: Any) -> DeleteReply:
        """As the proxy does, without delay."""
        return await self.client.request(Delete(call_id=self.call_id, delete_delay=0, **more))

    async def query(self, **more: Any) -> QueryReply:
        """The state."""
        return await self.client.request(Query(call_id=self.call_id, **more))

    async def stream(self, tag: str) -> Stream:
        """The RTP stream of a party's first media section."""
        stream = (await self.query()).tags[tag].medias[0].rtp
        assert stream is not None
        return stream

    async def hears(self, tag: str) -> list[str]:
        """Tags of the parties this one gets media from, newest first."""
        return [subscription.tag for subscription in (await self.query()).tags[tag].subscriptions]
