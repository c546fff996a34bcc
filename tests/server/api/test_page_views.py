"""Library and Run in the page, at desktop and phone width, by mouse and by keyboard."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.browser import CHROMIUM, PATIENCE, Page
from tests.page import AXE, EDITED, WIDTHS, Seen, click, escape, fill, reload, sound, text, violations, visit

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

HOSTILE = "<img src=x onerror=alert(1)>.md"
VIEWS = [
    *("chat", "library/documents", "library/documents/handbook", "library/documents/handbook/rights"),
    *(
        "library/apps",
        "library/apps/greeting",
        "library/new",
        "library/prompts",
        "library/skills",
        "run/evals",
    ),
    *(
        "run/models",
        "run/finetunes",
        "run/batches",
        "run/questions",
        "run/artifacts",
        "run/chats",
        "run/engines",
        "library/facts",
        "library/tools",
        "run/runs",
        "run/usage",
        "run/keys",
        "run/guards",
        "run/schedules",
        "run/webhooks",
        "run/adapters",
        "run/canaries",
        "run/containers",
        "run/machines",
        "run/settings",
    ),
]

FOLDERS = {"handbook": {"lease.md": "# Lease\n\nThe rent of the flat is 840 euros a month.\n"}}

VARIABLES = {"PORTICO_MEMORY_BUDGET_MB": "4096"}

CONFIGURATION: dict[str, Any] = {
    "models": [
        {"name": "house", "source": "fake://", "aliases": ["default"]},
        {"name": "lost", "source": "nonsense" * 30},
        {"name": "vectors", "source": "fake://", "task": "embedding", "aliases": ["default-embedding"]},
    ],
    "guards": [{"name": "people", "on": "house", "detect": "pii", "action": "flag"}],
    "apps": [
        {
            "name": "greeting",
            "description": "Greets <b>somebody</b>.",
            "flow": {
                "input_schema": {
                    "type": "object",
                    "properties": {"who": {"type": "string"}, "loud": {"type": "boolean"}},
                    "required": ["who"],
                },
                "step": {"op": "code", "source": "lambda given: '<i>Good morning</i>, ' + given['who']"},
            },
        }
    ],
}


LOOKS = ["problems", "dark and Chinese"]

CONTRAST_VIEWS = ["library/documents", "library/apps/greeting", "run/models", "run/usage"]

VIEW_PARTS = 3
"""Tests that share the views in the default lane."""

MOVING = """[...document.querySelectorAll('*')].filter((it) => {
  const { animationName, animationDuration, transitionDuration } = getComputedStyle(it);
  const lasts = (durations) => durations.split(', ').some((each) => parseFloat(each) > 0);
  return (animationName !== 'none' && lasts(animationDuration)) || lasts(transitionDuration);
}).map((it) => it.outerHTML.slice(0, 100))"""
"""The elements that move or can begin to move."""

CRUMBS = "document.querySelector('.crumbs')?.innerText"


@pytest.mark.slow
async def test_three_places_lead_to_their_sections_and_breadcrumbs_lead_back(seen: Seen) -> None:
    page, narrow = seen.page, seen.width < 800
    places = ".bar" if narrow else ".side .views"
    sections = "main .sectionlinks" if narrow else ".side .sectionlinks"
    names = f"[...document.querySelectorAll('{places} a')].map((it) => it.innerText.trim())"
    assert await page.run(names) == ["Chat", "Library", "Run"]
    for place, section, address in (
        ("Library", "Documents", "#/library/documents"),
        ("Run", "Schedules", "#/run/schedules"),
        ("Library", "Tools", "#/library/tools"),
    ):
        await click(page, place, places)
        link = f"[...document.querySelectorAll('{sections} a')].find((it) => it.innerText.startsWith('{section}'))"
        await page.until(f"{link}?.checkVisibility()")
        await page.run(f"{link}.click()")
        await page.until(f"location.hash === {json.dumps(address)} && document.querySelector('main h1')")
        assert await page.until(CRUMBS) == f"{place} › {section}"
        await sound(seen)
    await visit(page, "library", "documents", "handbook", "rights")
    await page.until(f"{CRUMBS} === 'Library › Documents › handbook › Key permissions'")
    await click(page, "handbook", ".crumbs")
    await page.until(f"{CRUMBS} === 'Library › Documents › handbook'")
    await click(page, "Documents", ".crumbs")
    await page.until(f"location.hash === '#/library/documents' && {CRUMBS} === 'Library › Documents'")


async def test_a_url_of_the_earlier_page_redirects_to_its_section(opened: Seen) -> None:
    page, old, new = opened.page, "documents/handbook/rights", "library/documents/handbook/rights"
    await visit(page, old)
    await page.until(f"location.hash === {json.dumps(f'#/{new}')} && document.querySelector('.crumbs')")
    await page.open("about:blank")
    await page.open(f"{opened.url}/#/{old}")
    assert await page.until(CRUMBS)
    assert await page.run("location.hash") == f"#/{new}"


async def test_section_links_show_counts_of_models_and_stores(seen: Seen) -> None:
    page = seen.page
    await visit(page, "run", "models")
    badge = (
        "[...document.querySelectorAll('.side .sectionlinks a')].find((it) => it.textContent.startsWith(%s))"
    )
    badge += "?.querySelector('.badge')"
    models = seen.get("/api/status").json()["models"]
    ready = sum(model["state"] == "ready" for model in models)
    await page.until(f"{badge % json.dumps('Models')}?.title === '{ready} of {len(models)} loaded'")
    assert await page.run(f"{badge % json.dumps('Models')}.textContent") == f"{ready}/{len(models)}"
    await visit(page, "library", "documents")
    stores = len(seen.get("/api/stores").json()["data"])
    await page.until(f"{badge % json.dumps('Documents')}?.textContent === '{stores}'")


async def test_a_store_is_made_filled_searched_and_deleted(seen: Seen) -> None:
    page, name = seen.page, f"attic{seen.width}"
    await visit(page, "library", "documents")
    await click(page, "Create store")
    await fill(page, name=name)
    await click(page, "Create", "dialog")
    assert (
        await page.until(f"{text('.empty h2')} === 'No files yet' && location.hash")
        == f"#/library/documents/{name}"
    )
    path = seen.folder / HOSTILE
    path.write_text("# Tides\n\nHigh tide is at six in the morning.\n", encoding="utf-8")
    await page.choose_file("#upload", path)
    await page.until(f"{text('#filetable td:nth-child(2)')} === 'ready'")
    assert await page.run(text("#filetable a")) == HOSTILE
    await click(page, HOSTILE)
    assert "High tide is at six" in await page.until(text("dialog[open] .marked mark.chosen"))
    assert await page.run(text("dialog[open] h2")) == HOSTILE
    await escape(page)
    await page.type("#storesearch input", "when is high tide")
    await page.press_enter()
    assert "High tide is at six" in await page.until(text(".passages blockquote"))
    await click(page, "Search trace")
    assert await page.until(text(".search table tbody tr"))
    await click(page, f"Remove {HOSTILE}")
    await page.until(f"{text('.empty h2')} === 'No files yet'")
    await sound(seen)
    await click(page, "Undo", ".toast")
    await click(page, f"Remove {HOSTILE}")
    await click(page, "Close", ".toast")
    await page.until(f"{text('.empty h2')} === 'No files yet'")
    while seen.get(f"/api/stores/{name}").json()["file_counts"]["total"]:
        pass  # the request is on its way
    await click(page, "Delete")
    await click(page, "Delete", "dialog")
    await page.until("location.hash === '#/library/documents'")
    assert name not in [store["name"] for store in seen.get("/api/stores").json()["data"]]
    assert await page.run("document.querySelectorAll('main img').length") == 0


async def test_a_sync_is_previewed_and_the_indexes_of_a_store_are_rebuilt(seen: Seen) -> None:
    page, path = seen.page, seen.folder / "handbook" / "keys.md"
    seen.patch("/api/stores/handbook", {"paused": True})
    path.write_text("# Keys\n\nThe keys are with the caretaker.\n", encoding="utf-8")
    await visit(page, "library", "documents", "handbook")
    await click(page, "More actions: handbook")
    await click(page, "Preview sync", ".menu:popover-open")
    plan = text("dialog[open] details")
    assert await page.until(f"{plan}?.includes('keys.md') && {plan}")
    await sound(seen)
    path.unlink()
    await escape(page)
    await click(page, "More actions: handbook")
    await click(page, "Rebuild indexes", ".menu:popover-open")
    await page.until("document.querySelector('dialog[open] [name=files]') && true")
    await page.run("document.querySelector('dialog[open] [name=files]').click()")
    await sound(seen)
    await click(page, "Rebuild indexes", "dialog")
    await page.until(f"{text('main .card[aria-live]')}?.includes('The indexes are rebuilt.')")
    await page.type("#storesearch input", "what is the rent")
    await page.press_enter()
    assert "840 euros" in await page.until(text(".passages blockquote"))


async def test_a_file_that_cannot_be_read_says_why_and_is_tried_again(seen: Seen) -> None:
    page, name = seen.page, f"broken{seen.width}"
    seen.post("/api/stores", {"name": name})
    path = seen.folder / "broken.pdf"
    path.write_bytes(b"%PDF-1.7 and no more")
    await visit(page, "library", "documents", name)
    await page.until("document.querySelector('#upload') && true")
    await page.choose_file("#upload", path)
    reason = await page.until(text("#filetable .bad"))
    assert "broken.pdf" in await page.run(text("#filetable")) and len(reason) > 10
    await click(page, "Try again")
    await page.until(f"{text('#filetable td:nth-child(2)')} === 'failed'")


async def test_a_model_is_planned_loaded_and_unloaded(seen: Seen) -> None:
    page = seen.page
    seen.post("/api/deployments/house/unload", {})
    await visit(page, "run", "models")
    card = "[...document.querySelectorAll('#models > li')].find((it) => it.innerText.startsWith('house'))"
    press = f"[...({card}).querySelectorAll('button')].find((it) => it.innerText === %s && !it.disabled)"
    for does, state in (("Load", "ready"), ("Unload", "not loaded")):
        button = press % json.dumps(does)
        await page.until(f"({card}) && ({button}) && true")
        await page.run(f"({button}).click()")
        await page.until(f"({card}).querySelector('.actions.spread').innerText.includes({json.dumps(state)})")
    await click(page, "More actions: house")
    await sound(seen)
    await click(page, "Plan", ".menu:popover-open")
    assert "Fits in memory." in await page.until(f"({card}).querySelector('.plan')?.innerText")
    await click(page, "More actions: house")
    await click(page, "Adapters", ".menu:popover-open")
    await page.until("document.querySelector('dialog[open] .empty') && true")
    await fill(page, name="legal", path="legal")
    await click(page, "Add adapter", "dialog")
    assert "an absolute path" in await page.until(text("dialog[open] .trouble"))
    if AXE.is_file():
        assert await violations(page) == []
    await escape(page)


async def test_parameters_of_a_model_are_changed_beside_those_of_its_engine(seen: Seen) -> None:
    page = seen.page
    seen.post("/api/deployments", {"name": "lodger", "source": "fake://"})
    field = "document.querySelector('dialog[open] [name=parameters]')"
    for model, parameters, refusal in (
        ("house", "context_length=512", "set its 'parameters' in the configuration"),
        ("lodger", "context_length", "“context_length” is not a pair."),
        ("lodger", "context_length=512", ""),
    ):
        await visit(page, "run", "models")
        await click(page, f"More actions: {model}")
        await click(page, "Change parameters", ".menu:popover-open")
        await fill(page, parameters=parameters)
        await click(page, "Save", "dialog")
        if refusal:
            await page.until(f"{text('dialog[open] .trouble')}?.includes({json.dumps(refusal)})")
            await sound(seen)
            await escape(page)
    await page.until(f"!{field}")
    assert seen.get("/api/deployments/lodger").json()["context_length"] == 512
    seen.delete("/api/deployments/lodger")


async def test_one_bar_shows_the_memory_of_all_models(seen: Seen) -> None:
    page = seen.page
    seen.post("/api/deployments/house/load", {})
    await visit(page, "run", "models")
    bar = "document.querySelector('#memory [role=meter]')"
    await page.until(f"{bar} && {text('#memory')}.includes('house')")
    assert await page.run(f"{bar}.ariaValueMax") == str(4096 * 2**20)
    used_bytes = sum(model["memory_bytes"] or 0 for model in seen.get("/api/status").json()["models"])
    assert 0 < used_bytes < 4096 * 2**20
    share = f'{bar}.querySelector(".free").getBoundingClientRect().width / {bar}.clientWidth'
    assert 0.5 < await page.run(share) < 1
    colour = f"getComputedStyle({bar}.querySelector('%s')).backgroundColor"
    colours = {await page.run(colour % part) for part in ("span:not(.free)", ".free")}
    assert len(colours) == 2 and await page.run(colour % ".free") == await page.run(
        "getComputedStyle(document.querySelector('#memory li.free'), '::before').backgroundColor"
    )
    await sound(seen)
    seen.post("/api/deployments/house/unload", {})
    await page.until(f"!{text('#memory')}.includes('house')")


@pytest.mark.slow
async def test_the_processes_of_a_model_are_shown_with_their_state(seen: Seen) -> None:
    page = seen.page
    seen.post("/api/deployments", {"name": "pair", "source": "fake://", "replicas": 2})
    await visit(page, "run", "models")
    card = "[...document.querySelectorAll('#models > li')].find((it) => it.innerText.startsWith('pair'))"
    await page.until(f"({card})?.querySelector('summary').innerText === '2 processes'")
    await page.run(f"({card}).querySelector('summary').click()")
    states = f"[...({card}).querySelectorAll('tbody td:nth-child(2)')].map((it) => it.innerText).join()"
    await page.until(f"{states} === 'not loaded,not loaded'")
    seen.post("/api/deployments/pair/load", {})
    await page.until(f"{states} === 'ready,ready'")
    starts = f"[...({card}).querySelectorAll('tbody td:nth-child(5)')].map((it) => it.innerText).join()"
    assert await page.run(starts) == "1,1"
    if AXE.is_file():
        assert await violations(page) == []
    await page.until(f"document.documentElement.scrollWidth <= {seen.width}")
    seen.delete("/api/deployments/pair")


async def test_a_model_is_added_and_deleted_and_an_invalid_source_shows_an_error(seen: Seen) -> None:
    page, name = seen.page, f"guest{seen.width}"
    await visit(page, "run", "models")
    await click(page, "Add model")
    await fill(page, name=name, source="nonsense:")
    await click(page, "Add model", "dialog")
    assert await page.until(text("dialog[open] .trouble"))
    await page.run("document.querySelector('dialog[open] [name=source]').select()")
    await fill(page, source="fake://")
    await click(page, "Add model", "dialog")
    card = f"[...document.querySelectorAll('#models > li')].find((it) => it.innerText.includes({json.dumps(name)}))"
    await page.until(f"!document.querySelector('dialog[open]') && ({card}) && true")
    await page.run(f"({card}).querySelector('.danger').click()")
    await click(page, "Delete", "dialog")
    await page.until(f"!({card})")


async def test_fetching_a_model_is_followed_to_its_end(seen: Seen) -> None:
    page, name = seen.page, f"fetched{seen.width}"
    await visit(page, "run", "models")
    await click(page, "Add model")
    await fill(page, name=name, source="fake://")
    await page.run("document.querySelector('dialog[open] [name=pull]').click()")
    await click(page, "Add model", "dialog")
    await page.until(f"{text('main .card[aria-live]')}?.includes('Downloaded.')")
    assert await page.run("document.querySelector('main .card[aria-live] progress')") is None
    seen.delete(f"/api/deployments/{name}")


async def test_an_app_is_run_by_the_form_of_its_schema_and_its_steps_are_shown(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "apps")
    assert "Greets <b>somebody</b>." in await page.until(text("#apps"))
    await click(page, "greeting")
    await page.until("document.querySelector('dialog[open] form textarea') && true")
    await page.type("dialog[open] form textarea", "Ada")
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")
    assert await page.until(text("#output")) == "<i>Good morning</i>, Ada"
    assert await page.until("document.querySelector('img.diagram')?.decode().then(() => true)")
    assert await page.run("document.querySelectorAll('main i, main b').length") == 0
    assert await page.run("document.querySelector('#package pre').textContent") == (
        "portico package greeting --image -o greeting.zip"
    )
    await click(page, "Steps", "dialog[open]")
    await page.until("location.hash.startsWith('#/run/runs/')")
    step = "[...document.querySelectorAll('dialog[open] .steps details')].at(-1)"
    await page.until(f"{step} && true")
    assert "<i>Good morning</i>, Ada" in await page.run(f"{step}.textContent")
    await escape(page)
    assert "greeting" in await page.until(text("#runs tbody"))
    assert any(row["name"] == "greeting" for row in seen.get("/api/usage").json()["data"])
    await visit(page, "run", "usage")
    assert "greeting" in await page.until(text("#usage tbody"))
    assert (
        await page.until(
            "document.querySelector('.chart svg')?.getAttribute('aria-label') === 'Tokens · Model'"
            " || document.querySelector('main .soft')?.innerText"
        )
        is not None
    )
    await page.run(
        "document.querySelector('main [aria-label=\"Measure\"]').value = 'calls',"
        "document.querySelector('main [aria-label=\"Measure\"]')"
        ".dispatchEvent(new Event('change', {bubbles: true}))"
    )
    await page.until("document.querySelector('.chart svg')?.getAttribute('aria-label') === 'Calls · Model'")
    assert "apps and stores" in await page.run("document.querySelector('#usagecourse').textContent")


HARVEST: dict[str, Any] = {
    "portico_flow": 1,
    "input_schema": {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]},
    "step": {
        "op": "pipeline",
        "name": "all",
        "steps": [
            {
                "op": "warp",
                "name": "each",
                "over": {"$code": "lambda value: [1, 2, 3]"},
                "step": {"op": "code", "name": "grow", "source": "lambda x: x + 1"},
            },
            {"op": "code", "name": "never", "when": {"$gt": [1, 2]}, "source": "lambda x: x"},
            {"op": "approve", "name": "sure", "message": "Sell it?"},
        ],
    },
}


async def look_at_the_waterfall(seen: Seen) -> None:
    """Read the steps of the harvest as bars, in both languages, and filter them by kind with the keyboard."""
    page = seen.page
    names = "[...document.querySelectorAll('.steps .fall .name')].map((it) => it.innerText)"
    await page.until(f"({names}).includes('sure')")
    rows: list[str] = await page.run(names)
    assert rows[0] == "all" and rows.count("sure") == 1
    assert sum(name.startswith("grow") for name in rows) == 3
    bars = (
        "[...document.querySelectorAll('.steps .fall .track > span')].map((it) => it.getBoundingClientRect())"
    )
    first, *step_bars, last = await page.run(f"({bars}).map((it) => [it.left, it.right, it.width])")
    assert all(
        first[0] - 1 <= left_edge and right <= first[1] + 2 for left_edge, right, _width in step_bars
    ), "the bars of the steps are within the bar of the step that contains them"
    assert last[0] > first[0] and last[2] > 0, "a person answered after the other steps"
    summaries = "[...document.querySelectorAll('.steps summary')]"
    await page.focus(f"{summaries}.at(-1)")
    await page.until(f"{text('#stepabout')}.startsWith('all.sure · approve · completed · starts after')")
    await page.press_enter()
    await page.until(f"{summaries}.at(-1).parentElement.open")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('#stepabout')}.includes('后开始')")
    await page.run("document.querySelector('#language').click()")
    choice = "document.querySelector('dialog[open] select')"
    await page.focus(choice)
    await page.run(
        f"{choice}.value = 'approve', {choice}.dispatchEvent(new Event('change', {{bubbles: true}}))"
    )
    await page.until(f"({names}).join() === 'all,sure'")


@pytest.mark.slow
async def test_the_steps_of_a_run_are_seen_on_its_diagram_while_they_work(seen: Seen) -> None:
    page, name = seen.page, f"harvest{seen.width}"
    seen.post("/api/apps", {"name": name, "kind": "flow", "spec": HARVEST})
    await page.open("about:blank")
    await page.open(f"{seen.url}/#/library/apps/{name}")

    def box(step: str) -> str:
        return f"document.querySelector('.rundiagram [data-step=\"all.{step}\"]')?.getAttribute('aria-label')"

    await page.until("document.querySelector('dialog[open] form textarea') && true")
    await page.type("dialog[open] form textarea", "Ada")
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")
    await page.until(f"{box('sure')} === 'all.sure, waiting for an answer'")
    assert await page.run(box("each")) == "all.each, completed"
    await page.run("document.querySelector('.rundiagram [data-step=\"all.each.grow\"]').click()")
    await page.until("location.hash.startsWith('#/run/runs/')")
    await page.until(
        "document.querySelector('dialog[open] .steps details[open]')?.innerText.includes('grow')"
    )
    await page.until(f"{box('each.grow')} === 'all.each.grow, completed, 3/3'")
    await page.until(f"{box('never')} === 'all.never, skipped'")
    if AXE.is_file():
        assert await violations(page) == []
    [question] = seen.get("/api/questions?status=pending").json()["data"]
    seen.post(f"/api/questions/{question['id']}/answer", {"accepted": True})
    await page.until(f"{box('sure')} === 'all.sure, completed'")
    await look_at_the_waterfall(seen)
    await escape(page)
    seen.delete(f"/api/apps/{name}")


LINES = "[...document.querySelectorAll('.editor .cm-line')].map((it) => it.textContent).join('\\n')"
"""The visible text of the editor."""

FAULTS = text("#faults")


async def write_spec(page: Page, written: str) -> None:
    """Replace the text of the editor."""
    await page.until("document.querySelector('.editor .cm-content') && true")
    await page.focus("document.querySelector('.editor .cm-content')")
    await page.press("a", 65, modifiers=2)
    await page.ask("Input.insertText", text=written)
    await page.until(f"{LINES}.startsWith({json.dumps(written.splitlines()[0])})")
    page.complaints[:] = [complaint for complaint in page.complaints if not complaint.startswith(EDITED)]


async def choose_first(page: Page) -> None:
    """Choose from the completions. Enter is ignored during their first 75 ms, when nobody has seen them."""
    await page.run("window.offeredAt = performance.now()")
    await page.until("performance.now() - offeredAt > 100")
    await page.press_enter()


def shouting(sign: str, op: str = "code") -> str:
    return f"portico_flow: 1\nstep:\n  op: {op}\n  source: \"lambda text: text + '{sign}'\"\n"


@pytest.mark.slow
async def test_a_flow_is_written_checked_deployed_changed_and_rolled_back(seen: Seen) -> None:
    page, name = seen.page, f"shout{seen.width}"
    await visit(page, "library", "apps")
    await click(page, "Create app")
    await page.until(
        "location.hash === '#/library/new' && document.querySelector('main [name=name]') && true"
    )
    await page.type("main [name=name]", name)
    await write_spec(page, "step: [1, 2\n")
    assert "Line 2" in await page.until(f"{FAULTS}?.includes('Line') && {FAULTS}")
    await write_spec(page, shouting("!", "cod"))
    faults = await page.until(f"{FAULTS}?.includes('cod') && {FAULTS}")
    assert "Line 3, column 7" in faults
    assert await page.until("document.querySelector('.cm-lintRange-error')?.textContent") == "cod"
    await click(page, "Line 3, column 7")
    assert await page.run("document.activeElement.classList.contains('cm-content')")
    await click(page, "Check and deploy")  # moves to the fault and deploys nothing
    await page.until("document.activeElement.classList.contains('cm-content')")
    assert seen.get(f"/api/apps/{name}").status_code == 404
    await write_spec(page, shouting("!"))
    await page.until(f"{text('main .good')} === 'No errors.'")
    await click(page, "Check and deploy")
    await page.until(f"location.hash === '#/library/apps/{name}'")
    await page.until(f"{text('#versions tbody tr')}?.includes('current')")
    await click(page, "Edit", "dialog[open]")
    await page.until(f"location.hash === '#/library/apps/{name}/edit'")
    await page.until("document.querySelector('.editor .cm-content') && true")
    await write_spec(page, shouting("?"))
    await click(page, "Show changes from v1")
    assert "text + '!'" in await page.until(text(".cm-deletedChunk"))
    assert "text + '?'" in await page.run(text(".cm-changedLine"))
    await click(page, "Check and deploy")
    await page.until(f"{text('#versions tbody tr')}?.startsWith('v2')")
    await click(page, "Specification", "dialog[open]")
    assert "text + '!'" in await page.until(text("#spec .cm-deletedChunk"))
    await click(page, "Roll back", "dialog[open]")
    await page.until(
        "[...document.querySelectorAll('#versions tbody tr')].at(-1).innerText.includes('current')"
    )
    versions = seen.get(f"/api/apps/{name}/versions").json()["data"]
    assert [version["version"] for version in versions if version["current"]] == [1]
    await click(page, "Delete", "dialog[open]")
    await click(page, "Delete", "dialog[open] dialog[open]")
    await page.until(
        f"location.hash === '#/library/apps' && !document.querySelector('#apps').innerText.includes('{name}')"
    )


@pytest.mark.slow
async def test_unsaved_edits_survive_a_reload_and_do_not_overwrite_a_newer_version(seen: Seen) -> None:
    page, name = seen.page, f"kept{seen.width}"
    step = {"op": "code", "source": "lambda text: text"}
    seen.post("/api/apps", {"name": name, "spec": {"portico_flow": 1, "step": step}})
    address = f"{seen.url}/#/library/apps/{name}/edit"
    await page.open("about:blank")
    await page.open(address)
    await write_spec(page, shouting("mine"))
    await page.open("about:blank")
    seen.post("/api/apps", {"name": name, "spec": {"portico_flow": 1, "title": "Theirs", "step": step}})
    await page.open(address)
    assert "text + 'mine'" in await page.until(f"{LINES}.includes('mine') && {LINES}")
    assert "Version 2 is current" in await page.until(text("main form .trouble"))
    await click(page, "Check and deploy")
    await page.until("document.querySelectorAll('main form .trouble').length === 2")
    assert seen.get(f"/api/apps/{name}").json()["version"] == 2
    await click(page, "Compare with v2 and continue")
    assert "Theirs" in await page.until(text(".cm-deletedChunk"))
    await click(page, "Check and deploy")
    await page.until(f"location.hash === '#/library/apps/{name}'")
    assert seen.get(f"/api/apps/{name}").json()["version"] == 3
    await page.open("about:blank")
    await page.open(address)
    await page.until(f"{LINES}.includes('mine')")
    assert await page.run(text("main form .trouble")) is None
    seen.delete(f"/api/apps/{name}")


@pytest.mark.slow
async def test_the_editor_completes_flows_and_agents_by_keyboard_and_checks_them(
    seen: Seen,
) -> None:
    page, name = seen.page, f"clerk{seen.width}"
    await visit(page, "library", "new")
    await write_spec(page, "portico_flow: 1\nstep:\n  op: ")
    await page.ask("Input.insertText", text="l")
    completions = "[...document.querySelectorAll('.cm-completionLabel')].map((it) => it.textContent)"
    assert await page.until(f"{completions}.includes('llm') && {completions}")
    await page.press("Escape", 27)
    await page.until(f"!{completions}.length")
    await write_spec(page, "portico_flow: 1\nstep:\n  op: llm\n  mo")
    await page.ask("Input.insertText", text="d")
    await page.until(f"{completions}[0] === 'model'")
    await choose_first(page)
    await page.until(f"{LINES}.endsWith('model: ')")
    await page.until(f"{completions}.includes('house')")
    assert "default" in await page.run(completions)
    await page.press("Escape", 27)
    await page.until(f"!{completions}.length")
    await page.press("Tab", 9)  # leaves the editor
    await page.until("!document.activeElement.classList.contains('cm-content')")
    await page.run(
        "document.querySelector('main [name=kind]').value = 'agent',"
        "document.querySelector('main [name=kind]').dispatchEvent(new Event('change', {bubbles: true}))"
    )
    await page.type("main [name=name]", name)
    await write_spec(page, "portico_agent: 1\nstra")
    await page.ask("Input.insertText", text="t")
    await page.until(f"{completions}[0] === 'strategy'")
    await choose_first(page)
    await page.until(f"{LINES}.endsWith('strategy: ')")
    assert "plan_and_solve" in await page.until(f"{completions}.includes('react') && {completions}")
    await page.press("Escape", 27)
    await page.until(f"!{completions}.length")
    await write_spec(page, "portico_agent: 1\ninstructions: Be kind.\nstrategy: magic\n")
    assert "Line 3, column 11" in await page.until(f"{FAULTS}?.includes('magic') && {FAULTS}")
    if AXE.is_file():
        assert await violations(page) == []
    await write_spec(page, "portico_agent: 1\ninstructions: Be kind.\n")
    await page.until("document.querySelector('main .good') && true")
    await click(page, "Check and deploy")
    await page.until(
        f"location.hash === '#/library/apps/{name}' && document.querySelector('dialog[open]') && true"
    )
    assert seen.get(f"/api/apps/{name}").json()["kind"] == "agent"
    await escape(page)
    seen.delete(f"/api/apps/{name}")


async def test_a_prompt_is_created_edited_and_deleted(seen: Seen) -> None:
    page, name = seen.page, f"letter{seen.width}"
    await visit(page, "library", "prompts")
    await click(page, "Create prompt")
    await fill(page, name=name, content="Write to {who}.")
    await click(page, "Save", "dialog[open]")
    await page.until(f"{text('#prompts')}?.includes('Write to {{who}}.')")
    await click(page, "Edit")
    await fill(page, content=" Be brief.")
    await click(page, "Save", "dialog[open]")
    await page.until(f"{text('#prompts')}.includes('v2')")
    stored_prompt = seen.get(f"/api/prompts/{name}").json()
    assert [argument["name"] for argument in stored_prompt["arguments"]] == ["who"]
    await click(page, "Versions")
    assert "v1" in await page.until(
        f"{text('dialog[open] .chunks')}?.includes('v1') && {text('dialog[open] .chunks')}"
    )
    await escape(page)
    await click(page, "Delete")
    await click(page, "Delete", "dialog[open]")
    await page.until(f"!{text('#prompts')}.includes('Write to')")
    assert seen.get(f"/api/prompts/{name}").status_code == 404


async def test_a_tool_is_called_by_its_form(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "tools")
    card = "[...document.querySelectorAll('#tools > li')].find((it) => it.innerText.startsWith('calculator'))"
    await page.until(f"({card}) && true")
    await page.run(f"({card}).querySelector('summary').click()")
    await page.focus(f"({card}).querySelector('textarea')")
    await page.ask("Input.insertText", text="2+3")
    await page.run(f"({card}).querySelector('form').requestSubmit()")
    assert "5" in await page.until(f"({card}).querySelector('pre')?.innerText")
    assert await page.run(text("main .empty h2")) == "No MCP servers"


async def test_settings_say_where_they_come_from(seen: Seen) -> None:
    await visit(seen.page, "run", "settings")
    await seen.page.until("document.querySelector('#daemonsettings') && true")
    await seen.page.type("main input[type=search]", "keep_runs_days")
    setting_rows = "[...document.querySelectorAll('#daemonsettings tbody tr')].map((it) => it.innerText)"
    await seen.page.until(f"({setting_rows}).every((row) => row.includes('keep_runs_days'))")
    assert "default" in (await seen.page.run(setting_rows))[0]


@pytest.mark.slow
async def test_a_model_is_trained_on_examples_that_are_checked_first(seen: Seen) -> None:
    page, suffix = seen.page, f"w{seen.width}"
    broken_examples, good = seen.folder / "broken.jsonl", seen.folder / "examples.jsonl"
    broken_examples.write_text("nonsense\n", encoding="utf-8")
    messages = [{"role": "user", "content": "Rent?"}, {"role": "assistant", "content": "840 euros."}]
    good.write_text((json.dumps({"messages": messages}) + "\n") * 12, encoding="utf-8")
    await visit(page, "run", "finetunes")
    await click(page, "Fine-tune a model")
    await fill(page, suffix=suffix)
    await page.choose_file("#examples", broken_examples)
    await click(page, "Check examples", "dialog[open]")
    assert await page.until(text("dialog[open] .trouble"))
    await page.choose_file("#examples", good)
    await click(page, "Check examples", "dialog[open]")
    await page.until("document.querySelector('#tuningplan li') && true")
    await click(page, "Start training", "dialog[open]")
    job = "document.querySelector('#jobs > li')"
    await page.until(
        f"{job}?.innerText.includes({json.dumps(suffix)}) && {job}.innerText.includes('succeeded')"
    )
    await page.run(f"{job}.querySelector('summary').click()")
    assert await page.until(f"{job}.querySelector('polyline')?.getAttribute('points').split(' ').length") > 1
    assert "Training loss" in await page.run(f"{job}.querySelector('figcaption').innerText")


async def test_a_key_is_made_with_scopes_works_and_is_revoked(seen: Seen) -> None:
    page, name = seen.page, f"phone {seen.width}"
    await visit(page, "run", "keys")
    await click(page, "Create key")
    await fill(page, name=name, more="stores:attic:read")
    await page.run("document.querySelector('dialog[open] [value=chat]').click()")
    await click(page, "Create", "dialog")
    new_key = await page.until(text("#newkey"))
    assert seen.get("/v1/models", new_key).status_code == 200
    await click(page, "Close", "dialog .actions")
    assert "stores:attic:read" in await page.until(text("#keys li"))
    await visit(page, "library", "documents", "handbook", "rights")
    await page.until("document.querySelector('#rights form') && true")
    await page.run("document.querySelector('#rights [name=right]').value = 'read'")
    await page.type("#rights [name=only]", "team")
    await page.press_enter()
    assert "team=sales" in await page.until(text("#rights .trouble"))
    await page.type("#rights [name=only]", "=sales and level<=2")
    if AXE.is_file():
        assert await violations(page) == []
    await page.press_enter()
    await page.until("document.querySelector('#rights [role=status]') && true")
    await visit(page, "run", "keys")
    key_text = await page.until(text("#keys li"))
    assert "stores:handbook:read" in key_text and "team=sales and level<=2" in key_text
    await click(page, "Edit")
    await page.until(
        "document.querySelector('dialog[open] [name=filters]')?.value === 'handbook: ' + "
        "'team=sales and level<=2'"
    )
    await page.run("document.querySelector('dialog[open] [name=scopes]').value = 'chat'")
    await page.run("document.querySelector('dialog[open] [name=filters]').value = ''")
    await click(page, "Limits", "dialog")
    await fill(page, requests_per_minute="1")
    await click(page, "Save", "dialog")
    await page.until(
        "!document.querySelector('dialog') && !document.querySelector('#keys').innerText.includes('team=')"
    )
    [key] = seen.get("/api/keys").json()["data"]
    assert (key["scopes"], key["filters"], key["limits"]) == (["chat"], {}, {"requests_per_minute": 1})
    assert "Requests per minute: 1" in await page.until(text("#keys li"))
    await click(page, "Edit")
    await page.until("document.querySelector('dialog[open] [name=requests_per_minute]')?.value === '1'")
    await page.run("document.querySelector('dialog[open] [name=requests_per_minute]').value = ''")
    await click(page, "Save", "dialog")
    await page.until(
        "!document.querySelector('dialog') && !document.querySelector('#keys').innerText.includes('minute')"
    )
    await click(page, "Revoke")
    await click(page, "Revoke", "dialog")
    await page.until("!document.querySelector('#keys li')")
    assert seen.get("/v1/models", new_key).status_code == 401


async def test_guards_are_listed_and_what_they_found_is_shown_with_its_run(seen: Seen) -> None:
    page = seen.page
    await visit(page, "run", "guards")
    assert "house" in await page.until(text("#guards tbody tr"))
    seen.post(
        "/v1/chat/completions",
        {"model": "house", "messages": [{"role": "user", "content": "Write to jane@example.com"}]},
    )
    run = next(run for run in seen.get("/api/runs").json()["data"] if run["name"] == "house")
    await visit(page, "run", "runs", run["id"])
    assert "people flag · email × 1 · input" in await page.until(text("#guarded"))
    await escape(page)


async def test_everything_is_reached_by_typing_its_name(seen: Seen) -> None:
    page = seen.page
    await visit(page, "chat")
    for phrase, address, crumbs in (
        ("usage", "#/run/usage", "Run › Usage"),
        ("handbook documents", "#/library/documents/handbook", "Library › Documents › handbook"),
        ("prompts", "#/library/prompts", "Library › Prompts"),
    ):
        await page.press("k", 75, modifiers=2)
        await page.until("document.querySelector('dialog[open] [role=combobox]') === document.activeElement")
        await page.ask("Input.insertText", text=phrase)
        await page.press_enter()
        crumbs_script = f"!document.querySelector('dialog[open]') && {CRUMBS}"
        assert await page.until(f"location.hash === {json.dumps(address)} && {crumbs_script}") == crumbs


async def test_the_page_speaks_chinese_and_remembers_it(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "documents")
    await page.until("document.querySelector('#language') && true")
    await page.run("document.querySelector('#language').click()")
    assert (
        await page.until("document.documentElement.lang === 'zh' && document.querySelector('h1').innerText")
        == "文档"
    )
    await page.open("about:blank")
    await page.open(f"{seen.url}/#/library/documents")
    assert await page.until(text("h1")) == "文档"
    await page.run("document.querySelector('#language').click()")
    await page.until("document.documentElement.lang === 'en'")


@pytest.mark.slow
async def test_configuration_problems_are_one_line_that_opens_and_is_dismissed(seen: Seen) -> None:
    page, notice = seen.page, "document.querySelector('#problems')"
    await page.until(f"{notice} && !{notice}.querySelector('details').open")
    await page.until(f"{notice}.getBoundingClientRect().height < 60")
    await page.run(f"{notice}.querySelector('summary').click()")
    assert "'nonsense" in await page.until(f"{notice}.querySelector('details[open] li')?.innerText")
    await click(page, "Dismiss configuration problems")
    await page.until(f"!{notice}")
    await _come_again_until(page, seen.url, f"{notice} === null")
    await page.press("k", 75, modifiers=2)
    await page.until("document.querySelector('dialog[open] [role=combobox]') === document.activeElement")
    await page.ask("Input.insertText", text="configuration problems")
    await page.press_enter()
    assert await page.until(f"{notice}?.querySelector('summary').innerText") == "Configuration problems: 1"
    await _come_again_until(page, seen.url, f"{notice} !== null")


async def _come_again_until(page: Page, url: str, script: str) -> None:
    """Reload the page until a script is true: what one page stores reaches the next page a moment later."""
    async with asyncio.timeout(PATIENCE):
        is_true = False
        while not is_true:
            await reload(page, url)
            await page.until("document.querySelector('main .chat') && document.querySelector('#model')")
            is_true = await page.run(script)


@pytest.mark.skipif(not AXE.is_file(), reason="axe is not installed: scripts/page install")
@pytest.mark.parametrize(
    ("width", "height", "look", "views"),
    [
        *(
            pytest.param(WIDTHS[0], 800, "light", VIEWS[first::VIEW_PARTS], id=f"wide-light-{first}")
            for first in range(VIEW_PARTS)
        ),
        *(
            pytest.param(width, height, look, views, id=f"{width}-{look}", marks=pytest.mark.slow)
            for width, height, look, views in (
                *((width, 800, look, VIEWS) for width in WIDTHS for look in LOOKS),
                *((width, 800, "contrast", CONTRAST_VIEWS) for width in WIDTHS),
                (WIDTHS[1], 800, "light", VIEWS),
                (1024, 800, "problems", VIEWS),
                (720, 400, "problems", VIEWS),  # a window of 1440 by 800 pixels at 200 %
            )
        ),
    ],
)
async def test_every_view_is_accessible_and_as_wide_as_its_window(
    opened: Seen, width: int, height: int, look: str, views: list[str]
) -> None:
    window = await opened.again(width)
    page = window.page
    await page.resize(width, height, dark=look.startswith("dark"))
    if look == "problems":
        await page.until("document.querySelector('#problems summary') && true")
        await page.run("document.querySelector('#problems summary').click()")
        await page.until("document.querySelector('#problems details[open]') && true")
    # However wide a table is, the table scrolls and the page does not.
    await page.run(
        "window.wide = new CSSStyleSheet(), wide.replaceSync('main td { min-width: 20rem }'),"
        "document.adoptedStyleSheets.push(wide)"
    )
    switch, root = "document.querySelector('.side footer button').click()", "document.documentElement"
    if look == "contrast":
        while not await page.run(f"{root}.classList.contains('contrast')"):
            await page.run(switch)
    if look.endswith("Chinese"):
        await page.run("document.querySelector('#language').click()")
        await page.until(f"{root}.lang === 'zh'")
    violations_by_view = {}
    for view in views:
        await visit(page, *view.split("/"))
        await page.until("document.querySelector('main h1, main .chat') && true")
        violations_by_view[view] = await violations(page)
        await page.until(f"document.documentElement.scrollWidth <= {window.width}")
    await page.run(
        "document.adoptedStyleSheets = [...document.adoptedStyleSheets].filter((it) => it !== wide), 0"
    )
    if look == "problems":
        await page.run("document.querySelector('#problems summary').click()")
    if look == "contrast":
        await page.run(switch)
        await page.until(f"!{root}.classList.contains('contrast')")
    if look.endswith("Chinese"):
        await page.run("document.querySelector('#language').click()")
        await page.until(f"{root}.lang === 'en'")
    assert violations_by_view == {view: [] for view in views}


async def test_nothing_moves_for_readers_who_do_not_want_motion(opened: Seen) -> None:
    page = (await opened.again(390)).page
    assert await page.until(f"({MOVING}).length"), "other readers see motion"
    still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    await page.ask("Emulation.setEmulatedMedia", features=still)
    moving = {}
    for view in VIEWS:
        await visit(page, *view.split("/"))
        await page.until("document.querySelector('main h1, main .chat') && true")
        moving[view] = await page.run(MOVING)
    await page.ask("Emulation.setEmulatedMedia", features=[])
    assert moving == {view: [] for view in VIEWS}
