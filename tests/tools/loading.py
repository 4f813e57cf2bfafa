"""The command-line programs of tools/, as modules."""

import importlib.util
from types import ModuleType

from reg_d2.data.catalog import REPOSITORY


def load_tool(name: str) -> ModuleType:
    """``tools/<name>.py``; each call loads it anew."""
    spec = importlib.util.spec_from_file_location(f"reg_d2_tool_{name}", REPOSITORY / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
