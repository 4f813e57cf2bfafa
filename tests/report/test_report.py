"""The content of reports: numbers, marks, pictures, provenance; without a browser."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reg_d2.engine import evaluate as engine_evaluate
from reg_d2.evaluation import compare
from reg_d2.report import Run, analyse, render_report
from reg_d2.report.findings import findings
from reg_d2.report.provenance import config_difference, data_statistics, git_commit, training_curves, training_weights
from reg_d2.report.tables import class_differences, difference_mark, paper_table

from ..models import tiny_config
from .conftest import COUNTS
from .synthetic import CLASSES, run_of, truth_of

ROOT = Path(__file__).resolve().parents[2]


class Tables(HTMLParser):
    """Rows of (text, class) cells of every table, notes left out; and all links and sources."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.sources, self.cell, self.small = [], [], None, False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.sources += [attrs[k] for k in ("src", "href") if k in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = ["", attrs.get("class", "")]
        elif tag == "small":
            self.small = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(tuple(self.cell))
            self.cell = None
        elif tag == "small":
            self.small = False

    def handle_data(self, data):
        if self.cell is not None and not self.small:
            # Heads have hyphens at which no line breaks.
            self.cell[0] += data.strip().replace("\u2011", "-")


def read(drawn, name):
    return (drawn.folder / name).read_text(encoding="utf-8")


def test_tables_of_the_paper_hold_the_results(drawn):
    tables = Tables(read(drawn, "two.html")).tables
    columns = ["AP50", "AP", "precision", "recall", "f1"]
    for table, task in zip(tables[:3], ("bbox", "segm", "segm_boxes"), strict=True):
        assert [c for c, _ in table[0]] == ["REG", "mAP50", "mAP50-95", "Precision", "Recall", "F1-score"]
        for row, run in zip(table[1:3], drawn.runs, strict=True):
            assert [c for c, _ in row] == [run.name, *(f"{run.results[task][k]:.2f}" for k in columns)]
        assert float(table[3][1][0]) == pytest.approx(
            drawn.runs[1].results[task]["AP50"] - drawn.runs[0].results[task]["AP50"], abs=0.006
        )


def test_class_table_holds_the_counts(drawn):
    table = next(t for t in Tables(read(drawn, "one.html")).tables if t[0][0][0] == "class")
    counts = {name: 0 for name in CLASSES}
    names = {c["id"]: c["name"] for c in drawn.truth["categories"]}
    for annotation in drawn.truth["annotations"]:
        counts[names[annotation["category_id"]]] += 1
    column = [c for c, _ in table[0]].index("objects")
    assert {row[0][0]: int(row[column][0]) for row in table[1:-1]} == counts
    assert int(table[-1][column][0]) == sum(counts.values())


def test_what_is_found_where_nothing_is_stands_at_the_top(drawn):
    results = drawn.runs[0].results["bbox"]
    full = {a["image_id"] for a in drawn.truth["annotations"]}
    empty = [im["id"] for im in drawn.truth["images"] if im["id"] not in full]
    assert len(empty) == 24 // 5 and results["empty_images"]["images"] == len(empty)
    assert results["empty_images"]["detections"] == 0
    assert "Images without objects: 4. It finds nothing in them." in read(drawn, "one.html")
    found = run_of(truth_of((1, (0, 0, 20, 20))), (1, (0, 0, 20, 20), 0.9))
    found.results["bbox"]["empty_images"] = {"images": 9, "images_with_detections": 2, "detections": 3}
    assert "Images without objects: 9. It finds something in 2 of them, detections: 3." in findings([found])


def test_only_differences_whose_interval_excludes_zero_are_coloured(drawn):
    first, second = (run.evaluation for run in drawn.runs)
    expected = compare(first, second, resamples=60)
    page = Tables(read(drawn, "two.html"))
    for table, task in zip(page.tables[:3], ("bbox", "segm", "segm_boxes"), strict=True):
        for (_, mark), key in zip(table[3][1:], ("AP50", "AP", "precision", "recall", "f1"), strict=True):
            v = expected[task][key]
            assert mark == ("better" if v["low"] > 0 else "worse" if v["high"] < 0 else "")
    # The second run misses half of the objects: that must show.
    assert expected["bbox"]["recall"]["high"] < 0
    assert not any(mark for table in page.tables[:3] for row in table[1:3] for _, mark in row)


def test_equal_runs_are_not_coloured(drawn):
    runs = [Run(name, drawn.runs[0].evaluation) for name in ("a", "b")]
    analyse(runs, resamples=20)
    made = [paper_table(runs, task) for task in ("bbox", "segm")] + [class_differences(runs[1], runs[0], "bbox")]
    assert {cell.mark for table in made for row in table.rows for cell in row} == {""}
    assert made[0].rows[2][1].text == "+0.00"


