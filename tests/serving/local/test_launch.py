"""Pure: ports, addresses, images and settings of this machine."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import FileError, PlayerError, UsageError
from serving.local.launch import Place, Storage, check, launches
from serving.local.network import (
    FIRST_PORT,
    NOBODY,
    check_port_free,
    free_ports,
    rewrite_addresses,
    rewrite_args,
    rewrite_env,
)
from serving.local.pods import Arm, Env, plan
from serving.local.settings import PlayerSettings, image_name, load_settings
from tests.serving.local.deploy import MANIFEST
from tests.support.tiny import tiny_bundle

PORTS = {8080: 21001, 8081: 21002, 9095: 21003}


@pytest.mark.parametrize(
    ("args", "moved"),
    [
        (["--http_port=8080"], ("--http_port=21001",)),
        (["--port=9095"], ("--port=21003",)),
        (["--grpc-port", "8081"], ("--grpc-port", "21002")),
        (["--tee_url=http://localhost:9095"], ("--tee_url=http://127.0.0.1:21003",)),
        (["--url", "http://127.0.0.1:8080/v2"], ("--url", "http://127.0.0.1:21001/v2")),
        (["--workers=8080"], ("--workers=8080",)),
        (["--rows", "8080"], ("--rows", "8080")),
        (["--http_port=7000"], ("--http_port=7000",)),
        (["--url=http://db:8080"], ("--url=http://db:8080",)),
    ],
)
def test_flags_and_addresses_of_declared_ports_move(args: list[str], moved: tuple[str]) -> None:
    assert rewrite_args(args, PORTS) == moved


def test_a_port_that_nobody_in_the_pod_declares_reaches_nobody() -> None:
    assert rewrite_addresses("http://localhost:5432/x", PORTS) == f"http://127.0.0.1:{NOBODY}/x"


def test_a_bare_number_in_the_environment_moves_only_as_a_port() -> None:
    assert rewrite_env("SEATRIAL_HTTP_PORT", "8080", PORTS) == "21001"
    assert rewrite_env("ROWS", "8080", PORTS) == "8080"


@given(st.lists(st.text(st.characters(exclude_characters=":"), max_size=30), max_size=6))
def test_args_without_ports_stay_as_they_are(args: list[str]) -> None:
    quiet = [arg for arg in args if not arg.isdigit() and "port=" not in arg]
    assert rewrite_args(quiet, PORTS) == tuple(quiet)


def test_free_ports_are_free_distinct_and_not_those_taken() -> None:
    found = list(islice(free_ports(()), 20))
    assert len(set(found)) == 20
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", found[0]))
        holder.listen()
        with pytest.raises(PlayerError, match=f"port {found[0]} of 127.0.0.1 is taken by"):
            check_port_free(found[0])
    check_port_free(found[0])
    assert min(found) >= FIRST_PORT


@pytest.fixture
def arm() -> Arm:
    return plan(list(yaml.safe_load_all(MANIFEST.read_text()))).stable


def place(folder: Path, **environments: Path) -> Place:
    settings = PlayerSettings(storage={"pvc://bundles": folder}, environments=environments)
    return Place(settings, Storage(folder, None), "seatrial", PORTS, "http://127.0.0.1:5/")


def test_a_container_becomes_a_process_of_its_environment(tmp_path: Path, arm: Arm) -> None:
    [main] = launches(arm, place(tmp_path, **{"seatrial/predictor": Path(sys.executable)}))
    assert main.argv[:3] == (sys.executable, "-m", "serving.predictor")
    assert f"--model_dir={tmp_path}" in main.argv
    assert "--http_port=21001" in main.argv
    assert main.env["SEATRIAL_ARM"] == "isvc.tiny-v1-predictor"
    assert main.env["SEATRIAL_HOST"] == "127.0.0.1"
    assert "K_SINK" not in main.env
    assert main.ports == {8080: 21001, 8081: 21002}
    assert main.probe is not None
    assert main.probe.port == 21001


def test_a_sidecar_is_told_where_its_events_go(tmp_path: Path, arm: Arm) -> None:
    side = replace(arm.containers[0], name="side", image="seatrial/drift:1", args=(), ports=())
    both = replace(arm, containers=(*arm.containers, side))
    _, launch = launches(both, place(tmp_path, **{"seatrial/drift": Path(sys.executable)}))
    assert launch.argv[1:] == ("-m", "serving.drift")
    assert launch.env["K_SINK"] == "http://127.0.0.1:5/"
    assert launch.env["SEATRIAL_DRIFT_PORT"] == "21003"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metadata.namespace", "seatrial"),
        ("status.podIP", "127.0.0.1"),
        ("metadata.labels['component']", "predictor"),
        ("metadata.labels['none']", ""),
    ],
)
def test_the_downward_api_gives_the_pods_fields(
    tmp_path: Path, arm: Arm, field: str, value: str
) -> None:
    main = replace(arm.containers[0], env=(Env("X", field=field), Env("Y", value="[$(X)]")))
    [launch] = launches(replace(arm, containers=(main,)), place(tmp_path))
    assert launch.env["X"] == value
    assert launch.env["Y"] == f"[{value}]"


def test_variables_in_args_are_expanded_as_kubernetes_does(tmp_path: Path, arm: Arm) -> None:
    args = ("--a=$(ROWS)", "--b=$$(ROWS)", "--c=$(NONE)")
    main = replace(arm.containers[0], env=(Env("ROWS", "7"),), args=args)
    [launch] = launches(replace(arm, containers=(main,)), place(tmp_path))
    assert launch.argv[3:] == ("--a=7", "--b=$(ROWS)", "--c=$(NONE)")


def test_refuses_a_field_that_one_machine_has_not(tmp_path: Path, arm: Arm) -> None:
    main = replace(arm.containers[0], env=(Env("X", field="spec.nodeName"),))
    with pytest.raises(PlayerError, match="fieldPath 'spec.nodeName' has no value"):
        launches(replace(arm, containers=(main,)), place(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "other/thing:1"}, "image 'other/thing:1': no environment stands for it"),
        ({"image": "seatrial/gone:1"}, "its environment /nowhere/python does not exist"),
        ({"image": "own/image", "command": ()}, "it has no command and its image is not ours"),
        ({"command": ("tini", "--")}, "its environment has no program 'tini'"),
    ],
)
def test_refuses_an_image_it_cannot_stand_in_for(
    tmp_path: Path, arm: Arm, change: dict[str, Any], message: str
) -> None:
    settings = PlayerSettings(
        environments={
            "seatrial/gone": Path("/nowhere/python"),
            "own/image": Path(sys.executable),
        }
    )
    changed = replace(arm.containers[0], **change)
    with pytest.raises(PlayerError, match=message):
        check(replace(arm, containers=(changed,)), settings)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("seatrial/predictor:0.1.0", "seatrial/predictor"),
        ("registry:5000/seatrial/predictor", "registry:5000/seatrial/predictor"),
        ("registry:5000/a/b:1@sha256:00", "registry:5000/a/b"),
        ("busybox:1", "busybox"),
    ],
)
def test_an_images_name_is_without_tag_and_digest(image: str, name: str) -> None:
    assert image_name(image) == name


def test_the_longest_prefix_gives_the_folder(tmp_path: Path) -> None:
    for name in ("a/x", "b"):
        (tmp_path / name).mkdir(parents=True)
    settings = PlayerSettings(
        storage={"pvc://p/": tmp_path / "a", "pvc://p/special": tmp_path / "b"}
    )
    assert settings.folder_of("pvc://p/x") == tmp_path / "a" / "x"
    assert settings.folder_of("pvc://p/special") == tmp_path / "b"
    for uri, message in (
        ("pvc://q/x", "no folder stands for it \\(known prefixes: pvc://p/, pvc://p/special\\)"),
        ("pvc://p/../b", "it leads out of"),
        ("pvc://p/y", "no folder .*/a/y; put the bundle there"),
        ("pvc://pp/x", "no folder stands for it"),
    ):
        with pytest.raises(PlayerError, match=message):
            settings.folder_of(uri)


def test_a_bundles_digest_is_known_before_it_starts(tmp_path: Path, arm: Arm) -> None:
    bundle = tiny_bundle(tmp_path)
    settings = PlayerSettings(storage={"pvc://bundles/v1": bundle.path})
    assert check(arm, settings) == Storage(bundle.path, bundle.digest)


def test_settings_are_relative_to_their_file(tmp_path: Path) -> None:
    file = tmp_path / "player.yaml"
    file.write_text("gateway_port: 9000\nstorage:\n  pvc://p/: ../bundles\n")
    settings = load_settings(file)
    assert settings.gateway_port == 9000
    assert settings.storage == {"pvc://p/": tmp_path / "../bundles"}
    assert settings.environments.keys() == {"seatrial/predictor", "seatrial/drift"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gateway_prt: 1", "gateway_prt: Extra inputs are not permitted"),
        ("gateway_port: 99999", "gateway_port: .*less than or equal to 65535 .got 99999"),
        ("grace_seconds: 9", "grace_seconds: .*less than or equal to 4.5"),
        ("- 1", "the file: .*valid dictionary"),
    ],
)
def test_refuses_settings_it_does_not_know(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "player.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_settings(file)


def test_refuses_settings_that_are_no_yaml(tmp_path: Path) -> None:
    file = tmp_path / "player.yaml"
    file.write_text("a: [")
    with pytest.raises(FileError, match="cannot read the player's settings"):
        load_settings(file)
