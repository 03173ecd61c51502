"""The registrar: REGISTER in, a response out, bindings in `Location` (RFC 3261 section 10.3).

``Registrar.handle`` never waits and never raises for what a phone sent: every fault has a response. It reads the whole
request, checks it against the bindings that are there, and only then writes: a request is carried out as a whole or not
at all (section 10.3 item 8). Retransmissions never come here; the server transaction answers them.

NAT. The source address of the REGISTER is kept with each binding. When the phone is behind a NAT (test 1+2+16 of
`proxy.nat`, the Contact test on each contact of its own), requests for it go to that address; the contact is kept and
repeated to the phone as it wrote it, so a phone never sees its public address where it did not put it.

Not here: digest authentication (it goes before), and the flow tokens of RFC 5626 (reg-id and +sip.instance do identify
a binding, so a phone that moves does not leave its old contact behind).
"""

import math
import secrets
from collections.abc import Callable, Collection
from typing import Protocol

from proxy.config import RegistrarConfig
from proxy.location import Binding, Location
from proxy.nat import VIA_PORT, VIA_RECEIVED, is_private, nat_uac_test
from proxy.sip.headers import NameAddr, parse_name_addr_untrusted
from proxy.sip.message import H, Request, Response, make_response
from proxy.sip.parser import BadMessage
from proxy.sip.uri import parse_uri_untrusted, same_uri, unescape

SUPPORTED = frozenset({b"path"})
"""Option tags a REGISTER may Require here."""

RETRY_AFTER = 60
"""Seconds a phone is told to wait when the location table is full."""


class _Listener(Protocol):
    @property
    def name(self) -> str: ...


class Source(Protocol):
    """The part of a Flow the registrar looks at: where a request came from and which listener took it."""

    @property
    def listener(self) -> _Listener: ...
    @property
    def addr(self) -> tuple[str, int]: ...


