"""Checks a table against its contract and splits it by time."""
