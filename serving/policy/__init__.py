"""Rules and thresholds from score to decision: one implementation for evaluation, batch, serving.

Imports only numpy: a contract is what has thresholds and rules.
"""

from serving.policy.decide import DECISIONS, Decisions, Policy, decide

__all__ = ["DECISIONS", "Decisions", "Policy", "decide"]
