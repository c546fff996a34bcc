"""The skills of a configuration, under the key ``skills``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.configuration_document import ConfigurationDocument, read_fields
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.features.skills import folder
from portico_server.features.skills.folder import SkillFolder


def read(document: ConfigurationDocument) -> tuple[SkillFolder, ...]:
    """Return the skills of a configuration. Raise `InvalidRequest`."""
    return document.read_each("skills", lambda item, at: _skill(item, at, document))


def _skill(item: Mapping[str, Any], at: str, document: ConfigurationDocument) -> SkillFolder:
    """Return the skill in a folder or an archive; an entry without a path means the folder with the skill's name."""
    values = read_fields(item, at, {"name": str, "folder": str})
    place = document.path(values.get("folder") or values["name"])
    try:
        skill_folder = (
            folder.read_archive(place.read_bytes()) if place.is_file() else folder.read_folder(place)
        )
    except PorticoError as error:
        raise InvalidRequest(f"{at}: {error.message}", code=error.code, param=f"{at}.folder") from error
    if skill_folder.name != values["name"]:
        raise InvalidRequest(
            f"{at}: the skill in {place} is called '{skill_folder.name}', not '{values['name']}'.",
            param=f"{at}.name",
        )
    return skill_folder
