"""Compositions of components; each compiles for a cluster and runs on one machine."""
