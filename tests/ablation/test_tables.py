"""Tables, CSV and figure, from result files that say known numbers."""

import csv
import json
import re

import pytest
from scipy import stats

from reg_d2.ablation.comparison import BOXES, compare, pooled_deviation
from reg_d2.ablation.figure import draw, to_svg
from reg_d2.ablation.results import read_result, task_metrics
from reg_d2.ablation.study import load_study

from .conftest import AP, store


def lines_of(workshop):
    return list(csv.DictReader((workshop.results / "trial/table.csv").open()))


def test_the_csv_has_means_intervals_and_corrected_differences(filled):
    assert filled.main("--tables-only") == 0
    found = {(line["row"], line["metric"]): line for line in lines_of(filled)}
    for row, values in AP.items():
        line = found[row, "bbox/AP"]
        sample = list(values.values())
        low, high = stats.t.interval(0.95, 2, loc=sum(sample) / 3, scale=stats.sem(sample))
        assert [float(line[k]) for k in ("mean", "low", "high")] == pytest.approx(
            [sum(sample) / 3, low, high], rel=1e-5
        )
        assert (line["n"], line["dataset"], line["study"]) == ("3", "roads", "trial")
    assert found["plain", "bbox/AP"]["difference"] == ""
    raw = {
        row: stats.ttest_rel(list(AP[row].values()), list(AP["plain"].values())).pvalue for row in ("better", "best")
    }
    first, second = sorted(raw, key=raw.get)
    for row, corrected in ((first, 2 * raw[first]), (second, max(2 * raw[first], raw[second]))):
        line = found[row, "bbox/AP"]
        assert line["versus"] == "plain" and line["pairs"] == "3"
        assert float(line["p_value"]) == pytest.approx(raw[row], rel=1e-4)
        assert float(line["p_holm"]) == pytest.approx(corrected, rel=1e-4)
    assert float(found["best", "bbox/AP"]["difference"]) == pytest.approx(36.16667 - 31, rel=1e-4)
    assert float(found["best", "segm/AP_rarest"]["mean"]) == pytest.approx(36.16667 - 11, rel=1e-4)
    assert found["best", "bbox/AP"]["made_from"] == "better" and found["better", "bbox/AP"]["made_from"] == ""
    assert float(found["best", "bbox/AP"]["step"]) == pytest.approx(36.16667 - 34, rel=1e-4)
    assert found["best", "step_time"]["mean"] == "0.25" and found["best", "step_time"]["difference"] == ""


def test_a_second_row_that_all_are_compared_with(filled):
    filled.write(also_versus="best", description="What helps.")
    assert filled.main("--tables-only") == 0
    found = {(line["row"], line["metric"]): line for line in lines_of(filled)}
    plain, better = found["plain", "bbox/AP"], found["better", "bbox/AP"]
    assert [found[row, "bbox/AP"]["also_versus"] for row in AP] == ["best", "best", ""]
    assert float(plain["also_difference"]) == pytest.approx(31 - 36.16667, rel=1e-4) and plain["also_pairs"] == "3"
    best = list(AP["best"].values())
    raw = {row: stats.ttest_rel(list(AP[row].values()), best).pvalue for row in ("plain", "better")}
    assert float(plain["also_p_value"]) == pytest.approx(raw["plain"], rel=1e-4)
    assert float(better["also_p_holm"]) == pytest.approx(max(2 * min(raw.values()), raw["better"]), rel=1e-4)
    assert float(better["difference"]) == pytest.approx(3, rel=1e-4), "and with the base row as before"
    text = (filled.results / "trial/table.md").read_text().split("**Against the best**")[1]
    assert re.search(r"\| plain +\| +the best +\| +\*?\*?-5.2 \[", text)


