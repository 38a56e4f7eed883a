"""The bundle: one immutable, content-addressed folder per trained model, and its contract.

Imports only the standard library, numpy and pydantic: every image needs it.
"""

from serving.bundle.contract import Contract, Feature, Label, Rule, Thresholds, load_contract
from serving.bundle.folder import Bundle, open_bundle, write_bundle
from serving.bundle.rows import Violation, canonical_columns, check_columns

__all__ = [
    "Bundle",
    "Contract",
    "Feature",
    "Label",
    "Rule",
    "Thresholds",
    "Violation",
    "canonical_columns",
    "check_columns",
    "load_contract",
    "open_bundle",
    "write_bundle",
]
