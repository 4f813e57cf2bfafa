"""Do scores mean what they say: detection ECE, reliability bins, scalers fitted on another split.

A score is calibrated when, of the detections with score s, the share s is right (matched at IoU 0.5). Detections below
``SCORE_FLOOR`` and ignored ones are left out. The scalers are isotonic regression (scikit-learn) and temperature
scaling, p' = sigmoid(logit(p) / T).

Sources: Kueppers et al.: Multivariate Confidence Calibration for Object Detection, CVPRW 2020 (D-ECE); Guo et al.: On
Calibration of Modern Neural Networks, ICML 2017 (temperature).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from scipy.special import expit, logit

from .matching import TaskMatches
from .operating_point import SCORE_FLOOR
from .records import read_json
from .results import replace_text

NUM_BINS = 10
METHODS = ("isotonic", "temperature")
# A class with fewer detections than this shares the scaler of all.
MIN_DETECTIONS = 50
LOGIT_CLIP = 1e-6


@dataclass(frozen=True)
class Calibrator:
    """A fitted map from scores to calibrated scores; ``fit_calibrator`` makes one.

    Attributes:
        method: "isotonic" or "temperature".
        names: K class names; ``classes`` of a call are indices into them.
        overall: the map of all classes: ``{"x": [...], "y": [...]}`` (straight between the points) or
            ``{"temperature": T}``.
        per_class: maps of single classes by name, used in place of ``overall``.
    """

    method: str
    names: list[str]
    overall: dict
    per_class: dict[str, dict] = field(default_factory=dict)

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"calibration method {self.method!r}: choose from {list(METHODS)}")

    def __call__(self, scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Calibrated scores (N,) float, 0..1, of ``scores`` (N,) float, 0..1, and ``classes`` (N,) int."""
        scores, classes = np.asarray(scores, dtype=float), np.asarray(classes)
        if classes.size and not 0 <= classes.min() <= classes.max() < len(self.names):
            raise ValueError(f"class index {classes.max()}: the calibrator was fitted on {len(self.names)} classes")
        result = self._apply(self.overall, scores)
        for name, parameters in self.per_class.items():
            of_class = classes == self.names.index(name)
            result[of_class] = self._apply(parameters, scores[of_class])
        return result

    def to_json(self, path: str | os.PathLike) -> None:
        """Write it to a file that ``from_json`` reads."""
        replace_text(path, json.dumps(asdict(self), indent=1, allow_nan=False) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike) -> Calibrator:
        """Read what ``to_json`` wrote; ValueError for any other file."""
        data = read_json(path)
        keys = {"method", "names", "overall", "per_class"}
        if not isinstance(data, Mapping) or set(data) != keys:
            raise ValueError(f"{os.fspath(path)} is no calibrator: expected an object with the keys {sorted(keys)}")
        return cls(**data)

    def _apply(self, parameters: Mapping, scores: np.ndarray) -> np.ndarray:
        if self.method == "isotonic":
            return np.interp(scores, parameters["x"], parameters["y"])
        return expit(_logit(scores) / parameters["temperature"])


def fit_calibrator(matches: TaskMatches, method: str = "isotonic", *, per_class: bool = False) -> Calibrator:
    """Fit a scaler to the detections of a split other than the one to be measured.

    ``matches``: one task of that split. ``method``: "isotonic" or "temperature". ``per_class``: a map of its own for
    each class with at least 50 detections; the others share one. Isotonic maps make ties and so may move AP; a
    temperature common to all classes keeps every order. Raises ValueError without detections to fit.
    """
    scores, right, classes, _ = _measured(matches)
    if not scores.size:
        raise ValueError(f"{matches.task}: no detections from score {SCORE_FLOOR} up, nothing to fit a calibrator to")
    calibrator = Calibrator(method, list(matches.names), _fit(method, scores, right))
    if per_class:
        for k, name in enumerate(matches.names):
            of_class = classes == k
            if of_class.sum() >= MIN_DETECTIONS:
                calibrator.per_class[name] = _fit(method, scores[of_class], right[of_class])
    return calibrator


