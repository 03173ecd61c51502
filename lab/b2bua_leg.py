"""One leg of a bridged call: its dialog, its offer/answer engine, and the messages FreeSWITCH sends on it.

Theory of operation. A `Leg` knows how FreeSWITCH writes a request or a response on its dialog, in the recorded header
order; what is sent when is decided in `lab/b2bua_call.py`. Leg A's and leg B's messages differ in small things (leg
B's re-INVITE carries X-PGPX and Remote-Party-ID, leg A's does not), which is why the leg's name is looked at here and
there. `media` turns false for good once FreeSWITCH has sent a description of its own accord without its engine; from
then on this leg's descriptions pass unprinted.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lab.b2bua_messages import (
    ALLOW,
    ALLOW_EVENTS,
    FS_SUPPORT,
    MIN_SE,
    SDP_TYPE,
    SUPPORTED,
    USER_AGENT,
    Fields,
    assemble,
    response,
    sdp_fields,
)
from lab.b2bua_sdp import Negotiator, Sdp
from lab.b2bua_stack import Client, Server, Stack, Timer
from lab.sip import Address, Message, NameAddr, Uri, split_params

Header = tuple[str, str]
LETTERS = "0123456789ABCDEFGHJKNQSUVXYZabcdefghjkmprstuvy"


class Generated:
    """Tags, branches, UUIDs and CSeq starts in FreeSWITCH's shapes, from a seeded generator."""

    def __init__(self, seed: int | str) -> None:
        self.random = random.Random(seed)

    def token(self) -> str:
        """13 characters: a tag, or the variable part of a branch."""
        return "".join(self.random.choices(LETTERS, k=13))

    def uuid(self) -> str:
        """A UUID."""
        digits = f"{self.random.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def cseq(self) -> int:
        """A nine-digit start."""
        return self.random.randrange(100_000_000, 900_000_000)


