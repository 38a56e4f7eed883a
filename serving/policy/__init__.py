"""Rules and thresholds from score to decision: one implementation for evaluation, batch, serving.

Imports only numpy: a contract is what has thresholds and rules.
"""

from serving.policy.breaker import Breaker
from serving.policy.decide import DECISIONS, UNDECIDED, Decider, Decisions, Policy, decide

__all__ = ["DECISIONS", "UNDECIDED", "Breaker", "Decider", "Decisions", "Policy", "decide"]