def test_the_markdown_says_the_same(filled):
    filled.main("--tables-only")
    text = (filled.results / "trial/table.md").read_text()
    assert "What helps." in text and "trial on roads" in text
    assert re.search(r"\| plain +\| +3 \| +31.0 ± 2.5 \| +62.0 ± 5.0 \|", text)
    assert re.search(r"\| the best +\| +plain +\| +\*?\*?\+5.2 \[", text)
    assert "**Step by step**" in text and re.search(r"\| the best +\| +better +\|", text)
    assert "box AP 1.0, mask AP 1.0" in text, "each row's deviation over seeds is close to 1"
    assert "- 9 results from an abacus, torch 2.0, 3 runs side by side: 30 min of training in sum" in text
    assert "0.250 ± 0.000" in text and "900 ± 0" in text
    assert "(roads.svg)" in text


def test_numbers_of_another_study_are_named_and_their_time_is_not_counted_again(filled):
    for run in filled.runs().values():
        if run.row == "plain":
            content = json.loads(run.result.read_text()) | {"copied_from": "earlier/roads/plain-seed0"}
            run.result.write_text(json.dumps(content))
    filled.main("--tables-only")
    text = (filled.results / "trial/table.md").read_text()
    assert "- 9 results from an abacus, torch 2.0, 3 runs side by side: 20 min of training in sum" in text
    assert "- 3 results are those of equal runs of earlier" in text


def test_the_number_of_workers_is_said_where_it_is_not_one(filled):
    filled.write(set={**filled.content["set"], "SOLVER.REFERENCE_WORLD_SIZE": 8})
    for run in filled.runs().values():
        workers = 4 if run.row == "best" and run.seed < 2 else 1
        store(run, AP[run.row][run.seed], hardware={"device": "an abacus", "workers": workers})
    filled.main("--tables-only")
    text = (filled.results / "trial/table.md").read_text()
    assert "- 2 results from an abacus, torch 2.0, 4 workers: 7 min of training in sum" in text
    assert "different numbers of workers: 7 from 1, 2 from 4; batch, rate and steps are scaled" in text


def test_pooled_deviation_by_hand(filled):
    study = load_study(filled.file)
    comparison = compare(study, list(filled.runs().values()), "roads")
    # Variances with 2 degrees of freedom each: 1, 1.11, 1.083333.
    assert pooled_deviation(comparison, BOXES[0]) == pytest.approx(((1 + 1.11 + 1.083333) / 3) ** 0.5, rel=1e-5)


def test_one_seed_has_a_mean_and_no_interval(workshop):
    workshop.write(seeds=[0])
    for run in workshop.runs().values():
        store(run, AP[run.row][0])
    workshop.main("--tables-only")
    text = (workshop.results / "trial/table.md").read_text()
    assert " 30.0 |" in text and " +3.0 |" in text and "pooled over rows: box AP n/a" in text
    assert "±" not in text and "[n/a]" not in text
    found = {(line["row"], line["metric"]): line for line in lines_of(workshop)}
    assert found["better", "bbox/AP"]["low"] == found["better", "bbox/AP"]["p_value"] == ""


def test_two_seeds_show_both_and_no_test(workshop):
    workshop.write(seeds=[0, 1])
    for run in workshop.runs().values():
        store(run, AP[run.row][run.seed])
    workshop.main("--tables-only")
    text = (workshop.results / "trial/table.md").read_text()
    assert re.search(r"\| plain +\| +2 \| +30.5 \(30.0 to 31.0\) \|", text)
    assert re.search(r"\| better +\| +plain +\| +\+2.9 \(\+2.9, \+3.0\) \|", text), "33 - 30 and 33.9 - 31"
    assert "±" not in text and " p " not in text.split("bold below 0.05")[1], "an interval from two seeds says nothing"
    line = {(line["row"], line["metric"]): line for line in lines_of(workshop)}["better", "bbox/AP"]
    assert line["low"] and line["p_value"] and not line["p_holm"], "the CSV keeps what was computed"
    figure = draw(compare(load_study(workshop.file), list(workshop.runs().values()), "roads"))
    assert not [drawn for drawn in figure.axes[0].lines if drawn.get_linestyle() == "-"]


def test_two_seeds_are_not_counted_in_the_correction(filled):
    filled.runs()["best2"].result.unlink()
    filled.main("--tables-only")
    line = {(line["row"], line["metric"]): line for line in lines_of(filled)}["better", "bbox/AP"]
    assert line["p_holm"] == line["p_value"]


