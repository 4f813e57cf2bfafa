"""Makefile, Dockerfile, lock, .ci/run and the READMEs name only what exists, and the same versions."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from reg_d2.engine import argument_parser, load_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
LOCK = (ROOT / "requirements.lock").read_text()
README = (ROOT / "README.md").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):(?!=)", MAKEFILE, re.M))


def docker_instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of every line of the Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def docker(instruction: str) -> list[str]:
    found = [" ".join(arguments.split()) for name, arguments in docker_instructions() if name == instruction]
    assert found, f"the Dockerfile has no {instruction}"
    return found


def uv_version() -> str:
    return re.search(r"^UV_VERSION := (\S+)$", MAKEFILE, re.M)[1]


def lock_requirements() -> list[str]:
    """One string a requirement: name, version, marker, hashes."""
    return [block for block in re.split(r"\n(?=\S)", LOCK.strip().replace("\\\n", " ")) if not block.startswith("#")]


def locked_versions() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for requirement in lock_requirements():
        name, version = re.match(r"([a-z0-9-]+)==(\S+)", requirement).groups()
        found.setdefault(name, set()).add(version)
    return found


# Dockerfile


def test_docker_copies_what_exists():
    sources = [source for arguments in docker("COPY") for source in arguments.split()[:-1]]
    assert {"requirements.lock", "pyproject.toml", "reg_d2", "tools", "configs"} <= set(sources)
    assert [s for s in sources if not (ROOT / s).exists()] == []
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == set(sources)


def test_docker_versions():
    (image,) = docker("FROM")
    python = tuple(int(n) for n in re.fullmatch(r"python:(\d+)\.(\d+)-slim", image).groups())
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["project"]["requires-python"]).groups()
    assert (3, int(low)) <= python < (3, int(high))
    assert f"UV_VERSION={uv_version()}" in docker("ARG")
    assert any("uv==${UV_VERSION}" in line for line in docker("RUN"))


def test_docker_installs_the_lock():
    (sync,) = [line for line in docker("RUN") if "uv pip sync" in line]
    lock = sync.split()[-1]
    assert lock == "requirements.lock" and (ROOT / lock).is_file()
    assert any(lock in arguments for arguments in docker("COPY"))
    # What uv reads beside the lock must be there by then.
    order = [f"{name} {arguments}" for name, arguments in docker_instructions()]
    copied = next(i for i, line in enumerate(order) if line.startswith("COPY") and "pyproject.toml" in line)
    assert copied < next(i for i, line in enumerate(order) if "uv pip sync" in line)


def test_docker_entry_point():
    (entry,) = docker("ENTRYPOINT")
    program, script = ast.literal_eval(entry)
    assert program == "python" and script == "tools/train_net.py" and (ROOT / script).is_file()


def test_docker_user_is_not_root():
    instructions = [name for name, _ in docker_instructions()]
    user = docker("USER")[-1]
    assert user not in ("root", "0") and any(f"useradd --create-home --uid 1000 {user}" in x for x in docker("RUN"))
    assert instructions.index("USER") > max(i for i, name in enumerate(instructions) if name in ("RUN", "COPY"))


# Lock


def test_lock_has_hashes_and_no_hosts():
    requirements = lock_requirements()
    assert len(requirements) > 40
    assert [r.split()[0] for r in requirements if "--hash=sha256:" not in r] == []
    assert [r.split()[0] for r in requirements if not re.match(r"[a-z0-9-]+==[\w.+!-]+(\s|$)", r)] == []
    assert "://" not in LOCK and "index-url" not in LOCK and " @ " not in LOCK


def test_lock_has_the_matching_pair_of_torch():
    pairs = dict(pin.split("==") for pin in PROJECT["tool"]["uv"]["constraint-dependencies"])
    assert set(pairs) == {"torch", "torchvision"}
    versions = locked_versions()
    assert {name: versions[name] for name in pairs} == {name: {version} for name, version in pairs.items()}


def test_lock_covers_every_dependency():
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(r for extra in extras.values() for r in extra)]
    names = {re.match(r"[\w.-]+", r)[0].lower().replace("_", "-") for r in wanted}
    assert {"torch", "pb1-detectron2", "pytest"} <= names
    assert names - set(locked_versions()) == set()


def test_make_lock_writes_every_extra():
    command = re.search(r"^lock:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)[1]
    assert set(re.findall(r"--extra (\S+)", command)) == set(PROJECT["project"]["optional-dependencies"])
    for option in ("--universal", "--python-version 3.10", "--generate-hashes", "--no-emit-index-url"):
        assert option in command


# Makefile


@pytest.fixture
def checkout(tmp_path):
    """A checkout in which the set-up was done, as make sees it."""
    for name in ("Makefile", "pyproject.toml", "setup.py", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
        os.utime(tmp_path / name, (1000, 1000))
    (tmp_path / ".venv").mkdir()
    for i, name in enumerate((f".uv-{uv_version()}", ".installed")):
        (tmp_path / ".venv" / name).touch()
        os.utime(tmp_path / ".venv" / name, (2000 + i, 2000 + i))
    return tmp_path


def would_run(checkout, target: str) -> str:
    if shutil.which("make") is None:
        pytest.skip("no make")
    # Without the variables of a make that runs these tests.
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")}
    done = subprocess.run(["make", "-n", target], cwd=checkout, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("target", ["setup", "test", "demo", "lint"])
def test_set_up_once(checkout, target):
    commands = would_run(checkout, target)
    assert "venv .venv" not in commands and "pip" not in commands
    assert target == "setup" or ".venv/bin/" in commands


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml", "setup.py"])
def test_set_up_again_after_a_change(checkout, changed):
    os.utime(checkout / changed, (3000, 3000))
    commands = would_run(checkout, "test")
    assert "uv pip sync --python .venv/bin/python --compile-bytecode requirements.lock" in commands
    assert commands.index("uv pip sync") < commands.index("--no-build-isolation -e .") < commands.index("-m pytest")


def test_set_up_first(checkout):
    shutil.rmtree(checkout / ".venv")
    commands = would_run(checkout, "test")
    assert f"uv=={uv_version()}" in commands and "-m venv" in commands
    assert commands.index(f"uv=={uv_version()}") < commands.index("uv pip sync")


def test_demo_calls_what_exists(checkout):
    commands = would_run(checkout, "demo")
    named = set(re.findall(r"\b(?:tools|configs)/[\w./-]+", commands))
    assert {"tools/make_highway.py", "tools/train_net.py", "tools/show_predictions.py", "configs/demo.yaml"} <= named
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_phony_targets():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split()
    assert set(phony) == TARGETS >= {"help", "setup", "demo", "test", "lint", "lock", "clean"}


def test_ci_runs_the_readme_test_command():
    script = ROOT / ".ci/run"
    lines = script.read_text().splitlines()
    assert os.access(script, os.X_OK) and "set -euo pipefail" in lines
    assert "make test" in lines and "make lint" in lines
    assert re.search(r"^make test$", README, re.M)


# READMEs


def test_readme_names_existing_targets():
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.M))
    assert {"demo", "test", "setup"} <= named and named - TARGETS == set()


def test_readme_names_existing_paths():
    paths = set(re.findall(r"\b(?:configs|tools|reg_d2|docs|projects|tests)/[\w./-]*\w", README))
    paths |= {target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target}
    # Made by the container, not in the checkout.
    paths -= {"reg_d2/output"}
    assert {"tools/train_net.py", "configs/REG-A-R18.yaml"} <= paths
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


def test_readme_shows_the_defaults():
    """Every row of the table of keys: the key exists, and has this default."""
    reg = load_config("").MODEL.REG
    rows = re.findall(r"^\| (`[A-Z*][^|]*`) \| ([^|]+) \|", README, re.M)
    assert len(rows) > 10
    for keys, default in rows:
        for key in re.findall(r"`([^`]+)`", keys):
            for full in [key.replace("*", head) for head in ("BOX", "MASK")]:
                value = reg
                for part in full.split("."):
                    assert isinstance(value, CfgNode) and part in value, f"README: MODEL.REG.{full} is no key"
                    value = value[part]
                assert str(value) == default.strip().strip("`"), f"README: MODEL.REG.{full} is {value}"


@pytest.mark.parametrize("path", ["README.md", "tools/README.md", "projects/README.md"])
def test_readmes_name_no_machine_path(path):
    text = (ROOT / path).read_text()
    assert re.findall(r"(?<![\w.])/(?:work|home|root|Users)/\S*", text) == []


def test_readme_uses_existing_flags():
    """Each `--flag` that README gives to one of our tools is one of that tool's."""
    commands = re.findall(r"tools/(\w+)\.py([^\n`]*)", README.replace("\\\n", " "))
    assert {name for name, _ in commands} >= {"train_net", "predict", "show_predictions", "make_highway"}
    for name, arguments in commands:
        offered = (ROOT / f"tools/{name}.py").read_text()
        if name == "train_net":
            offered = argument_parser("").format_help()
        offered = set(re.findall(r"--[a-z-]+", offered))
        assert set(re.findall(r"(?<!\S)--[a-z-]+", arguments)) - offered == set(), f"{name}: {arguments}"


def test_tools_readme_lists_every_file():
    text = (ROOT / "tools/README.md").read_text()
    listed = re.findall(r"^\| \[[\w.]+\]\(([\w.]+)\) \|", text, re.M)
    files = [f.name for f in (ROOT / "tools").iterdir() if f.is_file() and f.name != "README.md"]
    assert sorted(listed) == sorted(files)


def test_licence():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"]["text"] == "Apache-2.0"
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text
