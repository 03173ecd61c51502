"""proxy: the SIP edge.

A message comes in through ``transport/udp``, is parsed by ``sip`` and matched to its transaction by ``stack``;
``core`` takes what is new. Inside dialogs it is relayed at once (``forward``, ``relay``, ``dialogs``); outside, a
routing script decides (``routing``, the built-in one is ``talk``) and ``calls`` carries it out. SDP goes through
``media``, which keeps one rtpengine call per call however many SIP legs FreeSWITCH makes of it. ``edge`` connects the
parts, ``app`` is the program.

Three rings: ``sip`` and most of ``media`` are pure; ``stack``, ``core``, ``relay``, ``outcome`` never wait and take
time as an argument; ``stories``, ``calls``, ``edge`` and the transports are trio tasks that tell one story each.
"""

__version__ = "0.1.0"