def test_a_bound_close_to_zero_keeps_its_sign(filled):
    values = {0: 30.0, 1: 31.0, 2: 32.12}
    for run in filled.runs().values():
        if run.row == "better":
            store(run, values[run.seed])
    filled.main("--tables-only")
    text = (filled.results / "trial/table.md").read_text()
    assert re.search(r"\| better +\| +plain +\| +\+0.04 \[-0.1, \+0.2\] p", text)


def test_the_tail_is_left_out_where_it_is_the_two_rarest(filled):
    filled.main("--tables-only")
    assert (filled.results / "trial/table.md").read_text().count(" tail |") == 2
    for run in filled.runs().values():
        content = json.loads(run.result.read_text())
        content["metrics"]["bbox"]["AP_rarest"] = content["metrics"]["bbox"]["AP_tail"]
        run.result.write_text(json.dumps(content))
    filled.main("--tables-only")
    assert (filled.results / "trial/table.md").read_text().count(" tail |") == 1
    comparison = compare(load_study(filled.file), list(filled.runs().values()), "roads")
    assert "box AP, tail classes" not in [axis.get_title("left") for axis in draw(comparison).axes]


def test_gaps_and_foreign_results_are_said(filled):
    runs = filled.runs()
    runs["best2"].result.unlink()
    store(runs["better1"], 99.0, config={**runs["better1"].config, "SOLVER.MAX_ITER": 7})
    filled.content["rows"]["untried"] = {"set": {"SOLVER.BASE_LR": 0.7}}
    store(runs["plain0"], 30.0, data={"roads_val": "cd"})
    filled.write()
    filled.main("--tables-only")
    text = (filled.results / "trial/table.md").read_text()
    assert "better, seed 1, is left out: it was made under another config: SOLVER.MAX_ITER was 7, is 25" in text
    assert "99" not in (filled.results / "trial/table.csv").read_text()
    assert "fewer than 3 seeds: better 2, best 2" in text
    assert "no results yet: untried" in text
    assert "different versions of the data" in text


def test_a_data_set_without_the_row_to_compare_with_says_so(filled):
    filled.content["datasets"] = {"roads": {"rows": ["better", "best"]}}
    filled.write()
    filled.main("--tables-only")
    text = (filled.results / "trial/table.md").read_text()
    assert "without differences: better, best; this data set does not have plain" in text


def test_a_broken_result_is_named(filled):
    path = filled.runs()["best2"].result
    path.write_text('{"study": 1')
    with pytest.raises(ValueError, match=r"best-seed2.json is not a result"):
        read_result(path)


def test_the_papers_tables_are_means_over_seeds(filled):
    filled.write(paper_tables=True)
    filled.main("--tables-only")
    text = (filled.results / "trial/table.md").read_text()
    assert "**Table 1. Detection: boxes, all classes**" in text and "Table 3." in text
    assert re.search(r"\| the best +\| +72.33 \| +36.17 \| +60.00 \| +50.00 \| +54.50 \|", text)


def test_the_figure_has_a_dot_an_interval_and_the_seeds_of_every_row(filled):
    comparison = compare(load_study(filled.file), list(filled.runs().values()), "roads")
    figure = draw(comparison)
    assert [axis.get_title("left") for axis in figure.axes][:1] == ["box AP"] and len(figure.axes) == 6
    first = figure.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["plain", "better", "the best"]
    seeds, means = first.collections[::2], first.collections[1::2]
    assert [sorted(x for x, _ in dots.get_offsets()) for dots in seeds] == [list(v.values()) for v in AP.values()]
    assert [dots.get_offsets()[0][0] for dots in means] == pytest.approx([31, 34, 36.16667], rel=1e-5)
    intervals = [line.get_xdata() for line in first.lines if line.get_linestyle() == "-"]
    assert list(intervals[0]) == pytest.approx([31 - 2.484138, 31 + 2.484138], rel=1e-6)
    assert to_svg(comparison) == to_svg(comparison)


