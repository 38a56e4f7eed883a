"""Receives drift events and starts retraining runs: `python -m serving.retrain`.

It knows no pipeline: how a run is started is a Launcher's business (launcher.py).
"""
