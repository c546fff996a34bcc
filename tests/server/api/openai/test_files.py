"""``/v1/files`` through a real daemon."""

from collections.abc import Iterator

import httpx
import openai
import pytest
from tests.daemon import Daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{daemon.url}/v1", api_key="unused", _strict_response_validation=True
    ) as client:
        yield client


def upload(daemon: Daemon, name: str = "a.txt", data: bytes = b"hello", **fields: str) -> httpx.Response:
    form = {"purpose": "assistants", **fields}
    return httpx.post(f"{daemon.url}/v1/files", files={"file": (name, data)}, data=form)


def error(response: httpx.Response, status: int) -> dict[str, object]:
    assert response.status_code == status, response.text
    details: dict[str, object] = response.json()["error"]
    assert set(details) == {"message", "type", "param", "code"}
    return details


@pytest.mark.conformance("OpenAI", "Files", "openai")
def test_the_official_client_creates_reads_lists_and_deletes_a_file(client: openai.OpenAI) -> None:
    data = "雪莲花 😀\n".encode() * 1000
    file = client.files.create(file=("笔记 😀.txt", data), purpose="assistants")
    assert (file.filename, file.bytes, file.status) == ("笔记 😀.txt", len(data), "processed")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == data
    assert file.id in [row.id for row in client.files.list(purpose="assistants")]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError) as error_info:
        client.files.retrieve(file.id)
    assert error_info.value.code == "file_not_found"


def test_a_list_is_paged_by_the_official_client(client: openai.OpenAI) -> None:
    file_ids = [client.files.create(file=(f"{i}.txt", b"%d" % i), purpose="vision").id for i in range(5)]
    first = client.files.list(purpose="vision", limit=2, order="asc")
    assert first.has_more
    assert [row.id for row in first] == sorted(file_ids)  # the client follows the pages
    for file_id in file_ids:
        client.files.delete(file_id)


def test_a_file_with_expires_after_returns_its_expiry_time(client: openai.OpenAI) -> None:
    file = client.files.create(
        file=("a.txt", b"a"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at is not None
    assert 3595 <= file.expires_at - file.created_at <= 3605


@pytest.mark.parametrize(
    "seconds", ["1" + "0" * 400, "9" * 5_000, "000000003600" + "9" * 20, "\u00b2", "3599", "-3600", "3600.0"]
)
def test_an_invalid_number_of_expiry_seconds_is_a_400(daemon: Daemon, seconds: str) -> None:
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": seconds}
    assert error(upload(daemon, **expiry), 400)["param"] == "expires_after[seconds]"


def test_content_is_a_download_and_never_a_page_of_the_daemon(daemon: Daemon) -> None:
    file = upload(daemon, 'quote"; and 文.html', b"<script>alert(1)</script>").json()
    response = httpx.get(f"{daemon.url}/v1/files/{file['id']}/content")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-disposition"].startswith("attachment")
    assert response.headers["content-security-policy"] == "sandbox"
    assert response.content == b"<script>alert(1)</script>"


def test_the_purpose_may_come_after_the_file(daemon: Daemon) -> None:
    boundary = "frontier"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--{boundary}--\r\n'
    )
    response = httpx.post(
        f"{daemon.url}/v1/files",
        content=body.encode(),
        headers={"content-type": f"multipart/form-data; boundary={boundary}"},
    )
    assert (response.status_code, response.json()["bytes"]) == (200, 5)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\\..\\b"])
def test_a_file_name_with_a_path_is_a_400(daemon: Daemon, name: str) -> None:
    details = error(upload(daemon, name), 400)
    assert (details["code"], details["param"]) == ("invalid_filename", "file")


def test_a_line_break_in_a_name_is_a_clear_400(daemon: Daemon) -> None:
    body = (
        b'--f\r\nContent-Disposition: form-data; name="file"; filename="two\nlines.txt"\r\n\r\nx\r\n'
        b'--f\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n--f--\r\n'
    )
    headers = {"content-type": "multipart/form-data; boundary=f"}
    response = httpx.post(f"{daemon.url}/v1/files", content=body, headers=headers)
    assert error(response, 400)["code"] in ("invalid_filename", "invalid_form")


def test_missing_or_invalid_fields_are_refused_with_the_parameter(daemon: Daemon) -> None:
    url = f"{daemon.url}/v1/files"
    assert error(upload(daemon, purpose="fun"), 400)["param"] == "purpose"
    assert error(httpx.post(url, files={"file": ("a.txt", b"a")}), 400)["param"] == "purpose"
    assert error(httpx.post(url, files={"purpose": (None, b"assistants")}), 400)["param"] == "file"
    assert error(httpx.post(url, json={"purpose": "assistants"}), 400)["code"] == "unsupported_content_type"
    assert error(httpx.get(url, params={"limit": 0}), 400)["param"] == "limit"
    assert error(httpx.get(url, params={"after": "file-none"}), 404)["code"] == "file_not_found"
    twice = [("file", ("a.txt", b"a")), ("file", ("b.txt", b"b")), ("purpose", (None, b"assistants"))]
    assert error(httpx.post(url, files=twice), 400)["param"] == "file"
    wrong = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "5"}
    assert error(upload(daemon, **wrong), 400)["param"] == "expires_after[seconds]"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--f\r\n",
        b"no form at all",
        b'--f\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
    ],
)
def test_a_form_that_is_cut_short_is_a_400_and_leaves_nothing(daemon: Daemon, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=f"}
    error(httpx.post(f"{daemon.url}/v1/files", content=body, headers=headers), 400)
    arriving = daemon.home / "blobs" / "arriving"
    assert not arriving.exists() or list(arriving.iterdir()) == []


def test_only_a_key_that_could_use_a_file_uploads_one(daemon: Daemon) -> None:
    # Keep this test last in the module: once the first key exists, invalid keys are refused.
    def status(*scopes: str) -> int:
        body = {"name": "k", "scopes": list(scopes)}
        key = httpx.post(f"{daemon.url}/api/keys", json=body).json()["key"]
        answer = httpx.post(
            f"{daemon.url}/v1/files",
            files={"file": ("a.txt", b"a")},
            data={"purpose": "user_data"},
            headers={"Authorization": f"Bearer {key}"},
        )
        return answer.status_code

    assert [status(scope) for scope in ("stores:docs:write", "chat", "finetune", "admin")] == [200] * 4
    assert status("models:read", "stores:*:read", "tools:*:call") == 403
