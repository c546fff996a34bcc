"""YAML in which a key is a text: the bare key `on`, as a switch has it, is true to YAML 1.1."""

from __future__ import annotations

from typing import Any


def load(text: str) -> Any:
    """The value of a document. Raises `yaml.YAMLError`."""
    import yaml  # only who has YAML pays for the parser

    class Loader(yaml.SafeLoader):
        """Takes keys that look like booleans for what is written."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            for key, _value in node.value:
                if key.tag == "tag:yaml.org,2002:bool":
                    key.tag = "tag:yaml.org,2002:str"
            made: dict[Any, Any] = super().construct_mapping(node, deep)
            return made

    return yaml.load(text, Loader)  # noqa: S506  # a safe loader, with one rule less
