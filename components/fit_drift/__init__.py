"""Draws the drift reference of a bundle and tries the detector on it."""
