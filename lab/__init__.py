"""lab: networks, daemons, phones and scenarios."""