def test_labels_of_the_figure_are_whole_over_two_lines(filled):
    long = "no refinement, masks weighted by 1/n and divided | by the weights"
    filled.content["rows"]["best"]["label"] = long
    filled.write()
    figure = draw(compare(load_study(filled.file), list(filled.runs().values()), "roads"))
    shown = figure.axes[0].get_yticklabels()[2].get_text()
    assert shown.replace("\n", " ") == long and shown.count("\n") == 1
    filled.main("--tables-only")
    assert long.replace("|", "\\|") + " |" in (filled.results / "trial/table.md").read_text(), "one cell, not two"


def test_differences_without_spread_are_shown_without_a_test(filled):
    for run in filled.runs().values():
        if run.row == "better":
            store(run, AP["plain"][run.seed] + 1)
    filled.main("--tables-only")
    text = (filled.results / "trial/table.md").read_text()
    assert re.search(r"\| better +\| +plain +\| +\+1.0 \[\+1.0, \+1.0\] \|", text)


def test_the_legend_of_a_narrow_figure_is_whole(filled):
    for run in filled.runs().values():
        content = json.loads(run.result.read_text())
        content["metrics"] = {"bbox": {"AP": content["metrics"]["bbox"]["AP"]}}
        run.result.write_text(json.dumps(content))
    figure = draw(compare(load_study(filled.file), list(filled.runs().values()), "roads"))
    figure.draw_without_rendering()
    legend = figure._supxlabel.get_window_extent()
    assert len(figure.axes) == 1 and legend.x1 <= figure.bbox.x1


def test_the_legend_has_the_dashed_line_where_there_is_one(filled):
    legend = draw(compare(load_study(filled.file), list(filled.runs().values()), "roads"))._supxlabel.get_text()
    assert "Dashed: plain." in legend
    others = [run for run in filled.runs().values() if run.row != "plain"]
    figure = draw(compare(load_study(filled.file), others, "roads"))
    assert "Dashed" not in figure._supxlabel.get_text()
    assert not [line for axis in figure.axes for line in axis.lines if line.get_linestyle() == "--"]


def test_what_is_kept_of_a_task():
    per_class = {
        n: {"AP": ap, "num_gt": 9, "f1": 1.0} for n, ap in (("a", 10.0), ("b", 20.0), ("c", None), ("d", 40.0))
    }
    groups = {
        "head": {"AP": 15.0, "classes": ["a", "b"], "train_counts": [9, 8]},
        "middle": {"AP": 40.0, "classes": ["d"], "train_counts": [3]},
        "tail": {"AP": None, "classes": ["c"], "train_counts": [2]},
    }
    kept = task_metrics({"AP": 23.3, "AP50": 50.0, "per_class": per_class, "by_frequency": groups, "errors": {}})
    assert kept["rarest_classes"] == ["d", "b"] and kept["AP_rarest"] == 30.0, "c has no ground truth"
    assert (kept["AP_head"], kept["AP_tail"], kept["recall"]) == (15.0, None, None)
    assert kept["per_class"]["b"] == {"AP": 20.0, "num_gt": 9} and "errors" not in kept
    assert "per_empty_image" not in kept
    empty = {"images": 8, "images_with_detections": 2, "detections": 6}
    assert task_metrics({"per_class": per_class, "empty_images": empty})["per_empty_image"] == 0.75
    for nothing in ({**empty, "images": 0}, {**empty, "detections": None}):
        assert "per_empty_image" not in task_metrics({"per_class": per_class, "empty_images": nothing})


def test_the_column_of_empty_images_is_there_where_every_row_has_it(filled):
    table = filled.results / "trial/table.md"
    for number, name in enumerate(("plain0", "better0", "best0")):
        assert filled.main("--tables-only") == 0 and "per empty image" not in table.read_text()
        run = filled.runs()[name]
        content = json.loads(run.result.read_text())
        content["metrics"]["bbox"]["per_empty_image"] = 0.25 * number
        run.result.write_text(json.dumps(content))
    assert filled.main("--tables-only") == 0
    assert re.search(r"\*\*Boxes\*\*\s+\| row .*per empty image", table.read_text())
    assert re.search(r"\| the best .* 0\.50 \|", table.read_text())
