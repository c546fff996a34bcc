"""Other actions in a conversation: approving, filling in, speaking, listening and exporting."""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.browser import CHROMIUM, Page, new_tab
from tests.page import WIDTHS, Seen, answered, ask, click, escape, reload, sound, start, text, visit

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

STRANGER = str(Path(__file__).parents[1] / "features" / "mcp_servers" / "stranger.py")

FLAGS = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

FORM = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "<b>Whose</b> berth it is"},
        "boats": {"type": "integer", "minimum": 1, "maximum": 9},
        "length": {"type": "number"},
        "insured": {"type": "boolean"},
        "quay": {"enum": ["north", "south"]},
        "days": {"type": "array", "items": {"type": "string"}},
        "owner": {"type": "object"},
    },
    "required": ["name", "boats", "quay"],
}

SCRIPT: list[dict[str, Any]] = [
    {"match": "echo", "result": "Not now", "content": "It was refused."},
    {"match": "echo", "result": "<i>tea", "content": "It said tea."},
    {"match": "echo", "tool_calls": [{"name": "careful_echo", "arguments": {"text": "<i>tea</i>"}}]},
    {"match": "bread", "content": "It is baked at nine. [1]"},
    {"match": "export", "content": "**Kept** for later."},
]

VARIABLES = {"PORTICO_RECORDING_MODEL": "ear"}

CONFIGURATION: dict[str, Any] = {
    "models": [
        {"name": "house", "source": "fake://", "aliases": ["default"], "parameters": {"script": SCRIPT}},
        {"name": "vectors", "source": "fake://", "task": "embedding", "aliases": ["default-embedding"]},
        {"name": "voice", "source": "fake://", "task": "speech"},
        {
            "name": "ear",
            "source": "fake://",
            "task": "transcription",
            "parameters": {"script": [{"match": "^recording", "content": "the tide turns at six"}]},
        },
    ],
    "mcp": [
        {"name": "careful", "command": [sys.executable, STRANGER], "approval": "always", "allow": ["echo"]}
    ],
    "agents": [{"name": "desk", "instructions": "You help.", "tools": ["careful_echo"], "model": "house"}],
    "apps": [
        {
            "name": "berths",
            "flow": {"step": {"op": "approve", "message": "Which berth?", "answer_schema": FORM}},
        },
        {"name": "gate", "flow": {"step": {"op": "approve", "name": "guard", "message": "Open it?"}}},
    ],
}


@pytest.mark.slow
async def test_a_call_is_allowed_after_a_reload_and_refused_with_a_note(seen: Seen) -> None:
    page = seen.page
    await start(page, "desk")
    await ask(page, "echo it")
    question = await page.until(text("#talk .question"))
    assert "careful_echo" in question and "<i>tea</i>" in question
    assert await page.run("document.querySelectorAll('#talk .question i').length") == 0
    await sound(seen)
    await reload(page, seen.url)
    await page.until("document.querySelector('#talk .question') && true")
    await click(page, "Allow", "#talk .question")
    assert await answered(page) == "It said tea."
    assert await page.run("document.querySelector('#talk .question')") is None

    await start(page, "desk")
    await ask(page, "echo it again")
    await page.type("#talk .question input", "Not now.")
    await click(page, "Refuse", "#talk .question")
    assert await answered(page) == "It was refused."


@pytest.mark.slow
async def test_hidden_tabs_hold_no_connections_needed_by_the_visible_tab(opened: Seen) -> None:
    first = (await opened.again(WIDTHS[0])).page
    await start(first, "desk")
    await ask(first, "echo it")
    await first.until(text("#talk .question"))
    place = await first.run("location.hash")
    async with AsyncExitStack() as stack:
        tabs = [first]
        for _number in range(4):  # a browser opens six connections per address
            tabs.append(await stack.enter_async_context(new_tab(first)))
            await tabs[-1].open(f"{opened.url}/{place}")
            await tabs[-1].until(text("#talk .question"))
        await first.until("document.visibilityState === 'hidden'")
        await click(tabs[-1], "Allow", "#talk .question")
        assert await answered(tabs[-1]) == "It said tea."
    assert await answered(first) == "It said tea.", "it hears the rest when it is seen again"


