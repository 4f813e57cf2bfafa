"""How often images are drawn, against counting and against Detectron2's own repeat factors."""

from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm
from hypothesis import given, settings
from hypothesis import strategies as st

from reg_d2.data.coco import ClassInfo
from reg_d2.data.loader import _sampler, sampled_counts
from reg_d2.data.sampling import (
    Sampling,
    class_repeats,
    class_shares,
    describe,
    expected_draws,
    image_draws,
    median_share,
    object_counts,
)
from reg_d2.modeling.settings import head_class_weights

from ..models import tiny_config

POLYGON = [[0.0, 0.0, 4.0, 0.0, 4.0, 4.0]]
CLASSES = ClassInfo(("sign", "pole", "rail"), (8, 4, 1), (8, 0, 1))


def record(*classes, crowd=()):
    """A dataset dict with objects of some classes; poles (1) have boxes only."""
    box = {"bbox": [0, 0, 4, 4]}
    entries = [{**box, "category_id": c, **({} if c == 1 else {"segmentation": POLYGON})} for c in classes]
    entries += [{**box, "category_id": c, "iscrowd": 1} for c in crowd]
    return {"file_name": "a.jpg", "width": 8, "height": 8, "annotations": entries}


# Of ten images: sign in 6, pole in 4, rail in 1; two are empty, one of them but for a crowd.
RECORDS = [record(0), record(0, 0), record(0, 1), record(), record(1), record(1), record(0, 0, 2), record(0)]
RECORDS += [record(crowd=[2]), record(0, 1)]
EMPTY = [3, 8]


def configure(*options):
    return tiny_config(*options, classes=CLASSES)


def drawn(draws, passes=400):
    """How often Detectron2's sampler draws each image in a pass, counted."""
    sampler = RepeatFactorTrainingSampler(torch.as_tensor(draws).float(), seed=1)
    draws = np.asarray(draws)
    size = float(draws.sum())
    return np.bincount(list(islice(iter(sampler), int(size * passes))), minlength=len(draws)) / passes


def test_counts_and_shares():
    counts = object_counts(RECORDS, 3)
    assert counts.sum(0).tolist() == [8, 4, 1]
    assert object_counts(RECORDS, 3, masks=True).sum(0).tolist() == [8, 0, 1]
    assert counts[6].tolist() == [2, 0, 1]
    assert class_shares(counts).tolist() == [0.6, 0.4, 0.1]


def test_the_usual_threshold_does_nothing_and_ours_repeats_the_rarer_half():
    shares = class_shares(object_counts(RECORDS, 3))
    assert (class_repeats(shares, 1e-3) == 1).all()
    assert median_share(shares) == 0.4
    np.testing.assert_allclose(class_repeats(shares, median_share(shares)), [1, 1, 2])
    np.testing.assert_allclose(class_repeats(shares, 0.4, power=1.0), [1, 1, 4])
    # A class that no image shows moves nothing.
    assert median_share([0.6, 0.4, 0.1, 0.0]) == 0.4
    assert class_repeats([0.6, 0.0], 0.4).tolist() == [1, 1]


def test_the_papers_classes_are_repeated():
    # Objects of the seven classes, one an image, among 4,000 images.
    shares = np.array([200, 100, 700, 1500, 50, 800, 300]) / 4000
    repeats = class_repeats(shares, median_share(shares))
    np.testing.assert_allclose(repeats, [np.sqrt(300 / 200), np.sqrt(3), 1, 1, np.sqrt(6), 1, 1])


@given(
    st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=12).filter(lambda x: any(x)),
    st.floats(0.001, 1.0),
)
@settings(max_examples=60, deadline=None)
def test_repeat_factors_are_detectron2_s(images, threshold):
    records = [record(*classes) for classes in images]
    ours = expected_draws(object_counts(records, 5), Sampling("repeat_factor", threshold))
    theirs = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(records, threshold)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_class_aware_sampling_is_a_class_then_one_of_its_images():
    counts = object_counts(RECORDS, 3)
    draws = expected_draws(counts, Sampling("class_aware", empty_images="drop"))
    rng = np.random.default_rng(0)
    of_class = [np.flatnonzero(counts[:, c]) for c in range(3)]
    picked = [rng.choice(of_class[c]) for c in rng.integers(0, 3, 40000)]
    np.testing.assert_allclose(draws / draws.sum(), np.bincount(picked, minlength=10) / 40000, atol=0.01)
    assert draws.sum() == pytest.approx(8)
    # What the sampler then draws has these frequencies.
    np.testing.assert_allclose(drawn(draws), draws, atol=0.1)


def test_empty_images():
    counts = object_counts(RECORDS, 3)
    assert expected_draws(counts, Sampling()).tolist() == [1.0] * 10
    dropped = expected_draws(counts, Sampling(empty_images="drop"))
    assert np.flatnonzero(dropped == 0).tolist() == EMPTY and dropped.sum() == 8
    for method in ("uniform", "repeat_factor", "class_aware"):
        for ratio in (0.0, 0.1, 0.5):
            draws = expected_draws(counts, Sampling(method, empty_images="ratio", empty_ratio=ratio))
            assert draws[EMPTY].sum() / draws.sum() == pytest.approx(ratio)
        assert (expected_draws(counts, Sampling(method))[EMPTY] == 1).all()
    found = drawn(expected_draws(counts, Sampling(empty_images="ratio", empty_ratio=0.5)))
    assert found[EMPTY].sum() / found.sum() == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ValueError, match="leaves no image"):
        expected_draws(np.zeros((3, 2)), Sampling(empty_images="drop"))


