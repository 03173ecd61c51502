"""The control API: what an operator's tool can ask a running proxy.

Nouns: a *request* is one line of JSON on a unix stream socket, an *answer* is one line back (NDJSON). `schema` is the
whole language (pure: types, parsing, filters), `streams` turns an rtpengine `query` reply into that language,
`server` is the socket, and `handlers` is the backend: it reads sessions, nodes and counters and builds the answers.

Data goes  socket -> server -> schema.decode_request_untrusted -> Backend -> schema.encode_result -> socket.
The daemon returns data; formatting belongs to `mediactl`, which imports `schema` and `streams` and nothing else of
the proxy. `docs/control.md` is the reference for people who write their own clients.
"""
