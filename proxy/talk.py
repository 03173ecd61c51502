"""The built-in routing: what the ClueCon 2023 talk "Kamailio with FreeSWITCH B2BUA" does, written as a routing
script.

From outside: REGISTER to the registrar, everything else to FreeSWITCH as ``b2bua-<user>``. From FreeSWITCH (leg B),
or when there is no FreeSWITCH: to the callee's binding, else a static user, else the carrier, else 404. A 3xx never
goes back to FreeSWITCH, which would follow it past the proxy. Nothing is relayed for a foreign Request-URI, and only
known callers reach the carrier: no open relay.
"""

from __future__ import annotations

from proxy.routing import Call


async def route(call: Call) -> None:
    """Route one request outside a dialog."""
    if call.method == "OPTIONS" and not call.user:
        return await options(call)
    if call.method == "REGISTER":
        return await call.register()
    if call.from_freeswitch:
        return await leg_b(call)
    if not call.for_us:
        return call.reply(403, "Domain not served here")
    if not call.user:
        return call.reply(484, "Address Incomplete")
    if call.method == "OPTIONS":
        return await options(call)
    switches = call.freeswitch()
    if not switches:
        return await to_callee(call, call.source_is_known)
    reply = await call.relay(switches)
    if 300 <= reply.code < 400:
        call.reply(404)


async def leg_b(call: Call) -> None:
    """The second pass: FreeSWITCH sends the call out."""
    if not call.user:
        return call.reply(484, "Address Incomplete")
    await to_callee(call, call.caller_is_known)


async def to_callee(call: Call, caller_is_known: bool) -> None:
    """The dialled user's bindings, else its static entry, else, for callers we know, the carrier."""
    targets = call.lookup()
    if not targets and call.carrier():
        if not caller_is_known:
            return call.reply(403, "Caller may not use the carrier")
        targets = call.carrier()
    if not targets:
        return call.reply(404)
    reply = await call.relay(targets)
    if 300 <= reply.code < 400:
        call.reply(404)


async def options(call: Call) -> None:
    """200 for FreeSWITCH's and the operator's probes, silence for scanners."""
    if call.flow.listener.side == "lan" or call.source_is_known:
        return call.reply(200)
    call.drop()
