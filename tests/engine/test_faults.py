"""Faults that are made on purpose: weights that are not finite, no predictions, empty workers, a hang, no memory."""

import json
import logging
import subprocess
import sys
from itertools import islice

import numpy as np
import psutil
import pytest
import torch
from detectron2.utils.events import EventStorage

from reg_d2.data import memory
from reg_d2.data.catalog import REPOSITORY
from reg_d2.engine import REGTrainer, evaluate_checkpoint, launch, load_config, setup
from reg_d2.engine.nonfinite import NonFiniteLossError
from reg_d2.optim import build_optimizer

from ..data.test_loader import begun, tell
from ..models import batch, tiny_config, tiny_model
from .running import configure, trainer


@pytest.fixture
def lines(monkeypatch, caplog):
    """What reg_d2 logs."""
    monkeypatch.setattr(logging.getLogger("reg_d2"), "propagate", True)
    caplog.set_level(logging.INFO, logger="reg_d2")
    # Setting up a run would stop the propagation again.
    module = sys.modules[setup.__module__]
    monkeypatch.setattr(module, "setup_logger", lambda *a, **k: logging.getLogger("detectron2"))
    return caplog


@pytest.mark.parametrize("part", ["proposal_generator.rpn_head.objectness_logits", "roi_heads.box_predictor.cls_score"])
def test_weights_that_are_not_finite_leave_the_batch_behind(workspace, tmp_path, part):
    t = trainer(workspace)
    weight = t.model.get_parameter(f"{part}.weight")
    seen = {}

    def poison(_, inputs):
        if t.iter == 2:
            seen["batch"] = inputs[0]
            with torch.no_grad():
                weight.fill_(float("nan"))

    t.model.register_forward_pre_hook(poison)
    message = r"not finite at iteration 2(.|\n)*train/\d\.png(.|\n)*nonfinite_2.json"
    with pytest.raises(NonFiniteLossError, match=message):
        t.train()
    record = json.loads((tmp_path / "out" / "nonfinite_2.json").read_text())
    assert record["learning_rates"] == [0.001]
    if part.startswith("roi_heads"):
        assert record["losses"]["loss_cls"] == "nan" and record["losses"]["loss_rpn_loc"] >= 0
    else:
        assert "Inf/NaN" in record["cause"], "Detectron2 stops before any loss is there"
    assert len(record["images"]) == 2
    for found, given in zip(record["images"], seen["batch"], strict=True):
        assert found["file_name"] == given["file_name"]
        np.testing.assert_allclose(found["boxes"], given["instances"].gt_boxes.tensor.numpy(), rtol=1e-5)
        assert found["classes"] == [0, 1]


def test_the_learning_rate_of_eight_workers_is_scaled_to_one_and_printed(workspace, lines):
    reference = ["SOLVER.REFERENCE_WORLD_SIZE", 8, "SOLVER.IMS_PER_BATCH", 16, "SOLVER.BASE_LR", 0.02]
    t = trainer(workspace, *reference, "SOLVER.WARMUP_ITERS", 100, "SOLVER.MAX_ITER", 500)
    solver = t.cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.WARMUP_ITERS, solver.MAX_ITER) == (2, 0.0025, 800, 4000)
    assert "Made for 8 workers" in lines.text
    assert "IMS_PER_BATCH 16 -> 2, BASE_LR 0.02 -> 0.0025, WARMUP_ITERS 100 -> 800, MAX_ITER 500 -> 4000" in lines.text


def test_gradients_are_clipped_by_default():
    assert all(
        load_config(path).SOLVER.CLIP_GRADIENTS.ENABLED
        for path in (REPOSITORY / "configs").rglob("*.yaml")
        if path.name != "datasets.yaml" and path.parent.name != "studies"
    )
    cfg = tiny_config("SOLVER.BASE_LR", 0.1, "SOLVER.WEIGHT_DECAY", 0.0, "SOLVER.WEIGHT_DECAY_NORM", 0.0)
    model = tiny_model()
    optimizer = build_optimizer(cfg, model)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.full_like(p, 1e6)
    optimizer.step()
    moved = [(p.detach() - q).norm().item() for p, q in zip(model.parameters(), before, strict=True)]
    assert max(moved) == pytest.approx(0.1 * 5.0, rel=0.002)


@pytest.mark.parametrize("cause", ["threshold", "no ground truth"])
def test_an_evaluation_without_predictions_says_why(workspace, tmp_path, lines, cause):
    if cause == "no ground truth":
        path = tmp_path / "data" / "val.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    threshold = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.1)
    t = REGTrainer(configure(workspace, *threshold))
    t.checkpointer.save("empty")
    cfg = configure(workspace, *threshold, "MODEL.WEIGHTS", tmp_path / "out" / "empty.pth", eval_only=True)
    flat = evaluate_checkpoint(cfg)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    tables = next(r.getMessage() for r in lines.records if "Table 1" in r.getMessage())
    if cause == "threshold":
        assert flat["bbox"]["AP"] == results["bbox"]["AP"] == 0.0 and results["bbox"]["AP50"] == 0.0
        assert "no predictions, so AP is 0" in lines.text
        assert "MODEL.WEIGHTS" in lines.text and "MODEL.ROI_HEADS.SCORE_THRESH_TEST" in lines.text
        # All objects are small: there is nothing to measure large ones on.
        assert results["bbox"]["APl"] is None
    else:
        assert results["bbox"]["AP"] is None and results["bbox"]["per_class"]["sign"]["AP"] is None
        assert "no ground truth" in lines.text and "n/a" in tables
    # Without the folder's name, which ends in a number of pytest's.
    tables = tables.replace(str(tmp_path), "")
    assert "-1" not in tables and "nan" not in tables.lower()


