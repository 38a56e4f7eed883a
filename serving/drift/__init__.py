"""The drift sidecar: watches the rows beside one predictor and tells, as a CloudEvent, what moved.

Runs in its own environment (Alibi Detect pins numpy below 2). Only `serving.drift.alibi` imports
Alibi Detect, and only when a detector is built: everything else works without it.
"""
