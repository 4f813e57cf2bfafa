"""The page of results: generated between its marks, and what prose and README quote of it."""

import csv
import re

import pytest

from reg_d2.ablation.page import BLOCK, render_page, update_page
from reg_d2.ablation.results import read_result
from reg_d2.data.catalog import REPOSITORY


def test_a_page_is_generated_between_its_marks(filled):
    page = filled.results.parent / "page.md"
    page.write_text(f"Before.\n<!-- study: {filled.file} -->\nstale words\n<!-- end of study -->\nAfter.\n")
    assert update_page(page, filled.results) == [str(filled.file)]
    text = page.read_text()
    assert text.startswith("Before.\n<!-- study") and text.endswith("<!-- end of study -->\nAfter.\n")
    assert "stale words" not in text and "31.0 ± 2.5" in text and "(results/trial/roads.svg)" in text
    assert (filled.results / "trial/roads.svg").is_file()
    assert render_page(text, page, filled.results) == text
    for run in filled.runs().values():
        run.result.unlink()
    assert "This study has not been run." in render_page(text, page, filled.results)
    with pytest.raises(ValueError, match="results/trial has no results: give their folder with --results"):
        update_page(page, filled.results)
    assert page.read_text() == text, "tables are not overwritten because a folder's name is wrong"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="has no line <!-- study"):
        update_page(page, filled.results)


def test_a_page_may_be_anywhere_and_a_study_have_any_name(filled):
    filled.file = filled.file.rename(filled.file.with_name("my trial.yaml"))
    page = filled.results.parent / "notes/page.md"
    page.parent.mkdir()
    mark = f"<!-- study: {filled.file} --> \t\n"
    page.write_text(f"{mark}<!-- end of study -->\n")
    (filled.results / "trial").rename(filled.results / "my trial")
    update_page(page, filled.results)
    assert "(../results/my%20trial/roads.svg)" in page.read_text()


def test_a_study_without_its_end_keeps_the_words_below_it(filled):
    page = filled.results.parent / "page.md"
    mark, end = f"<!-- study: {filled.file} -->\n", "<!-- end of study -->\n"
    for text in (f"{mark}\nwords\n{mark}{end}", f"{mark}{end}words\n{mark}more words\n"):
        page.write_text(text)
        with pytest.raises(ValueError, match=r"trial\.yaml --> has no <!-- end of study --> before the next study"):
            update_page(page, filled.results)
        assert page.read_text() == text


def test_the_page_of_this_repository_is_what_its_results_give(tmp_path, monkeypatch):
    monkeypatch.setenv("REG_D2_DATASETS", str(tmp_path))  # whatever data are here
    page, results = REPOSITORY / "docs/results.md", REPOSITORY / "docs/results"
    text = page.read_text(encoding="utf-8")
    assert "python tools/ablate.py --page docs/results.md" in text
    assert render_page(text, page, results) == text
    for path in results.glob("*/*/*.json"):
        assert read_result(path)["study"] == path.parts[-3]


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_intervals_in_prose_are_those_of_the_tables(page):
    tables = " ".join(
        file.read_text(encoding="utf-8") for file in sorted((REPOSITORY / "docs/results").glob("*/table.md"))
    )
    prose = BLOCK.sub("", (REPOSITORY / page).read_text(encoding="utf-8"))
    quoted = re.findall(r"[+-]\d+\.\d+ \[[+-]\d+\.\d+, [+-]\d+\.\d+\]", " ".join(prose.split()))
    assert len(quoted) > 3
    assert not [found for found in quoted if found not in tables]


