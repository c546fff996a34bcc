"""`portico skills` and `Client.skills` against a daemon. tests/server/features/skills tests what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import AsyncClient, Client, InvalidRequest, NotFound


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    skill_folder = tmp_path / "pdf-forms"
    (skill_folder / "scripts").mkdir(parents=True)
    (skill_folder / ".git").mkdir()
    (skill_folder / ".git" / "config").write_text("secret")
    (skill_folder / "SKILL.md").write_text(
        "---\nname: pdf-forms\ndescription: Fills forms.\nlicense: MIT\n---\nDo it."
    )
    (skill_folder / "scripts" / "fill.py").write_text("print(1)")
    return skill_folder


def test_a_skill_is_added_shown_changed_exported_and_removed(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    assert "No skills yet" in command("skills", "list").out
    assert command("skills", "add", str(folder)).out == "'pdf-forms' is now at version 1.\n"
    assert command("skills", "add", str(folder), "--json").json["latest_version"] == "1"
    exported = tmp_path / "out.zip"
    assert command("skills", "export", "pdf-forms", "--to", str(exported)).code == 0
    with zipfile.ZipFile(exported) as packed:
        assert packed.namelist() == ["pdf-forms/SKILL.md", "pdf-forms/scripts/fill.py"]
    (folder / "scripts" / "fill.py").write_text("print(2)")
    assert command("skills", "add", str(folder)).out == "'pdf-forms' is now at version 2.\n"
    details = command("skills", "show", "pdf-forms").out
    assert "2 of 2, 2 is the default" in details and "MIT" in details and "scripts/fill.py" in details
    assert (
        command("skills", "show", "pdf-forms", "--json").json["version"]["front_matter"]["license"] == "MIT"
    )
    assert command("skills", "default", "pdf-forms", "1").out == "'pdf-forms' is now at version 1.\n"
    assert command("skills", "add", str(exported), "--json").json["default_version"] == "1"
    assert [
        version["version"] for version in command("skills", "versions", "pdf-forms", "--json").json["data"]
    ] == [
        "2",
        "1",
    ]
    [skill] = command("skills", "list", "--json").json["data"]
    assert (skill["name"], skill["shared"]) == ("pdf-forms", True)
    assert "shared" in command("skills", "list", "--all").out
    assert command("skills", "remove", "pdf-forms", "--version", "1", "--yes").code == 1
    assert command("skills", "remove", "pdf-forms", "--version", "2", "--yes").code == 0
    assert command("skills", "remove", "pdf-forms", "--dry-run").out == "Would remove 'pdf-forms'.\n"
    assert command("skills", "remove", "pdf-forms", "--yes").out == "Removed 'pdf-forms'.\n"


async def test_the_sdk_takes_folders_and_archives(daemon: Daemon, folder: Path) -> None:
    async with AsyncClient(daemon.url) as client:
        added_skill = await client.skills.add(folder)
        data = await client.skills.content("pdf-forms", "latest")
        assert (await client.skills.add(data)).id == added_skill.id
        assert [skill.id for skill in await client.skills.list(everyone=True)] == [added_skill.id]
        (folder / "out").symlink_to("/etc/passwd")
        with pytest.raises(InvalidRequest, match="is a link"):
            await client.skills.add(folder)
        with pytest.raises(InvalidRequest, match=r"The folder or archive '.*absent' does not exist"):
            await client.skills.add(folder / "absent")
        await client.skills.remove(added_skill.id)
        with pytest.raises(NotFound):
            await client.skills.get("pdf-forms")


def test_a_configuration_names_skills_and_agents_that_have_them(
    command: Command, daemon: Daemon, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "portico.yaml"
    file.write_text(
        "skills:\n  - {name: pdf-forms}\n"
        "agents:\n  - {name: filler, portico_agent: 1, model: default, skills: [pdf-forms]}\n"
    )
    assert "+ skills/pdf-forms" in command("apply", "-f", str(file)).out
    assert "2 unchanged" in command("apply", "-f", str(file)).out
    with Client(daemon.url) as client:
        assert client.skills.get("pdf-forms").description == "Fills forms."
        file.write_text("skills: [{name: other, folder: pdf-forms}]\nagents: []\n")
        wrong = command("apply", "-f", str(file))
        assert wrong.code == 1 and "is called 'pdf-forms', not 'other'" in wrong.err
        file.write_text("skills: []\nagents: []\n")
        assert command("apply", "-f", str(file), "--prune", "--yes").code == 0
        assert client.skills.list() == []
