"""Which series a PromQL expression asks for, and by which labels: enough for our own rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_STRING = r'"(?:[^"\\]|\\.)*"'
_SELECTOR = re.compile(rf"([A-Za-z_:][\w:]*)\s*\{{((?:[^{{}}\"]|{_STRING})*)\}}")
_MATCHER = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({_STRING})")
_GROUPING = re.compile(
    r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)", re.IGNORECASE
)
_WORDS = {"and", "or", "unless", "offset", "bool", "group_left", "group_right", "Inf", "NaN"}
_DURATION = r"(?:\d+(?:ms|[smhdwy]))+"


@dataclass(frozen=True)
class Selector:
    name: str
    matchers: tuple[tuple[str, str, str], ...] = ()
    """(label, operator, value)."""


def selectors(expression: str) -> Iterator[Selector]:
    for name, text in _SELECTOR.findall(expression):
        yield Selector(name, tuple((a, b, c[1:-1]) for a, b, c in _MATCHER.findall(text)))
    rest = _SELECTOR.sub(" ", expression)
    rest = re.sub(_STRING, " ", rest)
    rest = _GROUPING.sub(" ", rest)
    rest = re.sub(r"\[[^\]]*\]", " ", rest)
    rest = re.sub(rf"\b{_DURATION}\b", " ", rest)
    for found in re.finditer(r"(?<![\w:$.])([A-Za-z_:][\w:]*)(\s*\()?", rest):
        # A name before a bracket is a function.
        if found[2] is None and found[1] not in _WORDS and not _is_aggregation(rest, found.end()):
            yield Selector(found[1])


def grouping_labels(expression: str) -> set[str]:
    """Labels of by (...), on (...) and their like."""
    found = _GROUPING.findall(expression)
    return {label.strip() for _, labels in found for label in labels.split(",") if label.strip()}


def _is_aggregation(text: str, at: int) -> bool:
    """`sum by (...) (...)`: the clause is already gone, and a bracket follows."""
    return text[at:].lstrip().startswith("(")
