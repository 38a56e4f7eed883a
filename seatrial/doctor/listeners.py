"""Do the overlay's own routes find their listener, and do callers' tokens travel in the clear?"""

from __future__ import annotations

from collections.abc import Iterator

from seatrial.doctor.finding import Finding, broken, fine, limited
from seatrial.doctor.overlay import Overlay
from seatrial.doctor.reader import Object, Reader

API = "/apis/gateway.networking.k8s.io/v1"


def check_listeners(reader: Reader, overlay: Overlay) -> Iterator[Finding]:
    """Each Gateway that a route of the overlay names, with the listener it asks for."""
    wanted: dict[tuple[str, str], set[str]] = {}
    for item in overlay.objects:
        if item["kind"] == "HTTPRoute":
            for parent in item["spec"].get("parentRefs") or ():
                at = (str(parent.get("namespace") or overlay.namespace), str(parent["name"]))
                wanted.setdefault(at, set()).update(filter(None, [parent.get("sectionName")]))
    tokens = any(item["kind"] == "SecurityPolicy" for item in overlay.objects)
    for (namespace, name), sections in wanted.items():
        path = f"{API}/namespaces/{namespace}/gateways/{name}"
        found = reader.find(path)
        if found is None:
            if reader.may(path):
                yield broken(
                    "listeners",
                    f"the overlay's routes are for Gateway {namespace}/{name}, which is not there",
                    "create it, or name yours in the overlay's HTTPRoutes",
                )
            continue
        yield from _listeners(f"{namespace}/{name}", found, sections, tokens=tokens)


def _listeners(
    gateway: str, found: Object, sections: set[str], *, tokens: bool
) -> Iterator[Finding]:
    listeners = {one["name"]: one for one in (found.get("spec") or {}).get("listeners") or ()}
    namespace, _, name = gateway.partition("/")
    mend = f"kubectl -n {namespace} edit gateway {name}  # docs/security.md shows the listener"
    missing = sorted(sections - listeners.keys())
    if missing:
        yield broken(
            "listeners",
            f"Gateway {gateway} has no listener named {', '.join(missing)}, which the overlay's"
            f" routes ask for (there: {', '.join(sorted(listeners)) or 'none'})",
            mend,
        )
        return
    plain = sorted(name for name, one in listeners.items() if one.get("protocol") == "HTTP")
    if tokens and plain:
        yield limited(
            "listeners",
            f"Gateway {gateway} listens in the clear too ({', '.join(plain)}): KServe's routes are"
            " taken there, tokens and all",
            mend,
        )
    else:
        yield fine("listeners", f"Gateway {gateway} has what the overlay's routes ask for")
