"""Work in the page: batches, the questions of all runs, artifacts and stored chats."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from tests.browser import CHROMIUM, PATIENCE
from tests.page import Seen, click, escape, fill, sound, text, visit

from portico import Client

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

VARIABLES = {"PORTICO_OFFLINE": "1"}

LEARNS = [
    {
        "match": "Message:",
        "content": '{"value": [{"fact": "The user lives in Lisbon.", "quote": "I live in Lisbon", "replaces": null}]}',
    },
    {"match": "", "content": "Noted."},
]

GUIDE = {"portico_agent": 1, "name": "guide", "model": "noter", "memory": {"long_term": {"store": "facts"}}}

EVALUATION = {
    "data_source_config": {"type": "custom", "item_schema": {"type": "object"}},
    "testing_criteria": [
        {"type": "string_check", "name": "same", "operation": "eq", "input": "a", "reference": "a"}
    ],
}

CONFIGURATION: dict[str, Any] = {
    "models": [
        {"name": "house", "source": "fake://", "aliases": ["default"]},
        {"name": "voice", "source": "fake://", "task": "speech"},
        {"name": "noter", "source": "fake://", "parameters": {"script": LEARNS}},
    ],
    "stores": [{"name": "facts"}],
    "apps": [
        {
            "name": "sale",
            "flow": {
                "durability": "normal",
                "step": {
                    "op": "pipeline",
                    "steps": [
                        {"op": "approve", "message": "Sell the house?"},
                        {"op": "approve", "message": "At what price?", "answer_schema": {"type": "integer"}},
                    ],
                },
            },
        }
    ],
}


def request(name: str, model: str = "house") -> str:
    """Return a line of a file of requests."""
    body = {"model": model, "messages": [{"role": "user", "content": f"Say {name}."}]}
    return json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body})


async def downloaded(seen: Seen, name: str) -> bytes:
    """Return the content of a downloaded file, and remove the file."""
    path = seen.folder / name
    async with asyncio.timeout(PATIENCE):
        while not path.is_file() or not path.stat().st_size:  # the browser creates the file before it writes
            await seen.page.run("0")
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.slow
async def test_a_batch_starts_from_a_file_that_is_checked_first(seen: Seen) -> None:
    page = seen.page
    wrong, requests = seen.folder / "wrong.jsonl", seen.folder / "requests.jsonl"
    wrong.write_text(f"{request('one')}\n{request('two', 'nobody')}\n", encoding="utf-8")
    requests.write_text(f"{request('one')}\n{request('two')}\n", encoding="utf-8")
    count_before = len(seen.get("/v1/batches").json()["data"])
    await visit(page, "run", "batches")
    await page.until("document.querySelector('#requests') && true")
    await page.choose_file("#requests", wrong)
    assert "Line 2:" in await page.until(text("dialog[open] .bad"))
    assert await page.run("document.querySelector('dialog[open] [type=submit]').disabled")
    await sound(seen)
    await escape(page)
    await page.choose_file("#requests", requests)
    await page.until(f"{text('dialog[open]')}.includes('2 requests for house')")
    await click(page, "Start batch", "dialog")
    row = "document.querySelectorAll('#batches tbody tr')"
    await page.until(f"{row}.length === {count_before + 1} && {row}[0].innerText.includes('2 / 2')")
    [batch] = seen.get("/v1/batches?limit=1").json()["data"]
    await page.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(seen.folder))
    await click(page, "Answers", "#batches")
    answers = await downloaded(seen, f"{batch['id']}.jsonl")
    assert [json.loads(line)["custom_id"] for line in answers.splitlines()] == ["one", "two"]
    purposes = [file["purpose"] for file in seen.get("/v1/files").json()["data"]]
    assert purposes.count("batch") == count_before + 1, "the file that was only checked is deleted"
    await sound(seen)


def start_sale(seen: Seen) -> str:
    """Start a run of the app, and return the run's id."""
    path = f"{seen.url}/api/apps/sale/run?keep=true"
    with httpx.stream("POST", path, json={"input": {}}, timeout=60) as answer:
        return answer.headers["x-portico-run"]


async def test_the_questions_of_all_runs_are_answered_in_one_place(seen: Seen) -> None:
    page = seen.page
    await visit(page, "run", "questions")
    assert await page.until(text(".empty h2")) == "No open questions"
    runs = [start_sale(seen), start_sale(seen)]
    question = "document.querySelectorAll('#questions .question')"
    await page.until(f"{question}.length === 2 && {text('#questions')}.includes('Sell the house?')")
    await sound(seen)
    await page.type("#questions .question input", "Not this year.")
    await click(page, "Refuse", "#questions")
    await page.until(f"{question}.length === 1")
    await click(page, "Allow", "#questions")
    await page.until(f"{text('#questions')}.includes('At what price?')")
    await page.type("#questions .question [type=number]", "840")
    await page.press_enter()
    assert await page.until(text(".empty h2")) == "No open questions"
    for run in runs:
        seen.get(f"/api/runs/{run}/events")  # the events end with their run
    assert {seen.get(f"/api/runs/{run}").json()["status"] for run in runs} == {"completed", "failed"}


