"""Converted torchvision weights give torchvision's features in Detectron2's backbone."""

import importlib.util
import pickle
from pathlib import Path

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone

import reg_d2  # noqa: F401
from reg_d2.engine import load_config

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("convert_torchvision", ROOT / "tools/convert_torchvision.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

MODELS = {
    "resnet18": ("configs/REG-A-R18.yaml", []),
    "resnet34": ("configs/REG-B-R34.yaml", []),
    "resnet50": ("configs/REG-C-R50.yaml", []),
    "resnext50_32x4d": ("configs/REG-C-R50.yaml", ["MODEL.RESNETS.NUM_GROUPS", 32, "MODEL.RESNETS.WIDTH_PER_GROUP", 4]),
}


def random_resnet(name):
    """A torchvision model whose running statistics and affine parameters all matter, in eval mode."""
    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.3, 0.8),
                (module.bias, -0.1, 0.1),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                tensor.data.uniform_(low, high)
    return model.eval()


def torchvision_features(model, x):
    x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = layer(x)
    return x


@pytest.mark.parametrize("name", MODELS)
def test_same_features(name, tmp_path, capsys):
    model = random_resnet(name)
    torch.save(model.state_dict(), tmp_path / "in.pth")
    assert tool.main([str(tmp_path / "in.pth"), str(tmp_path / "new/out.pkl")]) == 0
    config, opts = MODELS[name]
    cfg = load_config(ROOT / config, opts)
    said = capsys.readouterr().out
    for key in ("DEPTH", "NUM_GROUPS", "WIDTH_PER_GROUP"):
        assert f"MODEL.RESNETS.{key}" not in said or f"MODEL.RESNETS.{key} {cfg.MODEL.RESNETS[key]}" in said
    assert f"MODEL.RESNETS.DEPTH {cfg.MODEL.RESNETS.DEPTH}" in said

    backbone = build_resnet_backbone(cfg, ShapeSpec(channels=3)).eval()
    # A level above the backbone, as in a detector: names are matched by their ends.
    wrapper = torch.nn.ModuleDict({"bottom_up": backbone})
    incompatible = DetectionCheckpointer(wrapper)._load_model(
        DetectionCheckpointer(wrapper)._load_file(str(tmp_path / "new/out.pkl"))
    )
    assert not incompatible.missing_keys and not incompatible.unexpected_keys
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected, got = torchvision_features(model, x), backbone(x)["res5"]
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_wrapped_checkpoints(tmp_path):
    state = random_resnet("resnet18").state_dict()
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "in.pth")
    assert tool.main([str(tmp_path / "in.pth"), str(tmp_path / "out.pkl")]) == 0
    content = pickle.loads((tmp_path / "out.pkl").read_bytes())
    assert content["__author__"] == "torchvision" and content["matching_heuristics"] is True
    assert len(content["model"]) == len(state) - 2  # without fc
    assert (content["model"]["res3.0.shortcut.norm.weight"] == state["layer2.0.downsample.1.weight"].numpy()).all()


def write_text(path):
    path.write_text("no checkpoint\n")


def write_tensor(path):
    torch.save(torch.zeros(3), path)


def write_other_model(path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)).state_dict(), path)


def write_three_stages(path):
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save({k: v for k, v in state.items() if not k.startswith("layer4")}, path)


def write_object(path):
    torch.save({"model": Path("code that must not run")}, path)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (None, "in.pth"),
        (write_text, "not a file of tensors"),
        (write_tensor, "no state_dict"),
        (write_other_model, "'0.weight' is no tensor of a torchvision ResNet"),
        (write_three_stages, "(2, 2, 2, 0) basic blocks"),
        (write_object, "not a file of tensors"),
    ],
)
def test_wrong_input(write, says, tmp_path, capsys):
    if write is not None:
        write(tmp_path / "in.pth")
    assert tool.main([str(tmp_path / "in.pth"), str(tmp_path / "out.pkl")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error
    assert not (tmp_path / "out.pkl").exists()


def test_wrong_output_name(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        tool.main([str(tmp_path / "in.pth"), str(tmp_path / "out.pth")])
    assert exit_.value.code == 2
    assert ".pkl" in capsys.readouterr().err
