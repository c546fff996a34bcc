"""YAML for people: parse errors in one sentence, and output with multi-line texts as blocks."""

from __future__ import annotations

from typing import Any

import yaml

from portico._document import explain, load
from portico.errors import InvalidRequest


class _Dumper(yaml.SafeDumper):
    """Writes multi-line texts as blocks, and never uses aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _block(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _block)


def to_yaml(value: Any) -> str:
    """Format a JSON value as YAML, with keys in their original order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


def parse_yaml(text: str, name: str) -> Any:
    """Parse a YAML document. Raise `InvalidRequest` that contains the file's name and the position of the error."""
    try:
        return load(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{name} is not valid YAML: {explain(error)}.", param="file") from error
