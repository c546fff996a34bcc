"""The prompts of a configuration, under the key ``prompts``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.configuration_document import ConfigurationDocument, read_fields
from portico_server.core.errors import InvalidRequest
from portico_server.core.prompts.spec import PromptSpec, parse
from portico_server.features.prompts.folder import read_folder


def read(document: ConfigurationDocument) -> tuple[PromptSpec, ...]:
    """Return the prompts of a configuration. An entry with ``folder`` means all prompts in that folder. Raise
    `InvalidRequest`.
    """

    def read_prompts(item: Mapping[str, Any], at: str) -> list[PromptSpec]:
        if "folder" in item:
            values = read_fields(item, at, {"name": str, "folder": str})
            return read_folder(document.path(values["folder"]))
        return [parse(item, at)]

    prompt_specs: dict[str, PromptSpec] = {}
    for spec in (spec for specs in document.read_each("prompts", read_prompts) for spec in specs):
        if spec.name in prompt_specs:
            raise InvalidRequest(f"prompts: the name '{spec.name}' is used twice.", param="prompts")
        prompt_specs[spec.name] = spec
    return tuple(prompt_specs.values())
