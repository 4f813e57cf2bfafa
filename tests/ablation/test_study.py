"""Study files: what they may say, and what a wrong one is told."""

import pytest
import yaml

from reg_d2.ablation.options import changed_keys, config_hash, deciding, to_options
from reg_d2.ablation.runs import all_runs, select
from reg_d2.ablation.study import DATASET_KEYS, ROW_KEYS, STUDY_KEYS, StudyError, load_study
from reg_d2.data.catalog import REPOSITORY
from reg_d2.engine import load_config

PEERS = REPOSITORY / "projects" / "longtail_losses"


def test_a_row_adds_what_its_file_says_itself_and_not_the_files_base(tmp_path):
    (tmp_path / "study.yaml").write_text(
        "base: configs/real/track_signs.yaml\nbase_row: a\nseeds: [3]\ndatasets: {signs: }\n"
        "rows: {a: {config: configs/ablations/cross_entropy.yaml}}\n"
    )
    (run,) = all_runs(load_study(tmp_path / "study.yaml"), tmp_path, tmp_path)
    alone = deciding(load_config(REPOSITORY / "configs/real/track_signs.yaml"))
    changed = changed_keys(alone, run.config)
    assert changed == {
        "MODEL.REG.BOX.LOSS": ("reg", "cross_entropy"),
        "MODEL.REG.MASK.LOSS": ("reg", "cross_entropy"),
        "SEED": (0, 3),
    }
    assert run.seed == 3


def test_options_are_dotted_and_a_star_is_both_heads():
    options = to_options({"_BASE_": "x.yaml", "SOLVER": {"MAX_ITER": 5}, "MODEL.REG.*": {"GAMMA": 1.0}})
    assert options == {"SOLVER.MAX_ITER": "5", "MODEL.REG.BOX.GAMMA": "1.0", "MODEL.REG.MASK.GAMMA": "1.0"}


def test_what_decides_a_run_is_its_config_and_neither_its_place_nor_a_switch_that_came_later():
    file = REPOSITORY / "configs/demo.yaml"
    config = deciding(load_config(file))
    elsewhere = deciding(load_config(file, ["OUTPUT_DIR", "x", "DATALOADER.NUM_WORKERS", "7", "MODEL.DEVICE", "cpu"]))
    assert config_hash(elsewhere) == config_hash(config)
    older = {k: v for k, v in config.items() if k != "MODEL.REG.BOX.COSINE.ENABLED"}
    assert changed_keys(older, config) == {}, "it was off before there was a key for it"
    assert changed_keys(older, {**config, "MODEL.REG.BOX.COSINE.ENABLED": True}) == {
        "MODEL.REG.BOX.COSINE.ENABLED": (False, True)
    }
    longer = deciding(load_config(file, ["SOLVER.MAX_ITER", "9"]))
    assert changed_keys(config, longer) == {"SOLVER.MAX_ITER": (1100, 9)}
    assert changed_keys({**config, "MODEL.GONE": 1}, config) == {"MODEL.GONE": (1, None)}


def test_a_key_that_plays_no_part_makes_no_result_obsolete():
    file, penalty = REPOSITORY / "configs/demo.yaml", "SOLVER.PROXIMAL.REFINEMENT_L1"
    plain, weaker = (deciding(load_config(file, [penalty, v])) for v in ("0.1", "0.001"))
    assert changed_keys(weaker, plain) == {}, "nothing is learned that it would pull"
    learned = {**plain, "MODEL.REG.MASK.REFINEMENT.LEARNED": True}
    assert changed_keys({**learned, penalty: 0.001}, learned) == {penalty: (0.001, 0.1)}
    assert changed_keys(weaker, learned) == {
        "MODEL.REG.MASK.REFINEMENT.LEARNED": (False, True),
        penalty: (0.001, 0.1),
    }


@pytest.mark.parametrize(
    ("node", "key", "values"),
    [
        ("MASK.REFINEMENT", "DIRECTION", ("near", "split")),
        ("BOX.UNCERTAINTY", "METHOD", ("probit", "quadrature")),
        ("BOX.PRIMAL_DUAL", "RATE", (0.01, 0.1)),
        ("BOX.COSINE", "TEMPERATURE", (20.0, 10.0)),
    ],
)
def test_what_is_below_a_switch_plays_a_part_where_it_is_on(node, key, values):
    switch, key = f"MODEL.REG.{node}.ENABLED", f"MODEL.REG.{node}.{key}"
    file = REPOSITORY / "configs/demo.yaml"
    one, other, off = (
        deciding(load_config(file, [switch, on, key, value]))
        for on, value in (("True", values[0]), ("True", values[1]), ("False", values[1]))
    )
    assert changed_keys(one, other) == {key: values}
    assert changed_keys(one, off) == {key: values, switch: (True, False)}
    assert changed_keys({**off, key: values[0]}, off) == {}


