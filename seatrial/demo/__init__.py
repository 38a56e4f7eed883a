"""The demo: from a table to a canary on one machine."""