def step(path):
    """Two steps of a worker whose images have no object, or none with a mask; its weights and what it trained."""
    from detectron2.utils import comm
    from torch.nn.parallel import DistributedDataParallel

    rank = comm.get_rank()
    model = tiny_model()
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    without = []
    # Nothing at all and boxes alone on the first worker, everything on the other; then the other way round.
    for images in ([[], [1]], [[0, 2], [0, 1]]) if rank == 0 else ([[0, 2], [0]], [[], []]):
        with EventStorage():
            loss = sum(wrapped(batch(*images, seed=rank)).values())
        optimizer.zero_grad()
        loss.backward()
        without += [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
        optimizer.step()
    torch.save((without, [p.detach() for p in model.parameters()], left_out()), f"{path}/{rank}.pt")


class TwoHeads(torch.nn.Module):
    """A model whose second head no loss reaches."""

    def __init__(self):
        super().__init__()
        self.used, self.lost = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)

    def forward(self, x):
        return self.used(x).sum()


def left_out():
    """What torch says of a parameter that a worker leaves out."""
    wrapped = torch.nn.parallel.DistributedDataParallel(TwoHeads())
    try:
        for _ in range(2):
            wrapped(torch.ones(1, 2)).backward()
    except RuntimeError as error:
        return str(error)


def test_a_worker_without_objects_or_masks_keeps_the_others_going(tmp_path):
    launch(step, 2, device="cpu", args=(str(tmp_path),))
    (none_0, first, error), (none_1, second, _) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert none_0 == none_1 == []
    assert "lost.weight" in error, "a parameter without a gradient is named"
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_worker_that_waits_in_vain_ends_with_the_reason():
    line = [sys.executable, "-m", "tests.engine.hanging"]
    # The other worker never ends by itself.
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert "Timeout (0:00:06)!" in done.stderr, done.stderr
    assert "never_comes" in done.stderr, "the stack of the worker that hangs"


def test_memory_is_logged_with_and_without_the_data_workers(workspace, tmp_path, lines):
    t = trainer(workspace, "DATALOADER.NUM_WORKERS", 1, "TEST.EVAL_PERIOD", 0, "SOLVER.MAX_ITER", 2)
    t.train()
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    (row,) = [row for row in rows if "memory/rss_mib" in row]
    own = psutil.Process().memory_info().rss / 2**20
    assert row["memory/rss_mib"] == pytest.approx(own, rel=0.3)
    assert row["memory/total_mib"] > 100
    assert "Memory at iteration 0" in lines.text and "MiB (RSS)" in lines.text


@pytest.mark.parametrize(("free_gib", "workers"), [(64, 4), (1.2, 3), (0.2, 0)])
def test_data_workers_are_as_many_as_the_free_memory_holds(workspace, monkeypatch, lines, free_gib, workers):
    monkeypatch.setattr(memory, "free_memory", lambda: int(free_gib * 2**30))
    cfg = configure(workspace, "DATALOADER.NUM_WORKERS", 4, "SEED", 1)
    loader = REGTrainer.build_train_loader(cfg)
    assert loader.num_workers == workers
    assert ("DATALOADER.NUM_WORKERS is 4" in lines.text) == (workers < 4)
    if workers == 0:
        names = [x["file_name"] for b in islice(loader, 3) for x in b]
        monkeypatch.setattr(memory, "free_memory", lambda: 2**40)
        assert names == [x["file_name"] for b in islice(REGTrainer.build_train_loader(cfg), 3) for x in b]


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    machine = memory.free_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert memory.free_memory() == pytest.approx(machine, rel=0.2)
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory.free_memory() == 4000


def test_a_class_number_typed_by_hand_is_not_used(workspace):
    cfg = configure(workspace, "MODEL.ROI_HEADS.NUM_CLASSES", 80)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert REGTrainer.build_model(cfg).roi_heads.box_predictor.cls_score.out_features == 2 + 1


@pytest.mark.parametrize(("policy", "number"), [("keep", 8), ("drop", 6)])
def test_empty_images_are_counted_and_validation_keeps_its_own(workspace, tmp_path, lines, policy, number):
    for split in ("train", "val"):
        path = tmp_path / "data" / f"{split}.json"
        content = json.loads(path.read_text())
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] > 2]
        path.write_text(json.dumps(content))
    cfg = configure(workspace, "DATALOADER.SAMPLING.EMPTY_IMAGES", policy)
    seen = {x["image_id"] for b in islice(REGTrainer.build_train_loader(cfg), 20) for x in b}
    assert len(seen) == number
    assert f"Training images: 8, of these 2 without objects ({policy})" in lines.text
    unheard = "2 of 8 training images have no object: with MODEL.REG.BOX.REFINEMENT.DIRECTION near"
    assert (unheard in lines.text) == (policy == "keep")
    before = lines.text.count(unheard)
    REGTrainer.build_train_loader(configure(workspace, "MODEL.REG.BOX.REFINEMENT.FLOOR", 0.1))
    assert lines.text.count(unheard) == before
    assert len({x["image_id"] for b in REGTrainer.build_test_loader(cfg, "tiny_val") for x in b}) == 3


def test_an_evaluation_outlives_a_stop_that_every_process_of_the_job_is_told(workspace):
    cfg = configure(workspace, "DATALOADER.NUM_WORKERS", 1)
    images, _, worker = begun(REGTrainer.build_test_loader(cfg, "tiny_val"))
    tell(worker, "TERM")
    assert len(list(images)) == 2