def test_a_project_plays_a_part_where_the_loss_is_one_of_its_own():
    file, project = REPOSITORY / "configs/demo.yaml", ["PROJECTS", "['longtail_losses']"]
    alone, beside = deciding(load_config(file)), deciding(load_config(file, project))
    assert changed_keys(alone, beside) == changed_keys(beside, alone) == {}
    focal, other = (
        deciding(
            load_config(file, [*project, "MODEL.REG.BOX.LOSS", "sigmoid_focal", "MODEL.REG.PEERS.FOCAL.GAMMA", gamma])
        )
        for gamma in ("2.0", "1.0")
    )
    assert changed_keys(focal, other) == {"MODEL.REG.PEERS.FOCAL.GAMMA": (2.0, 1.0)}
    assert changed_keys(alone, focal).keys() == {"MODEL.REG.BOX.LOSS", "PROJECTS"}
    older = {k: v for k, v in focal.items() if k != "MODEL.REG.PEERS.SEESAW.P"}
    assert changed_keys(older, focal) == {}, "it had its default before the project had a key for it"
    older["MODEL.REG.PEERS.SEESAW.P"] = 0.5
    assert changed_keys(older, focal) == {"MODEL.REG.PEERS.SEESAW.P": (0.5, 0.8)}


def test_a_project_that_may_change_anything_counts():
    file = REPOSITORY / "configs/demo.yaml"
    alone = deciding(load_config(file))
    both = deciding(load_config(file, ["PROJECTS", "['longtail_losses']"]))
    both["PROJECTS"] = ["longtail_losses", "my_sampler"]
    assert changed_keys(alone, both) == {"PROJECTS": ([], ["my_sampler"])}


