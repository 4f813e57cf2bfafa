"""COCO's numbers equal pycocotools' on data sets that hypothesis makes up to break them."""

import contextlib
import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reg_d2.evaluation.average_precision import precision_table
from reg_d2.evaluation.coco import match_detections
from reg_d2.evaluation.summary import AP_METRICS, average_precisions

from .reference import assert_equal, pycocotools_class, pycocotools_eval
from .scenes import SIZE, blob, rle

IDS = [2, 3, 9, 40]  # with gaps
IMAGES = [4, 7, 8, 100]  # some of them stay empty
# Coarse grids, so that scores and IoUs tie and the size limits (32 and 96 pixels) are hit exactly.
places, lengths = st.sampled_from([0, 8, 16, 40]), st.sampled_from([8, 32, 40, 96])
boxes = st.tuples(places, places, lengths, lengths)
objects = st.lists(st.tuples(st.sampled_from(IMAGES), st.sampled_from(IDS[:3]), boxes, st.booleans()), max_size=14)
found = st.lists(
    st.tuples(st.sampled_from(IMAGES), st.sampled_from(IDS), boxes, st.integers(0, 10)), min_size=1, max_size=30
)


@given(objects, found)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_coco_numbers_equal_pycocotools(objects, found):
    annotations = [
        {
            "id": n,
            "image_id": image,
            "category_id": category,
            "bbox": list(map(float, box)),
            "area": float(box[2] * box[3]),
            "iscrowd": int(crowd),
            "segmentation": rle(blob(box)),
        }
        for n, (image, category, box, crowd) in enumerate(objects, start=1)
    ]
    detections = [
        {
            "image_id": image,
            "category_id": category,
            "bbox": list(map(float, box)),
            "score": score / 10,
            "segmentation": rle(blob(box)),
        }
        for image, category, box, score in found
    ]
    truth = {
        "images": [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in IMAGES],
        "annotations": annotations,
        "categories": [{"id": c, "name": str(c)} for c in IDS],
    }
    names = [str(c) for c in IDS]
    evaluation = match_detections(truth, detections, mask_classes=names)
    for task, matches in evaluation.tasks.items():
        with contextlib.redirect_stdout(io.StringIO()):
            reference = pycocotools_eval(truth, detections, task, names)
        table = precision_table(matches)
        np.testing.assert_allclose(table, reference.eval["precision"][..., -1], atol=1e-12)
        for metric, expected in zip(AP_METRICS, reference.stats, strict=False):
            assert_equal(average_precisions(table)[metric], 100 * expected)
        for k in range(len(IDS)):
            ours = average_precisions(table[:, :, [k]])
            for metric, expected in zip(("AP", "AP50"), pycocotools_class(reference, k), strict=True):
                assert_equal(ours[metric], expected)
