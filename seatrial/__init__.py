"""The composition root: command line, demo, simulator, replay, report. Nothing imports it."""
