"""Public links: what a reader without a key sees of a session, and when a link ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, update
from tests.api_server import ApiServer, api_server

from portico_server.db.schema import public_links
from portico_server.features.agents.public_links import MAX_LINKS


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, require_key=True) as server:
        yield server


async def new_key(daemon: ApiServer, *scopes: str) -> tuple[str, dict[str, str]]:
    """Create a key; return its id and the headers of its requests."""
    row, secret = await daemon.auth.create("ada", scopes)
    return row.id, {"authorization": f"Bearer {secret}"}


async def sent(daemon: ApiServer, headers: dict[str, str], method: str, path: str, body: Any = None) -> Any:
    answer = await daemon.client.request(method, path, json=body, headers=headers)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


async def conversation(daemon: ApiServer, headers: dict[str, str], *messages: Any) -> str:
    """Return the path of a new session with these messages."""
    body = {"app": "desk", "title": "Bread"}
    path = f"/api/sessions/{(await sent(daemon, headers, 'POST', '/api/sessions', body))['id']}"
    if messages:
        await sent(daemon, headers, "POST", f"{path}/messages", {"messages": messages})
    return path


async def publish(daemon: ApiServer, headers: dict[str, str], session: str, **body: Any) -> str:
    """Return the path at which anyone can read the session."""
    link = await sent(daemon, headers, "POST", f"{session}/public-links", body)
    return f"/api/public-sessions/{link['path'].removeprefix('/#/public/')}"


async def read(daemon: ApiServer, path: str) -> httpx.Response:
    return await daemon.client.get(path)


async def test_a_reader_without_a_key_sees_the_messages_as_published(daemon: ApiServer) -> None:
    _, ada = await new_key(daemon, "chat")
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,c2VjcmV0"}}
    session = await conversation(
        daemon,
        ada,
        {"sender": "user", "content": [{"type": "text", "text": "When?"}, picture]},
        {"sender": "desk", "content": "", "type": "tool_call", "extra_info": {"tool_calls": ["secret"]}},
        {
            "sender": "desk",
            "content": "At **nine**.",
            "extra_info": {"reasoning": "secret", "calls": ["secret"]},
        },
    )
    public = await publish(daemon, ada, session)
    await sent(
        daemon, ada, "POST", f"{session}/messages", {"messages": ["A later question, which is secret."]}
    )
    answer = await read(daemon, public)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-robots-tag"] == "noindex, nofollow"
    public_page = answer.json()
    assert public_page["title"] == "Bread"
    assert 29.9 < (public_page["expires_at"] - public_page["created_at"]) / 86400 < 30.1
    assert public_page["messages"] == [
        {"role": "user", "text": "When?", "attachments": 1, "passages": []},
        {"role": "assistant", "text": "At **nine**.", "attachments": 0, "passages": []},
    ]
    assert "secret" not in answer.text


async def test_passages_that_the_sender_may_not_read_have_no_text(daemon: ApiServer) -> None:
    _, admin = await new_key(daemon, "admin")
    file = await daemon.client.post(
        "/v1/files",
        files={"file": ("oven.txt", b"Bread is baked at nine.")},
        data={"purpose": "assistants"},
        headers=admin,
    )
    file_id = file.json()["id"]
    for name in ("open", "closed"):
        store = await sent(daemon, admin, "POST", "/api/stores", {"name": name})
        await sent(daemon, admin, "POST", f"/v1/vector_stores/{store['id']}/files", {"file_id": file_id})
    passages = [
        {"rank": 1, "filename": "oven.txt", "text": "Bread.", "store": "open", "file_id": file_id},
        {"rank": 2, "filename": "oven.txt", "text": "Secret.", "store": "closed", "file_id": file_id},
        {"rank": 3, "filename": "gone.txt", "text": "Secret.", "store": "open", "file_id": "file-gone"},
        {"rank": "4", "filename": ["not", "a", "passage"]},
    ]
    _, ada = await new_key(daemon, "chat", "stores:open:read")
    session = await conversation(
        daemon, ada, "When?", {"sender": "desk", "content": "Nine [1].", "extra_info": {"passages": passages}}
    )
    public_page = (await read(daemon, await publish(daemon, ada, session))).json()
    assert [(passage["rank"], passage["text"]) for passage in public_page["messages"][1]["passages"]] == [
        (1, "Bread."),
        (2, ""),
        (3, ""),
    ]


async def remove_link(daemon: ApiServer, session: str, _key: str, ada: dict[str, str]) -> None:
    [link] = (await sent(daemon, ada, "GET", f"{session}/public-links"))["data"]
    await sent(daemon, ada, "DELETE", f"{session}/public-links/{link['id']}")
    assert (await sent(daemon, ada, "GET", f"{session}/public-links"))["data"] == []


async def remove_session(daemon: ApiServer, session: str, _key: str, ada: dict[str, str]) -> None:
    await sent(daemon, ada, "DELETE", session)


async def revoke_key(daemon: ApiServer, _session: str, key: str, _ada: dict[str, str]) -> None:
    await daemon.auth.revoke(key)


async def let_expire(daemon: ApiServer, session: str, _key: str, ada: dict[str, str]) -> None:
    def expire(connection: Connection) -> None:
        connection.execute(update(public_links).values(expires_at=1.0))

    await daemon.services.database.write(expire)
    assert (await sent(daemon, ada, "GET", f"{session}/public-links"))["data"] == []


@pytest.mark.parametrize("end", [remove_link, remove_session, revoke_key, let_expire])
async def test_a_removed_revoked_or_expired_link_answers_404(daemon: ApiServer, end: Any) -> None:
    key, ada = await new_key(daemon, "chat")
    session = await conversation(daemon, ada, "When?")
    public = await publish(daemon, ada, session)
    assert (await read(daemon, public)).status_code == 200
    await end(daemon, session, key, ada)
    ended_response, unknown = await read(daemon, public), await read(daemon, f"{public[:-4]}xxxx")
    assert ended_response.status_code == unknown.status_code == 404
    assert ended_response.json() == unknown.json(), "nobody learns whether a link ever existed"


async def test_the_list_and_the_database_do_not_contain_the_secret(daemon: ApiServer) -> None:
    _, ada = await new_key(daemon, "chat")
    session = await conversation(daemon, ada, "When?")
    secret = (await publish(daemon, ada, session)).rpartition("/")[2]
    response = await daemon.client.get(f"{session}/public-links", headers=ada)
    assert len(response.json()["data"]) == 1
    assert secret not in response.text
    assert secret.encode() not in b"".join(
        path.read_bytes() for path in daemon.services.settings.home.glob("portico.db*")
    )


@pytest.mark.parametrize(
    ("messages", "body", "code"),
    [
        ((), {}, "session_empty"),
        (("a" * 2_000_000,), {}, "session_too_large"),
        (("a",), {"days": 0}, "invalid_value"),
        (("a",), {"days": 366}, "invalid_value"),
    ],
)
async def test_publishing_an_empty_or_oversized_session_or_invalid_duration_is_refused(
    daemon: ApiServer, messages: tuple[str, ...], body: dict[str, int], code: str
) -> None:
    _, ada = await new_key(daemon, "chat")
    session = await conversation(daemon, ada, *messages)
    answer = await daemon.client.post(f"{session}/public-links", json=body, headers=ada)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


async def test_publishing_a_session_that_is_removed_meanwhile_answers_404(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, ada = await new_key(daemon, "chat")
    session = await conversation(daemon, ada, "When?")
    storage = daemon.services.storage
    admit = storage.admit

    async def remove_and_admit(*arguments: Any) -> None:
        await remove_session(daemon, session, key, ada)
        await admit(*arguments)

    monkeypatch.setattr(storage, "admit", remove_and_admit)
    answer = await daemon.client.post(f"{session}/public-links", json={}, headers=ada)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "session_not_found")


async def test_a_key_has_a_limited_number_of_links(daemon: ApiServer) -> None:
    _, ada = await new_key(daemon, "chat")
    session = await conversation(daemon, ada, "When?")
    for _number in range(MAX_LINKS):
        await publish(daemon, ada, session)
    answer = await daemon.client.post(f"{session}/public-links", json={}, headers=ada)
    assert answer.json()["error"]["code"] == "too_many_links"
    _, eve = await new_key(daemon, "chat")
    await publish(daemon, eve, await conversation(daemon, eve, "When?"))
