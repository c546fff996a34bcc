"""Evaluations in the page: created, run, rated item by item, rerun with another model, stopped and removed.

Searches over their settings and improvements of apps are covered too.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tests.browser import CHROMIUM, Page
from tests.page import Seen, click, escape, fill, sound, text, visit

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

CONFIGURATION: dict[str, Any] = {
    "models": [
        {
            "name": "clerk",
            "source": "fake://",
            "aliases": ["default"],
            "parameters": {
                "script": [
                    {
                        "match": "Nowhere",
                        "error": {"status": 400, "message": "That is broken.", "code": "broken"},
                    },
                    {"match": "France", "content": "<b>Paris</b>"},
                    {"match": "Peru", "content": "Rome"},
                ]
            },
        },
        {
            "name": "guesser",
            "source": "fake://",
            "parameters": {
                "script": [{"match": "France", "content": "Paris"}, {"match": ".", "content": "Lima"}]
            },
        },
        {
            "name": "sleeper",
            "source": "fake://",
            "parameters": {"script": [{"match": ".", "content": "Paris", "delay": 600}]},
        },
        {
            "name": "local",
            "source": "fake://",
            "parameters": {
                "script": [
                    {"match": "in (Rome|Oslo)", "content": r"5 euros in \1"},
                    {"content": "I do not know."},
                ]
            },
        },
        {
            "name": "traveller",
            "source": "fake://",
            "parameters": {"script": [{"match": "in (.+)[?]", "content": r"5 euros in \1"}]},
        },
    ],
}

SPECIFICATION = """
name: capitals
data:
  - {country: France, capital: Paris}
  - {country: Peru, capital: Lima}
  - {country: Nowhere, capital: None}
criteria:
  - {type: string_check, name: named, operation: ilike, input: "{{sample.output_text}}", reference: "{{item.capital}}"}
source:
  model: MODEL
  messages:
    - {role: user, content: "The capital of {{item.country}}?"}
