"""YAML files in which a key that is there twice is an error; the standard loader keeps the last one silently."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: Path) -> Any:
    """The content of a file, in Python's own types.

    Raises:
        ValueError: broken YAML, a key twice in a mapping, text that is not UTF-8. The message has the place in the
            file, where YAML's parser knows it, and not the file's name.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), _UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # libyaml, ten times faster, where PyYAML has it
    def __init__(self, stream):
        super().__init__(stream)
        self._seen_nodes = set()

    def flatten_mapping(self, node):
        """Called with each mapping before it is made, and again where another one merges it in (``<<: *name``).

        What it merges in itself may have its keys, so that they are looked at once, before.
        """
        if id(node) not in self._seen_nodes:
            self._seen_nodes.add(id(node))
            self._refuse_repeated_keys(node)
        super().flatten_mapping(node)

    def _refuse_repeated_keys(self, node):
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                continue
            key, mark = self.construct_object(key_node, deep=True), key_node.start_mark
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is a key; expected a name", mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", mark)
            seen.add(key)
