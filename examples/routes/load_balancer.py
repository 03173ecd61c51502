"""A load balancer: every call to one of the backends, the next one when it is silent, unreachable or answers 503.

[[dispatch]]
name = "backends"
destinations = ["10.0.0.5:5060", "10.0.0.6:5060"]
"""


async def route(call):
    if not call.for_us:
        return call.reply(403)
    await call.relay(call.dispatch("backends"))
