"""Sampling and every augmentation at once: the same stream with any number of workers, after a restart, and resumed."""

import json
from itertools import islice

import pytest
import torch

from reg_d2.data.catalog import REPOSITORY
from reg_d2.engine import REGTrainer
from reg_d2.engine.predictor import Predictor
from reg_d2.engine.setup import load_config, prepare_data

from .running import configure, trainer

NODE = "INPUT.AUGMENTATION"
EVERYTHING = [
    *("DATALOADER.SAMPLING.METHOD", "class_aware", "DATALOADER.SAMPLING.EMPTY_IMAGES", "ratio"),
    *(f"{NODE}.COPY_PASTE.PROBABILITY", 0.7, f"{NODE}.COPY_PASTE.CLASSES", "('sign',)"),
    *(f"{NODE}.SCALE_JITTER.ENABLED", True, "SEED", 3),
    *(v for name in ("LIGHTING", "BLUR", "FOG", "RAIN") for v in (f"{NODE}.{name}.PROBABILITY", 0.5)),
]


def same(a, b):
    assert [x["file_name"] for x in a] == [x["file_name"] for x in b]
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x["image"], y["image"])
        assert torch.equal(x["instances"].gt_boxes.tensor, y["instances"].gt_boxes.tensor)
        assert torch.equal(x["instances"].gt_classes, y["instances"].gt_classes)
        masks = [z["instances"].gt_masks.get_bounding_boxes().tensor if len(z["instances"]) else 0 for z in (x, y)]
        assert len(x["instances"]) == 0 or torch.equal(*masks)


def stream(cfg, number, start=0):
    loader = REGTrainer.build_train_loader(cfg)
    loader.start = start
    return list(islice(loader, number))


@pytest.mark.parametrize("broken", [False, True], ids=["sound", "with a bad picture"])
def test_workers_and_restarts_change_nothing(workspace, tmp_path, broken):
    if broken:
        (tmp_path / "data" / "train" / "2.png").unlink()
    cfg = configure(workspace, *EVERYTHING)
    straight = stream(cfg, 10)
    cfg.defrost()
    cfg.DATALOADER.NUM_WORKERS = 3
    for a, b in zip(straight, stream(cfg, 10), strict=True):
        same(a, b)
    for a, b in zip(straight[6:], stream(cfg, 4, start=6), strict=True):
        same(a, b)
    pasted = [x for b in straight for x in b if (x["instances"].gt_classes == 0).sum() > 1]
    assert pasted, "more signs than the one that each image has"


