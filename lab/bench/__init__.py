"""Our proxy beside Debian's Kamailio, doing the same work in the same run: CPU per call, and the ratio.

Absolute numbers mean nothing on a shared machine, so nothing here is measured alone. A *run* is one proxy under one
sipp load, on loopback in a network namespace of its own (`__main__` re-executes itself in it; it vanishes with the
process). A *pair* is a run of our proxy and, right after it, a run of the peer. A mode's result is the median of its
pairs' ratios, with the least and the greatest.

    sipp caller 127.0.0.8 -> proxy 127.0.0.2:5060 -> sipp callee 127.0.0.9:5060      INVITE 180 200 ACK BYE 200
                                   | ng (mode P3)
                                   rtpengine 127.0.0.1:2223, a fresh one for each run

- `processes`  starts and ends daemons, reads the CPU of a process tree, waits for ports
- `sipp`       the load and its counters
- `node`       the rtpengine of mode P3 and its totals
- `sides`      what is compared: configuration and command line of each proxy (the only place that knows them)
- `runs`       one run, from empty namespace to figures
- `pairs`      pure: what spoils a run, which peer is best, when a pair is repeated, the ratio
- `report`     the lines printed and docs/performance.md
- `profiling`  one run of our side under cProfile; `profiled` is what runs inside that process

A figure is the user and system time of the proxy's whole process tree over the calls done. It counts only when every
call succeeded, sipp saw no retransmission and, in P3, the node counted one offer, one answer and one delete a call.
"""
