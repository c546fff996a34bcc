"""YAML for people: read with one sentence for what is wrong, written with texts as blocks."""

from __future__ import annotations

from typing import Any

import yaml

from portico.errors import InvalidRequest


class _Loader(yaml.SafeLoader):
    """Takes keys that look like booleans for what is written: the bare key `on` is true to YAML 1.1."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _value in node.value:
            if key.tag == "tag:yaml.org,2002:bool":
                key.tag = "tag:yaml.org,2002:str"
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


class _Dumper(yaml.SafeDumper):
    """Texts of several lines are blocks, and nothing is an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _block)


def to_yaml(value: Any) -> str:
    """A JSON value as YAML, its keys in their order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def parse_yaml(text: str, name: str) -> Any:
    """A YAML document. Raises `InvalidRequest` that names the file and the place."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506  # a safe loader, with one rule less
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{name} is not valid YAML: {error}", param="file") from error
