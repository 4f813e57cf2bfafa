"""The paper's tables: their columns, their order, and n/a."""

import pytest

from reg_d2.evaluation.coco import evaluate_detections
from reg_d2.evaluation.tables import class_table, paper_tables, summary_table

from .scenes import random_scene

HEADER = ["REG", "mAP50", "mAP50-95", "Precision", "Recall", "F1-score"]
ROW = {"AP50": 80.126, "AP": 60.0, "precision": 79.1, "recall": 76.68, "f1": 77.871}


def cells(line):
    return [c.strip() for c in line.strip("|").split("|")]


def test_columns_are_the_papers_in_its_order():
    lines = summary_table(
        {"REG A": {"bbox": ROW}, "REG B": {"bbox": ROW | {"f1": None}}}, "bbox", "markdown"
    ).splitlines()
    assert [cells(line) for line in [lines[0], *lines[2:]]] == [
        HEADER,
        ["REG A", "80.13", "60.00", "79.10", "76.68", "77.87"],
        ["REG B", "80.13", "60.00", "79.10", "76.68", "n/a"],
    ]
    text = summary_table({"REG A": {"bbox": ROW}}, "bbox").splitlines()
    assert text[0].split() == HEADER and text[2].split()[-1] == "77.87"


def test_three_tables_in_order_and_without_those_nobody_has():
    truth, detections = random_scene(0)
    both = {"REG A": evaluate_detections(truth, detections), "1e3": evaluate_detections(truth, [], tasks=["bbox"])}
    text = paper_tables(both)
    assert text.index("Table 1") < text.index("Table 2") < text.index("Table 3")
    rows = [line.split() for line in text.splitlines() if line.startswith("1e3")]
    assert rows == [["1e3", *["0.00"] * 5], ["1e3", *["n/a"] * 5], ["1e3", *["n/a"] * 5]]
    boxes_only = paper_tables({"x": both["1e3"]}, "markdown")
    assert boxes_only.startswith("**Table 1") and "Table 2" not in boxes_only


@pytest.mark.parametrize("fmt", ["text", "markdown"])
def test_class_table(fmt):
    truth, detections = random_scene(0)
    results = evaluate_detections(truth, detections)
    table = class_table(results, "bbox", fmt)
    absent = next(line for line in table.splitlines() if "absent" in line)
    assert absent.count("n/a") == 7 and "-1" not in absent.replace("-1-", "")
    mean = next(line for line in table.splitlines() if line.strip("| ").startswith("mean"))
    for key in ("AP50", "AP", "precision", "recall", "f1", "f1_mean_of_best"):
        assert f"{results['bbox'][key]:.2f}" in mean
    assert f"confidence {results['bbox']['confidence']:.3f}" in table


def test_nothing_to_show():
    results = evaluate_detections({"images": [], "annotations": [], "categories": []}, [])
    assert paper_tables({"a": results}).count("n/a") == 15
    assert "n/a" in class_table(results, "segm")
    with pytest.raises(ValueError, match=r"'html'.*'text', 'markdown'"):
        summary_table({"a": results}, "bbox", "html")
