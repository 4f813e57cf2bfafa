"""Peers in the programs: each trains; checkpoints hold what they gathered; evaluation and prediction take them."""

import json
import math
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from detectron2.utils.env import seed_all_rng

from reg_d2.data.catalog import REPOSITORY
from reg_d2.engine import REGTrainer, evaluate_checkpoint
from reg_d2.engine.predictor import Predictor, read_image
from reg_d2.engine.setup import load_config, prepare_data
from reg_d2.modeling.settings import box_loss

from ...engine.conftest import SIZE
from ...tools.loading import load_tool
from .conftest import CONFIGS, PEERS

PROJECT = ["PROJECTS", "['longtail_losses']"]


def prepared(workspace, name, *options):
    """A trainer of the peer on the workspace's data; not by setup, whose look at the machine takes as long as a run."""
    opts = [*workspace[1], "DATASETS.TEST", "()", "SOLVER.MAX_ITER", 2, "SEED", 1, *options]
    cfg = load_config(REPOSITORY / CONFIGS / f"{name}.yaml", [str(x) for x in opts])
    prepare_data(cfg)
    cfg.freeze()
    seed_all_rng(1)
    out = Path(cfg.OUTPUT_DIR)
    out.mkdir(exist_ok=True)
    (out / "config.yaml").write_text(cfg.dump())
    return REGTrainer(cfg)


def trained(workspace, name, *options, resume=False):
    trainer = prepared(workspace, name, *options)
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_trains_on_real_files_and_its_checkpoint_predicts(workspace, tmp_path, name):
    trainer = trained(workspace, name)
    assert trainer.iter == 2
    out = tmp_path / "out"
    cfg = load_config(out / "config.yaml", ["MODEL.WEIGHTS", str(out / "model_final.pth")])
    predictor = Predictor(cfg, 0.0)
    loaded = predictor._model.state_dict()
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, loaded[key]), key
    found = predictor(read_image(tmp_path / "data" / "val" / "1.png"))
    assert len(found) > 0 and ((found.scores >= 0) & (found.scores <= 1)).all()


@pytest.mark.parametrize(
    ("name", "buffers"),
    [
        ("seesaw", ["seen"]),
        ("eqlv2", ["positive_gradient", "negative_gradient"]),
        ("sigmoid_focal", ["foreground_mean"]),
    ],
)
def test_what_was_gathered_is_in_the_checkpoint_and_goes_on(workspace, tmp_path, name, buffers):
    first = trained(workspace, name, "SOLVER.MAX_ITER", 2)
    stored = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)["model"]
    before = {}
    for buffer in buffers:
        before[buffer] = getattr(first.model.roi_heads.box_predictor.box_loss, buffer)
        assert torch.equal(stored[f"roi_heads.box_predictor.box_loss.{buffer}"], before[buffer])
        assert (before[buffer] > 0).all()
    second = trained(workspace, name, "SOLVER.MAX_ITER", 3, resume=True)
    straight = trained(workspace, name, "SOLVER.MAX_ITER", 3, "OUTPUT_DIR", tmp_path / "straight")
    for buffer in buffers:
        after = getattr(second.model.roi_heads.box_predictor.box_loss, buffer)
        assert not torch.equal(after, before[buffer])
        assert torch.equal(after, getattr(straight.model.roi_heads.box_predictor.box_loss, buffer))


@pytest.mark.parametrize(("first", "then"), [("cross_entropy", "eqlv2"), ("seesaw", "cross_entropy")])
def test_a_run_is_not_continued_under_another_box_loss(workspace, first, then):
    prepared(workspace, first, "SOLVER.MAX_ITER", 1).train()
    message = f"was trained with the box loss '{first}', and this run's is '{then}'.*leave --resume out"
    with pytest.raises(ValueError, match=message):
        prepared(workspace, then).resume_or_load(resume=True)


def test_softmax_classifiers_go_on_as_one_another(workspace):
    prepared(workspace, "cross_entropy", "SOLVER.MAX_ITER", 1).train()
    on = prepared(workspace, "inverse_frequency")
    on.resume_or_load(resume=True)
    assert on.start_iter == 1


