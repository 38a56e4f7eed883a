"""Tries one draw of settings, so that a search's trials can run side by side."""
