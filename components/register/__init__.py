"""Registers bundles, so that each can be found and gone back to."""