"""


@pytest_asyncio.fixture(loop_scope="module")
async def seen(seen: Seen) -> AsyncIterator[Seen]:
    yield seen
    for test in seen.get("/v1/evals").json()["data"]:
        seen.delete(f"/v1/evals/{test['id']}")


async def write(page: Page, specification: str) -> None:
    """Replace the example by a text."""
    await page.until("document.querySelector('dialog[open] [name=text]') && true")
    await page.run("document.querySelector('dialog[open] [name=text]').select()")
    await page.type("dialog[open] [name=text]", specification)


async def put(page: Page, name: str, value: str) -> None:
    """Set a field of the open dialogue to another value, as typing does."""
    field = f"document.querySelector('dialog[open] [name={name}]')"
    await page.until(f"{field} && true")
    await page.run(
        f"{field}.value = {json.dumps(value)}, {field}.dispatchEvent(new Event('input', {{bubbles: true}}))"
    )


async def pick(page: Page, name: str, choice: str) -> None:
    """Choose an item of a list in the open dialogue."""
    await page.until(f"document.querySelector('dialog[open] [name={name}]') && true")
    await page.run(
        f"document.querySelector('dialog[open] [name={name}]').value = {json.dumps(choice)},"
        f"document.querySelector('dialog[open] [name={name}]').dispatchEvent(new Event('change', {{bubbles: true}}))"
    )


ROWS = (
    "[...document.querySelectorAll('#evaloutputs tbody tr')].map((it) => it.innerText.replace(/\\s+/g, ' '))"
)
DONE = f"{text('#evalstate')}?.startsWith('completed')"


@pytest.mark.slow
async def test_an_evaluation_is_run_and_each_item_shows_its_result(seen: Seen) -> None:
    page = seen.page
    await visit(page, "run", "evals")
    assert await page.until(text("main .empty h2")) == "No evaluations yet"
    await sound(seen)
    await click(page, "Create evaluation")
    await write(page, "name: nothing")
    await click(page, "Start run", "dialog")
    assert "criteria" in await page.until(text("dialog[open] .trouble"))
    await write(page, SPECIFICATION.replace("MODEL", "nobody"))
    await click(page, "Start run", "dialog")
    assert "nobody" in await page.until(
        f"{text('dialog[open] .trouble')}?.includes('nobody') && {text('dialog[open] .trouble')}"
    )
    assert seen.get("/v1/evals").json()["data"] == []  # an evaluation that cannot run is not created
    await sound(seen)
    await write(page, SPECIFICATION.replace("MODEL", "clerk"))
    await click(page, "Start run", "dialog")
    await page.until(f"{DONE} && {ROWS}.length === 3")
    rows = await page.run(ROWS)
    assert rows[0].startswith("0 country: France · capital: Paris <b>Paris</b> passed 1.000 passed 1.00")
    assert rows[1].startswith("1 country: Peru · capital: Lima Rome failed 0.000 failed 0.00")
    assert "That is broken." in rows[2] and "error" in rows[2]
    assert "0.333" in await page.run(text("#evalcriteria"))
    await sound(seen)
    await page.run(
        "document.querySelector('#outcome').value = 'error',"
        "document.querySelector('#outcome').dispatchEvent(new Event('change', {bubbles: true}))"
    )
    await page.until(f"{ROWS}.length === 1 && {ROWS}[0].includes('That is broken.')")
    await page.focus("document.querySelector('#evaloutputs a')")
    await page.press_enter()
    await page.until(
        "location.hash.includes('outputitem_') && document.querySelector('dialog[open] .bad') && true"
    )
    address = await page.run("location.href")
    await page.open("about:blank")
    await page.open(address)  # the item has its own address
    assert "That is broken." in await page.until(text("dialog[open] .bad"))
    await sound(seen)
    await escape(page)
    await click(page, "Item 0")
    assert await page.until(text("#evalanswer")) == "<b>Paris</b>"
    await escape(page)
    assert await page.run("document.querySelectorAll('main b').length") == 0


@pytest.mark.slow
async def test_an_evaluation_is_run_again_with_another_model_and_the_scores_are_drawn(seen: Seen) -> None:
    page = seen.page
    await visit(page, "run", "evals")
    path = seen.folder / "capitals.yaml"
    path.write_text(SPECIFICATION.replace("  model: MODEL\n", ""), encoding="utf-8")
    await click(page, "Create evaluation")
    await page.until("document.querySelector('#evalfile') && true")
    await page.choose_file("#evalfile", path)
    await pick(page, "model", "clerk")
    await click(page, "Start run", "dialog")
    await page.until(DONE)
    await click(page, "capitals")
    await page.until("document.querySelectorAll('#evalruns tbody tr').length === 1")
    await click(page, "Run evaluation")
    await pick(page, "model", "guesser")
    await click(page, "Start run", "dialog")
    await page.until(f"{DONE} && {text('h1')} === 'capitals · guesser'")
    await click(page, "capitals")
    runs = (
        "[...document.querySelectorAll('#evalruns tbody tr')].map((it) => it.innerText.replace(/\\s+/g, ' '))"
    )
    await page.until(f"{runs}.length === 2 && document.querySelectorAll('.chart circle').length === 2")
    run_rows = await page.run(runs)
    assert "guesser" in run_rows[0] and "0.667" in run_rows[0] and "2 / 3" in run_rows[0]
    assert "clerk" in run_rows[1] and "0.333" in run_rows[1] and "1 / 3" in run_rows[1]
    assert sorted(
        await page.run(
            "[...document.querySelectorAll('.chart figcaption span')].map((it) => it.innerText.trim())"
        )
    ) == [
        "clerk (last: 0.3333)",
        "guesser (last: 0.6667)",
    ]
    await sound(seen)
    items = seen.folder / "items.jsonl"
    items.write_text('{"item": {"country": "France", "capital": "Paris"}}\n', encoding="utf-8")
    await click(page, "Run evaluation")
    await pick(page, "from", "file")
    await page.until("document.querySelector('#evalitems') && true")
    await page.choose_file("#evalitems", items)
    await click(page, "Start run", "dialog")
    await page.until(f"{DONE} && {ROWS}.length === 1")
    assert seen.get("/v1/files").json()["data"] == []
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('#evalstate')}.startsWith('完成') && {text('#evaloutputs')}.includes('通过')")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await click(page, "Delete")
    await click(page, "Delete", "dialog")
    await page.until("document.querySelectorAll('#evalruns tbody tr').length === 2")
    await click(page, "Delete")
    await click(page, "Delete", "dialog")
    assert (
        await page.until(f"location.hash === '#/run/evals' && {text('main .empty h2')}")
        == "No evaluations yet"
    )


async def test_a_run_shows_how_far_it_is_and_is_stopped(seen: Seen) -> None:
    page = seen.page
    await visit(page, "run", "evals")
    await click(page, "Create evaluation")
    await write(page, SPECIFICATION.replace("MODEL", "sleeper"))
    await click(page, "Start run", "dialog")
    assert await page.until("document.querySelector('main progress')?.max") == 3
    await sound(seen)
    await click(page, "Stop")
    await page.until(
        f"{text('#evalstate')}?.startsWith('cancelled') && !document.querySelector('main progress')"
    )
    assert await page.until(text("main .empty h2")) == "No completed items yet"
    await visit(page, "run", "evals", "eval_none")
    assert "eval_none" in await page.until(text("main .trouble"))
    await click(page, "Try again")


async def test_a_prompt_is_tested_with_its_cases(seen: Seen) -> None:
    page = seen.page
    cases = [
        {"arguments": {"country": country}, "answer": capital, "holds": capital}
        for country, capital in (("France", "Paris"), ("Peru", "Lima"))
    ]
    prompt = {
        "name": "capital",
        "messages": [{"role": "user", "content": "The capital of {country}?"}],
        "arguments": [{"name": "country", "required": True}],
        "cases": cases,
    }
    seen.post("/api/prompts", prompt)
    await visit(page, "library", "prompts")
    card = "[...document.querySelectorAll('#prompts .card')].find((it) => it.innerText.startsWith('capital'))"
    await page.until(f"{card} && true")
    await page.run(f"{card}.querySelector('.more').click()")
    await click(page, "Test", ".menu:popover-open")
    await page.until("document.querySelector('dialog[open] [name=model]') && true")
    await sound(seen)
    await click(page, "Start run", "dialog[open]")
    await page.until(f"{DONE} && {ROWS}.length === 2")
    outputs = await page.run(ROWS)
    assert ["passed" in row for row in outputs] == ["Paris" in row for row in outputs]
    assert sum("passed" in row for row in outputs) == 1


@pytest.mark.slow
async def test_settings_are_searched_their_scores_drawn_and_the_best_are_deployed(seen: Seen) -> None:
    page, name = seen.page, f"asker{seen.width}"
    step = {"op": "llm", "name": "answer", "model": "clerk", "system": "<b>Answer</b>."}
    seen.post("/api/apps", {"name": name, "spec": {"portico_flow": 1, "step": step}})
    await visit(page, "run", "evals")
    await click(page, "Create evaluation")
    await write(page, SPECIFICATION.replace("MODEL", name))
    await click(page, "Start run", "dialog")
    await page.until(DONE)
    await click(page, "capitals")
    await click(page, "Find best settings")
    await put(page, "parameters", "[1, 2]")
    await click(page, "Estimate cost", "dialog[open]")
    assert "Write a path" in await page.until(text("dialog[open] .trouble"))
    await put(page, "parameters", f"apps.{name}.answer.nothing: [1]")
    await click(page, "Estimate cost", "dialog[open]")
    await page.until(f"{text('dialog[open] .trouble')}?.includes('nothing')")
    await put(
        page,
        "parameters",
        f"apps.{name}.answer.model: [clerk, guesser]\n"
        f"apps.{name}.answer.options.temperature: [0, 1]\n"
        f"apps.{name}.answer.system: ['<b>Answer</b>.']\n",
    )
    await click(page, "Estimate cost", "dialog[open]")
    assert await page.until(text("#searchplan")) == "4 trials with 12 items in total."
    await sound(seen)
    await click(page, "Start search", "dialog[open]")
    await page.until(f"{text('#searchstate')}?.startsWith('completed')")
    trials = (
        "[...document.querySelectorAll('#trials tbody tr')].map((it) => it.innerText.replace(/\\s+/g, ' '))"
    )
    trial_rows = await page.until(f"{trials}.length === 4 && {trials}")
    assert (
        trial_rows[0].startswith("0.667")
        and "best guesser" in trial_rows[0]
        and "<b>Answer</b>." in trial_rows[0]
    )
    assert [row.split()[0] for row in trial_rows] == ["0.667", "0.667", "0.333", "0.333"]
    assert await page.run("document.querySelectorAll('.chart polyline').length") == 2
    assert await page.run("document.querySelectorAll('.chart circle').length") == 4
    assert await page.run("document.querySelectorAll('main b').length") == 0
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('#searchstate')}.startsWith('完成') && {text('#trials')}.includes('部署')")
    await page.run("document.querySelector('#language').click()")
    await click(page, "Deploy")
    await click(page, "Deploy", "dialog[open]")
    assert await page.until(text("#applied")) == f"“{name}” now answers with version 2."
    assert seen.get(f"/api/apps/{name}").json()["version"] == 2
    address = await page.run("location.hash")
    await click(page, "0.333")  # a trial is a run of the evaluation
    await page.until(f"{DONE} && {ROWS}.length === 3")
    await click(page, "Search over settings", ".crumbs")
    await page.until(f"location.hash === {json.dumps(address)} && document.querySelector('#trials') && true")
    await click(page, "Evaluation", ".crumbs")
    await page.until("document.querySelectorAll('#evalsearches tbody tr').length === 1")
    assert await page.run("document.querySelector('#evalsearches a').hash") == address
    await page.until("document.querySelectorAll('#evalruns tbody tr').length === 1")
    await sound(seen)
    seen.delete(f"/api/apps/{name}")


@pytest.mark.parametrize(
    ("language", "words"),
    [
        pytest.param("en", ["Compare runs", "turned right", "no change"], id="en"),
        pytest.param("zh", ["比较运行", "由错变对", "无变化"], id="zh", marks=pytest.mark.slow),
    ],
)
async def test_two_runs_are_compared_and_their_items_opened(
    seen: Seen, language: str, words: list[str]
) -> None:
    page = seen.page
    compare, right, same_word = words
    await visit(page, "run", "evals")
    await click(page, "Create evaluation")
    await write(page, SPECIFICATION.replace("MODEL", "clerk"))
    await click(page, "Start run", "dialog")
    await page.until(DONE)
    await click(page, "capitals")
    await click(page, "Run evaluation")
    await pick(page, "model", "guesser")
    await click(page, "Start run", "dialog")
    await page.until(f"{DONE} && {text('h1')} === 'capitals · guesser'")
    await click(page, "capitals")
    if language == "zh":
        await page.run("document.querySelector('#language').click()")
    await click(page, compare)
    await page.until("document.querySelector('dialog[open] [name=second]') && true")
    await sound(seen)
    await page.focus("document.querySelector('dialog[open] button.primary')")
    await page.press_enter()
    items = "[...document.querySelectorAll('#compareditems tbody tr')].map((it) => it.cells[4].innerText)"
    await page.until(f"({items}).join() === {json.dumps(','.join([same_word, right, same_word]))}")
    runs = await page.run(text("#comparedruns tbody"))
    assert runs.index("clerk") < runs.index("guesser"), "the older run is first"
    await sound(seen)
    choice = "document.querySelector('#change')"
    await page.run(
        f"{choice}.value = 'right', {choice}.dispatchEvent(new Event('change', {{bubbles: true}}))"
    )
    await page.until(f"({items}).join() === {json.dumps(right)}")
    await page.focus("document.querySelector('#compareditems a')")
    await page.press_enter()
    answers = "[...document.querySelectorAll('dialog[open] .answer')].map((it) => it.innerText).join()"
    await page.until(f"{answers} === 'Rome,Lima'")
    await sound(seen)
    address = await page.run("location.href")
    await page.open("about:blank")
    await page.open(address)  # the item of a comparison has its own address
    await page.until(f"{answers} === 'Rome,Lima'")
    await escape(page)
    await page.until("location.hash.split('/').length === 7")
    if language == "zh":
        await page.run("document.querySelector('#language').click()")


CITIES = ["Rome", "Oslo", "Bern", "Kyiv", "Lima", "Riga", "Bonn", "Graz", "Lyon", "Nice", "Pisa", "Turin"]
PARKING = [{"question": f"How much is parking in {city}?", "answer": f"5 euros in {city}"} for city in CITIES]


def rows_of(table: str) -> str:
    """Return the JavaScript for the texts of a table's rows."""
    rows = f"[...document.querySelectorAll('#{table} tbody tr')]"
    return f"{rows}.map((it) => it.innerText.replace(/\\s+/g, ' ').trim())"


