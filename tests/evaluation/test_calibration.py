"""D-ECE and reliability by hand; scalers recover what was done to the scores."""

import numpy as np
import pytest
from scipy.special import expit, logit

from reg_d2.evaluation.calibration import Calibrator, calibration, error_against_std, fit_calibrator, reliability
from reg_d2.evaluation.coco import evaluate_detections, match_detections

from .scenes import random_scene


def scored(probabilities, scores, seed=0, std=None):
    """Matches of one image for each detection, right with the given probability, of two classes in turn."""
    rng = np.random.default_rng(1000 + seed)
    box, other = [10.0, 10.0, 20.0, 20.0], [60.0, 60.0, 20.0, 20.0]
    right = rng.random(len(scores)) < probabilities
    truth = {
        "images": [{"id": i, "height": 100, "width": 100} for i in range(len(scores))],
        "categories": [{"id": 1, "name": "sign"}, {"id": 2, "name": "rail"}],
        "annotations": [
            {"id": i + 1, "image_id": i, "category_id": 1 + i % 2, "bbox": box} for i in range(len(scores))
        ],
    }
    detections = [
        {"image_id": i, "category_id": 1 + i % 2, "bbox": box if right[i] else other, "score": float(s)}
        | ({} if std is None else {"score_std": float(std[i])})
        for i, s in enumerate(scores)
    ]
    return match_detections(truth, detections, tasks=["bbox"]).tasks["bbox"]


def test_reliability_by_hand():
    result = reliability(np.array([0.95, 0.95, 0.9, 0.25, 1.0]), np.array([True, False, True, False, True]))
    assert result["num"] == 5 and [b["num"] for b in result["bins"]] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 4]
    assert result["bins"][9] == {
        "low": 0.9,
        "high": 1.0,
        "num": 4,
        "confidence": pytest.approx(0.95),
        "precision": pytest.approx(0.75),
    }
    assert result["bins"][0]["confidence"] is None
    assert result["ece"] == pytest.approx(100 * (4 / 5 * 0.2 + 1 / 5 * 0.25))
    assert reliability(np.empty(0), np.empty(0, dtype=bool))["ece"] is None


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_is_recovered_on_another_split(temperature):
    p = np.random.default_rng(1).uniform(0.05, 0.95, 4000)
    skewed = expit(logit(p) * temperature)
    calibrator = fit_calibrator(scored(p, skewed, seed=1), "temperature")
    assert calibrator.overall["temperature"] == pytest.approx(temperature, rel=0.08)
    other = scored(p, skewed, seed=2)
    before, after = calibration(other), calibration(other, calibrator)
    assert before["ece"] > 6 > 3 > after["ece"]
    assert set(before["per_class"]) == {"sign", "rail"} and after["per_class"]["rail"]["num"] == 2000


def test_isotonic_mends_what_a_temperature_cannot():
    p = np.random.default_rng(1).uniform(0, 1, 4000)
    scores = 0.5 + p**3 / 2
    fitted = scored(p, scores, seed=1)
    isotonic, temperature = (fit_calibrator(fitted, m) for m in ("isotonic", "temperature"))
    other = scored(p, scores, seed=2)
    assert calibration(other, isotonic)["ece"] < 3 < calibration(other, temperature)["ece"]
    grid = isotonic(np.linspace(0, 1, 50), np.zeros(50, dtype=int))
    assert (np.diff(grid) >= 0).all() and grid.min() >= 0 and grid.max() <= 1


@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_calibrators_of_single_classes_and_their_file(tmp_path, method):
    p = np.random.default_rng(1).uniform(0.05, 0.95, 3000)
    rail = np.arange(3000) % 2 == 1
    scores = np.where(rail, expit(3 * logit(p)), p)
    matches = scored(p, scores, seed=1)
    calibrator = fit_calibrator(matches, method, per_class=True)
    assert set(calibrator.per_class) == {"sign", "rail"}
    of_sign, of_rail = calibrator(np.array([0.8, 0.8]), np.array([0, 1]))
    assert of_sign == pytest.approx(0.8, abs=0.07) and of_rail == pytest.approx(expit(logit(0.8) / 3), abs=0.07)
    calibrator.to_json(tmp_path / "calibrator.json")
    read = Calibrator.from_json(tmp_path / "calibrator.json")
    assert read == calibrator
    np.testing.assert_array_equal(read(scores, rail.astype(int)), calibrator(scores, rail.astype(int)))
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match=r"other.json is no calibrator"):
        Calibrator.from_json(tmp_path / "other.json")


def test_small_classes_share_the_scaler_of_all():
    p = np.full(60, 0.5)
    assert fit_calibrator(scored(p, p), "temperature", per_class=True).per_class == {}


def test_misuse_of_calibrators():
    matches = scored(np.full(4, 0.5), np.full(4, 0.5))
    with pytest.raises(ValueError, match=r"'platt'.*'isotonic', 'temperature'"):
        fit_calibrator(matches, "platt")
    with pytest.raises(ValueError, match=r"calibrator of the classes \['x'\]"):
        calibration(matches, Calibrator("temperature", ["x"], {"temperature": 1.0}))
    with pytest.raises(ValueError, match=r"class index 3.*2 classes"):
        fit_calibrator(matches)(np.array([0.5]), np.array([3]))
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_calibrator(scored([], []))


def test_error_against_standard_deviation():
    rng = np.random.default_rng(0)
    std = rng.uniform(0, 0.5, 1000)
    scores = np.full(1000, 0.9)
    right = rng.random(1000) < 1 - std  # the surer, the more often right
    result = error_against_std(scores, right, std)
    assert result["correlation"] > 0.2 and sum(b["num"] for b in result["bins"]) == 1000
    assert result["bins"][-1]["error"] > result["bins"][0]["error"] + 0.2
    assert [b["score_std"] for b in result["bins"]] == sorted(b["score_std"] for b in result["bins"])
    assert error_against_std(scores, right, np.ones(1000))["correlation"] is None


def test_score_std_of_detections_is_used_where_all_have_it():
    p = np.linspace(0.1, 0.9, 40)
    assert "score_std" in calibration(scored(p, p, std=p / 10))
    assert "score_std" not in calibration(scored(p, p))
    truth, detections = random_scene(0)
    with_std = [d | {"score_std": 0.1} for d in detections]
    measured = evaluate_detections(truth, with_std)["segm"]["calibration"]["score_std"]
    assert measured["bins"][0]["score_std"] == pytest.approx(0.1)
    mixed = [*with_std[1:], detections[0]]
    assert "score_std" not in evaluate_detections(truth, mixed)["bbox"]["calibration"]
