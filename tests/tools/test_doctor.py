"""tools/doctor.py: everything is in the report, and what is broken on purpose comes with the line that mends it."""

import importlib.metadata

import pytest
import torch

from reg_d2.engine import doctor

from .loading import load_tool


def wrong(catalog="configs/datasets.yaml"):
    return {line.topic: line for line in doctor.examine(catalog) if line.mend}


def test_the_report_of_this_machine(capsys):
    status = load_tool("doctor").main([])
    out = capsys.readouterr().out
    serious = [line for line in doctor.examine() if line.serious]
    assert status == bool(serious)
    topics = ("torch ", "detectron2 ", "detectron2._C", "CUDA", "GPU", "memory", "shared memory", "NCCL", "data root")
    assert [topic for topic in topics if topic not in out] == []
    assert importlib.metadata.version("torch") in out and importlib.metadata.version("pb1-detectron2") in out


def test_packages_that_are_missing_or_clash(monkeypatch):
    versions = {"detectron2": "0.6", "pb1-detectron2": "0.6", "opencv-python": "5.0"}

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = wrong()
    assert found["torch"].mend == "pip install torch"
    assert "two at once" in found["detectron2"].value
    assert "pip uninstall -y opencv-python" in found["opencv"].mend
    versions.clear()
    assert wrong()["detectron2"].mend == "make setup"


def test_a_gpu_that_torch_does_not_reach(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    printed = {"nvidia-smi": "NVIDIA X, 470.0, 16 GiB", "nvcc": "Cuda compilation tools, release 11.8, V11.8.89"}
    monkeypatch.setattr(doctor, "_output", lambda program, *_: printed[program])
    found = wrong()
    assert "update the driver to one for CUDA 13.0" in found["GPU"].mend
    assert "CUDA 13.0 toolkit" in found["nvcc"].mend
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "install a torch for CUDA" in wrong()["GPU"].mend


def test_shared_memory_of_a_container(monkeypatch):
    usage = type("usage", (), {"total": 64 * 2**20, "free": 2**20})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert "--shm-size 8g" in wrong()["shared memory"].mend


@pytest.mark.parametrize("broken", ["root", "catalogue", "images"])
def test_the_data(tmp_path, monkeypatch, broken):
    monkeypatch.setenv("REG_D2_DATASETS", str(tmp_path / "none" if broken == "root" else tmp_path))
    catalog = tmp_path / "catalog.yaml"
    if broken != "catalogue":
        catalog.write_text("mine: {json: a.json, images: a}\n")
        (tmp_path / "a.json").write_text("{}")
    line = wrong(str(catalog))[{"root": "data root", "catalogue": "catalogue", "images": "mine"}[broken]]
    expected = {"root": "export REG_D2_DATASETS", "catalogue": "--catalog", "images": "put it there"}
    assert expected[broken] in line.mend


def test_a_probe_that_fails_does_not_hide_the_others(monkeypatch):
    monkeypatch.setattr(doctor, "_memory", lambda: 1 / 0)
    lines = doctor.examine()
    assert any("ZeroDivisionError" in line.value for line in lines)
    assert any(line.topic == "data root" for line in lines)
