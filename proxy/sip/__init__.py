"""SIP messages as bytes: reading, asking, editing. Ring 0: no sockets, no clock, no trio, nothing outside the stdlib.

Nouns, and the direction data flows:

    datagram -> parser.parse_untrusted -> message.Request | message.Response -> .to_bytes() -> datagram

A message is its start line, a list of raw header lines and a body. Nothing is parsed until asked for, and what is not
touched leaves byte for byte. `names` knows header names, `grammar` the lexical rules, `headers` the values of header
fields (Via, name-addr, CSeq, RAck), `uri` SIP URIs, `sdp` as much of a session description as a proxy has to see.

Everything is `bytes`, except methods (`str`) and numbers. Functions that read what a peer sent end in `_untrusted`
and raise `BadMessage` (for SDP: `BadSdp`) and nothing else.
"""
