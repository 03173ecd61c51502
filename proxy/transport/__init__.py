"""Transports: sockets on one side, ``flow.Listener`` on the other. UDP so far."""
