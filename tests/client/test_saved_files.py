"""Files that commands save under names that a hostile daemon chooses: they stay in their folder, visible and valid."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.client.test_sign_ins import Stranger, strangers

from portico._filenames import filename_problem, to_local_filename
from portico.cli.root import run
from portico.connect.clients import CLIENTS
from portico.connect.connection import plan_skills
from portico.errors import Conflict

__all__ = ["strangers"]

NAMES: Final = {
    "": "file",
    ".": "%2E",
    "..": "%2E.",
    "../a.txt": "a.txt",
    "../../.ssh/authorized_keys": "authorized_keys",
    "/etc/passwd": "passwd",
    "C:\\Windows\\a.txt": "a.txt",
    "C:a.txt": "C%3Aa.txt",
    "a.txt:stream": "a.txt%3Astream",
    ".bashrc": "%2Ebashrc",
    "x/.git": "%2Egit",
    "x\\.env": "%2Eenv",
    "CON": "%43ON",
    "nul.txt": "%6Eul.txt",
    "lpt1 .csv": "%6Cpt1 .csv",
    "a\nb.txt": "a%0Ab.txt",
    "a\x00b.txt": "a%00b.txt",
    "\x1b]0;gone\x07.txt": "%1B]0;gone%07.txt",
    "cod\u202etxt.exe": "cod%E2%80%AEtxt.exe",
    "\ud800.txt": "%ED%A0%80.txt",
    "folder/": "file",
    "报告 😀.pdf": "报告 😀.pdf",
}
"""Names from a daemon, and the names of the saved files."""


@pytest.mark.parametrize("name", NAMES)
def test_a_local_name_is_valid_and_visible(name: str) -> None:
    local_name = to_local_filename(name)
    assert local_name == NAMES[name] and not filename_problem(local_name)
    assert "/" not in local_name and ":" not in local_name and not local_name.startswith(".")


def test_a_long_name_is_shortened() -> None:
    local_name = to_local_filename("." + "文" * 200 + ".csv")
    assert len(local_name.encode()) <= 255 and local_name.startswith("%2E文") and local_name.endswith(".csv")


def save_prompt(stranger: Stranger, name: str) -> list[str]:
    stranger.says(
        "/api/prompts/p/export?format=markdown", {"filename": name, "text": "hello", "format": "markdown"}
    )
    return ["prompts", "export", "p", "--to", "."]


def save_skill(stranger: Stranger, name: str) -> list[str]:
    version = {"id": "skillver_1", "skill_id": "skill_1", "version": "1", "name": name}
    stranger.says("/v1/skills/s/versions/default", version)
    stranger.says("/v1/skills/s/versions/1/content", b"hello")
    return ["skills", "export", "s"]


def save_container_file(stranger: Stranger, name: str) -> list[str]:
    file = {"id": "art_1", "container_id": "cntr_1", "path": name}
    stranger.says("/v1/containers/cntr_1/files?limit=100", {"data": [file]})
    stranger.says("/v1/containers/cntr_1/files/art_1/content", b"hello")
    return ["containers", "get", "cntr_1", "art_1"]


def save_artifact(stranger: Stranger, name: str) -> list[str]:
    tool = {"name": "t", "title": "", "description": "", "input_schema": {}, "source": "builtin"}
    artifact = {"id": "art_1", "name": name or "../..", "media_type": "", "bytes": 5, "link": ""}
    stranger.says("/api/tools/t", {**tool, "read_only": True, "destructive": False})
    result = {"text": "", "structured": None, "is_error": False, "artifacts": [artifact]}
    stranger.says("/api/tools/t/call", result)
    stranger.says("/api/artifacts/art_1/content", b"hello")
    return ["tools", "call", "t", "--out", "."]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("arrange", [save_prompt, save_skill, save_container_file, save_artifact])
def test_a_command_saves_one_visible_file_in_its_folder(
    arrange: Callable[[Stranger, str], list[str]],
    name: str,
    strangers: Callable[[], Stranger],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stranger = strangers()
    monkeypatch.setenv("PORTICO_URL", stranger.url)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / ".bashrc").write_text("mine")
    monkeypatch.chdir(folder)
    arguments = arrange(stranger, name)
    assert run(arguments) == 0, stranger.asked
    files = {path.relative_to(folder): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert files.pop(Path(".bashrc")) == "mine"
    [(path, content)] = files.items()
    assert content == "hello" and len(path.parts) == 1
    assert not path.name.startswith(".") and not filename_problem(path.name)


def archive(**contents: str) -> bytes:
    """Return a zip archive with these texts by name."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, text in contents.items():
            packed.writestr(name, text)
    return file.getvalue()


@pytest.mark.parametrize(
    "name", ["../SKILL.md", "/SKILL.md", "other/SKILL.md", "pdf/../other/SKILL.md", "pdf\\..\\a"]
)
def test_a_skill_is_written_only_into_its_own_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    client = CLIENTS["claude-code"]
    [change] = plan_skills(client, {"pdf": archive(**{"pdf/SKILL.md": "hello"})})
    assert change.path.parts[-2:] == ("pdf", "SKILL.md")
    with pytest.raises(Conflict, match="unexpected file"):
        plan_skills(client, {"pdf": archive(**{"pdf/SKILL.md": "hello", name: "gone"})})


@pytest.mark.parametrize(
    "package",
    [
        b"no zip archive",
        archive(),
        archive(**{"MANIFEST.json": "[]"}),
        archive(**{"MANIFEST.json": '{"sha256": 1}'}),
        *(
            archive(**{"MANIFEST.json": '{"sha256": {}}', name: "gone"})
            for name in ("../a.txt", "/a.txt", "C:/a.txt", "a\\..\\..\\b.txt", "con.txt", "a\nb.txt", "a.txt")
        ),
    ],
)
def test_a_package_of_a_hostile_daemon_is_not_unpacked(
    package: bytes,
    strangers: Callable[[], Stranger],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stranger = strangers()
    monkeypatch.setenv("PORTICO_URL", stranger.url)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    plan = {"app": "a", "kind": "flow", "version": 1, "digest": "", "portico": "", "variables": {}}
    lists = ("models", "stores", "tools", "mcp", "prompts", "apps", "skills", "notes", "files")
    stranger.says("/api/apps/a/package/plan", plan | {key: [] for key in lists})
    stranger.says("/api/apps/a/package", package)
    assert run(["package", "a", "--out", str(tmp_path / "out")]) == 1
    assert "package" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
