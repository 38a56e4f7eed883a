"""Writes a bundle into the rollout: as a canary, or as what to go back to."""
