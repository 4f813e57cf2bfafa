"""Bad input is refused by name and number, or mended as documented; never measured in silence."""

import json
import logging

import numpy as np
import pycocotools.mask as mask_util
import pytest

from reg_d2.evaluation.checks import check_results
from reg_d2.evaluation.coco import evaluate_detections
from reg_d2.evaluation.ground_truth import load_ground_truth
from reg_d2.evaluation.rle import crop, run_lengths

from .scenes import BOX, SIZE, blob, random_scene, rle, scene


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": float("nan")}, r"2 of 5 detections: score that is not finite, first \{.*nan"),
        ({"score": float("inf")}, "not finite"),
        ({"score": 97.0}, r"2 of 5 detections: score outside \[0, 1\], first \{.*97.0.*not logits or percent"),
        ({"score": -0.1}, r"score outside \[0, 1\]"),
        ({"score": "0.5"}, "score that is no number"),
        ({"score_std": "0.5"}, r"2 of 5 detections: score_std that is no number.*'score_std': '0.5'"),
        ({"score_std": -1.0}, "2 of 5 detections: score_std that is negative"),
        ({"image_id": 6}, r"2 of 5 detections: unknown image_id, first \{'image_id': 6"),
        ({"image_id": [5]}, r"2 of 5 detections: image_id that is no whole number, first \{'image_id': \[5\]"),
        ({"category_id": 4}, r"2 of 5 detections: unknown category_id.*'category_id': 4.*'sign'"),
        ({"bbox": [np.nan, 0.0, 4.0, 4.0]}, "2 of 5 detections: box with NaN or negative size"),
        ({"bbox": [20.0, 20.0, -4.0, 4.0]}, "box with NaN or negative size"),
        ({"bbox": [20.0, 20.0, 4.0]}, "box with NaN or negative size, or not of four numbers"),
        ({"bbox": 5}, r"2 of 5 detections: box with NaN.*not of four numbers, first \{.*'bbox': 5"),
        ({"bbox": ["20", "30", "40", "50"]}, "2 of 5 detections: box with NaN.*not of four numbers.*'20'"),
        ({"bbox": [300.0, 20.0, 4.0, 4.0]}, r"2 of 5 detections: box wholly outside.*300.0.*not of a resized one"),
        ({"bbox": [20.0, -30.0, 4.0, 4.0]}, "box wholly outside"),
        ({"segmentation": {"size": [5, 5], "counts": "o0"}}, "2 of 5 detections: mask of another size"),
        ({"segmentation": [[0, 0, 5, 0, 5, 5]]}, "mask that is no RLE.*must be RLE of the full image"),
        (
            {"segmentation": {"size": list(SIZE), "counts": rle(blob(BOX))["counts"][:20]}},
            "mask whose runs do not fill",
        ),
        ({"segmentation": {"size": list(SIZE), "counts": "\x00"}}, "mask whose runs do not fill"),
        ({"segmentation": {"size": 5, "counts": "o0"}}, "2 of 5 detections: mask that is no RLE"),
        *(
            ({"segmentation": {"size": list(SIZE), "counts": counts}}, "2 of 5 detections: mask whose runs do not fill")
            for counts in ([10, 10], ["a"], [SIZE[0] * SIZE[1] + 1000, -1000])
        ),
        ({"bbox": None, "segmentation": None}, "neither bbox nor segmentation"),
    ],
)
def test_detections_are_refused_by_name_and_number(change, message):
    truth, det = scene()
    with pytest.raises(ValueError, match=message):
        evaluate_detections(truth, [det, det | change, det, det | change, det])


def test_missing_key_is_named():
    truth, det = scene()
    with pytest.raises(ValueError, match="1 of 2 detections: no score"):
        evaluate_detections(truth, [det, {k: v for k, v in det.items() if k != "score"}])


def test_boxes_partly_outside_are_measured_as_given_and_counted(caplog):
    truth, det = scene()
    truth["annotations"][0] |= {"bbox": [-20.0, 30.0, 40.0, 50.0]}
    with caplog.at_level(logging.WARNING):
        result = evaluate_detections(truth, [det | {"bbox": [-20.0, 30.0, 40.0, 50.0]}], tasks=["bbox"])["bbox"]
    assert result["AP"] == pytest.approx(100)
    assert "1 of 1 boxes leave their image by more than a pixel" in caplog.text


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.999])
def test_result_file_cut_in_half(tmp_path, keep):
    truth, detections = random_scene(0)
    text = json.dumps(detections)
    path = tmp_path / "results.json"
    path.write_text(text)
    assert check_results(path, load_ground_truth(truth)) == detections
    path.write_text(text[: int(len(text) * keep)])
    with pytest.raises(ValueError, match=r"results.json: it ends too early: was its writing or copying cut off"):
        evaluate_detections(truth, path)


