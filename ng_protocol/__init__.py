"""ng_protocol: a library that speaks the control protocol of rtpengine."""
