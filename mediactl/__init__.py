"""mediactl: the operator's tool; shows every media session of a running proxy, or of one rtpengine node.

`cli` reads the command line and decides what to ask; `client` asks a proxy over its control socket, `direct` asks an
rtpengine node itself; both return the structs of `proxy.control.schema`. `views` turns them into tables (columns are
data), `verdict` into one sentence. Nothing here is cached and nothing is changed on the other side.
"""
