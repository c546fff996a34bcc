"""Files that people write, as client and daemon both read them: YAML in which a key is a text, and variables in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_VALUES = 1_000_000
"""Values of a document with its aliases written out: a few lines of them can stand for gigabytes."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class UnsetError(LookupError):
    """A variable of the environment that a file names is not set; the text says which."""


def load(text: str) -> Any:
    """The value of a YAML document. Raises `yaml.YAMLError`, also for one of more than `MAX_VALUES`.

    The bare key ``on``, as a switch has it, is true to YAML 1.1: here it is what is written.
    """
    import yaml  # only who has YAML pays for the parser

    class Loader(yaml.SafeLoader):
        """Takes keys that look like booleans for what is written."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            for key, _value in node.value:
                if key.tag == "tag:yaml.org,2002:bool":
                    key.tag = "tag:yaml.org,2002:str"
            made: dict[Any, Any] = super().construct_mapping(node, deep)
            return made

    loader = Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        return loader.construct_document(node)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    finally:
        loader.dispose()


def _count_values(node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for; ``known``: those of the nodes before. Raises `yaml.YAMLError`."""
    import yaml

    if not isinstance(node, yaml.CollectionNode):
        return 1
    count = known.get(id(node))
    if count is None:
        known[id(node)] = MAX_VALUES + 1  # if it holds itself
        inner = (
            node.value
            if isinstance(node, yaml.SequenceNode)
            else [one for pair in node.value for one in pair]
        )
        count = known[id(node)] = 1 + sum(_count_values(one, known) for one in inner)
    if count > MAX_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {MAX_VALUES:,} values, or for themselves")
    return count


def expand(value: Any, environment: Mapping[str, str]) -> Any:
    """A value with ``${NAME}`` and ``${NAME:-default}`` replaced in every text. Raises `UnsetError`."""
    if isinstance(value, dict):
        return {str(key): expand(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, environment) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = environment.get(name, default)
        if found is None:
            raise UnsetError(f"the environment variable {name} is not set.")
        return found

    return _VARIABLE.sub(variable, value)