def test_another_program_counts(workshop):
    (run, *_) = workshop.runs().values()
    assert run.config["program"] == "tests/ablation/fake_train.py", "the same on every machine"
    del workshop.content["program"]
    workshop.write()
    (standard, *_) = workshop.runs().values()
    assert "program" not in standard.config
    assert changed_keys(standard.config, run.config) == {
        "program": ("tools/train_net.py", "tests/ablation/fake_train.py")
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("rowz: {}", r"key of the study is 'rowz'. Did you mean 'rows'\? Valid: description, base"),
        ("rows: {a: {sets: {}}}", r"key of row 'a' is 'sets'. Did you mean 'set'\?"),
        ("datasets: {d: {mak: x}}", r"key of data set 'd' is 'mak'. Did you mean 'make'\? Valid: base, set, make"),
        ("base_row: c", "base_row is 'c'. Valid: a, b"),
        ("also_versus: c", "also_versus is 'c'. Valid: a, b"),
        ("base: absent.yaml", "base: absent.yaml does not exist; tried"),
        ("rows: {a: {config: absent.yaml}}", "config of row 'a': absent.yaml does not exist; tried"),
        ("datasets: {d: {make: absent.py --x}}", "make of data set 'd': absent.py does not exist; tried"),
        ("rows: {a: {}, a: {}}", "'a' is there twice"),
        ("rows: {a: {from: z}}", "from of row 'a' is 'z'. Valid: a"),
        ("rows: {a: {from: b}, b: {from: a}}", "in a circle: a <- b <- a"),
        ("rows: {a: {}, b: {evaluate_of: a}, c: {evaluate_of: b}}", "row 'c' evaluates 'b', which trains nothing"),
        ("rows: {a: {evaluate_of: a}}", "row 'a' evaluates itself"),
        ("rows: {a: {set: &x {MODEL: *x}}}", "a mapping holds itself"),
        ("base: {folder}/circle.yaml", "circle.yaml: its _BASE_ leads back to itself"),
        ("base: {folder}/orphan.yaml", "row 'a' on d, base .*orphan.yaml: .*parent.yaml"),
        ("rows: {a: {set: {_BASE_: x.yaml}}}", "set of row 'a' has _BASE_, .*: use base, from, or config"),
        ("rows: {a: {set: {SOLVER.MAX_ITER: }}}", "row 'a' on d, base .*: SOLVER.MAX_ITER has no value"),
        ("base: {folder}/empty.yaml", "empty.yaml: expected config keys with their values"),
        ("seeds: [2020-13-45]", "month must be in 1..12"),
        ("rows: {a: {<<: 3}}", "expected a mapping"),
        ("rows: {a: {}, b: {evaluate_of: a, from: a}}", "both from and evaluate_of"),
        ("rows: {a-b: {}}", "'a-b' is no name"),
        ("rows: {}", "rows is {}; expected at least one name"),
        ("rows: {a: {set: [1]}}", r"set of row 'a' is \[1\]"),
        ("seeds: [0, 0]", "expected a list of different whole numbers"),
        ("seeds: [-1]", "expected a list of different whole numbers"),
        ("seeds: [True]", "expected a list of different whole numbers"),
        (
            "rows: {a: {set: {SOLVER.MAX_ITR: 1}}}",
            "row 'a' on d, base .*demo.yaml: no config has the key 'SOLVER.MAX_ITR'. Did you mean 'SOLVER.MAX_ITER'",
        ),
        ("rows: {a: {set: {SOLVER.MAX_ITER: many}}}", "row 'a' on d, base .*: Type mismatch"),
        ("rows: [", "expected (the )?node content"),
        ("rows: {a: {}, b: {from: [a]}}", r"from of row 'b' is \['a'\]. Valid: a, b"),
        ("base_row: [a]", r"base_row is \['a'\]. Valid: a, b"),
        ("base: 5", "base is 5; expected the path of a file"),
        ("datasets: {d: {base: [x]}}", "base of data set 'd' is .*; expected the path of a file"),
        ("datasets: {d: 5}", "data set 'd' is 5; expected some of the keys base, set, make"),
        ("program: 5", "program is 5; expected the path of a file"),
        ("rows: {a: {config: 5}}", "config of row 'a' is 5; expected the path of a file"),
        ("rows: {a: {config: [configs/demo.yaml, 5]}}", "config of row 'a' is 5; expected the path of a file"),
        ("rows: {[a]: {}}", r"\['a'\] is a key; expected a name"),
        ("rows: {a: {config: {folder}/broken.yaml}}", "(?s)broken.yaml: .*expected (the )?node content"),
        ("base: {folder}/broken.yaml", "(?s)broken.yaml: .*expected (the )?node content"),
        ("datasets: {d: {make: [tools/train_net.py, x]}}", r"make of data set 'd' is \[.*\]; expected text"),
        ("""datasets: {d: {make: "tools/train_net.py 'x"}}""", "make of data set 'd' is .*: no closing quotation"),
        ("description: [x]", r"description is \['x'\]; expected text"),
        ("rows: {a: {label: b}, b: {}}", "rows 'a' and 'b' have the same label 'b'"),
        ("rows: {a: {label: [x]}}", r"label of row 'a' is \['x'\]; expected text"),
        ("seeds: 3", r"seeds is 3; expected a list of different whole numbers from 0 up, such as \[0, 1, 2\]"),
        ("datasets: {d: {seeds: [-1]}}", r"seeds of data set 'd' is \[-1\]; expected a list of different whole"),
        ("datasets: {d: {rows: a}}", "rows of data set 'd' is 'a'; expected a list of the study's rows"),
        ("datasets: {d: {rows: [aa]}}", "one of the rows of data set 'd' is 'aa'. Did you mean 'a'"),
        ("paper_tables: never", "paper_tables is 'never'; expected true or false"),
        ("rows: {a: {set: {SOLVER.MAX_ITER.X: 1}}}", "row 'a' on d, base "),
        ("rows: {a: {set: {SEED: 5}}}", "set of row 'a' has SEED, .* use the study's seeds"),
        ("set: {OUTPUT_DIR: x}", "set has OUTPUT_DIR, .* use --output"),
        ("rows: {a: {set: {SOLVER.MAX_ITER: 1, SOLVER: {MAX_ITER: 2}}}}", "set of row 'a': SOLVER.MAX_ITER is there"),
        ("rows: {a: {set: {MODEL.ROI_*_HEAD.NAME: x}}}", r"no config has the key 'MODEL.ROI_\*_HEAD.NAME'"),
    ],
)
def test_a_wrong_study_is_told_what_is_wrong(tmp_path, change, message):
    lines = {
        "base": "base: configs/demo.yaml",
        "base_row": "base_row: a",
        "seeds": "seeds: [0]",
        "datasets": "datasets: {d: {}}",
        "rows": "rows: {a: {}, b: {}}",
    }
    key = change.split(":")[0]
    (tmp_path / "broken.yaml").write_text("MODEL: [")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "orphan.yaml").write_text("_BASE_: parent.yaml\n")
    (tmp_path / "circle.yaml").write_text("_BASE_: circle.yaml\n")
    lines[key] = change.replace("{folder}", str(tmp_path))
    file = tmp_path / "study.yaml"
    file.write_text("\n".join(lines.values()))
    with pytest.raises(StudyError, match=message) as raised:
        all_runs(load_study(file), tmp_path, tmp_path)
    assert str(file) in str(raised.value)