@pytest.mark.slow
async def test_hidden_run_views_hold_no_connections_needed_by_the_visible_view(
    opened: Seen,
) -> None:
    first = (await opened.again(WIDTHS[0])).page
    await visit(first, "library", "apps", "gate")
    await first.until("document.querySelector('dialog[open] form textarea') && true")
    await first.type("dialog[open] form textarea", "Ada")
    await first.run("document.querySelector('dialog[open] form').requestSubmit()")
    await first.until(text("dialog[open] .question"))
    run = await first.run(
        "document.querySelector('dialog[open] a[href*=\"/run/runs/\"]').href.split('/').at(-1)"
    )
    async with AsyncExitStack() as stack:
        tabs = [first]
        for _number in range(4):  # each follows the run for its questions and its diagram
            tabs.append(await stack.enter_async_context(new_tab(first)))
            await tabs[-1].open(f"{opened.url}/#/run/runs/{run}")
            await tabs[-1].until(text("dialog[open] .question"))
        assert await first.run("document.visibilityState") == "hidden"
        await click(tabs[-1], "Allow", "dialog[open] .question")
        await tabs[-1].until("document.querySelector('dialog[open] .rundiagram .step.completed') && true")
    await first.until(text("#output"))
    await escape(first)


def control(name: str) -> str:
    """Return the selector of the control for a field of the question."""
    labels = "[...document.querySelectorAll('#talk .question label')]"
    return (
        f"{labels}.find((it) => it.querySelector('span').innerText === {json.dumps(name)})"
        ".querySelector('input, select, textarea')"
    )


async def write(page: Page, name: str, value: str) -> None:
    """Replace the value of a field of the question."""
    await page.focus(control(name))
    await page.run(f"{control(name)}.select?.()")
    await page.ask("Input.insertText", text=value)


async def send(page: Page) -> None:
    await page.run("document.querySelector('#talk .question form').requestSubmit()")


@pytest.mark.slow
async def test_a_question_of_a_flow_is_shown_as_a_form_with_every_field_type(seen: Seen) -> None:
    page = seen.page
    await start(page, "berths")
    await ask(page, "I need a berth")
    question = await page.until(text("#talk .question"))
    assert "Which berth?" in question and "<b>Whose</b> berth it is" in question
    await sound(seen)
    await send(page)  # a required field is missing
    assert await page.run("document.querySelector('#talk .question :invalid') !== null")
    await write(page, "name", "Ada")
    await write(page, "boats", "12")
    await write(page, "length", "7.5")
    await page.run(f"{control('insured')}.click()")
    quay = control("quay")
    await page.run(
        f"{quay}.value = JSON.stringify('south'), {quay}.dispatchEvent(new Event('change', {{bubbles: true}}))"
    )
    await write(page, "days", "[not JSON")
    await send(page)
    await page.until("document.querySelector('#talk .question .trouble') && true")
    await write(page, "days", json.dumps(["Monday"]))
    await write(page, "owner", json.dumps({"from": "North"}))
    await reload(page, seen.url)  # the typed text is lost, the question remains
    await page.until("document.querySelector('#talk .question') && true")
    await write(page, "name", "Ada")
    await write(page, "boats", "12")
    await page.run(
        f"{quay}.value = JSON.stringify('south'), {quay}.dispatchEvent(new Event('change', {{bubbles: true}}))"
    )
    await write(page, "length", "7.5")
    await write(page, "days", json.dumps(["Monday"]))
    await write(page, "owner", json.dumps({"from": "North"}))
    await page.run(f"{control('insured')}.click()")
    await send(page)
    assert "9" in await page.until(text("#talk .question > :is(.bad, .trouble)"))  # more boats than the limit
    await sound(seen)
    await write(page, "boats", "2")
    await send(page)
    fields = json.loads(await answered(page))
    assert fields == {
        "name": "Ada",
        "boats": 2,
        "length": 7.5,
        "insured": True,
        "quay": "south",
        "days": ["Monday"],
        "owner": {"from": "North"},
    }


@pytest.mark.slow
async def test_microphone_speech_is_transcribed_and_the_answer_is_read_aloud(seen: Seen) -> None:
    page = seen.page
    await start(page, "house")
    await click(page, "Record", ".composer")
    await page.until("document.querySelector('#record')?.ariaLabel === 'Stop recording'")
    await sound(seen)
    await click(page, "Stop recording", ".composer")
    await page.until(
        "!document.querySelector('#question').disabled && "
        "document.querySelector('#question').value === 'the tide turns at six'"
    )
    await page.until("document.querySelector('#record').ariaLabel === 'Record'")
    await page.focus("document.querySelector('#question')")
    await page.press_enter()
    assert await answered(page) == "the tide turns at six"
    await page.run("document.querySelector('#talk button.aloud').click()")
    await page.until("document.querySelector('#talk audio') && true")
    played = (
        "new Promise((resolve) => { const player = document.querySelector('#talk audio');"
        "player.addEventListener('ended', () => resolve(player.currentTime > 0));"
        "player.playbackRate = 16; player.play(); })"
    )
    assert await page.run(played)


