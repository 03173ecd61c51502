"""Media anchoring: one rtpengine call per call, across the B2BUA.

The nouns. A `Session` is one call as rtpengine knows it: one ng call-id on one node, however many SIP dialogs the
B2BUA makes of it. A `Leg` is one of those dialogs as the proxy sees it, between a phone and FreeSWITCH. A `Party` is
one ng monologue: every phone has one, and FreeSWITCH has one per leg for the times it takes the media itself. A
`Rendition` is one party's SDP as rtpengine rewrote it for another party.

The direction of data. The relay gives every message that carries SDP to `Anchor.request` or `Anchor.response`;
`exchange` says what the SDP is (offer or answer, RFC 3264 and 6337), `dialogue` whose it really is and what has to
go out in its place, `engine` asks the rtpengine node, and the message is rewritten in place. `table` remembers which
media addresses FreeSWITCH was shown: the media address is how the second pass of a call is recognised.
"""