@pytest.mark.parametrize(
    ("low", "high", "mark"), [(0.1, 2, "better"), (-2, -0.1, "worse"), (-1, 1, ""), (0, 1, ""), (None, None, "")]
)
def test_difference_mark(low, high, mark):
    assert difference_mark({"low": low, "high": high}) == mark


@pytest.mark.parametrize("name", ["one.html", "two.html"])
def test_needs_nothing_from_outside(drawn, name):
    html = read(drawn, name)
    assert [s[:60] for s in Tables(html).sources if not s.startswith(("data:", "#"))] == []
    assert re.findall(r"@import|url\((?!data:)|fetch\(|XMLHttpRequest|<script src", html) == []


def test_class_names_are_escaped(drawn):
    html = read(drawn, "one.html")
    assert "warning sign &lt;b&gt;&amp;" in html and "warning sign <b>" not in html


def test_training_curves(drawn):
    groups = training_curves(drawn.folder / "metrics.json")
    # The second line of iteration 39 is that after the resume; the cut line and the NaN are passed over.
    assert groups["Losses"] == {
        "total_loss": ([19, 39, 59], [2.0, 1.5, 1.0]),
        "loss_cls": ([19, 39, 59], [1.0, 0.5, 0.4]),
        "loss_mask": ([19], [1.0]),
    }
    assert groups["Balance of the tasks (lambda)"] == {"lambda": ([19, 39], [0.5, 0.6])}
    assert groups["Class multipliers, boxes"] == {"bus stop": ([59], [0.1])}
    assert groups["Uncertainty sigma"] == {"box_sigma": ([59], [0.2])}
    assert training_curves(drawn.folder / "none.json") == {} == training_curves(None)


def test_config_difference():
    base, rows = config_difference({"a": tiny_config("MODEL.REG.BOX.GAMMA", 2.5), "b": None})
    assert base == "configs/Base-REG-RCNN-FPN.yaml"
    rows = {row[0]: row[1:] for row in rows}
    assert rows["MODEL.REG.BOX.GAMMA"] == ["0.0", "2.5", ""]
    assert "MODEL.REG.MASK.GAMMA" not in rows and "MODEL.REG.CLASS_NAMES" not in rows


def test_data_statistics_and_weights(drawn):
    found = data_statistics(drawn.runs[0].evaluation.truth, {0, 1, 2})
    assert found["images"] == 24 and sum(found["objects"].values()) == len(drawn.truth["annotations"])
    assert sum(found["masks"].values()) == 3
    # E9: N / n.
    weights = training_weights(None, COUNTS)["N / n"]
    assert weights == pytest.approx({name: 220 / n for name, n in COUNTS.items()})
    assert "training 10.0" in read(drawn, "one.html")


def test_git_commit(tmp_path):
    assert git_commit(tmp_path) == "unknown"
    inside = ["git", "-C", str(ROOT), "rev-parse", "--show-toplevel"]
    done = subprocess.run(inside, capture_output=True, text=True)
    if done.returncode or Path(done.stdout.strip()) != ROOT:
        pytest.skip("the tests do not run in a git checkout")
    assert re.fullmatch(r"[0-9a-f]{12}( \(changed\))?", git_commit())


def test_a_failing_report_loses_nothing(drawn, tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("no room")

    monkeypatch.setattr(engine_evaluate, "write_report", fail)
    monkeypatch.setattr(engine_evaluate, "RESAMPLES", 0)
    engine_evaluate._report(tiny_config(), "drawn_val", drawn.runs[0], str(tmp_path / "report.html"))
    assert "could not be written" in caplog.text and "no room" in caplog.text


@pytest.mark.parametrize(("names", "resamples", "message"), [("aa", 0, "more than once"), ("ab", 1, "2 or more")])
def test_wrong_arguments(drawn, names, resamples, message):
    with pytest.raises(ValueError, match=message):
        analyse([Run(n, drawn.runs[0].evaluation) for n in names], resamples=resamples)


def test_template_is_packaged(tmp_path):
    command = ["setup.py", "-q", "egg_info", "--egg-base", tmp_path, "build_py", "--build-lib", tmp_path / "lib"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    names = {p.name for p in (tmp_path / "lib/reg_d2/report").iterdir()}
    assert {"report.html.j2", "report.css", "report.js", "page.py"} <= names


def test_no_ground_truth():
    run = run_of(truth_of(), (1, (0, 0, 20, 20), 0.9))
    run.results["bbox"]["confidence"] = None
    html = render_report([run], dataset="empty")
    assert "no ground truth" in html
    json.dumps(run.results, allow_nan=False)