async def test_an_artifact_is_saved_and_its_deletion_can_be_undone(seen: Seen) -> None:
    page = seen.page
    seen.post("/api/tools/speak/call", {"arguments": {"text": "The door is open."}})
    [artifact] = seen.get("/api/artifacts").json()["data"]
    await page.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(seen.folder))
    await visit(page, "run", "artifacts")
    row = "document.querySelector('#artifacts tbody tr')"
    assert artifact["name"] in await page.until(f"{row}?.innerText")
    await click(page, "Save as file", "#artifacts")
    assert (await downloaded(seen, artifact["name"])).startswith(b"RIFF")
    await sound(seen)
    await click(page, f"Remove {artifact['name']}")
    assert await page.until(text(".empty h2")) == "No artifacts yet"
    await click(page, "Undo", ".toast")
    await click(page, f"Remove {artifact['name']}")
    await click(page, "Close", ".toast")
    while seen.get("/api/artifacts").json()["data"]:
        pass  # the request is on its way
    await page.until(f"{text('.empty h2')} === 'No artifacts yet'")
    await sound(seen)


async def test_stored_chats_are_read_labelled_and_deleted(seen: Seen) -> None:
    page = seen.page
    for topic in ("tea", "coffee"):
        messages = [{"role": "user", "content": f"A cup of {topic}"}]
        body = {"model": "house", "messages": messages, "store": True, "metadata": {"topic": topic}}
        seen.post("/v1/chat/completions", body)
    await visit(page, "run", "chats")
    rows = "[...document.querySelectorAll('#chats tbody tr')].map((it) => it.innerText).join()"
    await page.until(f"{rows}.includes('topic=coffee') && {rows}.includes('topic=tea')")
    await sound(seen)
    await page.run("document.querySelector('#chats a').click()")
    chat_text = text("dialog[open] .document")
    await page.until(f"{chat_text}?.includes('assistant') && {chat_text}.includes('A cup of coffee')")
    for labels in ("size", "topic=espresso\nsize=small"):
        await page.run("document.querySelector('dialog[open] [name=labels]').select()")
        await fill(page, labels=labels)
        await click(page, "Save", "dialog")
        if labels == "size":
            assert "“size” is not a pair" in await page.until(text("dialog[open] .trouble"))
            await sound(seen)
    await page.until(f"{rows}.includes('topic=espresso, size=small')")
    await escape(page)
    for chat in seen.get("/v1/chat/completions").json()["data"]:
        await click(page, f"Delete stored chat {chat['id']}")
    await click(page, "Close", ".toast")
    while seen.get("/v1/chat/completions").json()["data"]:
        pass  # the requests are on their way
    await page.until(f"{text('.empty h2')} === 'No stored chats yet'")
    await sound(seen)


@pytest.mark.slow
async def test_facts_are_corrected_and_deleted(seen: Seen) -> None:
    page = seen.page
    with Client(seen.url) as client:
        client.agents.run(GUIDE, "I live in Lisbon", session=("api", f"lisbon{seen.width}"))
        for run in client.runs.list():
            list(client.runs.events(run.id))
    await visit(page, "library", "facts")
    await page.until(f"{text('#facts tbody')}?.includes('The user lives in Lisbon.')")
    assert "I live in Lisbon" in await page.run(text("#facts tbody"))
    await click(page, "Edit", "#facts")
    await fill(page, text=" Since May.")
    await sound(seen)
    await click(page, "Save", "dialog")
    await page.until(f"{text('#facts tbody')}.includes('Since May.')")
    await sound(seen)
    await click(page, "History", "#facts")
    await page.until(f"{text('#fact-history tbody')}?.includes('changed by hand')")
    assert "No words of a conversation support this text" in await page.run(text("#fact-history tbody"))
    await sound(seen)
    await click(page, "Restore the version before", "dialog")
    await page.until(f"!{text('#facts tbody')}.includes('Since May.')")
    await sound(seen)
    [fact] = seen.get("/api/facts").json()["data"]
    await click(page, f"Delete the fact “{fact['text']}”")
    await click(page, "Close", ".toast")
    while seen.get("/api/facts").json()["data"]:
        pass  # the request is on its way
    await page.until(f"{text('.empty h2')} === 'No facts yet'")


