"""``/v1/skills`` through a real daemon, by the official client."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import openai
import pytest
from tests.api_server import api_server
from tests.daemon import Daemon

from portico_server.db.skills import SkillBounds
from portico_server.features.skills import library

TEXT = "---\nname: {name}\ndescription: {about}\n---\nRead references/FORMS.md.\n"


@pytest.fixture
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{daemon.url}/v1", api_key="unused", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def folder(name: str = "pdf-forms", about: str = "Fills forms.") -> list[tuple[str, bytes]]:
    text = TEXT.format(name=name, about=about).encode()
    return [
        (f"{name}/SKILL.md", text),
        (f"{name}/references/FORMS.md", b"# Forms"),
        (f"{name}/empty.txt", b""),
    ]


def archive(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for path, data in files:
            packed.writestr(path, data)
    return buffer.getvalue()


def held(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def refused(error: pytest.ExceptionInfo[openai.APIStatusError]) -> tuple[int, str | None, str | None]:
    return error.value.status_code, error.value.code, error.value.param


@pytest.mark.conformance("OpenAI", "Skills", "openai")
def test_the_official_client_makes_versions_reads_and_removes_skills(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    forms_skill = client.skills.create(files=folder())
    assert (
        forms_skill.name,
        forms_skill.description,
        forms_skill.default_version,
        forms_skill.latest_version,
    ) == (
        "pdf-forms",
        "Fills forms.",
        "1",
        "1",
    )
    other_skill = client.skills.create(files=("a.zip", archive(*folder("other"))))
    second = client.skills.versions.create(forms_skill.id, files=folder(about="Fills all forms."))
    assert (second.version, second.skill_id, second.description) == ("2", forms_skill.id, "Fills all forms.")
    assert client.skills.retrieve(forms_skill.id).description == "Fills forms."
    updated_skill = client.skills.update(forms_skill.id, default_version="2")
    assert (updated_skill.default_version, updated_skill.description) == ("2", "Fills all forms.")
    third = client.skills.versions.create(forms_skill.id, files=folder(about="Third."), default=True)
    assert client.skills.retrieve("pdf-forms").default_version == "3"
    assert [
        version.version for version in client.skills.versions.list(forms_skill.id, order="asc", limit=2)
    ] == [
        "1",
        "2",
        "3",
    ]
    assert client.skills.versions.retrieve("latest", skill_id=forms_skill.id).id == third.id
    assert held(client.skills.content.retrieve(forms_skill.id).content) == dict(folder(about="Third."))
    first = client.skills.versions.content.retrieve("1", skill_id=forms_skill.id).content
    assert held(first) == dict(folder())
    skill_ids = {forms_skill.id, other_skill.id}
    assert [skill.id for skill in client.skills.list(order="asc", limit=1) if skill.id in skill_ids] == [
        forms_skill.id,
        other_skill.id,
    ]
    assert client.skills.versions.delete("1", skill_id=forms_skill.id).deleted
    with pytest.raises(openai.ConflictError) as error:
        client.skills.versions.delete("3", skill_id=forms_skill.id)
    assert refused(error) == (409, "default_version", "version")
    with pytest.raises(openai.NotFoundError) as missing:
        client.skills.versions.retrieve("1", skill_id=forms_skill.id)
    assert refused(missing) == (404, "skill_version_not_found", "version")
    with pytest.raises(openai.ConflictError) as conflict:
        client.skills.create(files=folder())
    assert refused(conflict) == (409, "name_taken", "name")
    with pytest.raises(openai.BadRequestError) as foreign:
        client.skills.versions.create(forms_skill.id, files=folder("other"))
    assert refused(foreign) == (400, "invalid_skill", "files")
    for skill in (forms_skill, other_skill):
        assert client.skills.delete(skill.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.skills.retrieve(forms_skill.id)


def test_invalid_skill_uploads_are_refused_with_code_and_parameter(daemon: Daemon) -> None:
    url = f"{daemon.url}/v1/skills"

    def sent(*files: tuple[str, bytes], at: str = url, **fields: str) -> tuple[int, Any, Any]:
        answer = httpx.post(at, files=[("files[]", file) for file in files], data=fields)
        refusal = answer.json()["error"]
        return answer.status_code, refusal["code"], refusal["param"]

    right = folder()
    assert sent(*right, ("pdf-forms/../out", b"x")) == (400, "invalid_skill", "files")
    assert sent(right[0], right[0])[0::2] == (400, "files")
    assert sent(("SKILL.md", b"---\nname: a\n---")) == (400, "invalid_skill", "files")
    assert sent(("a.zip", b"PK")) == (400, "invalid_archive", "files")
    assert httpx.post(url, json={}).json()["error"]["code"] == "unsupported_content_type"
    assert httpx.post(url, data={"a": "b"}, files={"b": ("c", b"d")}).status_code == 400
    assert httpx.get(url, params={"after": "skill_x"}).status_code == 404
    assert httpx.get(f"{url}/nothing").json()["error"]["code"] == "skill_not_found"
    assert httpx.post(f"{url}/nothing", json={"default_version": 1}).status_code == 400
    skill = httpx.post(url, files=[("files[]", file) for file in right]).raise_for_status().json()
    at = f"{url}/{skill['id']}"
    assert sent(*right, at=f"{at}/versions", default="maybe")[0::2] == (400, "default")
    assert httpx.post(at, json={"default_version": "9"}).json()["error"]["code"] == "skill_version_not_found"
    again = httpx.post(url, params={"update": True}, files=[("files[]", file) for file in right]).json()
    assert again["latest_version"] == "1", "the same content twice makes one version"
    new_files = [("files[]", file) for file in folder(about="New.")]
    assert httpx.post(url, params={"update": True}, files=new_files).json()["default_version"] == "2"
    httpx.delete(at).raise_for_status()


async def test_skills_versions_and_bytes_of_a_key_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "BOUNDS", SkillBounds(skills=2, versions=2))
    async with api_server(tmp_path, require_key=True) as api:
        _row, secret = await api.auth.create("small", ("chat",))
        _reader, reading = await api.auth.create("reader", ("models:read",))
        monkeypatch.setattr(api.services.storage, "limit_of", lambda _owner: 2_000_000)

        async def sent(
            name: str, about: str = "x", key: str = secret, path: str = "", body: bytes = b""
        ) -> tuple[int, Any]:
            files = [("files", file) for file in [*folder(name, about), (f"{name}/a", body)]]
            headers = {"authorization": f"Bearer {key}"}
            answer = await api.client.post(f"/v1/skills{path}", files=files, headers=headers)
            return answer.status_code, answer.json().get("error", {}).get("code")

        assert await sent("a", key=reading) == (403, "insufficient_scope")
        big = Random(1).randbytes(2_100_000)  # incompressible
        assert await sent("a", body=big) == (413, "storage_limit_exceeded")
        assert await sent("a") == (200, None)
        assert await sent("a", "y", path="/a/versions") == (200, None)
        assert await sent("a", "z", path="/a/versions") == (409, "too_many_versions")
        assert await sent("b") == (200, None)
        assert await sent("c") == (409, "too_many_skills")
        assert await sent("default") == (409, "name_reserved")