async def test_a_conversation_is_exported_as_markdown_and_as_json(seen: Seen) -> None:
    page = seen.page
    await start(page, "house")
    await ask(page, "export <b>me</b>")
    assert await answered(page) == "Kept for later."
    await page.run(
        "URL.createObjectURL = (blob) => {"
        "blob.text().then((it) => { document.body.dataset.kept = it; }); return ''; },"
        "HTMLAnchorElement.prototype.click = function () { document.body.dataset.file = this.download; }, 0"
    )
    for name, ending in (("Export as Markdown", "md"), ("Export as JSON", "json")):
        await page.press("k", 75, modifiers=2)
        await page.until("document.querySelector('dialog[open] [role=combobox]') === document.activeElement")
        await page.ask("Input.insertText", text=name)
        await page.press_enter()
        await page.until(f"document.body.dataset.file === 'export bmeb.{ending}'")
        export_text = await page.until("document.body.dataset.kept")
        await page.run("delete document.body.dataset.kept")
        if ending == "md":
            assert (
                export_text.startswith("# export <b>me</b>\n")
                and "## house\n\n**Kept** for later." in export_text
            )
        else:
            [question, answer] = json.loads(export_text)["messages"]
            assert (question["role"], question["content"]) == ("user", "export <b>me</b>")
            assert (answer["sender"], answer["content"]) == ("house", "**Kept** for later.")
    await reload(page, seen.url)


def record(url: str, store: str) -> None:
    """Put a talk of a minute into a store, and wait until it is transcribed."""
    script = "The door is open. Come in, please. " * 40 + "Bread is baked at nine."
    with httpx.Client(base_url=url, timeout=60) as client:
        speech_request = {"model": "voice", "input": script, "response_format": "wav", "speed": 4}
        recorded = client.post("/v1/audio/speech", json=speech_request).raise_for_status().content
        files = {"file": ("talk <b>1.wav", recorded)}
        file = client.post("/v1/files", data={"purpose": "assistants"}, files=files).raise_for_status().json()
        files_path = f"/v1/vector_stores/{store}/files"
        client.post(files_path, json={"file_id": file["id"]}).raise_for_status()
        while (state := client.get(f"{files_path}/{file['id']}").json())["status"] == "in_progress":
            pass
        assert state["status"] == "completed", state["last_error"]


@pytest.mark.slow
async def test_a_citation_opens_the_recording_at_the_cited_time(seen: Seen) -> None:
    page, name = seen.page, f"talks{seen.width}"
    seen.post("/api/stores", {"name": name, "app": True, "embedding_model": "vectors"})
    record(seen.url, name)
    await start(page, name)
    await ask(page, "When is bread baked?")
    assert "It is baked at nine." in await answered(page)
    await page.run("document.querySelector('#talk .cite').click()")
    player = "document.querySelector('dialog[open] audio')"
    await page.until(f"{player} && true")
    await page.until(f"{player}.currentTime > 10")  # near its end
    assert "Bread is baked at nine." in await page.run(text("dialog[open] blockquote"))
    assert await page.run(text("dialog[open] h2")) == "talk <b>1.wav"
    await sound(seen)
    await click(page, "Show text", "dialog[open]")
    assert "Bread is baked at nine." in await page.until(text("dialog[open] .passage"))
    seen.delete(f"/api/stores/{name}")


@pytest.mark.parametrize(
    ("language", "label"),
    [
        pytest.param("en", "Save as an agent", id="en"),
        pytest.param("zh", "另存为智能体", id="zh", marks=pytest.mark.slow),
    ],
)
async def test_settings_are_saved_under_a_name_and_chosen_for_another_conversation(
    seen: Seen, language: str, label: str
) -> None:
    page, name = seen.page, f"baker-{language}-{seen.width}"
    await start(page, "house")
    if language == "zh":
        await page.run("document.querySelector('#language').click()")
    await page.focus("document.querySelector('#settings')")
    await page.press_enter()
    field = "document.querySelector('dialog[open] [name=agent]')"
    await page.until(f"{field}?.closest('label').innerText.includes({json.dumps(label)})")
    await sound(seen)
    await page.type("dialog[open] [name=instructions]", "You bake.")
    await page.type("dialog[open] [name=temperature]", "0.5")
    await page.type("dialog[open] [name=agent]", name)
    await page.press_enter()
    await page.until(
        f"!document.querySelector('dialog[open]') && {text('#model')}.startsWith({json.dumps(name)})"
    )
    [version] = seen.get(f"/api/apps/{name}/versions").json()["data"]
    spec = version["spec"]
    assert (spec["model"], spec["instructions"]) == ("house", "You bake.")
    assert spec["options"] == {"temperature": 0.5}
    if language == "zh":
        await page.run("document.querySelector('#language').click()")
    await start(page, "house")
    await start(page, name)
    await ask(page, "bread?")
    assert "It is baked at nine." in await answered(page)
    [session] = seen.get(f"/api/sessions?app={name}").json()["data"]
    assert session["app"] == name
    seen.delete(f"/api/apps/{name}")
