"""One gate at a time in a cluster: a coordination.k8s.io Lease, written by compare-and-swap."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable

from serving.errors import GateError
from serving.rollout.actuators.cluster import ApiError, Cluster
from serving.rollout.documents import Document
from serving.rollout.run.lease import identity

SECONDS = 60


class ClusterLease:
    """A Lease. Clocks of machines are never compared: a holder that does not renew for the
    lease's duration, as seen from here, is dead."""

    def __init__(
        self,
        cluster: Cluster,
        service: str,
        namespace: str,
        *,
        me: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._cluster, self._sleep = cluster, sleep
        self._me = me or identity()
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name, self._namespace = f"seatrial-gate-{service}", namespace
        self._held: Document | None = None

    def take(self) -> None:
        """Waits at most one lease duration for a dead holder's lease to run out."""
        found = self._cluster.find(f"{self._folder}/{self._name}")
        if found is not None and found["spec"].get("holderIdentity") not in (None, "", self._me):
            seconds = float(found["spec"].get("leaseDurationSeconds", SECONDS))
            waited = 0.0
            while waited < seconds:
                self._sleep(1.0)
                waited += 1.0
                now = self._cluster.get(f"{self._folder}/{self._name}")
                if not now["spec"].get("holderIdentity"):
                    break
                if now["spec"].get("renewTime") != found["spec"].get("renewTime"):
                    raise self._taken(now)
            found = self._cluster.get(f"{self._folder}/{self._name}")
        try:
            self._held = self._write(found)
        except ApiError as error:
            if error.status == 409:
                raise self._taken(self._cluster.get(f"{self._folder}/{self._name}")) from None
            raise

    def renew(self) -> None:
        if self._held is None:
            raise GateError(f"Lease {self._name}: not held")
        try:
            self._held = self._write(self._held)
        except ApiError as error:
            if error.status in (404, 409):
                self._held = None
                raise GateError(
                    f"Lease {self._name}: lost to another gate; this one ends"
                ) from None
            raise

    def release(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            spec = {**held["spec"], "holderIdentity": ""}
            self._cluster.replace(f"{self._folder}/{self._name}", {**held, "spec": spec})

    def _write(self, before: Document | None) -> Document:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._me, "leaseDurationSeconds": SECONDS, "renewTime": now}
        if before is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
            document = {**kind, "metadata": metadata, "spec": {**spec, "acquireTime": now}}
            return self._cluster.create(self._folder, document)
        document = {**before, "spec": {**before["spec"], **spec}}
        return self._cluster.replace(f"{self._folder}/{self._name}", document)

    def _taken(self, found: Document) -> GateError:
        return GateError(
            f"Lease {self._name}: held by {found['spec'].get('holderIdentity')}; only one gate may"
            " act on a rollout: let it end, or end it"
        )
