"""Images from providers: how requests are adapted to a provider, and how its answers are parsed."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.core.media import Attachment
from portico_server.core.relay import Relay
from portico_server.models.engines.fake.media import paint
from portico_server.models.engines.openai_client.quirks import fit_image_request
from portico_server.models.engines.remote.engine import Remote
from portico_server.models.engines.remote.providers import PROVIDERS
from portico_server.models.spec import ModelSpec

IMAGE = Attachment("image", "a.png", "image/png", paint("a cat", 16, 16, []))
MASK = Attachment("mask", "m.png", "image/png", b"mask")
ASKED = {"model": "m", "prompt": "a cat", "size": "64x48", "response_format": "b64_json", "style": "vivid"}


def fitted(provider: str, *files: Attachment, **more: Any) -> Relay:
    request = Relay("images/edits" if files else "images/generations", {**ASKED, **more}, files=files)
    return fit_image_request(request, PROVIDERS[provider].quirks.pictures, "m")


def test_response_format_is_not_sent_to_openai() -> None:
    assert fitted("openai").body == {"model": "m", "prompt": "a cat", "size": "64x48"}
    assert fitted("openrouter").body == ASKED


def test_image_fields_are_renamed_for_each_provider() -> None:
    body = fitted("siliconflow", n=2, steps=4).body
    assert body == {
        "model": "m",
        "prompt": "a cat",
        "image_size": "64x48",
        "batch_size": 2,
        "num_inference_steps": 4,
    }
    sides = fitted("together").body
    assert (sides["width"], sides["height"], sides["response_format"]) == (64, 48, "base64")
    assert "size" not in sides


def test_images_to_edit_are_sent_in_the_field_the_provider_accepts() -> None:
    request = fitted("siliconflow", IMAGE)
    assert request.operation == "images/generations" and not request.files
    assert request.body["image"] == f"data:image/png;base64,{base64.b64encode(IMAGE.data).decode()}"
    with pytest.raises(InvalidRequest, match="without a mask"):
        fitted("siliconflow", IMAGE, MASK)
    with pytest.raises(InvalidRequest, match="accepts none"):
        fitted("zhipu", IMAGE)


def test_unsupported_image_options_are_refused_unless_they_change_nothing() -> None:
    with pytest.raises(InvalidRequest, match="'size'") as error_info:
        fitted("xai")
    assert error_info.value.param == "size"
    assert fitted("xai", size="auto").body == {
        "model": "m",
        "prompt": "a cat",
        "response_format": "b64_json",
    }
    with pytest.raises(InvalidRequest, match="'n'"):
        fitted("zhipu", n=2)
    assert "n" not in fitted("zhipu", n=1).body


@pytest.mark.parametrize(
    ("source", "edits"),
    [
        ("remote://openai/gpt-image-2", True),
        ("remote://siliconflow/Kwai-Kolors/Kolors", True),
        ("remote://zhipu/cogview-4", False),
    ],
)
def test_models_that_draw_are_known_by_their_names(source: str, edits: bool) -> None:
    description = Remote().describe(ModelSpec("m", source), None)
    assert (description.task, description.edits) == ("image", edits)


def test_an_image_model_is_refused_for_a_provider_without_image_support() -> None:
    with pytest.raises(InvalidRequest, match="does not support pictures"):
        Remote().describe(ModelSpec("m", "remote://anthropic/claude-sonnet-5-5", task="image"), None)