def calibration(matches: TaskMatches, calibrator: Calibrator | None = None) -> dict:
    """D-ECE = sum over bins of n_b / N |precision_b - confidence_b|, and the bins (reliability diagram).

    ``calibrator``: applied to the scores first, for numbers after calibration. Returns ``ece`` (0..100, None without
    detections), ``score_floor``, ``num``, ``bins`` (10 of equal width: ``low, high, num``, mean ``confidence`` and
    ``precision``, 0..1, None where empty), ``per_class`` (the same by name), and where detections carry a standard
    deviation and no calibrator changes them, ``score_std``: see ``error_against_std``. Raises ValueError for a
    calibrator of other classes.
    """
    if calibrator is not None and list(calibrator.names) != list(matches.names):
        raise ValueError(f"calibrator of the classes {list(calibrator.names)}, detections of {list(matches.names)}")
    scores, right, classes, std = _measured(matches)
    shown = scores if calibrator is None else calibrator(scores, classes)
    per_class = {n: reliability(shown[classes == k], right[classes == k]) for k, n in enumerate(matches.names)}
    result = {**reliability(shown, right), "score_floor": SCORE_FLOOR, "per_class": per_class}
    if std is not None and calibrator is None:
        result["score_std"] = error_against_std(scores, right, std)
    return result


def reliability(scores: np.ndarray, right: np.ndarray) -> dict:
    """``ece``, ``num`` and ``bins`` (see ``calibration``) of ``scores`` (N,) float, 0..1, and ``right`` (N,) bool."""
    index = np.minimum((scores * NUM_BINS).astype(int), NUM_BINS - 1)
    num = np.bincount(index, minlength=NUM_BINS)
    score_sum = np.bincount(index, weights=scores, minlength=NUM_BINS)
    right_sum = np.bincount(index, weights=right, minlength=NUM_BINS)
    bins = [
        {
            "low": b / NUM_BINS,
            "high": (b + 1) / NUM_BINS,
            "num": int(n),
            "confidence": float(score_sum[b] / n) if n else None,
            "precision": float(right_sum[b] / n) if n else None,
        }
        for b, n in enumerate(num)
    ]
    ece = 100 * float(np.abs(right_sum - score_sum).sum() / len(scores)) if len(scores) else None
    return {"ece": ece, "num": len(scores), "bins": bins}


def error_against_std(scores: np.ndarray, right: np.ndarray, std: np.ndarray) -> dict:
    """Are uncertain scores wrong more often: |right - score| over ``score_std``.

    ``scores``, ``std`` (N,) float, ``right`` (N,) bool. Returns ``correlation`` (Spearman's rank correlation, -1..1;
    None where one side is constant) and up to 10 ``bins`` of equal numbers of detections by rising std: mean
    ``score_std``, mean ``error``, ``num``.
    """
    from scipy.stats import spearmanr  # slow to import, and few evaluations need it

    error = np.abs(right - scores)
    varied = len(scores) > 1 and np.ptp(std) > 0 and np.ptp(error) > 0
    parts = [p for p in np.array_split(np.argsort(std, kind="stable"), NUM_BINS) if p.size]
    return {
        "correlation": float(spearmanr(std, error).statistic) if varied else None,
        "bins": [{"score_std": float(std[p].mean()), "error": float(error[p].mean()), "num": p.size} for p in parts],
    }


def _measured(matches: TaskMatches) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Scores, right or not, classes and standard deviations of the detections that calibration is about."""
    use = ~matches.det_ignored[0, 0] & (matches.det_score >= SCORE_FLOOR)
    std = None if matches.det_std is None else matches.det_std[use]
    return matches.det_score[use], matches.matched[0, 0, use] >= 0, matches.det_class[use], std


def _fit(method: str, scores: np.ndarray, right: np.ndarray) -> dict:
    # Slow to import; every training imports this module, and none fits.
    from scipy.optimize import minimize_scalar
    from sklearn.isotonic import IsotonicRegression

    if method == "isotonic":
        model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, right)
        return {"x": model.X_thresholds_.tolist(), "y": model.y_thresholds_.tolist()}
    logits = _logit(scores)

    def negative_log_likelihood(log_t: float) -> float:
        z = logits / np.exp(log_t)
        return float(np.mean(np.logaddexp(0.0, z) - right * z))

    # T from 1/20 to 20: beyond, all detections are right, or all wrong.
    found = minimize_scalar(negative_log_likelihood, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-6})
    return {"temperature": float(np.exp(found.x))}


def _logit(scores: np.ndarray) -> np.ndarray:
    return logit(np.clip(scores, LOGIT_CLIP, 1 - LOGIT_CLIP))
