"""Numbers that nobody here may call, and a closed door at night; everything else as built in."""

import time

from proxy.talk import route as built_in

FORBIDDEN = ("0900", "+4990")
NIGHT = range(6)


def hour():
    return time.localtime().tm_hour


async def route(call):
    if call.method == "INVITE" and call.user.startswith(FORBIDDEN):
        return call.reply(403, "Number not allowed")
    if call.method == "INVITE" and hour() in NIGHT and not call.lookup():
        return call.reply(480, "Closed", [("Retry-After", "3600")])
    await built_in(call)
