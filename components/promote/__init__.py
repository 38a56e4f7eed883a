"""Leads a canary by the gate, to promotion or back."""
