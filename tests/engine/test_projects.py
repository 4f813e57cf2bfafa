"""Projects that a config names: found, imported before the rest is read, and refused with a way out."""

import subprocess
import sys

import pytest

from reg_d2.engine import load_config
from reg_d2.engine.projects import import_project
from reg_d2.modeling.box_loss import BOX_LOSSES, BoxLoss, register_box_loss

from ..models import tiny_model


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A module on the import path, with a key and a loss."""
    (tmp_path / "my_losses.py").write_text(
        "from reg_d2.modeling.box_loss import BoxLoss, register_box_loss\n"
        "def add_config(cfg):\n    cfg.MODEL.REG.MY_KEY = 1.0\n"
        "@register_box_loss('mine')\nclass Mine(BoxLoss):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_losses"
    sys.modules.pop("my_losses", None)
    BOX_LOSSES.pop("mine", None)


def test_a_module_of_one_s_own_adds_keys_and_losses(outside, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"PROJECTS: [{outside}]\nMODEL: {{REG: {{MY_KEY: 2.0, BOX: {{LOSS: mine}}}}}}\n")
    assert load_config(file).MODEL.REG.MY_KEY == 2.0
    (tmp_path / "child.yaml").write_text("_BASE_: mine.yaml\nMODEL: {REG: {MY_KEY: 3.0}}\n")
    assert load_config(tmp_path / "child.yaml").MODEL.REG.MY_KEY == 3.0, "named by the base"
    options = ["PROJECTS", f"['{outside}']", "MODEL.REG.MY_KEY", "4.0", "MODEL.REG.BOX.LOSS", "mine"]
    assert load_config("", options).MODEL.REG.MY_KEY == 4.0
    predictor = tiny_model(*options).roi_heads.box_predictor
    assert type(predictor.box_loss).__name__ == "Mine"
    assert predictor.settings.refinement is None and predictor.loss_state.class_weight is None
    with pytest.raises((KeyError, AssertionError), match="MY_KEY"):
        load_config("", ["MODEL.REG.MY_KEY", "4.0"])


def test_a_project_of_the_repository_is_imported_once():
    project = import_project("longtail_losses")
    assert project.__name__ == "projects.longtail_losses" and import_project("longtail_losses") is project


def test_a_project_is_imported_where_the_repository_is_on_no_path(tmp_path):
    # As in tools: pytest has the repository's root on sys.path, they have not.
    code = "from reg_d2.engine.projects import import_project; print(import_project('longtail_losses').seesaw.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "projects.longtail_losses.seesaw", done.stderr


@pytest.mark.parametrize(
    ("projects", "message"),
    [("['no_such']", "'no_such'.*longtail_losses"), ("['no.such']", "'no.such'"), ("longtail_losses", "list")],
)
def test_what_is_no_project_is_refused(projects, message):
    with pytest.raises(ValueError, match=message):
        load_config("", ["PROJECTS", projects])


def test_an_unknown_loss_points_to_the_projects():
    with pytest.raises(ValueError, match=r"MODEL.REG.BOX.LOSS 'nothing' is unknown.*reg, cross_entropy.*PROJECTS"):
        tiny_model("MODEL.REG.BOX.LOSS", "nothing")
    with pytest.raises(ValueError, match=r"choose one of reg, cross_entropy$"):
        tiny_model("MODEL.REG.MASK.LOSS", "seesaw")


def test_two_losses_of_one_name_are_refused():
    register_box_loss("twice")(BoxLoss)
    try:
        with pytest.raises(ValueError, match="'twice'"):
            register_box_loss("twice")(type("Other", (BoxLoss,), {}))
    finally:
        BOX_LOSSES.pop("twice")
