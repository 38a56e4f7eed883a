"""Trains the network on a checked table."""

import os

# Read when torch loads OpenMP: on a busy machine, threads that spin at each barrier make training
# several times slower than threads that sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
