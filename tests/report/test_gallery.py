"""Which objects a report shows, how it crops them, and how it stays small."""

import logging

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reg_d2.evaluation import match_detections
from reg_d2.report import Run, analyse, pictures, render_report
from reg_d2.report.gallery import false_positives, galleries, misses, spread
from reg_d2.report.pictures import crop_window, illustrate

from .synthetic import CLASSES, detections, run_of, truth_of


def test_bounded_for_many_images(tmp_path):
    """2,000 images of noise, which JPEG cannot shrink, in full crops."""
    rng = np.random.default_rng(0)
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.jpg"), rng.integers(0, 255, (480, 640, 3), dtype=np.uint8))
    images = [{"id": i, "file_name": f"{i % 3}.jpg", "width": 640, "height": 480} for i in range(2000)]
    annotations = [
        {"id": i + 1, "image_id": i, "category_id": 3 * (i % 5) + 1, "iscrowd": 0, "area": 90000}
        | {"bbox": [50.0, 50.0, 300.0, 300.0]}
        for i in range(2000)
    ]
    truth = {"images": images, "annotations": annotations}
    truth["categories"] = [{"id": 3 * c + 1, "name": name} for c, name in enumerate(CLASSES)]
    run = Run("run", match_detections(truth, detections(truth, masks=False), tasks=("bbox",)))
    analyse([run], resamples=0)
    html = render_report([run], dataset="many", image_root=tmp_path)
    assert html.count('class="item enlarge"') > 20
    assert len(html) < 15e6


def test_budget_leaves_out_the_last_items(drawn, monkeypatch):
    chosen = galleries(drawn.runs[:1])
    everything, _ = illustrate(chosen, drawn.runs[:1], drawn.options["image_root"])
    monkeypatch.setattr(pictures, "BUDGET", 400_000)
    shown, _ = illustrate(chosen, drawn.runs[:1], drawn.options["image_root"])
    assert 0 < sum(len(p.source) for s in shown for _, panels in s.items for p in panels) <= 400_000
    assert sum(s.left_out for s in shown) > 0
    for some, every in zip(shown, everything, strict=True):
        assert every.left_out == 0 and len(some.items) + some.left_out == len(every.items)
        assert [item for item, _ in some.items] == [item for item, _ in every.items][: len(some.items)]


def test_unreadable_images_are_told(drawn, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        shown, note = illustrate(galleries(drawn.runs[:1]), drawn.runs[:1], tmp_path)
    assert "pictures are missing" in note and "1.jpg" in note and "lacks" in caplog.text
    assert [s.items for s in shown] == [[]] * 4
    assert illustrate(galleries(drawn.runs[:1]), drawn.runs[:1], None)[0] == []


def test_misses_worst_first():
    truth = truth_of((1, (0, 0, 20, 20)), (1, (100, 0, 40, 40)), (2, (50, 50, 10, 10)), (1, (160, 60, 30, 30)))
    # Found; nothing at all; another class there; only a weak one.
    run = run_of(truth, (1, (0, 0, 20, 20), 0.9), (1, (50, 50, 10, 10), 0.8), (1, (160, 60, 30, 30), 0.3))
    items = misses(run, 10)
    assert [i.focus[:2] for i in items] == [(100, 0), (50, 50)]
    assert "nothing found there" in items[0].caption and "only sign 0.80 there" in items[1].caption


def test_of_one_image_two_misses_at_most():
    order, classes, images = np.arange(6), np.array([0, 0, 0, 1, 1, 1]), np.array([7, 7, 7, 8, 8, 9])
    assert spread(order, classes, images, 10).tolist() == [0, 1, 3, 4, 5]
    # The worst of each class come before the second of any.
    assert spread(order, classes, images, 2).tolist() == [0, 3]


def test_weak_detection_is_named_with_its_score():
    run = run_of(truth_of((1, (10, 10, 30, 30))), (1, (10, 10, 30, 30), 0.31))
    assert [i.caption for i in misses(run, 5)] == ["sign, 30 × 30 px: best score 0.31, below 0.50"]


def test_false_positives_by_score_with_their_cause():
    truth = truth_of((1, (0, 0, 40, 40)), (2, (100, 0, 40, 40)))
    boxes = {
        "duplicate": ((0, 2, 40, 40), 1, 0.90),
        "wrong class, is pole": ((100, 0, 40, 40), 1, 0.85),
        "background": ((0, 70, 20, 20), 2, 0.80),
    }
    run = run_of(truth, (1, (0, 0, 40, 40), 0.95), *((c, box, s) for box, c, s in boxes.values()))
    captions = [i.caption for i in false_positives(run, 2)] + [i.caption for i in false_positives(run, 9)]
    # Two at most of one image.
    assert captions[:2] == ["sign 0.90: duplicate", "sign 0.85: wrong class, is pole"] == captions[2:]
    placed = run_of(truth, (1, (0, 25, 40, 40), 0.7), (2, (0, 72, 20, 20), 0.6))
    assert [i.caption for i in false_positives(placed, 9)] == [
        f"sign 0.70: badly placed, IoU {15 / 65:.2f}",
        "pole 0.60: background",
    ]


@given(
    st.integers(50, 3000),
    st.integers(50, 3000),
    st.tuples(st.floats(0, 0.99), st.floats(0, 0.99), st.floats(0.01, 1), st.floats(0.01, 1)),
)
def test_crop_holds_its_object_and_stays_inside(width, height, relative):
    x0, y0 = relative[0] * width, relative[1] * height
    x1, y1 = min(width, x0 + relative[2] * width), min(height, y0 + relative[3] * height)
    a, b, c, d = crop_window((x0, y0, x1, y1), width, height)
    assert 0 <= a < c <= width and 0 <= b < d <= height
    assert a <= x0 + 1 and b <= y0 + 1 and c >= x1 - 1 and d >= y1 - 1
