"""Files attached to a question: models that read only text get the files' text, through every protocol."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from openai import APIStatusError, OpenAI
from tests.daemon import Daemon
from tests.server.api.openai.conftest import bearer
from tests.server.features.readers.documents import pdf

REPORT = pdf("The fee is 40 euros.", "It is due in May.")

READ = "[File: report.pdf]\n[Page 1]\nThe fee is 40 euros.\n[Page 2]\nIt is due in May.\n[End of file: report.pdf]"


def address(data: bytes, kind: str = "application/pdf") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def attached(**file: str) -> Any:
    """Return a chat with a file and a question."""
    return [{"role": "user", "content": [{"type": "file", "file": file}, {"type": "text", "text": "When?"}]}]


def given(**file: str) -> Any:
    """Return the same content as the input of a response."""
    return [
        {"role": "user", "content": [{"type": "input_file", **file}, {"type": "input_text", "text": "When?"}]}
    ]


@pytest.mark.parametrize("model", ["echo", "desk", "chatty"])
def test_a_chat_has_the_text_of_its_files(as_key: Callable[[str], OpenAI], model: str) -> None:
    client = as_key("boss")
    stored_file = client.files.create(file=("report.pdf", REPORT), purpose="user_data")
    for file in ({"filename": "report.pdf", "file_data": address(REPORT)}, {"file_id": stored_file.id}):
        for _again in range(2):
            reply = client.chat.completions.create(model=model, messages=attached(**file))
            text = reply.choices[0].message.content or ""
            assert READ in text and text.endswith("When?")


@pytest.mark.parametrize("model", ["echo", "desk", "chatty"])
def test_the_text_of_attached_files_is_sent_in_a_response(
    as_key: Callable[[str], OpenAI], model: str
) -> None:
    client = as_key("boss")
    stored_file = client.files.create(file=("report.pdf", REPORT), purpose="user_data")
    for file in ({"filename": "report.pdf", "file_data": address(REPORT)}, {"file_id": stored_file.id}):
        first = client.responses.create(model=model, input=given(**file))
        assert READ in first.output_text and first.output_text.endswith("When?")
        items = client.responses.input_items.list(first.id).data
        assert items[0].to_dict()["content"][0]["type"] == "input_file"  # type: ignore[index]
        events = list(client.responses.create(model=model, input=given(**file), stream=True))
        assert events[-1].type == "response.completed" and READ in events[-1].response.output_text


def test_a_document_of_anthropics_is_read(harbour: Daemon) -> None:
    source = {
        "type": "base64",
        "media_type": "application/pdf",
        "data": base64.b64encode(REPORT).decode(),
    }
    content = [
        {"type": "document", "title": "report.pdf", "source": source},
        {"type": "text", "text": "When?"},
    ]
    body = {"model": "echo", "max_tokens": 200, "messages": [{"role": "user", "content": content}]}
    with httpx.Client(base_url=harbour.url, headers=bearer("one"), timeout=60) as client:
        answer = client.post("/v1/messages", json=body)
        assert answer.status_code == 200 and READ in answer.json()["content"][0]["text"]


def test_a_file_without_an_extension_gets_its_type_from_the_data_url(
    as_key: Callable[[str], OpenAI],
) -> None:
    table = address(b"day,loaves\nMonday,12\n", "text/csv")
    reply = as_key("one").chat.completions.create(
        model="echo", messages=attached(filename="a\nb", file_data=table)
    )
    text = reply.choices[0].message.content or ""
    assert "[File: a%0Ab.csv]" in text and "Monday" in text and "12" in text


@pytest.mark.parametrize(
    ("file", "status", "code", "where"),
    [
        ({}, 400, "missing_required_parameter", ""),
        ({"file_id": "file_x", "file_data": "x"}, 400, "missing_required_parameter", ""),
        ({"file_data": 7}, 400, "invalid_type", ".file_data"),
        ({"file_id": "file_no"}, 404, None, ".file_id"),
        ({"file_data": "no base64!"}, 400, "invalid_file", ".file_data"),
        ({"file_data": "data:text/plain;base64,"}, 400, "empty_file", ".file_data"),
        ({"file_data": address(b"%PDF-1.7 broken")}, 400, "invalid_file", ""),
        (
            {"filename": "a.bin", "file_data": address(bytes(range(256)), "application/octet-stream")},
            400,
            "unsupported_file",
            "",
        ),
        ({"filename": "a.txt", "file_data": address(b" \n ", "text/plain")}, 400, "invalid_file", ""),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    as_key: Callable[[str], OpenAI], file: dict[str, Any], status: int, code: str | None, where: str
) -> None:
    with pytest.raises(APIStatusError) as error_info:
        as_key("one").chat.completions.create(model="echo", messages=attached(**file))
    error: Any = error_info.value
    assert (error.status_code, error.param) == (status, f"messages[0].content[0].file{where}")
    assert code is None or error.code == code


def test_files_that_do_not_fit_and_those_of_others_are_refused(as_key: Callable[[str], OpenAI]) -> None:
    first_client, two = as_key("one"), as_key("two")
    long = address(b"word " * 1_000, "text/plain")
    with pytest.raises(APIStatusError) as error_info:
        first_client.chat.completions.create(
            model="narrow", messages=attached(filename="a.txt", file_data=long)
        )
    error: Any = error_info.value
    assert (error.status_code, error.code) == (
        400,
        "context_length_exceeded",
    ) and "file_search" in error.message
    stored_file = first_client.files.create(file=("report.pdf", REPORT), purpose="user_data")
    with pytest.raises(APIStatusError) as error_info:
        two.chat.completions.create(model="echo", messages=attached(file_id=stored_file.id))
    assert error_info.value.status_code == 404
    with pytest.raises(APIStatusError) as error_info:
        two.responses.create(model="echo", input=given(file_id=stored_file.id))
    error = error_info.value
    assert (error.status_code, error.param) == (404, "input")
