"""From a study's nested settings to config options, and from a config to what decides a run's numbers."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..config import add_reg_config
from ..engine.projects import add_projects
from ..losses import LOSSES

# What does not change a run's numbers, or is filled in from the data.
IGNORED = {
    "VERSION",
    "OUTPUT_DIR",
    "MODEL.DEVICE",
    "DATASETS.CATALOG",
    "DATALOADER.NUM_WORKERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "TEST.REPORT",
    "MODEL.REG.CLASS_NAMES",
    "MODEL.REG.BOX_COUNTS",
    "MODEL.REG.MASK_COUNTS",
}
# What trains and evaluates, unless a study says otherwise: "program" of a config, which no config file has.
PROGRAM = "tools/train_net.py"
LOSSES_PROJECT, PEERS = "longtail_losses", "MODEL.REG.PEERS."
# Keys by their beginning, and whether they play a part under a config (its values, by key).
PLAYS_A_PART: dict[tuple[str, ...], Callable[[Callable[[str], Any]], bool]] = {
    ("SOLVER.PROXIMAL.REFINEMENT_",): lambda value: (
        value("MODEL.REG.BOX.REFINEMENT.LEARNED") or value("MODEL.REG.MASK.REFINEMENT.LEARNED")
    ),
    # Of the project LOSSES_PROJECT: it brings losses and nothing else, so it acts where the config names one.
    (PEERS,): lambda value: value("MODEL.REG.BOX.LOSS") not in LOSSES,
    # What is below a switch.
    **{
        (f"MODEL.REG.{node}.",): lambda value, node=node: value(f"MODEL.REG.{node}.ENABLED")
        for node in (
            *("BOX.REFINEMENT", "BOX.UNCERTAINTY", "BOX.PRIMAL_DUAL", "BOX.COSINE"),
            *("MASK.REFINEMENT", "MASK.UNCERTAINTY", "MASK.PRIMAL_DUAL"),
        )
    },
}
BOTH_HEADS = "MODEL.REG.*."
HASH_LENGTH = 12


def to_options(settings: Mapping[str, Any]) -> dict[str, str]:
    """Nested or dotted settings as config options: ``{"SOLVER": {"MAX_ITER": 5}}`` -> ``{"SOLVER.MAX_ITER": "5"}``.

    ``MODEL.REG.*.KEY`` stands for the key of both heads; of it and a head's own, the later wins. Detectron2's
    ``_BASE_`` is left out: a row's file adds what it says itself to the study's base, not the base that it has when it
    is used alone.

    Raises:
        ValueError: a key twice, once dotted and once nested.
    """
    options: dict[str, str] = {}
    seen = set()
    for key, value in _leaves(settings):
        if key == "_BASE_":
            continue
        if key in seen:
            raise ValueError(f"{key} is there twice, once dotted and once nested")
        seen.add(key)
        names = [key.replace("*", head, 1) for head in ("BOX", "MASK")] if key.startswith(BOTH_HEADS) else [key]
        options |= dict.fromkeys(names, str(value))
    return options


def check_options(cfg: CfgNode, options: Mapping[str, str]) -> None:
    """Check options against the config that they are to change, for what merging them lets pass or tells badly.

    Raises:
        ValueError: a key that the config does not have, or one left without a value.
    """
    known = _flat(cfg)
    for key, value in options.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ValueError(f"no config has the key {key!r}.{f' Did you mean {near[0]!r}?' if near else ''}")
        if value == "None" and known[key] is not None:
            raise ValueError(f"{key} has no value")


def deciding(cfg: CfgNode) -> dict[str, Any]:
    """What decides a run's numbers: the keys, dotted, whose values are not Detectron2's own defaults.

    These, and not the differences from reg_d2's defaults, so that a changed default shows.
    """
    standard = _detectron2_defaults()
    return {k: v for k, v in _flat(cfg).items() if k not in IGNORED and (k not in standard or standard[k] != v)}


def config_hash(config: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of SHA-256 over ``deciding(cfg)``."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def reference_workers(config: Mapping[str, Any]) -> int:
    """The number of workers that a config is made for: batch, rate and steps are scaled to another; 0: to none."""
    return config.get("SOLVER.REFERENCE_WORLD_SIZE", 0)


def changed_keys(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Key -> (value stored, value now) of what differs between two of ``deciding``.

    A key that reg_d2 or a project has gained since counts as having had its default then: a new switch, which is off,
    makes no result obsolete. Nor does a key that plays no part in both (``PLAYS_A_PART``), nor the project that brings
    losses alone; every other project may change anything.
    """
    standard = _defaults(tuple(sorted({*stored.get("PROJECTS", ()), *now.get("PROJECTS", ())})))
    pairs = {k: (stored.get(k, standard.get(k)), now.get(k, standard.get(k))) for k in sorted({*stored, *now})}
    values = [lambda key, config=config: config.get(key, standard.get(key)) for config in (stored, now)]
    idle = tuple(
        start
        for starts, plays_a_part in PLAYS_A_PART.items()
        if not any(plays_a_part(value) for value in values)
        for start in starts
    )
    if PEERS in idle and "PROJECTS" in pairs:
        pairs["PROJECTS"] = tuple([name for name in names if name != LOSSES_PROJECT] for names in pairs["PROJECTS"])
    return {k: pair for k, pair in pairs.items() if pair[0] != pair[1] and not k.startswith(idle)}


def _leaves(settings: Mapping[str, Any], prefix: str = ""):
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def _flat(cfg: CfgNode) -> dict[str, Any]:
    # As JSON gives it back, so that what was stored compares equal.
    return {key: json.loads(json.dumps(value)) for key, value in _leaves(cfg)}


@lru_cache
def _detectron2_defaults() -> dict[str, Any]:
    return _flat(get_cfg())


@lru_cache
def _defaults(projects: tuple[str, ...]) -> dict[str, Any]:
    """Of Detectron2, reg_d2 and those of the projects that are here: a stored result may name another."""
    cfg = get_cfg()
    add_reg_config(cfg)
    for name in projects:
        with suppress(ValueError):
            add_projects(cfg, "", ["PROJECTS", repr([name])])
    return {**_flat(cfg), **_detectron2_defaults(), "program": PROGRAM}
