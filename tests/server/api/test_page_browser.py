"""The front page in a real browser."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from tests.api_server import ApiServer, api_server
from tests.browser import CHROMIUM, Page, browser
from tests.page import answered, ask, choose, start

from portico.schemas.deployments import Recommendation
from portico_server.core.principal import SYSTEM, Principal
from portico_server.db import store_skips
from portico_server.db.store_skips import SkippedRows
from portico_server.models.spec import ModelSpec

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

MODELS = [
    ModelSpec(
        "house",
        "fake://",
        parameters={
            "vision": True,
            "script": [
                {"match": "^<b>", "content": "<img src=x onerror=alert(1)>"},
                {
                    "match": "^quote",
                    "content": "It says:\n> The <i>port</i>\n> is 7419. [1]\nand no more > than 1.",
                },
            ],
        },
    ),
    ModelSpec("painter", "fake://", task="image"),
    ModelSpec("voice", "fake://", task="speech"),
    ModelSpec("ear", "fake://", task="transcription"),
]


SECONDS = """new Promise((resolve) => {
  const player = document.querySelector("#talk audio");
  if (player.readyState) resolve(player.duration);
  player.addEventListener("loadedmetadata", () => resolve(player.duration));
  player.addEventListener("error", () => resolve(0));
})"""
"""Duration of the sound in the page."""


@dataclass
class Open:
    url: str
    page: Page
    folder: Path
    served: ApiServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Open]:
    folder = tmp_path_factory.mktemp("browser")
    async with (
        api_server(tmp_path_factory.mktemp("home")) as server,
        browser(folder / "profile") as page,
    ):
        for model in MODELS:
            await server.services.models.add(model, keep=False)
        await page.open(server.url)
        yield Open(server.url, page, folder, server)
        assert page.complaints == []


@pytest_asyncio.fixture(loop_scope="module")
async def page(opened: Open) -> Page:
    """The page with an empty conversation."""
    await start(opened.page, "house")
    return opened.page


async def test_a_question_is_answered_below_it(page: Page) -> None:
    await ask(page, "what is a portico")
    assert "what is a portico" in await answered(page)
    assert await page.run("document.querySelector('.said.user').innerText") == "what is a portico"


async def test_html_markup_in_an_answer_is_shown_as_text(page: Page) -> None:
    await ask(page, "<b>bold</b>")
    assert "<img src=x onerror=alert(1)>" in await answered(page)
    assert await page.run("document.querySelectorAll('#talk img, #talk b').length") == 0


async def test_an_attached_image_is_sent_with_the_question(page: Page, opened: Open) -> None:
    path = opened.folder / "pixel.png"
    path.write_bytes(PIXEL)
    await page.choose_file("#files", path)
    await page.until("document.querySelector('#attached .chip')")
    await ask(page, "what is this")
    assert "what is this" in await answered(page)
    assert await page.run("document.querySelector('.said.user img').decode().then(() => true)")
    assert await page.run("document.querySelectorAll('#attached .chip').length") == 0


async def test_a_prompt_to_an_image_model_shows_the_generated_image(page: Page) -> None:
    await choose(page, "painter")
    await ask(page, "a cat by the sea")
    picture = "document.querySelector('#talk img.made')"
    await page.until(picture)
    assert await page.run(f"{picture}.decode().then(() => {picture}.naturalWidth)") >= 256
    assert await page.run(f"{picture}.alt") == "a cat by the sea"


async def test_a_prompt_to_a_speech_model_shows_playable_audio(page: Page) -> None:
    await choose(page, "voice")
    await ask(page, "good morning")
    assert await page.until("document.querySelector('#talk audio')") is not None
    assert await page.run(SECONDS) > 0.1


async def test_an_answer_is_read_aloud(page: Page) -> None:
    await ask(page, "good evening")
    await answered(page)
    await page.run("document.querySelector('#talk button.aloud').click()")
    await page.until("document.querySelector('#talk audio')")
    assert await page.run(SECONDS) > 0.1


async def test_an_attached_recording_is_transcribed_into_the_question_box(page: Page, opened: Open) -> None:
    async with aiohttp.ClientSession(opened.url) as session:
        speech_request = {"model": "voice", "input": "the tide turns at six", "response_format": "wav"}
        async with session.post("/v1/audio/speech", json=speech_request) as response:
            sound = await response.read()
    path = opened.folder / "memo.wav"
    path.write_bytes(sound)
    await page.choose_file("#files", path)
    assert await page.until(
        "!document.querySelector('#question').disabled && document.querySelector('#question').value"
    ) == ("the tide turns at six")


async def test_attaching_a_document_to_an_image_model_is_refused(page: Page, opened: Open) -> None:
    await choose(page, "painter")
    path = opened.folder / "notes.txt"
    path.write_text("tides")
    await page.choose_file("#files", path)
    trouble_text = await page.until("document.querySelector('.composer .trouble')?.innerText")
    assert trouble_text.startswith("notes.txt is neither an image nor a recording.")


async def test_quotations_in_an_answer_are_set_apart(page: Page) -> None:
    await ask(page, "quote it")
    assert "and no more > than 1." in await answered(page)
    quotations = "[...document.querySelectorAll('#talk blockquote')].map((it) => it.innerText)"
    assert await page.run(quotations) == ["The <i>port</i>\nis 7419. [1]\nand no more > than 1."]


async def test_the_skipped_files_of_a_store_unfold_below_it(opened: Open) -> None:
    folder = opened.folder / "attic"
    folder.mkdir()
    services = opened.served.services
    store = await services.stores.create("attic", SYSTEM, folder=folder)
    names = {"<b>old.bin": "of an unknown kind", "empty": "empty"}
    skipped_rows = SkippedRows(dict.fromkeys(names.values(), 1), names, 1.0)
    await services.database.write(store_skips.put_skips, store.id, skipped_rows)
    await opened.page.run("location.hash = '#/library/documents'")
    summary = "document.querySelector('#stores details summary')"
    assert await opened.page.until(f"{summary}?.innerText") == "2 skipped: 1 of an unknown kind, 1 empty"
    await opened.page.run(f"{summary}.click()")
    list_text = await opened.page.until(
        "document.querySelector('#stores details li')?.parentElement.innerText"
    )
    assert list_text.splitlines() == ["<b>old.bin · of an unknown kind", "empty · empty"]


async def test_a_hint_offers_a_better_model_while_the_tiny_model_is_chosen(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, caller_ids = opened.served.services.models, []

    async def accept(caller: Principal) -> str:
        caller_ids.append(caller.id)
        monkeypatch.setattr(models.better, "_run", "run_1")
        return "run_1"

    monkeypatch.setattr(models.better, "accept", accept)
    better = Recommendation("larger", "hf://org/model", 1.8, "", 4.0, "Apache-2.0", "cpu", "it fits")
    monkeypatch.setattr(models.machine, "recommended", {"chat": better})
    await models.add(models.better.tiny, keep=False)
    await opened.page.run("location.hash = '#/chat'")
    hint = "document.querySelector('#hint span')?.innerText"
    await choose(opened.page, "house")
    assert await opened.page.run(hint) is None
    await choose(opened.page, models.better.tiny.name)
    assert "is a very small model" in await opened.page.until(hint)
    # A status that was requested before the patch names no better model, and the next one does.
    button = "document.querySelector('#better')?.innerText"
    assert await opened.page.until(button) == "Download larger (1.8 GB)"
    await opened.page.run("document.querySelector('#better').click()")
    await opened.page.until(f"{hint}.includes('larger is being downloaded')")
    assert len(caller_ids) == 1
    assert await opened.page.run("document.querySelector('#better') === null")
    await models.remove(models.better.tiny.name)
