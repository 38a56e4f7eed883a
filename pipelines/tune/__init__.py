"""Trains with the best of many settings, tried side by side."""
