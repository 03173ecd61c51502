"""Ring the phone; when it is busy, does not answer or is not there, the call goes to voice mail."""

VOICEMAIL = "sip:voicemail@203.0.113.50:5060"


async def route(call):
    if call.method == "REGISTER":
        return await call.register()
    if not call.for_us:
        return call.reply(403)
    phones = call.lookup()
    if phones:
        reply = await call.relay(phones)
        if reply.code not in (408, 480, 486):
            return None
    await call.relay(VOICEMAIL)
