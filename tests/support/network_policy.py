"""NetworkPolicies as a cluster applies them: may this party open a connection to that one?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]
NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Party:
    """A pod with its labels, or without a namespace an address outside the cluster."""

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = "10.0.0.9"


def allowed(
    policies: Iterable[Document], source: Party, target: Party, port: int, protocol: str = "TCP"
) -> bool:
    """Both ends must allow it; an end that no policy of the direction selects allows all."""
    found = list(policies)
    return _end(found, "Egress", (source, target), port, protocol) and _end(
        found, "Ingress", (target, source), port, protocol
    )


def _end(
    policies: list[Document], direction: str, ends: tuple[Party, Party], port: int, protocol: str
) -> bool:
    here, there = ends
    selecting = [p for p in policies if _selects(p, here) and direction in _types(p["spec"])]
    if not selecting:
        return True
    side = "from" if direction == "Ingress" else "to"
    return any(
        _port(rule, port, protocol) and _peers(rule, side, there, policy["metadata"]["namespace"])
        for policy in selecting
        for rule in policy["spec"].get(direction.lower(), [])
    )


def _types(spec: Document) -> list[str]:
    default = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]
    return list(spec.get("policyTypes", default))


def _selects(policy: Document, party: Party) -> bool:
    here = party.namespace == policy["metadata"]["namespace"]
    return here and matches(policy["spec"]["podSelector"], party.labels)


def _port(rule: Document, port: int, protocol: str) -> bool:
    """Without ports a rule is for all of them."""
    ports = rule.get("ports")
    return not ports or any(
        one.get("protocol", "TCP") == protocol
        and ("port" not in one or one["port"] <= port <= one.get("endPort", one["port"]))
        for one in ports
    )


def _peers(rule: Document, side: str, party: Party, namespace: str) -> bool:
    """Without peers a rule is for all of them."""
    peers = rule.get(side)
    return not peers or any(_peer(peer, party, namespace) for peer in peers)


def _peer(peer: Document, party: Party, namespace: str) -> bool:
    if "ipBlock" in peer:
        # Which addresses pods have is the CNI's: blocks are for what is outside.
        return not party.namespace and _within(peer["ipBlock"], party.address)
    if not party.namespace:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], {NAME: party.namespace}):
            return False
    elif party.namespace != namespace:
        return False
    return matches(peer.get("podSelector", {}), party.labels)


def _within(block: Document, address: str) -> bool:
    found = ipaddress.ip_address(address)
    return found in ipaddress.ip_network(block["cidr"]) and not any(
        found in ipaddress.ip_network(one) for one in block.get("except", [])
    )


def matches(selector: Document, labels: Mapping[str, str]) -> bool:
    """The empty selector matches all."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        _expression(one, labels) for one in selector.get("matchExpressions", [])
    )


def _expression(one: Document, labels: Mapping[str, str]) -> bool:
    value = labels.get(one["key"])
    match one["operator"]:
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "In":
            return value in one["values"]
        case "NotIn":
            return value not in one["values"]
    raise ValueError(f"operator {one['operator']}")