def test_the_table_of_the_readme_is_that_of_the_claim():
    table = (REPOSITORY / "docs/results/peers/table.md").read_text(encoding="utf-8")
    claim = table.split("## peers on highway_claim")[1].split("\n## ")[0]
    means = {title: part.split("\n\n")[1] for title, part in ((p.split("**")[0], p) for p in claim.split("\n\n**")[1:])}
    boxes, masks = (_by_row_and_column(means[title]) for title in ("Boxes", "Masks"))
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    quoted = _by_row_and_column(re.search(r"(\| run \| box AP.*?)\n\n", readme, re.DOTALL)[1])
    assert {"repeat-factor sampling, t 1", "REG, the default"} <= set(quoted)
    for row, cells in quoted.items():
        assert cells == {
            "box AP": boxes[row]["AP"],
            "two rarest, boxes": boxes[row]["two rarest"],
            "box F1": boxes[row]["F1"],
            "mask AP": masks[row]["AP"],
            "mask AP50": masks[row]["AP50"],
        }
        assert boxes[row]["seeds"] == "5"


def _by_row_and_column(table: str) -> dict[str, dict[str, str]]:
    header, _, *rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.strip().splitlines()]
    return {cells[0]: dict(zip(header[1:], cells[1:], strict=True)) for cells in rows}


# What the table at the top of the page calls data sets and rows: study, data set, the default there; rows.
TOP_DATA = {
    "**drawn scenes** (`highway_claim`)": "peers highway_claim reg_default",
    "**other drawn scenes** (`highway_repeat`)": "peers highway_repeat reg_default",
    "**photographs** (`track_signs`), twice the schedule": "photographs track_signs reg_default",
    "**drawn scenes (`highway_scratch`), from random weights**": "random_weights highway_scratch reg_near_masks",
    "**drawn scenes (`highway`), from random weights**": "random_weights highway reg_near_masks",
    "**photographs, from random weights**": "random_weights track_signs reg_near_masks",
}
TOP_ROWS = {
    "cross-entropy, the sampler": "repeat_factor_1",
    "the sampler at threshold 0.3": "repeat_factor_0.3",
    "the same with effective numbers": "effective_number_sampled",
    "the same with effective numbers, the best peer there": "effective_number_sampled",
    "Seesaw, the sampler": "seesaw_sampled",
    "the default without near": "reg_weights",
    "without near": "reg_weights",
    "near for boxes, too": "reg_default",
    "for boxes, half weight for all background in place of near": "reg_background_0.5_near_masks",
}
TOP_METRICS = ("bbox/AP", "bbox/f1", "bbox/AP_rarest", "segm/AP", "segm/AP50", "segm/AP_rarest")


def test_the_table_at_the_top_of_the_page_is_that_of_the_studies():
    page = (REPOSITORY / "docs/results.md").read_text(encoding="utf-8")
    lines = re.search(r"\| in place of the default .*?\n\n", page, re.DOTALL)[0].strip().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    checked = 0
    for name, *cells in rows:
        if not any(cells):
            (data,) = (value.split() for key, value in TOP_DATA.items() if name.startswith(key + ","))
        else:
            assert cells == _differences(*data, TOP_ROWS[name]), (data, name)
            checked += 1
    assert checked == 19, "the rows of the table"


def _differences(study: str, dataset: str, default: str, row: str) -> list[str]:
    """A row minus the default, from the CSV; whichever way round the study has it."""
    with open(REPOSITORY / f"docs/results/{study}/table.csv", newline="") as file:
        table = {(line["row"], line["metric"]): line for line in csv.DictReader(file) if line["dataset"] == dataset}
    cells = []
    for metric in TOP_METRICS:
        line, keys, sign = table[row, metric], ("difference", "difference_low", "difference_high"), 1
        if line["also_versus"] == default:
            keys = ("also_difference", "also_low", "also_high")
        elif line["versus"] != default:
            line, sign = table[default, metric], -1
            assert line["versus"] == row
        mean, *ends = (sign * float(line[key]) for key in keys)
        low, high = sorted(ends)
        cells.append(f"{_signed(mean)} [{_signed(low)}, {_signed(high)}]")
    return cells


def _signed(number: float) -> str:
    return f"{number:+.1f}" if abs(number) >= 0.05 else f"{number:+.2f}"
