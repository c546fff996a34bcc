"""Skills: versioned folders with instructions and scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from textual.content import Content

from portico.schemas.skills import Skill, SkillVersion
from portico_tui.screens.page import AppServices, ListingScreen, SublistScreen, action, row_action
from portico_tui.text import clock, one_line
from portico_tui.widgets.dialogs import Field, Form
from portico_tui.widgets.schema_form import local_path
from portico_tui.widgets.table_rows import TableColumn


class SkillsScreen(ListingScreen[Skill]):
    """The caller's skills and the shared skills, sorted by name."""

    MODE = "skills"
    TAB = "Skills"
    COLUMNS = (
        TableColumn[Skill]("SKILL", lambda skill: skill.name, "bold", 36),
        TableColumn[Skill](
            "VERSION", lambda skill: skill.default_version, sort=lambda skill: int(skill.default_version)
        ),
        TableColumn[Skill](
            "LATEST", lambda skill: skill.latest_version, sort=lambda skill: int(skill.latest_version)
        ),
        TableColumn[Skill]("SHARED", lambda skill: "yes" if skill.shared else "no", "dim"),
        TableColumn[Skill]("WHAT", lambda skill: skill.description, "dim"),
    )
    EMPTY = "No skills yet.\n\nPress n to add a folder with a SKILL.md, or an archive of it."

    async def find(self) -> Sequence[Skill]:
        return await self.client.skills.list()

    def detail(self, item: Skill) -> Iterable[Content | str]:
        yield one_line(item.description)

    @action("n", "Add", "Add a skill; if the name exists, add a new default version")
    async def add(self) -> None:
        source = Field("source", "A folder with a SKILL.md, or a zip or tar archive of it", check=local_path)
        answers = await self.ask(Form("Add a skill", source))
        if answers is None:
            return
        skill = await self.client.skills.add(local_path(answers["source"]))
        self.report("Skill", f"'{one_line(skill.name)}' is now at version {skill.default_version}.")

    @row_action("enter,v", "Versions", "Versions of the skill, and their files")
    async def versions(self, skill: Skill) -> None:
        self.app.push_screen(SkillVersionsScreen(self.services, skill))

    @row_action("d", "Delete", "Delete the skill with all its versions")
    async def delete(self, skill: Skill) -> None:
        if await self.sure(f"Delete '{one_line(skill.name)}' with all its versions?", "Delete"):
            await self.client.skills.remove(skill.id)


class SkillVersionsScreen(SublistScreen[SkillVersion]):
    """The versions of a skill, newest first."""

    MODE = "skills"
    TAB = "Skills"
    COLUMNS = (
        TableColumn[SkillVersion](
            "VERSION", lambda version: version.version, "bold", sort=lambda version: int(version.version)
        ),
        TableColumn[SkillVersion]("SINCE", lambda version: clock(version.created_at), "dim"),
        TableColumn[SkillVersion](
            "FILES", lambda version: len(version.files), sort=lambda version: len(version.files)
        ),
        TableColumn[SkillVersion]("WHAT", lambda version: version.description, "dim"),
    )
    EMPTY = "No versions."

    def __init__(self, services: AppServices, skill: Skill) -> None:
        super().__init__(services, f"Versions of {skill.name}")
        self._skill = skill

    async def find(self) -> Sequence[SkillVersion]:
        return await self.client.skills.versions(self._skill.id)

    def detail(self, item: SkillVersion) -> Iterable[Content | str]:
        return (f"{one_line(str(file['path']))} · {file['bytes']:,} bytes" for file in item.files)

    @row_action("s", "Default", "Make this version the default")
    async def use(self, version: SkillVersion) -> None:
        skill = await self.client.skills.set_default(self._skill.id, version.version)
        self.report(
            "Skill", f"Version {skill.default_version} of '{one_line(skill.name)}' is now the default."
        )

    @row_action("x", "Save", "Save the version as a zip archive")
    async def save(self, version: SkillVersion) -> None:
        answers = await self.ask(
            Form("Save the version", Field("folder", "Local folder", ".", check=local_path))
        )
        if answers is None:
            return
        content = await self.client.skills.content(self._skill.id, version.version)
        name = f"{self._skill.name}-{version.version}.zip"
        await self.write_file(local_path(answers["folder"]) / name, content)

    @row_action("d", "Delete", "Delete the version, unless it is the default")
    async def delete(self, version: SkillVersion) -> None:
        if await self.sure(f"Delete version {version.version}?", "Delete"):
            await self.client.skills.remove(self._skill.id, version.version)