@pytest.mark.slow
async def test_the_failing_part_of_an_app_is_named_and_a_change_becomes_a_canary(seen: Seen) -> None:
    page, name, alias = seen.page, f"parking{seen.width}", f"garage{seen.width}"
    step = {"op": "llm", "name": "answer", "model": "local", "system": "Name the <b>price</b>."}
    seen.post("/api/apps", {"name": name, "spec": {"portico_flow": 1, "step": step}})
    await visit(page, "library", "apps", name)
    await click(page, "Improvements", "dialog[open]")
    assert await page.until(text("main .empty h2")) == "No improvements yet"
    await sound(seen)
    file = seen.folder / "cases.jsonl"
    file.write_text(json.dumps(PARKING[0]) + "\nnonsense", encoding="utf-8")
    await page.choose_file("#cases", file)
    await click(page, "Find improvements", "dialog[open]")
    assert "Line 2 is not JSON" in await page.until(text("dialog[open] .trouble"))
    await sound(seen)
    await escape(page)
    file.write_text("\n".join(json.dumps(case) for case in PARKING), encoding="utf-8")
    await page.choose_file("#cases", file)
    await pick(page, "model", "traveller")
    await click(page, "Find improvements", "dialog[open]")
    await page.until(f"{text('#improvementstate')}?.startsWith('completed') && {text('h1')} === '{name}@1'")
    [improvement] = seen.get(f"/api/improvements?app={name}").json()["data"]
    diagnosed, total = improvement["diagnosed"], improvement["cases"]
    cases = await page.run(text("#improvementcases"))
    assert cases.startswith(
        f"Of {total} cases, the app answers 10 badly. {diagnosed} bad cases name the part"
    )
    assert cases.endswith("Failing part: model.")
    assert f"model {diagnosed} / {diagnosed}" in await page.run(rows_of("diagnosis"))
    [proposal] = await page.run(rows_of("proposals"))
    assert proposal.startswith("model: ") and "→ 1.000" in proposal and proposal.endswith("0 Apply")
    assert await page.run("document.querySelectorAll('main b').length") == 0
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('#improvementcases')}.endsWith('出问题的部分：模型。')")
    await page.run("document.querySelector('#language').click()")

    await click(page, "Apply")
    await click(page, "Apply", "dialog[open]")
    assert "has no alias" in await page.until(text("dialog[open] .trouble"))
    await sound(seen)
    seen.put(f"/api/aliases/{alias}", {"target": f"{name}@1"})
    await fill(page, alias=alias)
    await click(page, "Apply", "dialog[open]")
    await page.until(f"location.hash === '#/run/canaries/{alias}' && {text('h1')} === '{alias}'")
    canary = seen.get(f"/api/canaries/{alias}").json()
    assert (canary["canary"]["target"], canary["weight"]) == (f"{name}@2", 0.1)
    await visit(page, "library", "apps", name, "improvements")
    [row] = await page.until(f"{rows_of('improvements')}.length && {rows_of('improvements')}")
    assert row.endswith("v1 completed model")
    await sound(seen)