def test_the_tools_train_evaluate_and_predict_a_peer(workspace, tmp_path, capsys):
    out, data = tmp_path / "out", tmp_path / "data"
    opts = [*workspace[1], "SOLVER.MAX_ITER", "2", "TEST.DETECTIONS_PER_IMAGE", "10"]
    config_file = str(REPOSITORY / CONFIGS / "seesaw.yaml")
    load_tool("train_net").main(Namespace(config_file=config_file, opts=opts, resume=False, eval_only=False))
    results = json.loads((out / "results.json").read_text())
    weights, catalog = str(out / "model_final.pth"), str(tmp_path / "catalog.yaml")
    common = ["--dataset", "tiny_val", "--catalog", catalog, "--bootstrap", "0"]
    again = tmp_path / "again"
    assert load_tool("evaluate").main([*common, "--weights", f"peer={weights}", "--output", str(again)]) == 0
    assert json.loads((again / "results.json").read_text())["runs"]["peer"]["bbox"]["AP"] == results["bbox"]["AP"]
    pictures = ["--input", str(data / "val"), "--output", str(tmp_path / "pictures"), "--score", "0", "--no-pictures"]
    assert load_tool("predict").main(["--weights", weights, *pictures]) == 0
    written = json.loads((tmp_path / "pictures" / "predictions.json").read_text())
    assert written["classes"] == ["sign", "pole"] and any(image["instances"] for image in written["images"])


