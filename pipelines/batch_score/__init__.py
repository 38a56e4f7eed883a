"""Offline inference of a table by several workers."""