def test_files_of_another_kind(tmp_path):
    truth, _ = scene()
    path = tmp_path / "results.json"
    path.write_text(json.dumps(truth))
    with pytest.raises(ValueError, match=r"results.json holds an object with the keys .*expected a list of detections"):
        evaluate_detections(truth, path)
    for text in ("null", "5"):
        path.write_text(text)
        with pytest.raises(ValueError, match=f"results.json holds {text}, expected a list of detections"):
            evaluate_detections(truth, path)
    path.write_text("score,box\n1,2")
    with pytest.raises(ValueError, match=r"results.json: it is no JSON"):
        evaluate_detections(truth, path)
    with pytest.raises(ValueError, match=r"results.json: it is no JSON"):
        evaluate_detections(path, [])
    for raw in (json.dumps([]).encode("utf-16"), b"[" * 100_000):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"results.json: it cannot be read as JSON in UTF-8"):
            evaluate_detections(truth, path)


def test_files_with_a_byte_order_mark_and_names_in_errors(tmp_path):
    truth, det = scene()
    gt, results = tmp_path / "gt.json", tmp_path / "results.json"
    gt.write_text(json.dumps(truth), encoding="utf-8-sig")
    results.write_text(json.dumps([det]), encoding="utf-8-sig")
    assert evaluate_detections(gt, results)["bbox"]["AP"] == pytest.approx(100)
    results.write_text(json.dumps([det | {"image_id": 6}]))
    with pytest.raises(ValueError, match=r"/results.json: 1 of 1 detections: unknown image_id"):
        evaluate_detections(gt, results)
    gt.write_text(json.dumps(truth | {"images": [{}]}))
    with pytest.raises(ValueError, match=r"/gt.json: 1 of 1 images: id that is missing or no whole number"):
        evaluate_detections(gt, [])


@pytest.mark.parametrize("ids", [(0, 1), (1, 1)])
def test_annotation_id_0_or_repeated_is_mended(ids, caplog):
    """pycocotools counts a match with annotation 0 as none; here both objects are found."""
    truth, det = scene()
    other = [120.0, 30.0, 40.0, 50.0]
    anns = [truth["annotations"][0], truth["annotations"][0] | {"bbox": other, "segmentation": rle(blob(other))}]
    truth["annotations"] = [a | {"id": i} for a, i in zip(anns, ids, strict=True)]
    with caplog.at_level(logging.WARNING):
        results = evaluate_detections(truth, [det, det | {"bbox": other, "segmentation": rle(blob(other))}])
    assert [results[t]["AP"] for t in ("bbox", "segm")] == pytest.approx([100, 100])
    assert f"1 of 2 annotation ids that are 0, missing, no whole number or repeated, first [{ids[0]}]" in caplog.text


def test_runs_are_those_of_pycocotools():
    rng = np.random.default_rng(0)
    masks = [rng.random(SIZE) < p for p in (0.0, 0.02, 0.5, 0.98, 1.0)]
    masks += [blob([*rng.uniform(0, 90, 2), *rng.uniform(3, 60, 2)]) for _ in range(40)]
    encoded = [rle(m) for m in masks]
    for mask, code, runs in zip(masks, encoded, run_lengths(encoded), strict=True):
        values = np.repeat(np.arange(len(runs)) % 2, runs).reshape(SIZE[::-1]).T
        np.testing.assert_array_equal(values, mask)
        box = mask_util.toBbox(code)
        x, y, w, h = box.astype(int)
        np.testing.assert_array_equal(crop(runs, box, SIZE[0]).T, mask[y : y + h, x : x + w])


def test_damaged_run_lengths_do_not_spoil_their_neighbours():
    good = rle(blob(BOX))
    cut = good["counts"][:-1] + "o"  # the last number says that more follows
    texts = [good["counts"], "", cut, "\xff\x01", good["counts"]]
    result = list(run_lengths([{"counts": t} for t in texts]))
    assert [r is None for r in result] == [False, True, True, True, False]
    np.testing.assert_array_equal(result[0], result[4])
