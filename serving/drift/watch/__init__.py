"""The always-on watch: a Shiryaev-Roberts e-detector over bets on cells."""

from serving.drift.watch.detector import Finding, Watch, WatchSettings, WatchStep
from serving.drift.watch.tolerance import learn_tolerance

__all__ = ["Finding", "Watch", "WatchSettings", "WatchStep", "learn_tolerance"]
