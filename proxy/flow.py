"""Where a message came from and where it goes: one of our sockets (a listener) and an address.

The stack and everything above it knows transports only through these two small classes; how bytes leave is the business
of the ``Sender`` given to a listener. That keeps ring 1 free of trio and lets tests put a list in a socket's place.
"""

from __future__ import annotations

from collections.abc import Callable

Address = tuple[str, int]
Sender = Callable[[bytes, Address], None]


def host_for_uri(host: str) -> bytes:
    """The host as it stands in a URI or Via: IPv6 in brackets (RFC 3261 25.1 IPv6reference)."""
    return b"[%s]" % host.encode() if ":" in host else host.encode()


class Listener:
    """One bound socket: its name and side, the address others are told, and the bytes derived from it.

    ``side`` is ``public`` (the outside) or ``lan`` (the B2BUA's). ``via`` is the sent-by, ``uri`` the host and port for
    Record-Route; both leave the default port 5060 out, as Kamailio prints them.
    """

    __slots__ = ("address", "flows", "host", "name", "own", "port", "sender", "side", "uri", "via", "via_prefix")

    def __init__(
        self,
        name: str,
        address: str,
        port: int,
        side: str = "public",
        advertise: Address | None = None,
        sender: Sender | None = None,
    ) -> None:
        self.name = name
        self.side = side
        self.address = address
        self.port = port
        shown_host, shown_port = advertise or (address, port)
        self.host = host_for_uri(shown_host)
        self.uri = self.host if shown_port == 5060 else b"%s:%d" % (self.host, shown_port)
        self.via = self.uri
        self.via_prefix = b"Via: SIP/2.0/UDP " + self.via + b";branch="
        # Every (host, port) by which a URI can mean this socket; hosts as bytes without brackets.
        self.own: set[tuple[bytes, int]] = {(address.encode().lower(), port), (shown_host.encode().lower(), shown_port)}
        self.sender = sender
        self.flows: dict[Address, Flow] = {}

    def send_nowait(self, data: bytes, addr: Address) -> None:
        """Hand one datagram to the socket; never blocks, a full socket buffer drops it as the network would."""
        if self.sender is not None:
            self.sender(data, addr)

    def flow(self, addr: Address) -> Flow:
        """The flow to ``addr`` over this listener; the same object each time, forgotten when there are very many."""
        found = self.flows.get(addr)
        if found is None:
            if len(self.flows) > 50_000:
                self.flows.clear()
            found = self.flows[addr] = Flow(self, addr)
        return found

    def __repr__(self) -> str:
        return f"<Listener {self.name} {self.address}:{self.port}>"


class Flow:
    """A listener and the far address, (host, port)."""

    __slots__ = ("addr", "listener")

    def __init__(self, listener: Listener, addr: Address) -> None:
        self.listener = listener
        self.addr = addr

    def send_nowait(self, data: bytes) -> None:
        """Send one message to the far address."""
        self.listener.send_nowait(data, self.addr)

    def __repr__(self) -> str:
        return f"<Flow {self.listener.name} {self.addr[0]}:{self.addr[1]}>"
