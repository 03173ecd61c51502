"""A routing script for the configuration tests: never run."""
