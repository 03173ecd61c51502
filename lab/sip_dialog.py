"""One end's bookkeeping of a SIP dialog (RFC 3261 12), for the lab's phones.

Theory of operation. A caller makes a `Dialog` from its INVITE and a response with a To tag, a callee from the INVITE
and the tag it answers with; both then build requests with `request()` and `ack()`, and feed target refreshes back
with `refresh()`. No I/O here: `destination` says where the datagram goes, `lab/sip_socket.py` adds the Via and sends
it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lab.sip import Address, Message, NameAddr, Uri


@dataclass
class Dialog:
    """One end's view of a dialog. `local` and `remote` are From/To values with their tags, `contact` is ours as a
    whole header value, `routes` the route set in sending order, `next_hop` overrides where datagrams go."""

    call_id: str
    local: str
    remote: str
    target: str
    contact: str
    routes: list[str] = field(default_factory=list)
    local_cseq: int = 0
    remote_cseq: int = 0
    next_hop: Address | None = None

    @classmethod
    def from_response(cls, request: Message, response: Message) -> Dialog:
        """The caller's side, from its INVITE and a 1xx or 2xx with a To tag (RFC 3261 12.1.2: route set reversed)."""
        contact = response.values("Contact")
        return cls(
            call_id=request.call_id,
            local=request["From"],
            remote=response["To"],
            target=str(NameAddr.parse(contact[0]).uri) if contact else request.uri,
            contact=request.get("Contact"),
            routes=response.values("Record-Route")[::-1],
            local_cseq=request.cseq[0],
        )

    @classmethod
    def from_request(cls, request: Message, tag: str, contact: str) -> Dialog:
        """The callee's side, from the INVITE it received and its own To tag (RFC 3261 12.1.1: route set in order)."""
        remote_contact = request.values("Contact")
        return cls(
            call_id=request.call_id,
            local=str(request.to.with_tag(tag)),
            remote=request["From"],
            target=str(NameAddr.parse(remote_contact[0]).uri) if remote_contact else str(request.from_.uri),
            contact=contact,
            routes=request.values("Record-Route"),
            remote_cseq=request.cseq[0],
        )

    @property
    def key(self) -> tuple[str, str, str]:
        """(Call-ID, local tag, remote tag)."""
        return self.call_id, NameAddr.parse(self.local).tag, NameAddr.parse(self.remote).tag

    def matches(self, request: Message) -> bool:
        """Whether a received request belongs to this dialog."""
        return (request.call_id, request.to.tag, request.from_.tag) == self.key

    @property
    def destination(self) -> Address:
        """Where datagrams go: `next_hop`, else the first route, else the remote target."""
        if self.next_hop is not None:
            return self.next_hop
        return NameAddr.parse(self.routes[0]).uri.address if self.routes else Uri.parse(self.target).address

    def refresh(self, message: Message) -> None:
        """Take the remote target from a target refresh request or its 2xx (RFC 3261 12.2)."""
        if contacts := message.values("Contact"):
            self.target = str(NameAddr.parse(contacts[0]).uri)
        if not message.status:
            self.remote_cseq = max(self.remote_cseq, message.cseq[0])

    def request(self, method: str, *, sdp: str = "", headers: Iterable[tuple[str, str]] = (), cseq: int = 0) -> Message:
        """A request in the dialog, loose routing assumed, without a Via (the socket adds it). `cseq` is for ACK."""
        if not cseq:
            self.local_cseq += 1
        out = Message(method=method, uri=self.target)
        out.headers += [("Route", route) for route in self.routes]
        out.headers += [("Max-Forwards", "70"), ("From", self.local), ("To", self.remote), ("Call-ID", self.call_id)]
        out.add("CSeq", f"{cseq or self.local_cseq} {method}")
        if self.contact and method in ("INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER", "ACK"):
            out.add("Contact", self.contact)
        out.headers += headers
        if sdp:
            out.add("Content-Type", "application/sdp")
            out.body = sdp.encode()
        return out

    def ack(self, response: Message, *, sdp: str = "") -> Message:
        """The ACK to a 2xx of an INVITE we sent (RFC 3261 13.2.2.4): the INVITE's CSeq number, a new branch."""
        return self.request("ACK", cseq=response.cseq[0], sdp=sdp)