def test_a_data_set_may_have_rows_and_seeds_of_its_own(workshop):
    rows = {"tuned": {"evaluate_of": "plain", "set": {"TEST.DETECTIONS_PER_IMAGE": 5}}}
    workshop.content["rows"] |= rows
    workshop.write(datasets={"roads": {}, "paths": {"rows": ["tuned", "plain"], "seeds": [7]}})
    runs = all_runs(load_study(workshop.file), workshop.output, workshop.results)
    paths, roads = ({(run.row, run.seed) for run in runs if run.dataset == name} for name in ("paths", "roads"))
    assert paths == {("plain", 7), ("tuned", 7)}
    assert roads == {(row, seed) for row in workshop.content["rows"] for seed in workshop.content["seeds"]}
    with pytest.raises(StudyError, match="no run with dataset paths; seed 0: see the rows and seeds"):
        select(runs, dataset=["paths"], row=None, seed=[0])
    workshop.write(datasets={"paths": {"rows": ["tuned"]}})
    with pytest.raises(StudyError, match="rows of data set 'paths' have 'tuned' without 'plain', whose checkpoints"):
        load_study(workshop.file)


def test_what_is_left_empty_is_not_there(workshop):
    workshop.content["rows"]["plain"] |= {"label": None, "config": None, "versus": None, "from": None}
    workshop.write(description=None, datasets={"roads": {"make": None, "base": None}}, program=None)
    study = load_study(workshop.file)
    assert (study.description, study.rows["plain"].label, study.datasets["roads"].make) == ("", "plain", ())
    assert (study.rows["plain"].versus, study.program_name) == ("plain", "tools/train_net.py")


def test_mappings_can_be_merged_and_what_is_said_beside_them_wins(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(
        "base: configs/demo.yaml\nbase_row: a\nseeds: [0]\ndatasets: {d: {}}\n"
        "rows:\n  a: {set: &a {SOLVER.MAX_ITER: 5, VERSION: 1}}\n  b: {set: &b {<<: *a, SOLVER.MAX_ITER: 7}}\n"
        "  c: {set: {<<: *b, TEST.EVAL_PERIOD: 2}}\n"
    )
    rows = load_study(file).rows
    assert rows["b"].options == {"SOLVER.MAX_ITER": "7", "VERSION": "1"}
    assert rows["c"].options == {"SOLVER.MAX_ITER": "7", "VERSION": "1", "TEST.EVAL_PERIOD": "2"}


@pytest.mark.parametrize("key", ["base_row", "seeds", "datasets", "rows"])
def test_a_study_without_a_part_is_told_which(workshop, key):
    del workshop.content[key]
    workshop.write()
    with pytest.raises(StudyError, match=f"has no '{key}'; it needs base_row, seeds, datasets, rows"):
        load_study(workshop.file)


def test_yaml_that_detectron2_reads_is_what_we_read(tmp_path):
    """The options of a row give the config that merging its file gives."""
    file = REPOSITORY / "configs/studies/base/plain.yaml"
    options = to_options(yaml.safe_load(file.read_text()))
    pairs = [x for pair in options.items() for x in pair]
    merged = load_config(file)
    assert deciding(load_config(REPOSITORY / "configs/studies/base/highway.yaml", pairs)) == deciding(merged)


def test_the_guides_example_is_a_study_and_has_every_key(tmp_path):
    text = (REPOSITORY / "docs/studies.md").read_text(encoding="utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    (tmp_path / "my_study.yaml").write_text(example)
    content = yaml.safe_load(example)
    (tmp_path / "my_roads.yaml").write_text(f"_BASE_: {REPOSITORY / 'configs/demo.yaml'}\n")
    study = load_study(tmp_path / "my_study.yaml")
    assert len(all_runs(study, tmp_path, tmp_path)) == 4 * 3 + 2 * 5
    assert set(content) == set(STUDY_KEYS)
    assert set().union(*content["datasets"].values()) == set(DATASET_KEYS)
    assert set().union(*content["rows"].values()) == set(ROW_KEYS)