def test_a_resumed_run_is_the_straight_one_to_the_bit(workspace, tmp_path):
    options = [*EVERYTHING, "DATALOADER.NUM_WORKERS", 2, "TEST.EVAL_PERIOD", 0, "SOLVER.CHECKPOINT_PERIOD", 3]
    straight = trainer(workspace, *options, "SOLVER.MAX_ITER", 6, "OUTPUT_DIR", tmp_path / "straight")
    straight.train()
    cut = trainer(workspace, *options, "SOLVER.MAX_ITER", 6)
    cut.model.register_forward_pre_hook(lambda *_: 1 / 0 if cut.iter == 4 else None)
    with pytest.raises(ZeroDivisionError):
        cut.train()
    resumed = trainer(workspace, *options, "SOLVER.MAX_ITER", 6, resume=True)
    assert resumed.start_iter == 3
    resumed.train()
    for (name, a), b in zip(straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_run_s_class_weights_come_from_what_is_drawn(workspace):
    cfg = configure(workspace, *EVERYTHING)
    reg = cfg.MODEL.REG
    assert reg.BOX_COUNTS == [8, 8] and reg.MASK_COUNTS == [8, 0]
    # Eight images, each drawn once a pass, with a sign and a pole; 0.7 x 2 copies of signs an image.
    assert list(reg.SAMPLED_BOX_COUNTS) == pytest.approx([19.2, 8])
    assert list(reg.SAMPLED_MASK_COUNTS) == pytest.approx([19.2, 0])
    plain = configure(workspace, "DATALOADER.SAMPLING.METHOD", "uniform")
    assert plain.MODEL.REG.SAMPLED_BOX_COUNTS == []


def test_images_that_the_stream_leaves_out_are_not_counted(workspace, tmp_path):
    """An image without objects counts for the shares that draws are made from only where it is drawn."""
    file = tmp_path / "data" / "train.json"
    content = json.loads(file.read_text())
    sign, pole = (c["id"] for c in content["categories"])
    # Four of the eight images have objects: a sign each, and the first two of them a pole.
    last = {sign: 4, pole: 2}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] <= last[a["category_id"]]]
    file.write_text(json.dumps(content))
    options = ["DATALOADER.SAMPLING.METHOD", "repeat_factor", "DATALOADER.SAMPLING.THRESHOLD", 0.6]
    for leave_out, with_pole, with_sign in (
        (True, (0.6 / 0.5) ** 0.5, 1.0),
        (False, (0.6 / 0.25) ** 0.5, (0.6 / 0.5) ** 0.5),
    ):
        cfg = configure(workspace, *options, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", leave_out)
        expected = [2 * with_pole + 2 * with_sign, 2 * with_pole]
        assert list(cfg.MODEL.REG.SAMPLED_BOX_COUNTS) == pytest.approx(expected)


def test_an_evaluation_has_the_counts_of_the_training_s_sampler(workspace, tmp_path):
    uniform = ["DATALOADER.SAMPLING.METHOD", "uniform"]
    for name, options in (("sampled", EVERYTHING), ("plain", uniform)):
        REGTrainer(configure(workspace, *options)).checkpointer.save(name)
    sampled, plain, old = (str(tmp_path / "out" / f"{name}.pth") for name in ("sampled", "plain", "old"))
    stored = torch.load(sampled, weights_only=True)
    for key in ("sampled_box_counts", "sampled_mask_counts"):
        del stored["classes"][key]
    torch.save(stored, old)
    # Whatever the config's own sampler is, or the counts that another run left in it.
    stale = ["MODEL.REG.SAMPLED_BOX_COUNTS", [1.0, 2.0], "MODEL.REG.SAMPLED_MASK_COUNTS", [1.0, 0.0]]
    for options in (EVERYTHING, uniform, [*uniform, *stale]):
        for weights, boxes, masks in (
            (sampled, [19.2, 8], [19.2, 0]),
            (plain, [], []),
            (old, *((stale[1], stale[3]) if "MODEL.REG.SAMPLED_BOX_COUNTS" in options else ([], []))),
        ):
            opts = [*workspace[1], *options, "MODEL.WEIGHTS", weights]
            cfg = load_config(REPOSITORY / workspace[0], [str(x) for x in opts])
            of_predictor = Predictor(cfg).cfg.MODEL.REG
            prepare_data(cfg, evaluate_only=True)
            for reg in (cfg.MODEL.REG, of_predictor):
                assert reg.BOX_COUNTS == [8, 8] and reg.MASK_COUNTS == [8, 0]
                assert list(reg.SAMPLED_BOX_COUNTS) == pytest.approx(boxes)
                assert list(reg.SAMPLED_MASK_COUNTS) == pytest.approx(masks)


def test_counts_of_another_run_s_sampler_do_not_stay_in_a_training(workspace, tmp_path):
    sampled = configure(workspace, *EVERYTHING)
    (tmp_path / "config.yaml").write_text(sampled.dump())
    plain = ["DATALOADER.SAMPLING.METHOD", "uniform", "DATALOADER.SAMPLING.EMPTY_IMAGES", "keep"]
    cfg = load_config(tmp_path / "config.yaml", [*plain, f"{NODE}.COPY_PASTE.PROBABILITY", "0.0"])
    assert cfg.MODEL.REG.SAMPLED_BOX_COUNTS
    prepare_data(cfg)
    assert cfg.MODEL.REG.SAMPLED_BOX_COUNTS == cfg.MODEL.REG.SAMPLED_MASK_COUNTS == []
