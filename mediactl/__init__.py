"""mediactl: the operator command line."""
