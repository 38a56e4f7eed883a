"""Settings of the player: everything that is this machine's and never the manifest's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

import serving
from serving.errors import FileError, PlayerError, UsageError

SETTINGS_FILE = "player.yaml"
CHECKOUT = Path(serving.__file__).resolve().parent.parent


def _environments() -> dict[str, Path]:
    return {
        "seatrial/predictor": CHECKOUT / ".venv" / "bin" / "python",
        "seatrial/drift": CHECKOUT / ".venv-drift" / "bin" / "python",
    }


class PlayerSettings(BaseModel):
    """Read from player.yaml; relative paths are relative to its folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gateway_port: Annotated[int, Field(ge=1, le=65535)] = 8080
    """The one address of HTTP and gRPC, on 127.0.0.1."""
    storage: dict[str, Path] = Field(default_factory=dict)
    """storageUri prefix -> folder; the longest prefix that fits a URI wins."""
    environments: dict[str, Path] = Field(default_factory=_environments)
    """Image name without tag -> the Python interpreter that stands for the image."""
    grace_seconds: Annotated[float, Field(gt=0, le=4.5)] = 4.0
    """Time between SIGTERM and SIGKILL; below 5 s so that `down` stays within 5 s."""

    @field_validator("storage", "environments")
    @classmethod
    def _absolute(cls, paths: dict[str, Path], info: ValidationInfo) -> dict[str, Path]:
        base = (info.context or {}).get("base", Path.cwd())
        found = {name: base / path for name, path in paths.items()}
        return {**_environments(), **found} if info.field_name == "environments" else found

    def folder_of(self, uri: str) -> Path:
        """The folder that stands for a storageUri. Raises PlayerError."""
        prefixes = [p for p in self.storage if uri == p.rstrip("/") or uri.startswith(_slash(p))]
        if not prefixes:
            known = ", ".join(sorted(self.storage)) or "none"
            raise PlayerError(
                f"storageUri '{uri}': no folder stands for it (known prefixes: {known}); add its"
                f" prefix to 'storage' in {SETTINGS_FILE}"
            )
        prefix = max(prefixes, key=len)
        root = self.storage[prefix].resolve()
        folder = (root / uri[len(prefix.rstrip("/")) :].lstrip("/")).resolve()
        if not folder.is_relative_to(root):
            raise PlayerError(f"storageUri '{uri}': it leads out of {root}; remove the '..'")
        if not folder.is_dir():
            raise PlayerError(
                f"storageUri '{uri}': no folder {folder}; put the bundle there or correct 'storage'"
                f" in {SETTINGS_FILE}"
            )
        return folder

    def python_of(self, image: str) -> Path:
        """The interpreter that stands for an image. Raises PlayerError."""
        name = image_name(image)
        if name not in self.environments:
            raise PlayerError(
                f"image '{image}': no environment stands for it; add '{name}' to 'environments'"
                f" in {SETTINGS_FILE}"
            )
        python = self.environments[name]
        if not python.exists():
            raise PlayerError(
                f"image '{image}': its environment {python} does not exist; run"
                f" 'make environments' or correct 'environments' in {SETTINGS_FILE}"
            )
        return python


def image_name(image: str) -> str:
    """The name without tag and digest; a port in a registry's name is no tag."""
    name = image.split("@", 1)[0]
    head, _, last = name.rpartition("/")
    return f"{head}/{last.split(':', 1)[0]}" if head else last.split(":", 1)[0]


def load_settings(file: Path) -> PlayerSettings:
    """Reads player.yaml. Raises FileError or UsageError."""
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise FileError(f"{file}: cannot read the player's settings: {reason}") from None
    try:
        return PlayerSettings.model_validate(
            {} if data is None else data, context={"base": file.resolve().parent}
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"{file}: {where}: {first['msg']} (got {first.get('input')!r})") from None


def default_state_dir() -> Path:
    """$SEATRIAL_STATE, else ${XDG_STATE_HOME:-~/.local/state}/seatrial."""
    given = os.environ.get("SEATRIAL_STATE")
    if given:
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "seatrial"


def _slash(prefix: str) -> str:
    return prefix.rstrip("/") + "/"
