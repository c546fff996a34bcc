"""``/v1/images`` as OpenAI's own strict client sees it, and the tool that draws."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest
from openai import OpenAI
from PIL import Image
from tests.api_server import RelayModel, api_server
from tests.daemon import Daemon

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import Relay, RelayResponse

SCRIPT = [
    {"match": "an owl", "content": "A wise owl"},
    {"match": "busy", "error": {"status": 429, "message": "Too many.", "code": "rate_limit_exceeded"}},
    {"match": "breaks", "crash": 1},
    {"match": "waits", "hang": 1},
]


@pytest.fixture(scope="module")
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon.url, timeout=60) as client:
        painter = {"name": "painter", "source": "fake://", "task": "image", "parameters": {"script": SCRIPT}}
        client.post("/api/deployments", json=painter).raise_for_status()
        sketch = {"name": "sketcher", "source": "fake://", "task": "image", "parameters": {"edits": False}}
        client.post("/api/deployments", json=sketch).raise_for_status()
        yield client


@pytest.fixture(scope="module")
def client(daemon: Daemon, http: httpx.Client) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{daemon.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as sdk_client:
        yield sdk_client


def opened(data: str | None) -> Any:
    assert data is not None
    return Image.open(io.BytesIO(base64.b64decode(data)))


def png(size: tuple[int, int] = (64, 48), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG")
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.conformance("OpenAI", "Images: generations", "openai")
def test_a_prompt_becomes_as_many_pictures_as_asked_for(client: OpenAI) -> None:
    images = client.images.generate(model="painter", prompt="a cat 猫", size="64x48", n=2)
    assert images.data is not None and images.usage is not None
    first, second = (opened(image.b64_json) for image in images.data)
    assert first.size == second.size == (64, 48) and images.size == "64x48"
    assert first.info["Prompt"] == "a cat 猫"
    assert first.tobytes() != second.tobytes()
    assert images.usage.total_tokens == images.usage.input_tokens + images.usage.output_tokens


def test_the_revised_prompt_is_returned(client: OpenAI) -> None:
    images = client.images.generate(model="painter", prompt="an owl", size="32x32")
    assert images.data is not None and images.data[0].revised_prompt == "A wise owl"


def test_a_url_leads_to_the_picture_that_was_kept(client: OpenAI, http: httpx.Client) -> None:
    images = client.images.generate(model="painter", prompt="a cat", size="64x48", response_format="url")
    assert images.data is not None and images.data[0].b64_json is None
    response = http.get(str(images.data[0].url))
    assert response.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(response.content)).size == (64, 48)


def test_a_stream_sends_partial_images_before_the_final_image(client: OpenAI) -> None:
    events = list(
        client.images.generate(model="painter", prompt="a cat", size="32x32", stream=True, partial_images=2)
    )
    kinds = [event.type.partition(".")[2] for event in events]
    assert kinds == ["partial_image", "partial_image", "completed"]
    assert [opened(event.b64_json).size for event in events] == [(32, 32)] * 3
    edit_events = client.images.edit(model="painter", prompt="a hat", image=("a.png", png()), stream=True)
    assert [event.type for event in edit_events] == ["image_edit.completed"]


def test_images_to_edit_are_accepted_as_form_files_and_references(client: OpenAI, http: httpx.Client) -> None:
    mask = png(mode="RGBA")
    several = client.images.edit(
        model="painter", prompt="a hat", image=[("a.png", png()), ("b.png", png())], mask=("m.png", mask)
    )
    single_edit = client.images.edit(model="painter", prompt="a hat", image=("a.png", png()))
    assert several.data is not None and single_edit.data is not None
    assert opened(single_edit.data[0].b64_json).size == (64, 48)
    assert several.data[0].b64_json != single_edit.data[0].b64_json
    stored_file = client.files.create(file=("a.png", png()), purpose="vision")
    inline = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    for reference in ({"file_id": stored_file.id}, {"image_url": inline}):
        body = {"model": "painter", "prompt": "a hat", "images": [reference]}
        answer = http.post("/v1/images/edits", json=body)
        assert answer.json()["data"][0]["b64_json"] == single_edit.data[0].b64_json


@pytest.mark.parametrize(
    ("given", "param", "words"),
    [
        ({"size": "13x7"}, "size", "from 16 to 8192"),
        ({"size": "100000x100000"}, "size", "from 16 to 8192"),
        ({"size": "8000x8000"}, "size", "64,000,000 pixels"),
        ({"size": "large"}, "size", "WIDTHxHEIGHT"),
        ({"n": 0}, "n", "from 1 to 10"),
        ({"n": 11}, "n", "from 1 to 10"),
        ({"prompt": "  "}, "prompt", "must not be empty"),
        ({"prompt": "x" * 32_001}, "prompt", "at most 32,000"),
        ({"quality": "odd"}, "quality", "one of auto"),
        ({"partial_images": 2}, "partial_images", "'stream'"),
        ({"stream": True, "response_format": "url"}, "response_format", "b64_json"),
        ({"background": "transparent", "output_format": "jpeg"}, "background", "no transparency"),
        ({"output_format": "webp"}, "output_format", "supports only PNG"),
        ({"model": "echo"}, "model", "Use 'painter' instead"),
    ],
)
def test_a_wrong_field_is_named(http: httpx.Client, given: Any, param: str, words: str) -> None:
    answer = http.post("/v1/images/generations", json={"model": "painter", "prompt": "a cat", **given})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert words in error["message"]


def bomb() -> bytes:
    """Return a small file that claims to have 3.6 billion pixels."""
    return png()[:16] + struct.pack(">II", 60_000, 60_000) + png()[24:]


@pytest.mark.parametrize(
    ("files", "param", "words"),
    [
        ([("image", png()), ("mask", png((30, 30), "RGBA"))], "mask", "30 × 30"),
        ([("image", png()), ("mask", png())], "mask", "no transparency"),
        ([("image", b"a text")], "image", "is not a readable image"),
        ([("image", bomb())], "image", "60000 × 60000"),
        ([("image", png())] * 17, "image", "at most 16 images"),
        ([("mask", png(mode="RGBA"))], "image", "Missing required parameter"),
    ],
)
def test_invalid_input_images_and_masks_are_refused_with_the_parameter(
    http: httpx.Client, files: list[tuple[str, bytes]], param: str, words: str
) -> None:
    form = [(name, (f"{name}.png", data, "image/png")) for name, data in files]
    answer = http.post("/v1/images/edits", data={"model": "painter", "prompt": "a hat"}, files=form)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert words in error["message"]


@pytest.mark.parametrize(
    ("reference", "param", "words"),
    [
        ({"file_id": "file-none"}, "images[0].file_id", "File 'file-none' not found"),
        ({"image_url": "data:image/png;base64,?"}, "images[0].image_url", "must be data:"),
        ({"image_url": "http://127.0.0.1:9/x.png"}, "images[0].image_url", "private"),
        ({}, "images[0]", "'image_url' or 'file_id'"),
    ],
)
def test_a_reference_that_leads_nowhere_is_named(
    http: httpx.Client, reference: Any, param: str, words: str
) -> None:
    body = {"model": "painter", "prompt": "a hat", "images": [reference]}
    error = http.post("/v1/images/edits", json=body).json()["error"]
    assert error["param"] == param and words in error["message"]


def test_models_without_edits_and_variations_say_what_to_do(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Use 'painter' instead"):
        client.images.edit(model="sketcher", prompt="a hat", image=("a.png", png()))
    with (
        pytest.raises(openai.BadRequestError, match="/v1/images/edits"),
        pytest.warns(DeprecationWarning, match="deprecated"),
    ):
        client.images.create_variation(image=("a.png", png()))


def test_errors_of_the_engine_keep_their_status_and_end_streams(client: OpenAI) -> None:
    with pytest.raises(openai.RateLimitError, match="Too many"):
        client.images.generate(model="painter", prompt="busy")
    stream = client.images.generate(model="painter", prompt="breaks", stream=True, partial_images=2)
    with pytest.raises(openai.APIError, match="painter"):
        list(stream)


def test_a_client_that_leaves_ends_the_run(http: httpx.Client) -> None:
    body = {"model": "painter", "prompt": "waits", "stream": True, "partial_images": 2}
    with http.stream("POST", "/v1/images/generations", json=body) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: image_generation.partial_image"
        [run] = [run for run in http.get("/api/runs").json()["data"] if run["status"] == "running"]
    http.get(f"/api/runs/{run['id']}/events")  # until the run has ended
    run_row = http.get(f"/api/runs/{run['id']}").json()
    assert (run_row["kind"], run_row["status"]) == ("images/generations", "cancelled")


# --- providers ----------------------------------------------------------------------------------------------


class Shy(RelayModel):
    """A model that answers with addresses only, and rejects a requested response format."""

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        if "response_format" in request.body:
            raise InvalidRequest("Unknown parameter: 'response_format'.", param="response_format")
        return await super().relay(request, context)


async def test_an_image_url_of_a_provider_is_fetched_only_from_allowed_hosts(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir()
    async with api_server(tmp_path, tool_hosts="127.0.0.1") as server, api_server(tmp_path / "shut") as shut:
        form = {"purpose": "vision"}
        upload_response = await server.client.post("/v1/files", data=form, files={"file": ("a.png", png())})
        url = f"{server.url}/v1/files/{upload_response.json()['id']}/content"
        answer = orjson.dumps({"created": 1, "data": [{"url": url}]})
        for any_server in (server, shut):
            any_server.add(Shy("away", answer, capabilities=frozenset({"image"})))
        body = {"model": "away", "prompt": "a cat"}
        plain = await server.client.post("/v1/images/generations", json=body)
        assert plain.json()["data"] == [{"url": url}]
        body["response_format"] = "b64_json"
        response = await server.client.post("/v1/images/generations", json=body)
        assert base64.b64decode(response.json()["data"][0]["b64_json"]) == png()
        shut_response = await shut.client.post("/v1/images/generations", json=body)
        assert "tool_hosts" in shut_response.json()["error"]["message"]


# --- the tool -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def draw(http: httpx.Client) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        return http.post("/api/tools/draw/call", json={"arguments": arguments}).json()

    return call


def test_the_draw_tool_stores_its_images_and_edits_them(draw: Callable[..., Any], http: httpx.Client) -> None:
    result = draw(prompt="A red cat!", size="64x48", n=2)
    first, second = result["structured"]["pictures"]
    assert (first["name"], second["name"]) == ("a-red-cat-1.png", "a-red-cat-2.png")
    assert (first["width"], first["height"], result["structured"]["model"]) == (64, 48, "painter")
    assert http.get(first["link"]).content.startswith(b"\x89PNG")
    edit_result = draw(prompt="a hat", images=[first["id"]])
    assert edit_result["structured"]["pictures"][0]["width"] == 64


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "echo"}, "'echo' is not a model that draws. painter, sketcher can."),
        ({"model": "nobody"}, "does not exist"),
        ({"size": "3x3"}, "arguments.size"),
        ({"images": ["art_none"]}, "The artifact 'art_none' does not exist"),
        ({"mask": "art_none"}, "The artifact 'art_none' does not exist"),
    ],
)
def test_the_tool_says_what_is_wrong_to_the_model(
    draw: Callable[..., Any], arguments: Any, words: str
) -> None:
    answer = draw(prompt="a cat", **arguments)
    assert answer["is_error"] and words in answer["text"]