@dataclass
class Leg:
    """`local` and `remote` are From/To values with tags, as FreeSWITCH's requests carry them; `description` is the
    peer's last one."""

    name: str
    stack: Stack
    made: Generated
    host: str
    call_id: str
    local: str
    remote: str
    target: str
    contact: str
    next_hop: Address
    negotiator: Negotiator
    port: int = 5060
    routes: list[str] = field(default_factory=list)
    cseq: int = 0
    max_forwards: str = "70"
    media: bool = True
    description: str = ""
    holding: bool = False
    up: bool = False
    over: bool = False
    server: Server | None = None
    client: Client | None = None
    extras: list[Header] = field(default_factory=list)
    echoed: list[Header] = field(default_factory=list)
    interval: int = 0
    refresher: str = "uac"
    refresh: Timer | None = None

    @property
    def tag(self) -> str:
        """Our tag."""
        return NameAddr.parse(self.local).tag

    def dialog(self, *, contact: str, target: str, routes: list[str]) -> None:
        """Remember where the peer is."""
        self.target = str(NameAddr.parse(contact).uri) if contact else target
        self.routes = routes
        if routes:
            self.next_hop = NameAddr.parse(routes[0]).uri.address
        elif contact:
            self.next_hop = Uri.parse(self.target).address

    def refreshed(self, message: Message) -> None:
        """Take a new remote target from a re-INVITE, an UPDATE or their 2xx."""
        if contacts := message.values("Contact"):
            self.target = str(NameAddr.parse(contacts[0]).uri)
            if not self.routes:
                self.next_hop = Uri.parse(self.target).address

    # ---- requests

    def new_via(self) -> str:
        """A Via of ours: no port when it is 5060, rport, FreeSWITCH's kind of branch."""
        port = "" if self.port == 5060 else f":{self.port}"
        return f"SIP/2.0/UDP {self.host}{port};rport;branch=z9hG4bK{self.made.token()}"

    def _request(
        self, method: str, uri: str, fields: Fields, *, cseq: int, extras: Iterable[Header] = (), body: str = ""
    ) -> Message:
        base: Fields = {
            "Via": self.new_via(),
            "Max-Forwards": "70",
            "From": self.local,
            "To": self.remote,
            "Call-ID": self.call_id,
            "CSeq": f"{cseq} {method}",
        }
        return assemble(Message(method=method, uri=uri), {**base, **fields}, extras, body)

    def _in_dialog(
        self, method: str, fields: Fields, *, cseq: int = 0, extras: Iterable[Header] = (), body: str = ""
    ) -> Message:
        if not cseq:
            self.cseq += 1
        return self._request(
            method, self.target, {"Route": self.routes, **fields}, cseq=cseq or self.cseq, extras=extras, body=body
        )

    def first_invite(
        self,
        body: str,
        fields: Fields,
        custom: Iterable[Header],
        on_response: Callable[[Message], None],
        on_timeout: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> None:
        """Leg B's INVITE; `fields` are its content headers, `custom` copied ones before X-PGPX."""
        head: Fields = {
            "Max-Forwards": self.max_forwards,
            "Contact": self.contact,
            **COMMON,
            "Allow-Events": ALLOW_EVENTS,
            **fields,
        }
        extras = [*custom, *self.extras]
        message = self._request("INVITE", self.target, head, cseq=self.cseq, extras=extras, body=body)
        self.client = self.stack.request(message, self.next_hop, on_response, on_timeout)
        self.client.on_refused = on_refused

    def reinvite(
        self, body: str, *, negotiated: bool, on_response: Callable[[Message], None], on_timeout: Callable[[], None]
    ) -> None:
        """A re-INVITE; an empty `body` asks for an offer."""
        fields: Fields = {"Contact": self.contact, "Max-Forwards": self.max_forwards, **COMMON}
        fields |= sdp_fields(negotiated=negotiated)
        if self.interval:
            fields |= {"Session-Expires": f"{self.interval};refresher={self.refresher}", "Min-SE": str(MIN_SE)}
        extras = self.extras if self.name == "B" else [FS_SUPPORT]
        message = self._in_dialog("INVITE", fields, extras=extras, body=body)
        self.client = self.stack.request(message, self.next_hop, on_response, on_timeout)

    def ack(self, *, body: str = "", negotiated: bool = False) -> None:
        """ACK the 2xx to our INVITE, with an answer in it when the offer came in the 2xx."""
        if self.client is None:
            raise RuntimeError(f"leg {self.name}: no INVITE to ACK")
        fields: Fields = {"Contact": self.contact} if self.name == "B" else {}
        if body:
            fields |= sdp_fields(negotiated=negotiated)
        message = self._in_dialog("ACK", fields, cseq=self.client.request.cseq[0], body=body)
        self.client.ack = message.encode()
        self.stack.send(self.client.ack, self.next_hop)

    def cancel(self, reason: str) -> None:
        """CANCEL our INVITE."""
        if self.client is None:
            raise RuntimeError(f"leg {self.name}: no INVITE to CANCEL")
        invite = self.client.request
        fields: Fields = {
            "Via": invite.values("Via")[0],
            "Max-Forwards": invite["Max-Forwards"],
            "To": invite["To"],
            "Reason": reason,
        }
        message = self._request("CANCEL", invite.uri, fields, cseq=invite.cseq[0])
        self.stack.request(message, self.client.destination)

    def bye(self, reason: str = "", extras: Iterable[Header] = ()) -> None:
        """BYE. Without a reason it is the SIP library's own, which carries a Contact instead."""
        fields: Fields = {"Reason": reason} if reason else {"Contact": self.contact}
        self.stack.request(self._in_dialog("BYE", {**fields, **COMMON}, extras=extras), self.next_hop)
        self.end()

    def bye_no_ack(self) -> None:
        """The BYE after a 2xx nobody acknowledged."""
        fields: Fields = {"Contact": self.contact, "Reason": 'SIP;cause=408;text="ACK Timeout"', **COMMON}
        self.stack.request(self._in_dialog("BYE", fields), self.next_hop)
        self.end()

    def prack(self, reliable: Message) -> None:
        """PRACK a reliable provisional response (RFC 3262 7.2)."""
        rack = f"{reliable['RSeq']} {reliable['CSeq']}"
        self.stack.request(self._in_dialog("PRACK", {"Contact": self.contact, "RAck": rack, **COMMON}), self.next_hop)

    def end(self) -> None:
        """Nothing more happens on this leg."""
        self.over, self.up = True, False
        if self.refresh is not None:
            self.refresh.cancel()

    # ---- responses

    def answer(
        self,
        server: Server,
        status: int,
        phrase: str,
        fields: Fields | None = None,
        *,
        extras: Iterable[Header] = (),
        body: str = "",
        plain: bool = False,
    ) -> None:
        """Respond to a request on this leg; `plain` leaves out User-Agent, Allow and Supported."""
        request = server.request
        common: Fields = {} if plain else dict(COMMON)
        if (
            not plain
            and self.media
            and request.method in ("INVITE", "UPDATE", "OPTIONS")
            and not server.answered_before
        ):
            common["Accept"] = SDP_TYPE
        message, all_fields = response(request, status, phrase, self.tag, {**common, **(fields or {})})
        echoed = [] if plain or request.method == "CANCEL" else self.echoed
        server.respond(assemble(message, all_fields, [*echoed, *extras], body))

    def trying(self, server: Server) -> None:
        """100, with the top Via and User-Agent only."""
        message, fields = response(server.request, 100, "Trying", "", {"User-Agent": USER_AGENT})
        server.respond(assemble(message, {**fields, "Via": server.request.values("Via")[:1]}))

    def timer_fields(self, request: Message) -> Fields:
        """Session timer headers for the 2xx to a request that asked for them (RFC 4028)."""
        asked = request.seconds("Session-Expires")
        if not asked:
            return {}
        refresher = split_params(request["Session-Expires"]).get("refresher") or "uac"
        self.interval, self.refresher = asked, "uas" if refresher == "uac" else "uac"
        return {"Require": "timer", "Session-Expires": f"{self.interval};refresher={refresher}"}

    def presented(self, text: str) -> tuple[str, bool]:
        """What goes to this leg's peer as answer for the other leg's `text`: (body, whether the engine printed
        it)."""
        if not self.media:
            return text, False
        self.negotiator.set_own(text)
        return self.negotiator.answer(), True

    def heard(self, text: str) -> None:
        """The peer's description arrived. Raises SdpError."""
        if self.media:
            self.negotiator.set_remote(text)
        else:
            Sdp.parse_untrusted(text)
        self.description = text


COMMON: Fields = {"User-Agent": USER_AGENT, "Allow": ALLOW, "Supported": SUPPORTED}
