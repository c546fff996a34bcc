"""Image generation by the engine `transformers`, with its real worker and tiny diffusers pipelines."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image
from tests.server.features.gpu_engines.transformers import environment
from tests.server.features.gpu_engines.transformers.test_transformers import spec

from portico.testing.model_fixture import ModelFixture, model_fixture
from portico_server.core.errors import PorticoError
from portico_server.core.media import Attachment, Draw, GeneratedImages
from portico_server.core.principal import LOCAL
from portico_server.core.relay import Operation
from portico_server.features.gpu_engines.transformers.engine import Transformers
from portico_server.models.answers import close_chunks
from portico_server.models.plan.weight_files import read_weights
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.spec import ModelSpec

# the first run builds the environment
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

MADE: Operation = "images/generations"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelFixture]:
    pictures_folder = environment.pictures()
    async with model_fixture(tmp_path_factory.mktemp("home"), install_engines=False) as fixture:
        defaults = {"steps": 2, "size": "32x32"}
        parameters = {"max_pixels": 128 * 128}
        await fixture.models.add(
            spec("painter", pictures_folder / "diffusion", parameters=parameters, defaults=defaults)
        )
        await fixture.models.add(ModelSpec("fake", "fake://", task="image"))
        await fixture.models.load("painter")
        yield fixture


def png(size: tuple[int, int] = (32, 32), mode: str = "RGB", colour: Any = 0) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, "PNG")
    return out.getvalue()


def image(data: bytes = png()) -> Attachment:
    return Attachment("image", "a.png", "image/png", data)


def opened(data: bytes) -> Any:
    return Image.open(io.BytesIO(data))


async def drawn(models: ModelFixture, request: Draw) -> GeneratedImages:
    result = await models.runner.call(MADE, "painter", request, LOCAL)
    assert isinstance(result, GeneratedImages)
    return result


@pytest.mark.slow
async def test_a_seed_repeats_and_pictures_of_one_call_differ(models: ModelFixture) -> None:
    first = await drawn(models, Draw("a cat", n=2, options={"seed": 7}))
    again = await drawn(models, Draw("a cat", options={"seed": 7}))
    assert opened(first.images[0].data).size == (32, 32)
    assert first.images[0] == again.images[0] != first.images[1]
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (6, 2 * 4)
    assert models.models.get("painter").task == "image"


async def test_size_format_and_the_models_own_options_are_kept_to(models: ModelFixture) -> None:
    options = {
        "output_format": "jpeg",
        "output_compression": 50,
        "negative_prompt": "a dog",
        "guidance_scale": 2,
    }
    answer = await models.ask(
        "painter", {"prompt": "a cat", "size": "48x32", "quality": "low", **options}, MADE
    )
    picture = opened(base64.b64decode(answer["data"][0]["b64_json"]))
    assert (picture.format, picture.size) == ("JPEG", (48, 32))
    assert (answer["size"], answer["output_format"], answer["quality"]) == ("48x32", "jpeg", "low")


BOTH = pytest.mark.parametrize("name", ["painter", "fake"])
"""Runs a test with both bundled image engines: every image engine has this contract."""


@BOTH
async def test_as_many_pictures_come_as_were_asked_for_in_their_size(models: ModelFixture, name: str) -> None:
    result = await models.runner.call(MADE, name, Draw("a cat", n=2, size="48x32"), LOCAL)
    assert isinstance(result, GeneratedImages)
    assert [opened(picture.data).size for picture in result.images] == [(48, 32)] * 2
    assert {picture.media_type for picture in result.images} == {"image/png"}
    assert result.usage.prompt_tokens > 0 and result.usage.completion_tokens > 0


@BOTH
async def test_a_stream_contains_partial_images_before_the_final_one(models: ModelFixture, name: str) -> None:
    body = {"prompt": "a cat", "steps": 6, "size": "32x32", "partial_images": 2}
    result = await models.stream(name, body, MADE)
    kinds = [document["type"].partition(".")[2] for document in result.documents]
    assert kinds == ["partial_image", "partial_image", "completed"]
    assert [
        opened(base64.b64decode(picture_document["b64_json"])).size for picture_document in result.documents
    ] == [(32, 32)] * 3
    assert result.usage.completion_tokens == 4


@BOTH
async def test_an_image_is_edited_with_and_without_a_mask(models: ModelFixture, name: str) -> None:
    mask = Attachment("mask", "m.png", "image/png", png(mode="RGBA"))
    for request in (Draw("a hat", images=(image(),)), Draw("a hat", images=(image(),), mask=mask)):
        result = await models.runner.call("images/edits", name, request, LOCAL)
        assert isinstance(result, GeneratedImages)
        assert opened(result.images[0].data).size == (32, 32)


async def test_a_stream_reports_each_step_and_the_image_changes(models: ModelFixture) -> None:
    result = await models.stream("painter", {"prompt": "a cat", "steps": 3, "partial_images": 1}, MADE)
    comments = [frame for frame in result.frames if frame.startswith(b":")]
    assert comments == [b": step 1 of 3", b": step 2 of 3", b": step 3 of 3"]
    first, last = (opened(base64.b64decode(document["b64_json"])) for document in result.documents)
    assert first.tobytes() != last.tobytes()


@pytest.mark.slow
async def test_partial_images_are_streamed_for_packed_latents(models: ModelFixture) -> None:
    await models.models.add(spec("flux", environment.pictures() / "flux"))
    body = {"prompt": "a cat", "steps": 3, "size": "32x32", "partial_images": 1}
    result = await models.stream("flux", body, MADE)
    assert [opened(base64.b64decode(document["b64_json"])).size for document in result.documents] == [
        (32, 32)
    ] * 2
    await models.models.remove("flux")


async def test_an_edit_starts_from_the_given_image_and_accepts_a_mask(models: ModelFixture) -> None:
    edit_result = await drawn(models, Draw("a hat", images=(image(png((70, 50))),), size="auto"))
    assert opened(edit_result.images[0].data).size == (32, 32)  # the model's default size, set by this test
    slightly = {"strength": 0.5, "steps": 4, "seed": 1}
    black = await drawn(models, Draw("a hat", images=(image(),), options=slightly))
    white = await drawn(models, Draw("a hat", images=(image(png(colour=(255,) * 3)),), options=slightly))
    assert black.images != white.images
    mask = Attachment("mask", "m.png", "image/png", png(mode="RGBA"))
    filled = await drawn(models, Draw("a hat", images=(image(),), mask=mask, options={"steps": 4}))
    assert opened(filled.images[0].data).size == (32, 32)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"size": "33x32"}, "size", "multiples of 2 pixels for 'painter'. Use 32x32"),
        ({"size": "512x512"}, "size", "at most 16,384"),
        ({"output_format": "gif"}, "output_format", "png, jpeg, webp"),
        ({"background": "transparent"}, "background", "every pixel"),
        ({"strength": 0.5}, "strength", "does not support 'strength'"),
    ],
)
async def test_unsupported_image_options_are_refused_by_name(
    models: ModelFixture, body: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(PorticoError, match=words) as error_info:
        await models.ask("painter", {"prompt": "a cat", **body}, MADE)
    assert error_info.value.param == param


@pytest.mark.parametrize(
    ("request_", "param", "words"),
    [
        (Draw("a hat", images=(image(png()[:50]),)), "image", "truncated|broken|cannot be read"),
        (Draw("a hat", images=(image(), image())), "image", "accepts one image, not 2"),
        (Draw("a hat", images=(image(),), options={"strength": 0.01}), "strength", "no step"),
    ],
)
async def test_unusable_images_for_an_edit_are_refused_with_a_reason(
    models: ModelFixture, request_: Draw, param: str, words: str
) -> None:
    with pytest.raises(PorticoError, match=words) as error_info:
        await drawn(models, request_)
    assert error_info.value.param == param


async def test_a_caller_who_leaves_stops_the_steps(models: ModelFixture) -> None:
    body = {"prompt": "a cat", "steps": 500, "size": "128x128", "stream": True}
    relayed = await models.relay("painter", body, MADE)
    assert (await anext(relayed.chunks)).startswith(b": step 1 of 500")
    await close_chunks(relayed.chunks)
    async with asyncio.timeout(60):  # 500 steps at that size take minutes
        await drawn(models, Draw("a cat"))


# --- the folder ---------------------------------------------------------------------------------------------


async def test_a_diffusion_folder_is_recognised_with_its_task_and_size() -> None:
    folder = environment.pictures() / "diffusion"
    description = Transformers().describe(ModelSpec("m", str(folder)), folder)
    assert (description.task, description.edits) == ("image", True)
    model = read_weights(folder, "m")
    assert isinstance(model, ModelWeights)
    assert model.draws and model.dtype == "float32" and model.architecture == "StableDiffusionPipeline"
    assert model.size == sum(item.stat().st_size for item in folder.glob("*/*.safetensors"))


@pytest.mark.parametrize("what", ["pickle", "pipeline", "part"])
async def test_nothing_is_run_that_came_with_a_model(models: ModelFixture, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(environment.pictures() / "diffusion", folder)
    index = json.loads((folder / "model_index.json").read_text())
    if what == "pickle":
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        weights.rename(weights.with_suffix(".bin"))
    elif what == "pipeline":
        index["_class_name"] = ["pipeline", "OwnPipeline"]
    else:
        index["unet"] = ["network", "Network"]
        (folder / "unet" / "network.py").write_text("raise SystemExit('it was run')\n")
    (folder / "model_index.json").write_text(json.dumps(index))
    await models.models.add(spec(f"odd-{what}", folder))
    with pytest.raises(PorticoError, match=r"pickle|not run"):
        await models.models.load(f"odd-{what}")
