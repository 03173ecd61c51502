"""Our proxy beside Debian's Kamailio, doing the same work in the same run: CPU per call, and the ratio.

Absolute numbers mean nothing on a shared machine, so nothing here is measured alone. A *run* is one proxy under one
sipp load, on loopback in a network namespace of its own (`__main__` re-executes itself in it; it vanishes with the
process). A *pair* is a run of our proxy and, right after it, a run of the peer. A mode's result is the median of its
pairs' ratios, with the least and the greatest.

    sipp caller 127.0.0.8 -> proxy 127.0.0.2:5060 -> sipp callee 127.0.0.9:5060      INVITE 180 200 ACK BYE 200
                                   | ng (modes P3, P4)          | LAN 127.0.0.3:5080 (mode P4)
                                   rtpengine 127.0.0.1:2223     B2BUA 127.0.0.7:5060

- `modes`      what is measured: loads and bars
- `processes`  starts and ends daemons, reads the CPU of a process tree, waits for ports
- `sipp`       the load and its counters
- `node`       the rtpengine, a fresh one for each run, and its totals
- `b2bua`      the B2BUA of P4, and its totals
- `build`      which build of our proxy runs
- `sides`      what is compared: configuration and command line of each proxy (the only place that knows them)
- `stage`      all of these, started in order around one load
- `delay`      how long an INVITE takes, from packets on the loopback
- `runs`       one run, from empty stage to figures
- `pairs`      pure: what spoils a run, which peer is best, when a pair is repeated, the ratio
- `memory`     before and after a million relays and 100,000 calls
- `profiling`  our side under cProfile and sampled; `profiled` is what runs inside that process, `flame` draws
- `report`     the lines printed and the parts of docs/performance.md; `page` puts them there, `plot` draws

A figure is the user and system time of the proxy's whole process tree over the calls done. It counts only when every
call succeeded, nothing was retransmitted and the node and the B2BUA counted every call.
"""
