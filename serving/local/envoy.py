"""Envoy's configuration as data: the gateway's listener, a cluster per backend, one route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.local.network import LOOPBACK

ADMIN_SOCKET = "envoy-admin.sock"
CLUSTERS_FILE, ROUTES_FILE = "xds/clusters.json", "xds/routes.json"
ARM_HEADER = "x-seatrial-arm"
_TYPE = "type.googleapis.com/envoy."
# Shorter than the 5 s after which uvicorn closes an idle connection: Envoy must be the one that
# closes it, or a request meets a connection that is just being closed and is lost.
_IDLE_TIMEOUT = "2s"


@dataclass(frozen=True)
class Backend:
    """One pod as the gateway sees it; a wire without a port is not offered."""

    key: str
    arm: str
    http: int | None
    grpc: int | None

    def cluster(self, wire: str) -> str:
        return f"{self.key}-{wire}"

    def port(self, wire: str) -> int | None:
        return self.grpc if wire == "grpc" else self.http


def bootstrap(port: int) -> dict[str, Any]:
    """Paths are relative to Envoy's working directory, the state directory."""
    manager = {
        "@type": _TYPE + "extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "gateway",
        "codec_type": "AUTO",
        "use_remote_address": True,
        "server_header_transformation": "PASS_THROUGH",
        "rds": {"route_config_name": "gateway", "config_source": _watched(ROUTES_FILE)},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPE + "extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [
        {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
    ]
    listener = {
        "name": "gateway",
        # With SO_REUSEPORT two gateways could share one port, each with half of the requests.
        "enable_reuse_port": False,
        "address": _address(port),
        "filter_chains": [{"filters": filters}],
    }
    return {
        "node": {"id": "gateway", "cluster": "seatrial"},
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "dynamic_resources": {"cds_config": _watched(CLUSTERS_FILE)},
        "static_resources": {"listeners": [listener]},
    }


def clusters(version: int, backends: Sequence[Backend]) -> dict[str, Any]:
    """The cluster discovery response: one HTTP/1.1 and one HTTP/2 cluster per backend."""
    found = [
        _cluster(backend.cluster(wire), port, wire)
        for backend in backends
        for wire in ("http", "grpc")
        if (port := backend.port(wire)) is not None
    ]
    return {"version_info": str(version), "resources": found}


def routes(
    version: int, weights: Mapping[Backend, int], timeout: float, sticky: str | None = None
) -> dict[str, Any]:
    """The route discovery response: gRPC by its content type, all else HTTP, equal weights.

    With `sticky` the hash of that header chooses the arm. Stable is the first of the weights and
    keeps the lower part of the hashes, so a canary's weight that rises takes users and gives none
    back.
    """
    table = [
        {"match": match, "route": _split(wire, weights, timeout, sticky)}
        for wire, match in (("grpc", {"prefix": "/", "grpc": {}}), ("http", {"prefix": "/"}))
        if any(backend.port(wire) is not None and weight for backend, weight in weights.items())
    ]
    route = {
        "@type": _TYPE + "config.route.v3.RouteConfiguration",
        "name": "gateway",
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": table}],
    }
    return {"version_info": str(version), "resources": [route]}


def _split(
    wire: str, weights: Mapping[Backend, int], timeout: float, sticky: str | None
) -> dict[str, Any]:
    # A request without the header has no hash, and Envoy draws its arm.
    hashed = {"hash_policy": [{"header": {"header_name": sticky}}]} if sticky else {}
    return {
        **hashed,
        "timeout": f"{timeout:g}s",
        # Both mean that the request never reached a model, so it is safe to send it again.
        "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
        "weighted_clusters": {
            **({"use_hash_policy": True} if sticky else {}),
            "clusters": [
                {
                    "name": backend.cluster(wire),
                    "weight": weight,
                    "response_headers_to_add": [
                        {
                            "header": {"key": ARM_HEADER, "value": backend.arm},
                            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                        }
                    ],
                }
                for backend, weight in weights.items()
                if weight and backend.port(wire) is not None
            ],
        },
    }


def _cluster(name: str, port: int, wire: str) -> dict[str, Any]:
    protocol = "http2_protocol_options" if wire == "grpc" else "http_protocol_options"
    options = {
        "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {protocol: {}},
        "common_http_protocol_options": {"idle_timeout": _IDLE_TIMEOUT},
    }
    endpoint = {"endpoint": {"address": _address(port)}}
    limits = {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000}
    return {
        "@type": _TYPE + "config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _watched(path: str) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}
