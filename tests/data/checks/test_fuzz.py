"""Mutated COCO files: every one ends in a finding or a clean load, and every repaired one is sound."""

import json
import resource

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from reg_d2.data.checks import UnusableFileError, check_content, parse, repair
from reg_d2.data.checks.findings import ERROR, summary
from reg_d2.data.coco import read_coco, to_dataset_dicts

from .conftest import SOUND, rle

MEBIBYTE = 1024  # of ru_maxrss, which counts in KiB
START = json.dumps(SOUND)
NUMBERS = st.one_of(
    st.integers(-3, 70),
    st.floats(-80, 80, width=16),
    st.sampled_from([float("nan"), float("inf"), -1e308, 1e18, 2**31, 2**63, 10**400, -0.0, 1e-300]),
)
ODD = st.sampled_from(
    [None, True, "", "1", "../x", "\ud800", "\x00", [], {}, [[]], [[[]]], {"size": [48, 64]}, "9" * 99]
)
BOXES = st.lists(NUMBERS, min_size=3, max_size=5)
POLYGONS = st.lists(st.lists(NUMBERS, min_size=0, max_size=14), max_size=3)
RUNS = st.one_of(st.text(max_size=12), st.lists(NUMBERS, max_size=5), st.just(rle(1, 1, 9, 9)["counts"]))
RLES = st.fixed_dictionaries({"size": st.sampled_from([[48, 64], [64, 48], [10**9, 10**9], 5]), "counts": RUNS})
VALUES = st.one_of(NUMBERS, ODD, BOXES, POLYGONS, RLES)
FIELDS = (
    "id",
    "image_id",
    "category_id",
    "bbox",
    "area",
    "iscrowd",
    "segmentation",
    "file_name",
    "width",
    "height",
    "name",
)


@st.composite
def mutated(draw):
    """The text of a COCO file with one to six records or fields replaced, doubled or removed."""
    content = json.loads(START)
    for _ in range(draw(st.integers(1, 6))):
        part = draw(st.sampled_from(["annotations"] * 4 + ["images", "categories", "file"]))
        if part == "file" or not content.get(part) or type(content[part]) is not list:
            if draw(st.integers(0, 9)) == 0:
                content[draw(st.sampled_from(["images", "annotations", "categories", "info"]))] = draw(VALUES)
            continue
        row = draw(st.integers(0, len(content[part]) - 1))
        what = draw(st.sampled_from(["field"] * 8 + ["double", "drop", "record"]))
        if what == "double":
            content[part].append(content[part][row])
        elif what == "drop":
            content[part].pop(row)
        elif what == "record" or type(content[part][row]) is not dict:
            content[part][row] = draw(VALUES)
        else:
            fields = [f for f in FIELDS if f in content[part][row]] or ["id"]
            content[part][row] = {**content[part][row], draw(st.sampled_from(fields)): draw(VALUES)}
    text = json.dumps(content)
    if draw(st.integers(0, 19)) == 0:  # the bytes themselves
        cut = draw(st.integers(0, len(text)))
        text = text[:cut] + draw(st.text('[]{},:"0-eN\\', max_size=5)) + text[cut + draw(st.integers(0, 5)) :]
    return text


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "data.json"


@settings(max_examples=2000, deadline=2000, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(text=mutated())
def test_every_mutated_file_ends_in_a_finding_or_a_clean_load(path, text):
    path.write_text(text)
    before = peak()
    try:
        content = parse(path)
    except UnusableFileError:
        return
    checked = check_content(content, "fuzz")
    json.dumps(checked.report.to_dict(), allow_nan=False).encode()
    summary(checked.report.findings).encode()
    if not checked.report.of(ERROR):
        coco = read_coco(path)
        dicts = to_dataset_dicts(coco, "images", tuple(coco.categories.values()))
        assert sum(len(d["annotations"]) for d in dicts) == len(content["annotations"])
    repaired, changes = repair(content)
    assert not repaired.report.fixable, summary(repaired.report.fixable)
    assert bool(changes) == bool(checked.report.fixable)
    assert not repaired.report.of(ERROR), summary(repaired.report.findings)
    assert peak() - before < 200 * MEBIBYTE
