"""Where users are: the bindings that registrations made, in memory.

A user (address-of-record) is the unescaped user part of a SIP URI; the domain has been checked before anything comes
here. ``lookup`` is what call routing asks; the registrar reads with ``of`` and writes with ``put`` and ``drop``.

Expiry is lazy and costs no timer per binding. A heap holds one entry per binding with the time it was to expire when
the entry was made. A refresh only moves ``Binding.expires``; when the old time comes, ``tick`` finds the binding alive
and files it again. Whatever is due but not yet collected is invisible to readers. Entries of dropped bindings stay
until their time, or until they outnumber the living; then the heap is rebuilt, so that registering and unregistering in
a loop cannot fill the memory.

Times are monotonic seconds, given by the caller.
"""

import heapq
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address

from proxy.sip.uri import Uri

GONE = float("-inf")
"""``Binding.expires`` of a binding that was dropped."""


class Binding:
    """One contact of one user. Registrations of the same contact update the same object.

    aor          the user, unescaped
    contact      the URI as the phone wrote it; it goes into Request-URIs
    received     (ip, port) the REGISTER really came from
    listener     name of the listener it came in on; requests to the phone leave there, or a NAT drops them
    nat          whether the contact's own address cannot be trusted to work; see ``address``
    expires      when it ends
    updated      when it was last registered
    q            preference, 0.0 to 1.0
    call_id, cseq  of the REGISTER that made it last (RFC 3261 section 10.3 item 7)
    path         Path values to be put into Route, first hop first (RFC 3327); usually none
    instance, reg_id  of RFC 5626, or None; the instance with its quotes
    params       contact parameters to be repeated in replies, b";q=0.5" and such, without expires
    user_agent   User-Agent of the REGISTER, b"" when it had none
    """

    __slots__ = (
        "aor",
        "call_id",
        "contact",
        "cseq",
        "expires",
        "instance",
        "listener",
        "nat",
        "params",
        "path",
        "q",
        "received",
        "reg_id",
        "updated",
        "user_agent",
    )

    def __init__(
        self,
        aor: bytes,
        contact: Uri,
        *,
        received: tuple[str, int],
        listener: str,
        expires: float,
        call_id: bytes,
        cseq: int,
        updated: float = 0.0,
        nat: bool = False,
        q: float = 1.0,
        path: tuple[bytes, ...] = (),
        instance: bytes | None = None,
        reg_id: bytes | None = None,
        params: bytes = b"",
        user_agent: bytes = b"",
    ) -> None:
        self.aor = aor
        self.contact = contact
        self.received = received
        self.listener = listener
        self.expires = expires
        self.call_id = call_id
        self.cseq = cseq
        self.updated = updated
        self.nat = nat
        self.q = q
        self.path = path
        self.instance = instance
        self.reg_id = reg_id
        self.params = params
        self.user_agent = user_agent

    def __repr__(self) -> str:
        return f"<Binding {self.aor!r} {self.contact.raw!r} from {self.received}>"

    @property
    def address(self) -> tuple[str, int]:
        """(ip, port) to send a request for this contact to, unless it has a path.

        Where the REGISTER came from, when the phone is behind a NAT or its contact has no IP address; else what its
        contact says, port 5060 when it says none.
        """
        host, port = self.contact.hostport
        if self.nat or not _is_ip(host):
            return self.received
        return host, port or 5060


class Location:
    """Every binding of every user. ``len()`` is their number, expired ones that no tick has collected included."""

    def __init__(self) -> None:
        self._users: dict[bytes, list[Binding]] = {}
        self._heap: list[tuple[float, int, Binding]] = []
        self._entries = 0  # breaks ties in the heap
        self._count = 0
        self._sources: dict[tuple[str, int], int] = {}  # how many bindings came from an address

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Binding]:
        """Every binding, users in the order they first registered."""
        for bindings in self._users.values():
            yield from bindings

    def of(self, aor: bytes, now: float) -> list[Binding]:
        """A user's bindings that are alive, oldest first."""
        return [binding for binding in self._users.get(aor, ()) if binding.expires > now]

    def lookup(self, aor: bytes, now: float) -> list[Binding]:
        """Where to ring a user: live bindings by q from high to low, among equals the most recently registered first
        (RFC 3261 section 16.6 leaves the order of equals to us; a phone that has just registered is surely there)."""
        return sorted(self.of(aor, now), key=lambda binding: (-binding.q, -binding.updated))

    def knows_address(self, addr: tuple[str, int]) -> bool:
        """Whether a binding that has not been collected yet was registered from this (ip, port)."""
        return addr in self._sources

    def put(self, new: Binding, old: Binding | None = None) -> None:
        """Add a binding; or let ``old``, which is in here, take over everything ``new`` says."""
        if old is None:
            self._users.setdefault(new.aor, []).append(new)
            self._count += 1
            self._sources[new.received] = self._sources.get(new.received, 0) + 1
            self._file(new)
            return
        if new.received != old.received:
            self._forget_source(old.received)
            self._sources[new.received] = self._sources.get(new.received, 0) + 1
        sooner = new.expires < old.expires
        for name in Binding.__slots__:
            setattr(old, name, getattr(new, name))
        if sooner:  # its heap entry would come too late
            self._file(old)

    def drop(self, binding: Binding) -> None:
        """Remove a binding that is in here."""
        bindings = self._users[binding.aor]
        bindings.remove(binding)
        if not bindings:
            del self._users[binding.aor]
        self._count -= 1
        self._forget_source(binding.received)
        binding.expires = GONE
        if len(self._heap) > 2 * self._count + 1024:
            self._heap = [(b.expires, i, b) for i, b in enumerate(self)]
            self._entries = self._count
            heapq.heapify(self._heap)

    def tick(self, now: float) -> list[Binding]:
        """Remove what has expired and return it."""
        expired = []
        while self._heap and self._heap[0][0] <= now:
            binding = heapq.heappop(self._heap)[2]
            if binding.expires == GONE:
                continue
            if binding.expires > now:
                self._file(binding)
            else:
                expired.append(binding)
                self.drop(binding)
        return expired

    def next_deadline(self) -> float | None:
        """When to call ``tick`` next; None when nothing can expire. It may come early: a tick then removes nothing."""
        return self._heap[0][0] if self._heap else None

    def _forget_source(self, addr: tuple[str, int]) -> None:
        left = self._sources[addr] - 1
        if left:
            self._sources[addr] = left
        else:
            del self._sources[addr]

    def _file(self, binding: Binding) -> None:
        self._entries += 1
        heapq.heappush(self._heap, (binding.expires, self._entries, binding))


@lru_cache(maxsize=4096)
def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
