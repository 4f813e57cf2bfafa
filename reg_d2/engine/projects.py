"""Projects: packages beside reg_d2 that the config names in ``PROJECTS``, and that nothing here knows of.

Importing such a package registers its parts (losses, heads); its ``add_config(cfg)``, if there is one, adds its keys.
"""

import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType

from detectron2.config import CfgNode

from ..data.catalog import REPOSITORY


def add_projects(cfg: CfgNode, config_file: str | os.PathLike, opts: list[str]) -> None:
    """Import the projects that a config file or the options name, and add their keys to a config.

    To be called before the file and the options are merged: they may hold the keys.

    Raises:
        ValueError: a project that is not found, or ``PROJECTS`` is no list.
    """
    node = CfgNode({"PROJECTS": []})
    if config_file:
        content = CfgNode.load_yaml_with_base(str(config_file), allow_unsafe=True) or {}
        node.merge_from_other_cfg(CfgNode({"PROJECTS": content.get("PROJECTS", [])}))
    for key, value in zip(opts[::2], opts[1::2], strict=False):
        if key == "PROJECTS":
            node.merge_from_list([key, value])
    for name in node.PROJECTS:
        project = import_project(name)
        if hasattr(project, "add_config"):
            project.add_config(cfg)


def import_project(name: str) -> ModuleType:
    """The package ``projects/<name>`` of this repository, as the module ``projects.<name>``; else the module ``name``.

    Raises:
        ValueError: there is neither.
    """
    folder = REPOSITORY / "projects"
    if name.isidentifier() and (folder / name / "__init__.py").is_file():
        return _import_own(name)
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        known = sorted(p.parent.name for p in folder.glob("*/__init__.py"))
        raise ValueError(
            f"PROJECTS names {name!r}: expected a module that can be imported, or a folder of {folder} "
            f"({', '.join(known)})"
        )
    return importlib.import_module(name)


def _import_own(package: str) -> ModuleType:
    """``projects.<package>``: ``projects`` is no package that is installed, so it is entered as one of this folder."""
    name = "projects"
    if name not in sys.modules:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(REPOSITORY / name)]
        sys.modules[name] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{name}.{package}")
