"""tools/train_net.py and the trainer, end to end on very small data."""

import json
import logging
import os
import runpy
import sys
from pathlib import Path

import pytest
import torch

from reg_d2.data.catalog import REPOSITORY
from reg_d2.data.coco import ClassMismatchError
from reg_d2.engine import REGTrainer, evaluate_checkpoint
from reg_d2.engine.trainer import NonFiniteLossError

from ..modeling.test_switches import ALL
from .conftest import CATEGORIES, write_split
from .running import command, configure, run, trainer


def test_training_evaluates_and_a_second_run_evaluates_the_checkpoint_alike(workspace, tmp_path):
    done = run(workspace, options=["SOLVER.MAX_ITER", 20])
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    results = json.loads((out / "results.json").read_text())
    assert "Table 1" in (out / "report.html").read_text(encoding="utf-8")
    assert set(results) == {"bbox", "segm", "segm_boxes"}
    assert set(results["bbox"]["per_class"]) == {"sign", "pole"}
    assert set(results["segm"]["per_class"]) == {"sign"}, "masks are evaluated over the classes that have some"
    for task in ("bbox", "segm"):
        assert {"AP", "AP50", "precision", "recall", "f1", "confidence"} <= set(results[task])
    assert "Table 1." in done.stdout
    assert "iter: 19" in (out / "log.txt").read_text(), "plain lines of losses go to the log file"
    weights = torch.load(out / "model_final.pth", weights_only=True)
    assert weights["classes"]["names"] == ["sign", "pole"]
    assert weights["classes"]["mask_counts"] == [8, 0]

    # Without the training set: the classes come from the checkpoint.
    options = ["DATASETS.TRAIN", "('no_such_set',)", "OUTPUT_DIR", tmp_path / "again", "TEST.REPORT", False]
    again = run(workspace, "--eval-only", options=[*options, "MODEL.WEIGHTS", out / "model_final.pth"])
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "again" / "results.json").read_text()) == results


