"""docs/equations.md: E1 to E18 are all there, and every file, function, test and key that it names exists."""

import ast
import re
from functools import lru_cache

import pytest
from detectron2.config import get_cfg

from reg_d2.config import add_reg_config
from reg_d2.data.catalog import REPOSITORY

TEXT = (REPOSITORY / "docs" / "equations.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^### (E\d+)\. .+?\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
QUOTED = re.findall(r"`([^`]+)`", TEXT)
FILES = sorted({q for q in QUOTED if "/" in q and "::" not in q})
TESTS = sorted({q for q in QUOTED if "::" in q})
KEYS = sorted({q for q in QUOTED if re.fullmatch(r"[A-Z]\w*(\.[A-Z*]\w*)+|MODEL\.REG\.\*\.[\w.]+", q)})
ENTRIES = ("Code", "Config", "Tests", "Left open by the paper, decided here")


@lru_cache
def definitions(path):
    """Names that a file defines at its top level, and Class.method."""
    names = set()
    for node in ast.parse((REPOSITORY / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{x.name}" for x in node.body if isinstance(x, ast.FunctionDef)}
        if isinstance(node, ast.Assign):
            names |= {x.id for x in node.targets if isinstance(x, ast.Name)}
    return names


def entry(section, name):
    """The text of one bullet of a section, over all its lines."""
    found = re.search(rf"^- \*\*{name}:\*\* (.+?)(?=^- |^\S|\Z)", section, re.MULTILINE | re.DOTALL)
    return "" if found is None else found.group(1)


def code_names():
    """Triples of equation, file, and a name that a Code entry gives after that file."""
    for number, section in SECTIONS:
        path = None
        for quoted in re.findall(r"`([^`]+)`", entry(section, "Code")):
            if "/" in quoted:
                path = quoted
            else:
                yield number, path, quoted


def test_every_equation_has_a_section_a_formula_and_all_entries():
    assert [number for number, _ in SECTIONS] == [f"E{n}" for n in range(1, 19)]
    for number, section in SECTIONS:
        assert section.count("$$") >= 2, f"{number} has no formula"
        for name in ENTRIES:
            assert entry(section, name).strip(), f"{number} has no entry {name}"
        assert ".py`" in entry(section, "Code"), f"{number} names no file"
        assert ".py::test_" in entry(section, "Tests"), f"{number} names no test"


@pytest.mark.parametrize("path", FILES)
def test_files_exist(path):
    assert (REPOSITORY / path).exists()


@pytest.mark.parametrize(("number", "path", "name"), code_names())
def test_functions_are_in_their_files(number, path, name):
    assert path is not None, f"{number}: {name} has no file before it"
    assert name in definitions(path), f"{number}: {path} does not define {name}"


@pytest.mark.parametrize("test", TESTS)
def test_tests_exist(test):
    path, name = test.split("::")
    assert name.startswith("test_") and name in definitions(path)


@pytest.mark.parametrize("key", KEYS)
def test_keys_exist(key):
    cfg = get_cfg()
    add_reg_config(cfg)
    for head in ("BOX", "MASK") if "*" in key else ("",):
        node = cfg
        for part in key.replace("*", head).split("."):
            assert part in node, f"{key}: no {part}"
            node = node[part]


def test_values_and_other_names_are_words_of_the_code():
    source = "\n".join(p.read_text(encoding="utf-8") for p in (REPOSITORY / "reg_d2").rglob("*.py"))
    words = set(re.findall(r"\w+", source))
    in_code = {name for _, _, name in code_names()}
    others = set(QUOTED) - set(FILES) - set(TESTS) - set(KEYS) - in_code
    assert others and {q for q in others if q not in words} == set()


def test_formulas_hold_nothing_that_markdown_would_take():
    """Markdown drops a backslash before punctuation, and may read an underscore after a bracket as emphasis."""
    formulas = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", TEXT, re.DOTALL)
    assert len(formulas) > 100
    assert [f for f in formulas if re.search(r"\\[^a-zA-Z]|[})\]]_|[*<>]", f)] == []
    assert [f for f in formulas if not f.startswith("$$") and "\n" in f] == []
