"""From a pod to the processes that play it: argument vectors, environments, ports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.bundle import open_bundle
from serving.bundle.folder import INDEX
from serving.errors import PlayerError
from serving.local.network import LOOPBACK, rewrite_args, rewrite_env
from serving.local.pods import MODEL_CONTAINER, Arm, Container, Env, Probe
from serving.local.settings import PlayerSettings, image_name

MODEL_FOLDER = "/mnt/models"
# Of the caller's environment only this is passed on: a container sees none of it either.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


@dataclass(frozen=True)
class Image:
    """What the image itself brings: an entry point and the defaults that name ports."""

    entrypoint: tuple[str, ...]
    env: tuple[Env, ...]


IMAGES = {
    "seatrial/predictor": Image(
        ("python", "-m", "serving.predictor"),
        (
            Env("SEATRIAL_HTTP_PORT", "8080"),
            Env("SEATRIAL_GRPC_PORT", "8081"),
            Env("SEATRIAL_TEE_URL", "http://localhost:9095"),
        ),
    ),
    "seatrial/drift": Image(
        ("python", "-m", "serving.drift"), (Env("SEATRIAL_DRIFT_PORT", "9095"),)
    ),
}


@dataclass(frozen=True)
class Launch:
    """One container as a process."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ports: Mapping[int, int]
    """Declared port -> port on 127.0.0.1."""
    probe: Probe | None
    """Already on the allocated port."""


@dataclass(frozen=True)
class Storage:
    """Where an arm's model lies, and the bundle's digest if it is a bundle."""

    folder: Path
    digest: str | None


def check(arm: Arm, settings: PlayerSettings) -> Storage:
    """All that can be known before a process starts. Raises PlayerError or BundleError."""
    for container in arm.containers:
        _argv(container, settings, {})
    folder = settings.folder_of(arm.storage_uri)
    digest = open_bundle(folder).digest if (folder / INDEX).exists() else None
    return Storage(folder, digest)


@dataclass(frozen=True)
class Place:
    """What this machine gives to a pod."""

    settings: PlayerSettings
    storage: Storage
    namespace: str
    ports: Mapping[int, int]
    """Every declared port of the pod -> a free port of 127.0.0.1."""
    sink: str
    """URL that takes the sidecars' events."""


def launches(arm: Arm, place: Place) -> tuple[Launch, ...]:
    """The pod's processes. Raises PlayerError."""
    return tuple(_launch(container, arm, place) for container in arm.containers)


def _launch(container: Container, arm: Arm, place: Place) -> Launch:
    ports, folder = place.ports, str(place.storage.folder)
    image = _image(container.image)
    env: dict[str, str] = {}
    for entry in (*(image.env if image else ()), *container.env):
        value = entry.value
        if entry.field is not None:
            value = downward(entry.field, arm, place.namespace, container.name)
        value = _expand(value, env).replace(MODEL_FOLDER, folder)
        env[entry.name] = rewrite_env(entry.name, value, ports)
    argv = _argv(container, place.settings, env)
    moved = rewrite_args([arg.replace(MODEL_FOLDER, folder) for arg in argv], ports)
    env["SEATRIAL_HOST"] = LOOPBACK
    if container.name != MODEL_CONTAINER:
        env["K_SINK"] = place.sink
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    probe = container.probe
    if probe is not None:
        number = ports.get(probe.port, probe.port)
        probe = Probe(number, probe.path, probe.period, probe.timeout, probe.failures)
    return Launch(
        name=container.name,
        argv=moved,
        env={**inherited, "PYTHONUNBUFFERED": "1", **env},
        ports={port.number: ports[port.number] for port in container.ports},
        probe=probe,
    )


def downward(path: str, arm: Arm, namespace: str, container: str) -> str:
    """A field as the downward API gives it. Raises PlayerError for one that it has not."""
    if path == "metadata.name":
        return f"{arm.service}-{arm.template}"
    if path == "metadata.namespace":
        return namespace
    if path in ("status.podIP", "status.hostIP"):
        return LOOPBACK
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if keyed:
        found = arm.labels if keyed[1] == "labels" else arm.annotations
        return found.get(keyed[2], "")
    raise PlayerError(
        f"predictor '{arm.name}', container '{container}': fieldPath '{path}' has no value on one"
        " machine; use metadata.name, metadata.namespace, metadata.labels['…'] or status.podIP"
    )


def _image(name: str) -> Image | None:
    short = "/".join(image_name(name).split("/")[-2:])
    return IMAGES.get(short)


def _argv(container: Container, settings: PlayerSettings, env: Mapping[str, str]) -> list[str]:
    """The command with its first word looked up beside the environment's interpreter."""
    python = settings.python_of(container.image)
    image = _image(container.image)
    command = container.command or (image.entrypoint if image else ())
    where = f"container '{container.name}', image '{container.image}'"
    if not command:
        raise PlayerError(f"{where}: it has no command and its image is not ours; add 'command'")
    first = Path(command[0]).name
    program = python if first in ("python", "python3") else python.parent / first
    if not program.exists():
        raise PlayerError(f"{where}: its environment has no program '{first}' in {python.parent}")
    words: Iterable[str] = (*command[1:], *container.args)
    return [str(program), *(_expand(word, env) for word in words)]


_VARIABLE = re.compile(r"\$\$|\$\((\w+)\)")


def _expand(text: str, env: Mapping[str, str]) -> str:
    """Kubernetes' $(NAME); an unknown name stays as it is, $$ is one dollar."""
    return _VARIABLE.sub(lambda m: "$" if m[1] is None else env.get(m[1], m[0]), text)
