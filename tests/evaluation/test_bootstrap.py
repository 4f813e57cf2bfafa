"""A resample with weights is what evaluating the resampled data set gives; intervals and differences behave."""

import numpy as np
import pytest

from reg_d2.evaluation.bootstrap import METRICS, bootstrap, compare, image_weights, resample_statistics
from reg_d2.evaluation.coco import evaluate_detections, match_detections

from .scenes import random_scene

MASK_CLASSES = ["pavilion", "sign", "rail"]


def scene(seed=0, num_images=24):
    """Without ties: copies of an image have equal scores, and any order among other equals is right."""
    truth, detections = random_scene(seed, num_images=num_images)
    rng = np.random.default_rng(seed)
    scores = rng.permutation(np.linspace(0.01, 0.99, len(detections)))
    return truth, [d | {"score": float(s)} for d, s in zip(detections, scores, strict=True)]


def resampled(truth, detections, weights):
    """The data set in which an image of weight w is there w times."""
    result, found = truth | {"images": [], "annotations": []}, []
    ids = sorted(im["id"] for im in truth["images"])
    for image, weight in zip(ids, weights, strict=True):
        for _ in range(int(weight)):
            new = len(result["images"]) + 1
            given = next(im for im in truth["images"] if im["id"] == image)
            result["images"].append(given | {"id": new})
            copies = [a | {"image_id": new} for a in truth["annotations"] if a["image_id"] == image]
            result["annotations"] += [a | {"id": len(result["annotations"]) + n} for n, a in enumerate(copies, start=1)]
            found += [d | {"image_id": new} for d in detections if d["image_id"] == image]
    return result, found


@pytest.mark.parametrize("seed", range(2))
def test_weights_equal_evaluating_the_resampled_data_set(seed):
    truth, detections = scene(seed)
    evaluation = match_detections(truth, detections, mask_classes=MASK_CLASSES)
    weights = image_weights(evaluation, 4, seed=seed)
    assert (weights.sum(axis=1) == 24).all() and (weights[0] == 1).all() and weights.max() > 1
    statistics = dict(resample_statistics(evaluation, weights))
    assert list(statistics) == ["bbox", "segm", "segm_boxes"]
    for row, drawn in enumerate(weights):
        expected = evaluate_detections(*resampled(truth, detections, drawn), mask_classes=MASK_CLASSES)
        for task, values in expected.items():
            for metric in METRICS:
                per_class = [v[metric] for v in values["per_class"].values()]
                wanted = np.array([values[metric], *per_class], dtype=float)  # None becomes NaN
                np.testing.assert_allclose(statistics[task][metric][row], wanted, atol=1e-9, err_msg=f"{task} {metric}")


def test_intervals_hold_the_value_and_narrow_with_more_images():
    small, large = (bootstrap(match_detections(*scene(3, n)), resamples=200) for n in (20, 160))
    for result in (small, large):
        ap = result["bbox"]["AP50"]
        assert 0 <= ap["low"] < ap["value"] < ap["high"] <= 100 and ap["standard_error"] > 0
    width = [r["bbox"]["AP50"]["high"] - r["bbox"]["AP50"]["low"] for r in (small, large)]
    assert width[1] < 0.6 * width[0]
    assert set(large["segm"]) == {*METRICS, "per_class"}
    assert set(large["bbox"]["per_class"]["absent"]["AP"].values()) == {None}


def test_the_seed_decides():
    evaluation = match_detections(*scene(0), tasks=["bbox"])
    same = [bootstrap(evaluation, resamples=20, seed=s) for s in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


def test_a_run_does_not_differ_from_itself():
    evaluation = match_detections(*scene(0))
    for metric, values in compare(evaluation, evaluation, resamples=50)["segm"].items():
        if metric != "per_class":
            assert [values[k] for k in ("difference", "low", "high", "p_value")] == [0, 0, 0, 1]


def test_a_better_run_is_told_from_a_worse_one():
    truth, detections = scene(0, 120)
    kept = [d for n, d in enumerate(detections) if n % 2]
    worse, better = match_detections(truth, kept), match_detections(truth, detections)
    result = compare(worse, better, resamples=200)["bbox"]["AP50"]
    assert result["b"] - result["a"] == pytest.approx(result["difference"])
    assert 0 < result["low"] < result["difference"] < result["high"] and result["p_value"] < 0.02
    mirrored = compare(better, worse, resamples=200)["bbox"]["AP50"]
    assert mirrored["difference"] == -result["difference"] and mirrored["p_value"] == result["p_value"]


def test_runs_on_different_data_are_not_compared():
    truth, detections = scene(0)
    a = match_detections(truth, detections)
    fewer = truth | {"annotations": truth["annotations"][1:]}
    with pytest.raises(ValueError, match="different objects"):
        compare(a, match_detections(fewer, detections))
    more = truth | {"images": [*truth["images"], {"id": 1, "height": 9, "width": 9}]}
    with pytest.raises(ValueError, match="different images"):
        compare(a, match_detections(more, detections))
    with pytest.raises(ValueError, match="1 resamples of 24 images"):
        bootstrap(a, resamples=1)