class Refused(Exception):
    """The response a REGISTER gets instead of 200: code, reason phrase, extra header lines. Inside this file only."""

    def __init__(self, code: int, reason: bytes, extra: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
        self.extra = extra


class Registrar:
    """Answers REGISTER requests for a set of domains.

    ``hosts``: our domains and the hosts of our listeners, lower case, IPv6 without brackets. ``tag``: makes To tags.
    ``date``: the Date header's value, when the responses are to have one (section 10.3 item 8 SHOULD).
    """

    def __init__(
        self,
        location: Location,
        hosts: Collection[bytes],
        config: RegistrarConfig,
        *,
        tag: Callable[[], bytes] = lambda: secrets.token_hex(6).encode(),
        date: Callable[[], bytes] | None = None,
    ) -> None:
        self.location = location
        self.config = config
        self._hosts = frozenset(hosts)
        self._tag = tag
        self._date = date

    def handle(self, request: Request, flow: Source, now: float) -> Response:
        """The response to a REGISTER, its bindings made, refreshed or removed. ``now``: monotonic seconds.

        200 with every binding of the user and the time each has left. Else nothing has changed: 400 malformed, 403
        not for us or too many contacts, 404 no such domain, 420 an extension we do not have, 423 time too short, 500
        overtaken by a later request (section 10.3 item 7), 503 location table full.
        """
        try:
            aor = self._address_of_record(request)
            self._update(request, flow, aor, now)
        except Refused as refused:
            return make_response(request, refused.code, refused.reason, self._tag(), refused.extra)
        except BadMessage as bad:
            return make_response(request, bad.status or 400, bad.reason, self._tag())
        extra = [
            (b"Contact", b"<%b>;expires=%d%b" % (b.contact.raw, math.ceil(b.expires - now), b.params))
            for b in self.location.of(aor, now)
        ]
        if H.PATH in request.ids:
            extra += [(b"Path", value) for value in request.values(H.PATH)]  # RFC 3327 section 5.3
        if self._date is not None:
            extra.append((b"Date", self._date()))
        return make_response(request, 200, None, self._tag(), extra)

    def _address_of_record(self, request: Request) -> bytes:
        """Items 1, 2 and 5: the request is for us, needs nothing we lack, and names a user of ours."""
        if parse_uri_untrusted(request.uri, sip_only=True).host not in self._hosts:
            raise Refused(403, b"This registrar does not serve the domain in the Request-URI")
        if H.REQUIRE in request.ids:
            missing = [tag for tag in request.values(H.REQUIRE) if tag.lower() not in SUPPORTED]
            if missing:
                raise Refused(420, b"Bad Extension", ((b"Unsupported", b", ".join(missing)),))
        value = request.get(H.TO)
        if value is None:
            raise BadMessage(400, b"REGISTER without To")
        to = parse_uri_untrusted(parse_name_addr_untrusted(value).uri)
        if to.scheme not in (b"sip", b"sips") or to.host not in self._hosts or not to.user:
            raise Refused(404, b"No such address-of-record in this domain")
        return unescape(to.user)

    def _update(self, request: Request, flow: Source, aor: bytes, now: float) -> None:
        """Items 6 and 7."""
        contacts = request.values(H.CONTACT)
        if not contacts:
            return  # a question only
        call_id, cseq = request.call_id, request.cseq
        there = self.location.of(aor, now)
        changes: list[tuple[Binding | None, Binding | None]] = []  # (what is there, what is to be there)
        if b"*" in contacts:
            if len(contacts) > 1 or _expires_untrusted(request.get(H.EXPIRES)) != 0:
                raise BadMessage(400, b"Contact * stands alone and with Expires: 0 only")
            changes = [(binding, None) for binding in there]
        else:
            new = self._bindings(request, flow, aor, contacts, now)
            for binding in new:
                old = _find(there, binding)
                if old is not None:  # equivalence of URIs is not transitive: two of them may be about one binding
                    changes = [change for change in changes if change[0] is not old]
                changes.append((old, binding if binding.expires > now else None))
        for old, _ in changes:
            if old is not None and old.call_id == call_id and old.cseq >= cseq:
                raise Refused(500, b"A later REGISTER of this Call-ID was here already: raise the CSeq")
        self._check_room(len(there), changes)
        for old, wanted in changes:
            if wanted is not None:
                self.location.put(wanted, old)
            elif old is not None:
                self.location.drop(old)

    def _bindings(self, request: Request, flow: Source, aor: bytes, contacts: list[bytes], now: float) -> list[Binding]:
        """The bindings a request asks for, those to be removed with ``expires == now``; of equal contacts the last."""
        if (
            len(contacts) > 2 * self.config.max_contacts
        ):  # as many removed as added at most; comparing them is quadratic
            raise self._too_many()
        header = request.get(H.EXPIRES)
        via_nat = nat_uac_test(request, flow.addr, VIA_RECEIVED | VIA_PORT) != 0
        path = tuple(request.values(H.PATH)) if H.PATH in request.ids else ()
        user_agent = request.get(H.USER_AGENT) or b""
        new: list[Binding] = []
        for value in contacts:
            address = parse_name_addr_untrusted(value)
            contact = parse_uri_untrusted(address.uri)
            if contact.scheme not in (b"sip", b"sips"):
                raise BadMessage(400, b"Contact is no SIP URI: only phones can be registered here")
            binding = Binding(
                aor,
                contact,
                received=flow.addr,
                listener=flow.listener.name,
                expires=now + self._granted(address.param(b"expires") or header),
                call_id=request.call_id,
                cseq=request.cseq,
                updated=now,
                nat=via_nat or is_private(contact.host.decode("ascii", "replace")),
                q=address.q,
                path=path,
                instance=address.param(b"+sip.instance"),
                reg_id=address.param(b"reg-id"),
                params=_repeated(address),
                user_agent=user_agent,
            )
            earlier = _find(new, binding)
            if earlier is not None:
                new.remove(earlier)
            new.append(binding)
        return new

    def _granted(self, wish: bytes | None) -> int:
        """Seconds granted for an expires value; 0 removes. Raises Refused(423)."""
        seconds = _expires_untrusted(wish)
        if seconds is None:
            seconds = self.config.default_expires
        if 0 < seconds < self.config.min_expires:
            raise Refused(423, b"Interval Too Brief", ((b"Min-Expires", b"%d" % self.config.min_expires),))
        return min(seconds, self.config.max_expires)

    def _too_many(self) -> Refused:
        return Refused(403, b"Too many contacts for this user: at most %d" % self.config.max_contacts)

    def _check_room(self, there: int, changes: list[tuple[Binding | None, Binding | None]]) -> None:
        added = sum(old is None and new is not None for old, new in changes)
        if not added:
            return
        removed = sum(old is not None and new is None for old, new in changes)
        if there + added - removed > self.config.max_contacts:
            raise self._too_many()
        if len(self.location) + added - removed > self.config.max_bindings:
            raise Refused(503, b"No room for more registrations", ((b"Retry-After", b"%d" % RETRY_AFTER),))


def _expires_untrusted(value: bytes | None) -> int | None:
    """Seconds in an expires value; None when there is none or it is malformed (section 10.3 item 7: then default)."""
    if value is None or not value.isdigit() or len(value) > 10:
        return None
    return int(value)


def _find(bindings: list[Binding], new: Binding) -> Binding | None:
    """The one of a user's bindings that ``new`` is about: same instance and reg-id (RFC 5626), or same URI."""
    for binding in bindings:
        if new.reg_id is not None and new.instance is not None and binding.reg_id is not None:
            if (binding.instance, binding.reg_id) == (new.instance, new.reg_id):
                return binding
        elif binding.contact is new.contact or same_uri(binding.contact, new.contact):
            return binding
    return None


def _repeated(address: NameAddr) -> bytes:
    """The contact parameters a phone gets back beside expires."""
    out = b""
    if not address.params:
        return out
    for name in (b"q", b"+sip.instance", b"reg-id"):
        value = address.param(name)
        if value:
            out += b";" + name + b"=" + value
    return out
