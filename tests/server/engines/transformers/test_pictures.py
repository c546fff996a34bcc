"""Pictures on the engine `transformers`, with its real worker and tiny pipelines of diffusers."""

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
from tests.server.engines.bench import Bench, bench
from tests.server.engines.transformers import environment
from tests.server.engines.transformers.test_transformers import spec

from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.core.request import Attached, Draw, Drawn, Relay
from portico_server.engines.planner import files
from portico_server.engines.planner.facts import Weights
from portico_server.engines.spec import ModelSpec
from portico_server.engines.transformers.engine import Transformers

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]  # the first run builds

MADE = "images/generations"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    made = environment.pictures()
    async with bench(tmp_path_factory.mktemp("home"), install_engines=False) as built:
        defaults = {"steps": 2, "size": "32x32"}
        parameters = {"max_pixels": 128 * 128}
        await built.models.add(spec("painter", made / "diffusion", parameters=parameters, defaults=defaults))
        yield built


def png(size: tuple[int, int] = (32, 32), mode: str = "RGB", colour: Any = 0) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, "PNG")
    return out.getvalue()


def image(data: bytes = png()) -> Attached:
    return Attached("image", "a.png", "image/png", data)


def opened(data: bytes) -> Any:
    return Image.open(io.BytesIO(data))


async def drawn(house: Bench, request: Draw) -> Drawn:
    result = await house.runner.call(MADE, "painter", request, LOCAL)
    assert isinstance(result, Drawn)
    return result


async def test_a_seed_repeats_and_pictures_of_one_call_differ(house: Bench) -> None:
    first = await drawn(house, Draw("a cat", n=2, options={"seed": 7}))
    again = await drawn(house, Draw("a cat", options={"seed": 7}))
    assert opened(first.images[0].data).size == (32, 32)
    assert first.images[0] == again.images[0] != first.images[1]
    assert (first.usage.prompt_tokens, first.usage.completion_tokens) == (6, 2 * 4)
    assert house.models.get("painter").task == "image"


async def test_size_format_and_the_models_own_options_are_kept_to(house: Bench) -> None:
    more = {
        "output_format": "jpeg",
        "output_compression": 50,
        "negative_prompt": "a dog",
        "guidance_scale": 2,
    }
    got = await house.ask("painter", {"prompt": "a cat", "size": "48x32", "quality": "low", **more}, MADE)
    found = opened(base64.b64decode(got["data"][0]["b64_json"]))
    assert (found.format, found.size) == ("JPEG", (48, 32))
    assert (got["size"], got["output_format"], got["quality"]) == ("48x32", "jpeg", "low")


async def test_a_stream_shows_the_picture_on_its_way(house: Bench) -> None:
    got = await house.stream("painter", {"prompt": "a cat", "steps": 6, "partial_images": 2}, MADE)
    kinds = [
        json.loads(frame[6:])["type"].partition(".")[2] for frame in got.frames if frame.startswith(b"data:")
    ]
    assert kinds == ["partial_image", "partial_image", "completed"]
    assert got.frames[0] == b": step 1 of 6"
    shown = [opened(base64.b64decode(document["b64_json"])) for document in got.documents]
    assert [one.size for one in shown] == [(32, 32)] * 3
    assert shown[0].tobytes() != shown[2].tobytes()
    assert got.usage.completion_tokens == 4


async def test_an_edit_goes_on_from_the_picture_and_keeps_what_the_mask_covers(house: Bench) -> None:
    changed = await drawn(house, Draw("a hat", images=(image(png((70, 50))),), size="auto"))
    assert opened(changed.images[0].data).size == (32, 32)  # the model's default size, which is set here
    slightly = {"strength": 0.5, "steps": 4, "seed": 1}
    black = await drawn(house, Draw("a hat", images=(image(),), options=slightly))
    white = await drawn(house, Draw("a hat", images=(image(png(colour=(255,) * 3)),), options=slightly))
    assert black.images != white.images
    mask = Attached("mask", "m.png", "image/png", png(mode="RGBA"))
    filled = await drawn(house, Draw("a hat", images=(image(),), mask=mask, options={"steps": 4}))
    assert opened(filled.images[0].data).size == (32, 32)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"size": "33x32"}, "size", "multiples of 2 pixels. Ask for 32x32"),
        ({"size": "512x512"}, "size", "at most 16,384"),
        ({"output_format": "gif"}, "output_format", "png, jpeg, webp"),
        ({"background": "transparent"}, "background", "every pixel"),
        ({"strength": 0.5}, "strength", "does not take 'strength'"),
    ],
)
async def test_what_the_model_cannot_draw_is_named(
    house: Bench, body: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as raised:
        await house.ask("painter", {"prompt": "a cat", **body}, MADE)
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("request_", "param", "words"),
    [
        (Draw("a hat", images=(image(png()[:80]),)), "image", "truncated|broken|cannot be read"),
        (Draw("a hat", images=(image(), image())), "image", "takes one picture, not 2"),
        (Draw("a hat", images=(image(),), options={"strength": 0.01}), "strength", "no step"),
    ],
)
async def test_pictures_that_cannot_be_changed_are_named(
    house: Bench, request_: Draw, param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words) as raised:
        await drawn(house, request_)
    assert raised.value.param == param


async def test_a_caller_who_leaves_stops_the_steps(house: Bench) -> None:
    body = {"model": "painter", "prompt": "a cat", "steps": 500, "size": "128x128", "stream": True}
    relayed = await house.runner.relay(
        await house.registry.resolve("painter", LOCAL),
        "painter",
        Relay(MADE, body),
        LOCAL,  # type: ignore[arg-type]
    )
    assert (await anext(relayed.chunks)).startswith(b": step 1 of 500")
    await relayed.chunks.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(30):  # 500 steps of that size take minutes
        await drawn(house, Draw("a cat"))


# --- the folder ---------------------------------------------------------------------------------------------


def test_the_folder_says_what_it_is_and_what_it_takes() -> None:
    folder = environment.pictures() / "diffusion"
    known = Transformers().describe(ModelSpec("m", str(folder)), folder)
    assert (known.task, known.edits) == ("image", True)
    model = files.read(folder, "m")
    assert isinstance(model, Weights)
    assert model.draws and model.dtype == "float32" and model.architecture == "StableDiffusionPipeline"
    assert model.size == sum(item.stat().st_size for item in folder.glob("*/*.safetensors"))


@pytest.mark.parametrize("what", ["pickle", "pipeline", "part"])
async def test_nothing_is_run_that_came_with_a_model(house: Bench, tmp_path: Path, what: str) -> None:
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
    await house.models.add(spec(f"odd-{what}", folder))
    with pytest.raises(InvalidRequest, match="pickle|not run"):
        await house.models.load(f"odd-{what}")
