"""The same bundle behind Seldon Core's Python wrapper, in an environment of its own."""