def test_uniform_is_detectron2_s_own_stream():
    cfg = configure("DATALOADER.SAMPLING.METHOD", "uniform")
    assert image_draws(cfg, RECORDS) is None
    assert type(_sampler(cfg, 10, None, 5)).__name__ == "TrainingSampler"
    assert sampled_counts(cfg, RECORDS) == ([], [])


def test_the_configs_draw_an_image_as_often_as_its_rarest_class_asks_for():
    cfg = configure()
    counts = object_counts(RECORDS, 3)
    shares = (counts > 0).mean(axis=0)
    found = image_draws(cfg, RECORDS)
    for row, draws in zip(counts, found.tolist(), strict=True):
        assert draws == pytest.approx((1 / shares[row > 0]).max() ** 0.5 if row.any() else 1.0)
    # The same from Detectron2's keys, which it gives way to (but that Detectron2 counts crowds as objects).
    theirs = configure("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", 1.0)
    objects = [r for r in RECORDS if not any(a.get("iscrowd") for a in r["annotations"])]
    torch.testing.assert_close(image_draws(theirs, objects), image_draws(cfg, objects))
    assert not torch.allclose(image_draws(theirs, RECORDS), found)
    cfg = configure("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler")
    assert image_draws(cfg, RECORDS) is None


@pytest.mark.parametrize("method", ["repeat_factor", "class_aware"])
def test_several_processes_share_one_stream(method, monkeypatch):
    cfg = configure("DATALOADER.SAMPLING.METHOD", method)
    draws = image_draws(cfg, RECORDS)
    alone = list(islice(iter(_sampler(cfg, 10, draws, 5)), 60))
    assert alone == list(islice(iter(_sampler(cfg, 10, draws, 5)), 60)), "the same each time it is iterated"
    parts = []
    monkeypatch.setattr(comm, "get_world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        parts.append(list(islice(iter(_sampler(cfg, 10, draws, 5)), 20)))
    assert [i for group in zip(*parts, strict=True) for i in group] == alone


@pytest.mark.parametrize(
    "options",
    [
        ["DATALOADER.SAMPLING.METHOD", "repeat_factor"],
        ["DATALOADER.SAMPLING.METHOD", "class_aware"],
        ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "DATALOADER.REPEAT_THRESHOLD", 0.5],
    ],
)
def test_class_weights_follow_what_is_drawn(options):
    cfg = configure(*options, "MODEL.REG.BOX.CLASS_WEIGHT.SCHEME", "inverse_frequency")
    before = head_class_weights(cfg, "BOX")
    boxes, masks = sampled_counts(cfg, RECORDS)
    counts = object_counts(RECORDS, 3)
    found = drawn(image_draws(cfg, RECORDS)) @ counts
    np.testing.assert_allclose(boxes, found, rtol=0.05)
    assert masks[0] == boxes[0] and masks[1] == 0
    cfg.MODEL.REG.SAMPLED_BOX_COUNTS, cfg.MODEL.REG.SAMPLED_MASK_COUNTS = boxes, masks
    after = head_class_weights(cfg, "BOX")
    assert after.argmax() == 2 and after[2] / after[0] < before[2] / before[0]
    torch.testing.assert_close(after / after[0], (boxes[0] / torch.tensor(boxes)).float())
    assert len(head_class_weights(cfg, "MASK")) == 2, "a class without masks has none after sampling either"


def test_the_log_has_the_counts():
    text = describe(configure("DATALOADER.SAMPLING.METHOD", "uniform"), RECORDS, None)
    assert text == "Training images: 10, of these 2 without objects (keep)"
    cfg = configure("DATALOADER.SAMPLING.THRESHOLD", 0.0, "DATALOADER.SAMPLING.EMPTY_IMAGES", "drop")
    text = describe(cfg, RECORDS, image_draws(cfg, RECORDS))
    assert "2 without objects (drop)" in text
    assert "repeat_factor, threshold 0.4 (the median of the classes); a pass draws 9.0 images, 0.0 of them" in text
    rail = [cell.strip() for cell in text.splitlines()[-1].split("|")[1:-1]]
    assert rail == ["rail", "1", "2.0", "1", "2.0", "2.00"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["DATALOADER.SAMPLING.METHOD", "rare"], "choose one of uniform, repeat_factor, class_aware"),
        (["DATALOADER.SAMPLING.EMPTY_IMAGES", "skip"], "choose one of keep, drop, ratio"),
        (["DATALOADER.SAMPLING.EMPTY_RATIO", 1.0], "EMPTY_RATIO is 1.0"),
        (["DATALOADER.SAMPLING.THRESHOLD", 2.0], "THRESHOLD is 2.0"),
        (["DATALOADER.SAMPLING.POWER", -1.0], "POWER is -1.0"),
        (
            ["DATALOADER.SAMPLING.METHOD", "class_aware", "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"],
            "leave SAMPLER_TRAIN at TrainingSampler",
        ),
    ],
)
def test_wrong_values_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        image_draws(configure(*options), RECORDS)