def test_resume_goes_on_with_model_optimizer_scheduler_and_our_state(workspace):
    sigmoid = ["MODEL.REG.BOX.ACTIVATION", "sigmoid", "MODEL.REG.LAMBDA.LEARNED", True]
    first = trainer(workspace, *sigmoid, "SOLVER.MAX_ITER", 2)
    first.train()
    second = trainer(workspace, *sigmoid, resume=True)
    assert second.start_iter == 2
    assert second.scheduler.last_epoch == first.scheduler.last_epoch == 2
    for (name, a), b in zip(first.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert second.model.roi_heads.box_predictor.foreground_mean > 0
    momentum = [state["momentum_buffer"] for state in second.optimizer.state.values()]
    assert momentum
    assert all(
        torch.equal(a["momentum_buffer"], b) for a, b in zip(first.optimizer.state.values(), momentum, strict=True)
    )
    second.train()
    assert second.checkpointer.get_checkpoint_file().endswith("model_final.pth")
    finished = trainer(workspace, *sigmoid, resume=True)
    assert finished.start_iter == finished.max_iter == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_ten_steps_and_ten_resumed_ones_are_twenty_to_the_bit(workspace, tmp_path, workers):
    options = ["SEED", 3, "DATALOADER.NUM_WORKERS", workers, "SOLVER.CHECKPOINT_PERIOD", 10, "SOLVER.WARMUP_ITERS", 5]
    options += [*ALL, "SOLVER.STEPS", "(8,15)", "INPUT.MIN_SIZE_TRAIN", "(48,64)", "TEST.EVAL_PERIOD", 0]
    straight = trainer(workspace, *options, "SOLVER.MAX_ITER", 20, "OUTPUT_DIR", tmp_path / "straight")
    straight.train()
    cut = trainer(workspace, *options, "SOLVER.MAX_ITER", 20)
    # Killed in step 14: what was done since the last checkpoint is lost.
    cut.model.register_forward_pre_hook(lambda *_: 1 / 0 if cut.iter == 13 else None)
    with pytest.raises(ZeroDivisionError):
        cut.train()
    resumed = trainer(workspace, *options, "SOLVER.MAX_ITER", 20, resume=True)
    assert resumed.start_iter == 10
    resumed.train()
    for (name, a), b in zip(straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    box = resumed.model.roi_heads.box_predictor
    assert (box.loss_state.balance.multipliers != 0).any()
    assert (box.cls_score.weight.norm(dim=1) - 1).abs().max() < 1e-6


def test_a_checkpoint_is_whole_or_not_there(workspace, tmp_path, monkeypatch):
    """The disk is full, or the run killed, in the last write of all: the one after the last step's own checkpoint."""
    out, save = tmp_path / "out", torch.save

    def cut_short(content, file):
        save(content, file)
        if Path(file).name.startswith("model_final"):
            os.truncate(file, 7)
            raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(OSError, match="no space left"):
        trainer(workspace).train()
    monkeypatch.undo()
    monkeypatch.setenv("REG_D2_DATASETS", str(tmp_path / "data"))
    assert sorted(path.name for path in out.glob("model_*")) == ["model_0000001.pth", "model_0000003.pth"]
    assert (out / "last_checkpoint").read_text() == "model_0000003.pth"
    # The same command writes it, without another step.
    resumed = trainer(workspace, resume=True)
    assert resumed.start_iter == resumed.max_iter == 4
    final, last = (torch.load(out / f"model_{x}.pth", weights_only=True) for x in ("final", "0000003"))
    assert all(torch.equal(value, last["model"][key]) for key, value in final["model"].items())
    assert final["trainer"]["iteration"] == last["trainer"]["iteration"] == 3
    assert trainer(workspace, "SOLVER.MAX_ITER", 6, resume=True).start_iter == 4, "and it can be trained further"


def test_resuming_under_other_switches_names_the_way_out(workspace):
    trainer(workspace, "SOLVER.MAX_ITER", 2).train()
    with pytest.raises(ValueError, match=r"optimiser does not fit this config(.|\n)*MODEL.WEIGHTS"):
        trainer(workspace, "MODEL.REG.BOX.UNCERTAINTY.ENABLED", True, resume=True)


def test_a_loss_that_is_not_finite_names_images_losses_and_rate(workspace):
    t = trainer(workspace, "SOLVER.CHECKPOINT_PERIOD", 1)
    broken = t.model.roi_heads.box_predictor.cls_score.weight

    def poison(*_):
        if t.iter == 2:
            with torch.no_grad():
                broken.fill_(float("nan"))

    t.model.register_forward_pre_hook(poison)
    with pytest.raises(
        NonFiniteLossError, match=r"iteration 2.*loss_cls nan(.|\n)*train/\d\.png(.|\n)*learning rate: 0.001"
    ):
        t.train()
    kept = torch.load(t.checkpointer.get_checkpoint_file(), weights_only=True)
    assert kept["iteration"] == 1
    assert all(torch.isfinite(v).all() for v in kept["model"].values())


def test_other_classes_are_refused_at_evaluation_and_at_resume(workspace, tmp_path):
    trainer(workspace, "SOLVER.MAX_ITER", 2).train()
    weights = str(tmp_path / "out" / "model_final.pth")
    write_split(tmp_path / "data" / "o", "other", 2, categories=((1, "sign"), (2, "bus stop")))
    os.rename(tmp_path / "data" / "o" / "other.json", tmp_path / "data" / "other.json")
    with pytest.raises(ClassMismatchError, match="bus stop"):
        configure(workspace, "MODEL.WEIGHTS", weights, "DATASETS.TEST", "('other_val',)", eval_only=True)
    content = json.loads((tmp_path / "data" / "train.json").read_text())
    ids = dict(zip((i for i, _ in CATEGORIES), (5, 2), strict=True))
    for entry in content["categories"]:
        entry["id"] = ids[entry["id"]]
    for entry in content["annotations"]:
        entry["category_id"] = ids[entry["category_id"]]
    (tmp_path / "data" / "train.json").write_text(json.dumps(content))
    with pytest.raises(ClassMismatchError, match="another order"):
        trainer(workspace, resume=True)


def test_evaluating_random_weights_is_defined(workspace, tmp_path):
    cfg = configure(workspace, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.1)
    t = REGTrainer(cfg)
    t.checkpointer.save("empty")
    cfg = configure(
        workspace,
        *("MODEL.WEIGHTS", tmp_path / "out" / "empty.pth", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.1),
        eval_only=True,
    )
    flat = evaluate_checkpoint(cfg)
    assert flat["bbox"]["AP"] == 0.0
    assert flat["segm"]["AP"] == 0.0


@pytest.mark.parametrize(
    ("flags", "options", "message"),
    [
        (["--config-file", "configs/absent.yaml"], [], "configs/absent.yaml does not exist"),
        ([], ["SOLVER.NO_SUCH_KEY", 1], "NO_SUCH_KEY"),
        ([], ["DATASETS.TEST", "('tiny_vall',)"], "Did you mean 'tiny_val'"),
        ([], ["MODEL.REG.BOX.LOSS", "hinge"], "choose one of reg, cross_entropy"),
        (["--eval-only"], ["MODEL.WEIGHTS", "absent.pth"], "needs a trained checkpoint"),
        (["--num-gpus", "0"], [], "--num-gpus 0"),
    ],
)
def test_wrong_input_ends_in_one_line(workspace, flags, options, message, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(sys, "argv", command(workspace, *flags, options=options)[1:])
    # Loggers of an earlier test in this process still write to its closed output; that is not what is tested.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path("tools/train_net.py", run_name="__main__")
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_train_net_is_short():
    assert len(Path(REPOSITORY / "tools" / "train_net.py").read_text().splitlines()) < 100
