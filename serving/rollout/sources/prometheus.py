"""Reads raw counters per pod from Prometheus' HTTP API, at one instant for all of them.

Never increase() or rate(): they extrapolate to counts that never happened.
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any

from serving.errors import GateError
from serving.rollout.sources.counters import (
    COUNTED,
    SECONDS,
    START,
    PodCounters,
    Sample,
    read_counters,
)
from serving.rollout.sources.increments import Reading, close_interval
from serving.rollout.sources.source import Arms, Look, Snapshot

TIMEOUT_S = 10.0
POD_LABELS = ("pod", "instance")
"""They name a process together; a scrape configuration sets at least one of them."""


class PrometheusSource:
    """A MetricsSource.

    After an outage of the gate it reads interval by interval what Prometheus has kept.
    """

    def __init__(
        self,
        url: str,
        *,
        step_seconds: float,
        matchers: str = "",
        slow_seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`matchers` is added to every selector, as in `namespace="seatrial"`."""
        if not url.startswith(("http://", "https://")):
            raise GateError(f"Prometheus' address '{url}' is no http:// or https:// URL")
        self._url = url.rstrip("/")
        self._step, self._slow = step_seconds, slow_seconds
        self._matchers = matchers
        self._headers = dict(headers or {})

    def look(self, arms: Arms, since: Snapshot | None, now: float) -> Look:
        """Raises GateError when Prometheus cannot be asked or refuses."""
        # An interval that stays open grows by a step a look.
        at = now if since is None else since.time + self._step * (1 + since.missed)
        at = at if since is None else max(since.time, min(now, at))
        found = close_interval(since, self._read(arms, at, None if since is None else since.time))
        more = since is not None and at + self._step <= now
        return Look(found.counts, found.snapshot, more)

    def _read(self, arms: Arms, at: float, since: float | None) -> Reading:
        roles = arms.labels
        one = f'arm=~"{"|".join(roles)}"'
        alive = self._selector(SECONDS, one, 'le="+Inf"')
        series = self._query(self._selector("", f'__name__=~"{"|".join(COUNTED)}"', one), at)
        scraped = self._query(f"timestamp({alive})", at)
        starts = self._query(
            f"{self._selector(START)} and on ({', '.join(POD_LABELS)}) {alive}", at
        )
        last: dict[str, float] = {}
        for labels, value in scraped:
            last[_pod(labels)] = max(value, last.get(_pod(labels), 0.0))
        pods: dict[str, list[Sample]] = {}
        owner: dict[str, str] = {}
        for labels, value in series:
            pods.setdefault(_pod(labels), []).append((labels["__name__"], labels, value))
            owner[_pod(labels)] = roles[labels["arm"]]
        for labels, value in starts:
            pods.get(_pod(labels), []).append((START, labels, value))
        # Not scraped since the interval began, a pod says nothing about it.
        silent = [pod for pod in pods if since is not None and last.get(pod, at) <= since]
        counters: dict[str, PodCounters] = {
            pod: read_counters(found, owner[pod], self._slow)
            for pod, found in pods.items()
            if pod not in silent
        }
        return Reading(at, counters, silent)

    def _selector(self, name: str, *matchers: str) -> str:
        return f"{name}{{{','.join(filter(None, (*matchers, self._matchers)))}}}"

    def _query(self, query: str, at: float) -> Iterable[tuple[Mapping[str, str], float]]:
        body = urllib.parse.urlencode({"query": query, "time": f"{at:.3f}"}).encode()
        asked = urllib.request.Request(  # noqa: S310 - the scheme is checked above
            f"{self._url}/api/v1/query", data=body, headers=self._headers
        )
        try:
            with urllib.request.urlopen(asked, timeout=TIMEOUT_S) as answer:  # noqa: S310
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise GateError(
                f"Prometheus at {self._url} refuses {query}: {_reason(error)}; correct the source's"
                " settings"
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise GateError(f"Prometheus at {self._url} does not answer: {error}") from None
        rows = [(row["metric"], float(row["value"][1])) for row in found["data"]["result"]]
        return [(labels, value) for labels, value in rows if math.isfinite(value)]


def _pod(labels: Mapping[str, str]) -> str:
    named = "/".join(labels[name] for name in POD_LABELS if labels.get(name))
    if not named:
        raise GateError(
            f"a series of {labels.get('__name__', 'Prometheus')} has none of the labels"
            f" {', '.join(POD_LABELS)}; add one by relabelling, because counters are read per pod"
        )
    return named


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        found: Any = json.load(error)
        return str(found["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}"
