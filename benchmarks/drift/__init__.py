"""Drift detection measured: `python -m benchmarks.drift`.

Synthetic streams with drift of known time, kind and size, and the two real tables with dated drift.
No stream shares a seed with any reference. Detectors of other projects run in environments of their
own; one that is not installed is named as skipped.
"""