async def test_engines_are_checked_removed_and_installed(seen: Seen) -> None:
    page = seen.page
    (seen.folder / "home" / "environments" / "transformers").mkdir(parents=True)
    await visit(page, "run", "engines")
    card = "#engines [data-engine=transformers]"
    await page.until(f"{text(card)}?.includes('broken')")
    await sound(seen)
    await click(page, "More actions: transformers")
    await click(page, "Check", f"{card} .menu:popover-open")
    assert "in order" in await page.until(text("#findings"))
    await sound(seen)
    await escape(page)
    await click(page, "More actions: transformers")
    await click(page, "Remove", f"{card} .menu:popover-open")
    await click(page, "Remove", "dialog")
    await page.until(f"{text(card)}.includes('not installed')")
    await click(page, "Install", card)
    assert "offline" in await page.until(text(f"{card} .trouble"))
    await click(page, "More actions: vllm")
    await click(page, "Parameters", "#engines [data-engine=vllm] .menu:popover-open")
    assert "tensor_parallel" in await page.until(text("#parameters"))
    await sound(seen)
    await escape(page)


async def test_old_runs_are_counted_before_they_are_deleted(seen: Seen) -> None:
    page = seen.page
    seen.post(f"/api/runs/{start_sale(seen)}/cancel", {})
    await visit(page, "run", "runs")
    await click(page, "More actions: Runs")
    await click(page, "Delete old runs", ".menu:popover-open")
    await fill(page, days="0")
    await click(page, "Count", "dialog")
    assert "Runs: " in await page.until(text("#pruneplan ul"))
    await sound(seen)
    await click(page, "Delete", "dialog")
    await page.until("!document.querySelector('dialog')")
    await click(page, "More actions: Runs")
    await click(page, "Delete old runs", ".menu:popover-open")
    await fill(page, days="0")
    await click(page, "Count", "dialog")
    assert await page.until(text("#pruneplan p")) == "Nothing is that old."
    await escape(page)


async def test_an_evaluation_is_renamed_and_an_app_is_limited(seen: Seen) -> None:
    page, name = seen.page, f"story{seen.width}"
    seen.post("/v1/evals", {**EVALUATION, "name": name})
    [evaluation] = seen.get("/v1/evals").json()["data"]
    await visit(page, "run", "evals", evaluation["id"])
    await click(page, f"More actions: {name}")
    await click(page, "Rename", ".menu:popover-open")
    await fill(page, name=" of the year")
    await click(page, "Save", "dialog")
    await page.until(f"{text('h1')}.includes('of the year')")
    seen.delete(f"/v1/evals/{evaluation['id']}")
    spec = {"portico_flow": 1, "step": {"op": "code", "source": "lambda given: given"}}
    seen.post("/api/apps", {"name": name, "kind": "flow", "spec": spec})
    await visit(page, "library", "apps", name)
    await click(page, f"More actions: {name}")
    await click(page, "Limits", ".menu:popover-open")
    await click(page, "Limits", "dialog form")
    await fill(page, concurrency="2")
    await sound(seen)
    await page.press_enter()
    await page.until(f"{text('dialog[open]')}?.includes('Concurrent calls: 2')")
    assert seen.get(f"/api/apps/{name}").json()["limits"] == {"concurrency": 2}
    await escape(page)
    seen.delete(f"/api/apps/{name}")


@pytest.mark.slow
async def test_a_tool_is_added_and_a_prompt_is_exported_and_imported_as_a_file(seen: Seen) -> None:
    page, name = seen.page, f"shout{seen.width}"
    await visit(page, "library", "tools")
    await click(page, "Add tool")
    await fill(page, name=name, what="echo {word}", description="Repeats a word")
    await sound(seen)
    await click(page, "Add tool", "dialog")
    await page.until(f"{text('#tools')}?.includes({json.dumps(name)})")
    await click(page, f"More actions: {name}")
    await click(page, "Delete", ".menu:popover-open")
    await click(page, "Delete", "dialog")
    await page.until(f"!{text('#tools')}.includes({json.dumps(name)})")
    messages = [{"role": "user", "content": "Say {word}."}]
    seen.post("/api/prompts", {"name": name, "messages": messages, "arguments": [{"name": "word"}]})
    await visit(page, "library", "prompts")
    await page.ask("Page.setDownloadBehavior", behavior="allow", downloadPath=str(seen.folder))
    await click(page, f"More actions: {name}")
    await click(page, "Save as file", ".menu:popover-open")
    file = seen.folder / f"{name}.md"
    content = await downloaded(seen, file.name)
    seen.delete(f"/api/prompts/{name}")
    file.write_bytes(content)
    await page.choose_file("#promptfile", file)
    await page.until(f"{text('#imported')} === 'Added: {name}'")
    assert seen.get(f"/api/prompts/{name}").json()["messages"][0]["content"].strip() == "Say {word}."
    await sound(seen)
    file.write_text("nonsense", encoding="utf-8")
    await page.choose_file("#promptfile", file)
    assert await page.until(text("main .trouble"))
    seen.delete(f"/api/prompts/{name}")
