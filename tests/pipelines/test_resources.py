from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from pipelines.resources import TARGET, compiled, files, resources, version_of, write
from pipelines.upload import main, upload


def test_the_committed_resources_are_those_of_the_compiled_pipelines() -> None:
    assert write(TARGET, check=True) == [], "run python -m pipelines.resources"


def test_another_ir_is_another_version_and_the_old_one_goes(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(compiled()["train"].read_text())
    before = version_of(file)
    assert resources(file)["pipelineversion-train.yaml"]["metadata"]["name"] == before
    file.write_text(file.read_text().replace("Trains a model", "Trains another model"))
    assert version_of(file) != before


def test_a_platform_document_of_the_ir_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text("pipelineInfo: {name: two}\n---\nplatforms: {kubernetes: {}}\n")
    spec = resources(file)["pipelineversion-two.yaml"]["spec"]
    assert spec["platformSpec"] == {"platforms": {"kubernetes": {}}}


def test_stale_files_are_named_then_written(tmp_path: Path) -> None:
    (tmp_path / "pipeline-gone.yaml").write_text("old\n")
    stale = {file.name for file in write(tmp_path, check=True)}
    assert stale == {"pipeline-gone.yaml", *files()}
    write(tmp_path, check=False)
    assert write(tmp_path, check=True) == []
    listed = yaml.safe_load((tmp_path / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(f.name for f in tmp_path.glob("pipeline*.yaml"))


def test_each_ir_is_named_as_its_file() -> None:
    for name, file in compiled().items():
        assert next(yaml.safe_load_all(file.read_text()))["pipelineInfo"]["name"] == name


@dataclass
class Version:
    display_name: str


@dataclass
class Page:
    pipeline_versions: list[Version] | None
    next_page_token: str = ""


@dataclass
class Pipeline:
    pipeline_id: str


@dataclass
class Kfp:
    """As kfp.Client answers; one version a page."""

    pipelines: dict[str, list[str]] = field(default_factory=dict)

    def get_pipeline_id(self, name: str) -> str | None:
        return name if name in self.pipelines else None

    def upload_pipeline(self, file: str, *, pipeline_name: str) -> Pipeline:
        assert Path(file).is_file()
        self.pipelines[pipeline_name] = [pipeline_name]
        return Pipeline(pipeline_name)

    def upload_pipeline_version(self, file: str, name: str, *, pipeline_id: str) -> None:
        assert Path(file).is_file()
        assert name not in self.pipelines[pipeline_id]
        self.pipelines[pipeline_id].append(name)

    def list_pipeline_versions(self, pipeline: str, *, page_token: str, page_size: int) -> Page:
        assert page_size
        names = self.pipelines[pipeline]
        at = int(page_token or 0)
        return Page([Version(names[at])], str(at + 1) if at + 1 < len(names) else "")


def test_what_is_uploaded_once_is_left_alone_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    kfp = Kfp()
    assert main(["--url", "http://kfp"], lambda _: kfp) == 0
    there = {name: list(versions) for name, versions in kfp.pipelines.items()}
    assert there["train"] == ["train", version_of(compiled()["train"])]
    assert main(["--url", "http://kfp"], lambda _: kfp) == 0
    assert kfp.pipelines == there
    assert capsys.readouterr().out.splitlines()[-1].endswith("is there")


def test_a_new_version_joins_the_pipeline_that_is_there() -> None:
    kfp = Kfp({"train": ["train", "train-0000000000"]})
    assert upload(kfp, "train", compiled()["train"]).endswith("uploaded")
    assert len(kfp.pipelines["train"]) == 3


def test_without_an_address_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "give --url" in capsys.readouterr().err
