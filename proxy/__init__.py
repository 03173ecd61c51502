"""proxy: the SIP edge."""