def test_post_hoc_calibration_of_a_cross_entropy_checkpoint_by_config_alone(workspace, tmp_path):
    out = tmp_path / "out"
    trained(workspace, "cross_entropy")
    weights = ["MODEL.WEIGHTS", str(out / "model_final.pth")]

    def predictor(*options):
        return Predictor(load_config(out / "config.yaml", [*weights, *options]), 0.0)

    plain = predictor()
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    up = logits.exp()
    for options, factors in (
        (["MODEL.REG.PEERS.NORCAL.GAMMA", "0.5"], [8**-0.5, 8**-0.5, 1.0]),  # 8 objects of each of the two classes
        (["MODEL.REG.PEERS.NORCAL.GAMMA", "1.0"], [1 / 8, 1 / 8, 1.0]),
    ):
        calibrated = predictor(*PROJECT, "MODEL.REG.BOX.LOSS", "norcal", *options)
        expected = up * torch.tensor(factors)
        expected = expected / expected.sum(dim=1, keepdim=True)
        torch.testing.assert_close(calibrated._model.roi_heads.box_predictor.box_loss.scores(logits), expected)
        for key, value in plain._model.state_dict().items():
            assert torch.equal(value, calibrated._model.state_dict()[key]), key
    picture = read_image(tmp_path / "data" / "val" / "1.png")
    assert calibrated(picture).scores.max() < plain(picture).scores.max()

    # FRACAL reads where the boxes lie from the training file; where that is missing, the config may say it.
    fracal = predictor(*PROJECT, "MODEL.REG.BOX.LOSS", "fracal")._model.roi_heads.box_predictor.box_loss
    boxes = json.loads((tmp_path / "data" / "train.json").read_text())["annotations"]
    for c, category in enumerate((2, 5)):
        centers = [(x + w / 2, y + h / 2) for x, y, w, h in (b["bbox"] for b in boxes if b["category_id"] == category)]
        cells = {(2 * x // SIZE[0], 2 * y // SIZE[1]) for x, y in centers}
        assert len(centers) == 8
        assert fracal.divisor[c].item() == pytest.approx(max(1.0, math.log2(len(cells))) ** 2, rel=1e-3)
    missing = ["DATASETS.TRAIN", "('no_such_set',)"]
    dimensions = ["MODEL.REG.PEERS.FRACAL.DIMENSIONS", "[1.5, 1.0]"]
    pairs = [dimensions[0], "[[1.5, 0.5], [1.0, 0.05]]"]
    for name, options in (
        *(("fracal", x) for x in (missing, ["DATASETS.TRAIN", "()"], [*missing, *dimensions])),
        *(("fracal_objects", x) for x in (missing, ["DATASETS.TRAIN", "()"])),
    ):
        with pytest.raises(ValueError, match=r"needs the boxes of DATASETS.TRAIN(.|\n)*FRACAL.DIMENSIONS"):
            predictor(*PROJECT, "MODEL.REG.BOX.LOSS", name, *options)
    for name, given, shift in (
        ("fracal", pairs, [0.0, -1.0, 0.0]),
        ("fracal_objects", pairs, [0.0, 0.0, 0.0]),
        ("fracal_objects", dimensions, [0.0, 0.0, 0.0]),
    ):
        calibrated = predictor(*PROJECT, "MODEL.REG.BOX.LOSS", name, *missing, *given)
        loss = calibrated._model.roi_heads.box_predictor.box_loss
        assert loss.divisor.tolist() == pytest.approx([2.25, 1.0, 1.0])
        assert loss.shift.tolist() == pytest.approx(shift, abs=1e-6)


@pytest.mark.parametrize(("name", "expected"), [("fracal", [1.0, 0.25]), ("fracal_objects", [0.8, 0.2])])
def test_fracal_counts_images_or_objects(workspace, tmp_path, name, expected):
    path = tmp_path / "data" / "train.json"
    content = json.loads(path.read_text())
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 2 or a["image_id"] <= 2]
    path.write_text(json.dumps(content))
    cfg = load_config(REPOSITORY / CONFIGS / f"{name}.yaml", workspace[1])
    prepare_data(cfg)
    measured = box_loss(cfg)
    assert (10 ** measured.shift[:2] / 2).tolist() == pytest.approx(expected)
    # Dimensions that are given alone stay, and the shares are measured.
    cfg.MODEL.REG.PEERS.FRACAL.DIMENSIONS = [1.5, 1.0]
    assert torch.equal(box_loss(cfg).shift, measured.shift) and box_loss(cfg).divisor[0] == 2.25


@pytest.fixture
def evaluations(workspace, tmp_path, monkeypatch):
    """Evaluates an untrained checkpoint of a peer under another loss, by the two ways that there are."""
    monkeypatch.setattr(REGTrainer, "test", lambda cfg, model: {})

    def checkpoint(name, *options, record=True):
        prepared(workspace, name, *options).checkpointer.save(name)
        path = tmp_path / "out" / f"{name}.pth"
        stored = torch.load(path, weights_only=True)
        if not record:  # of a version that did not write it
            del stored["classes"]["box_loss"]
            torch.save(stored, path)
        return str(path)

    def ways(weights, loss, *options):
        out = tmp_path / "out"
        opts = [*PROJECT, "MODEL.WEIGHTS", weights, "MODEL.REG.BOX.LOSS", loss, "DATASETS.TEST", "('tiny_val',)"]

        def config():
            return load_config(out / "config.yaml", [*opts, *map(str, options)])

        def train_net():
            cfg = config()
            prepare_data(cfg, evaluate_only=True)
            evaluate_checkpoint(cfg)

        return (lambda: Predictor(config())), train_net

    return checkpoint, ways


POST_HOC = ["norcal", "fracal", "fracal_objects", "logit_adjustment"]
ADJUST_AFTER = ["MODEL.REG.PEERS.LOGIT_ADJUSTMENT.POST_HOC", True]


def test_a_checkpoint_of_another_box_loss_is_refused(evaluations):
    checkpoint, ways = evaluations
    for name in ("ecm", "logit_adjustment", "gumbel"):
        weights = checkpoint(name)
        for loss in ("cross_entropy", *POST_HOC):
            for evaluate in ways(weights, loss, *ADJUST_AFTER):
                message = rf"{name}.pth was trained with the box loss '{name}'.* '{loss}'.*cross_entropy or reg: "
                with pytest.raises(ValueError, match=message):
                    evaluate()
    for evaluate in ways(weights, "ecm"):
        with pytest.raises(ValueError, match=r"'gumbel'.*takes checkpoints of ecm: "):
            evaluate()
    weights = checkpoint("inverse_frequency", "MODEL.REG.BOX.ACTIVATION", "sigmoid")
    for evaluate in ways(weights, "norcal"):
        with pytest.raises(ValueError, match=r"'reg \(sigmoid\)'.*cross_entropy or reg: "):
            evaluate()


def test_checkpoints_of_softmax_classifiers_are_taken(evaluations):
    checkpoint, ways = evaluations
    for name in ("cross_entropy", "inverse_frequency", "norcal"):
        weights = checkpoint(name)
        for loss in ("cross_entropy", "reg", *POST_HOC):
            for evaluate in ways(weights, loss, *ADJUST_AFTER):
                evaluate()
    weights = checkpoint("logit_adjustment", record=False)
    for evaluate in ways(weights, "norcal"):
        evaluate()


def test_weights_that_do_not_fit_are_refused_in_every_evaluation(evaluations, tmp_path):
    checkpoint, ways = evaluations
    weights = checkpoint("gumbel", record=False)
    for evaluate in ways(weights, "norcal"):
        with pytest.raises(ValueError, match=r"gumbel.pth does not fit the config.*cls_score(.|\n)*MODEL.REG.BOX.LOSS"):
            evaluate()
    for key in ("UNCERTAINTY.ENABLED", "REFINEMENT.LEARNED", "PRIMAL_DUAL.ENABLED"):
        on = [f"MODEL.REG.BOX.{key}", True, "MODEL.REG.BOX.REFINEMENT.ENABLED", True]
        weights = checkpoint("inverse_frequency", *on)
        for evaluate in ways(weights, "norcal"):
            with pytest.raises(ValueError, match=r"does not fit.*MODEL.REG.BOX.LOSS that is not the training's own"):
                evaluate()
    # Of another tool's file, without a record, what fits is taken.
    model = torch.load(checkpoint("gumbel"), weights_only=True)["model"]
    torch.save({"model": model}, tmp_path / "foreign.pth")
    ways(str(tmp_path / "foreign.pth"), "norcal")[1]()
