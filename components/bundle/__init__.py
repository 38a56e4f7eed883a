"""Assembles the immutable bundle."""
