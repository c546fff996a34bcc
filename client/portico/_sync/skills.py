# Generated from portico._async by scripts/sdk: change it there.
"""Skills: folders with instructions and scripts that models read when needed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from portico._request import Upload, at, check_path_name, without_none
from portico._sync.calls import skills as calls_skills
from portico.errors import InvalidRequest
from portico.schemas.skills import Skill, SkillVersion


class Skills(calls_skills.Skills):
    """Agent Skills. A skill is identified by name or id, a version by number, ``latest`` or ``default``."""

    def add(self, source: Path | bytes) -> Skill:
        """Add a skill from a folder, or from a zip or tar archive (a file or bytes). If the name exists, add a new
        default version.

        Adding the same content again does not create another version. Raises `InvalidRequest` for content that is not
        a skill.
        """
        upload = skill_upload(source)
        query = {"update": True}
        return self._transport.request("POST", "/v1/skills", Skill, upload=upload, query=query, slow=True)

    def list(self, *, everyone: bool = False) -> list[Skill]:
        """List the caller's skills and the shared skills, sorted by name. Admins can set ``everyone`` to include the
        skills of other keys.
        """
        skills: list[Skill] = []
        while True:
            query = without_none(after=skills[-1].id if skills else None, limit=100, all=everyone or None)
            page = self._transport.request("GET", "/v1/skills", list[Skill], query=query)
            skills += page
            if len(page) < 100:
                return sorted(skills, key=lambda skill: skill.name)

    def version(self, skill: str, version: str = "default") -> SkillVersion:
        """Return a version, with its front matter and its files. Raises `NotFound`."""
        return self._transport.request("GET", self._at(skill, "versions", version), SkillVersion)

    def versions(self, skill: str) -> Sequence[SkillVersion]:
        """Return all versions, newest first."""
        query = {"limit": 100}
        return self._transport.request("GET", self._at(skill, "versions"), list[SkillVersion], query=query)

    def content(self, skill: str, version: str = "default") -> bytes:
        """Return a version as a zip archive."""
        return self._transport.request(
            "GET", self._at(skill, "versions", version, "content"), bytes, slow=True
        )

    def remove(self, skill: str, version: str | None = None) -> None:
        """Delete a skill with all its versions, or only ``version``, which must not be the default."""
        if version is None:
            self._transport.request("DELETE", self._at(skill), None)
        else:
            self._transport.request("DELETE", self._at(skill, "versions", version), None)

    def _at(self, skill: str, *parts: str) -> str:
        return at("v1", "skills", check_path_name(skill, "a skill"), *parts)


def skill_upload(source: Path | bytes) -> Upload:
    """Return an upload: a folder is packed as an archive, an archive is used unchanged. Raise `InvalidRequest` for
    links and missing paths.
    """
    if isinstance(source, bytes):
        return Upload("skill.zip", source, name="files")
    if source.is_file():
        return Upload(source.name, source, name="files")
    if not source.is_dir():
        raise InvalidRequest(f"The folder or archive '{source}' does not exist.", param="files")
    folder = source.resolve()
    bytes_io = io.BytesIO()
    with zipfile.ZipFile(bytes_io, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if any(part.startswith(".") or part == "__pycache__" for part in name.parts):
                continue
            if path.is_symlink():
                raise InvalidRequest(
                    f"'{path}' is a link; a skill can contain only files and folders.", param="files"
                )
            if path.is_file():
                archive.write(path, f"{folder.name}/{name.as_posix()}")
    return Upload(f"{folder.name}.zip", bytes_io.getvalue(), name="files")
