"""Chunkers, the value of a store's vectors, links between passages, and reviews of changes, in the page."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.browser import CHROMIUM, Page
from tests.page import Seen, click, escape, fill, sound, text, visit
from tests.server.features.answers.test_overview import BREAD, FERRIES, TELESCOPES
from tests.server.features.readers import documents as written

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
            "parameters": {"script": [{"match": ".", "content": "When does the harbour open?"}]},
        },
        {"name": "vectors", "source": "fake://", "task": "embedding", "aliases": ["default-embedding"]},
    ],
}

TIDES = "".join(f"The tide of day {n} is <blink>high</blink> \U0001d11e at six. " for n in range(60))

DOCUMENTS = {
    "harbour.md": "# Harbour\n\nThe harbour opens at six in the morning. <blink>Boats</blink> wait. "
    + "The pilot comes at seven. " * 40,
    "bread.md": "# Bread\n\nBread is baked at two hundred degrees.\n",
    "snow.md": "# Snow\n\nThe snow lotus grows in high mountains.\n",
}

WORKS = {
    "works.md": "# Harwick Works\n\nHarwick Works was founded by Edith Calloway. <blink>It</blink> makes valves.\n",
    "founder.md": "# Edith Calloway\n\nEdith Calloway was born in Thornbury.\n",
    "<i>town.md": "# Thornbury\n\nThe river Alder flows through Thornbury.\n",
}

TEXTS = (
    *BREAD,
    *FERRIES,
    *TELESCOPES,
    "Professor Mara Velling keeps the <blink>mirror</blink> of her telescope in Harwick.",
)
TRAVELS = {f"text-{number}.md": content for number, content in enumerate(TEXTS)}

FOLDERS = {"handbook": DOCUMENTS, "works": WORKS, "travels": TRAVELS}


async def put(page: Page, name: str, value: str) -> None:
    """Set a field of the view to another value, as typing or choosing does."""
    field = f"document.querySelector('main [name={name}]')"
    await page.until(f"{field} && true")
    await page.run(
        f"{field}.value = {json.dumps(value)},"
        f"{field}.dispatchEvent(new Event({field}.tagName === 'SELECT' ? 'change' : 'input', {{bubbles: true}}))"
    )


LINKED = "[...document.querySelectorAll('dialog[open] .linked li')].map((it) => it.innerText)"
QUESTION = "Which river flows through the town where the founder of Harwick Works was born?"


@pytest.mark.slow
async def test_passages_are_linked_searched_over_their_links_and_clicked_through(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "documents", "works")
    await click(page, "Links between passages")
    assert await page.until(text("#linkstate")) == "The passages of this store are not linked."
    await sound(seen)
    await click(page, "Link passages")
    await page.until(f"{text('#linkstate')} === 'The passages of this store are linked.'")
    await page.until(f"{text('#linking')} === 'Done.'")
    await page.run(
        "URL.createObjectURL = (blob) => {"
        "blob.text().then((it) => { document.body.dataset.graph = it; }); return ''; },"
        "HTMLAnchorElement.prototype.click = function () { document.body.dataset.file = this.download; }, 0"
    )
    await click(page, "Save graph (GraphML)")
    graph = await page.until("document.body.dataset.graph")
    assert graph.startswith("<?xml") and "thornbury" in graph
    assert await page.until("document.body.dataset.file") == "works.graphml"

    address = await page.run("location.href")
    await page.open("about:blank")
    await page.open(address.partition("/links")[0])
    await page.type("#storesearch input", QUESTION)
    await page.press_enter()
    stages = (
        "[...document.querySelectorAll('.search table tbody td:first-child')].map((it) => it.textContent)"
    )
    await page.until(f"{stages}.includes('links')")
    assert await page.run("document.querySelectorAll('.passages > li').length") == 3
    await sound(seen)
    await page.run("document.querySelector('#storesearch [name=links]').click()")
    await page.run("document.querySelector('#storesearch').requestSubmit()")
    await page.until(f"{stages}.length && !{stages}.includes('links')")

    await click(page, "works.md", ".passages")
    await click(page, "Linked passages", "dialog[open]")
    [neighbour] = await page.until(f"{LINKED}.length && {LINKED}")
    assert neighbour.startswith("founder.md") and "also mentions “edith calloway”" in neighbour
    await sound(seen)
    await page.focus("document.querySelector('dialog[open] .linked li button')")
    await page.press_enter()
    await page.until(f"{text('dialog[open] h2')} === 'founder.md'")
    assert "was born in Thornbury" in await page.until(
        f"{text('dialog[open] .passage')}?.includes('Thornbury') && {text('dialog[open] .passage')}"
    )
    await click(page, "Linked passages", "dialog[open]")
    linked_passages = await page.until(f"{LINKED}.length === 2 && {LINKED}")
    assert sorted(item.split(" ·")[0] for item in linked_passages) == ["<i>town.md", "works.md"]
    await escape(page)

    await click(page, "<i>town.md", "#filetable")
    await click(page, "Linked passages", "dialog[open]")
    await page.until(f"{LINKED}.length === 1 && {LINKED}[0].startsWith('founder.md')")
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{LINKED}[0].includes('也提到“thornbury”')")
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{LINKED}[0].includes('also mentions “thornbury”')")
    await escape(page)
    assert await page.run("document.querySelectorAll('main :is(b, i)').length") == 0
    path = next(
        f"/api/stores/{item['id']}"
        for item in seen.get("/api/stores").json()["data"]
        if item["name"] == "works"
    )
    for steps in (2, "off"):
        await put(page, "steps", str(steps))
        while seen.get(path).json()["search"].get("steps", "off") != steps:
            pass  # the store keeps the setting
    await click(page, "Links between passages")
    await click(page, "Remove links")
    await page.until(f"{text('#linkstate')} === 'The passages of this store are not linked.'")
    await page.until(f"{text('#linking')} === 'Done.'")


THEME = "[...document.querySelectorAll('.themes button')]"
NAME = "[...document.querySelectorAll('.namedrawing button')]"
FOUND = "[...document.querySelectorAll('#themepassages .passages .link')].map((it) => it.innerText)"


async def test_the_themes_and_names_of_a_store_are_drawn_and_explored(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "documents", "travels")
    await click(page, "Themes")
    await page.until(f"{THEME}.length > 1")
    themes = await page.run(f"{THEME}.map((it) => it.innerText)")
    assert "stars · light · telescope\n3 passages, 3 files" in themes
    await sound(seen)

    telescope = f"{THEME}.find((it) => it.innerText.includes('telescope'))"
    await page.focus(telescope)
    await page.press_enter()
    await page.until(f"{telescope}.getAttribute('aria-pressed') === 'true'")
    passages = await page.until(f"{FOUND}.length && {FOUND}")
    assert "text-9.md" in passages[:3]
    assert await page.run("document.querySelectorAll('#themepassages b').length") == 0
    await click(page, "text-9.md", "#themepassages")
    assert "distant" in await page.until(text("dialog[open] .passage"))
    await escape(page)

    await page.until(
        f"{NAME}.length === 2 && document.querySelectorAll('.namedrawing polyline').length === 1"
    )
    names = await page.run(f"{NAME}.map((it) => it.innerText.replace('\\n', ' '))")
    assert sorted(names) == ["Harwick place · 3", "Mara Velling person · 3"]
    await click(page, "Mara Velling\nperson · 3", ".namedrawing")
    await page.until("document.querySelector('.namedrawing polyline.partner') && true")
    assert await page.run(f"{NAME}.every((it) => it.classList.contains('partner'))")
    assert await page.run(f"{NAME}.map((it) => it.title).includes('Together with Harwick (2)')")
    await page.until(f"{FOUND}.slice(0, 3).sort().join() === 'text-12.md,text-7.md,text-8.md'")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('h1')} === '主题' && {NAME}[0].innerText.match(/人物|地点/) && true")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('h1')} === 'Themes'")

    seen.post("/api/stores", {"name": f"bare{seen.width}", "embedding_model": "vectors"})
    await visit(page, "library", "documents", f"bare{seen.width}", "themes")
    await page.until("document.querySelector('main').innerText.includes('No themes yet.')")
    await sound(seen)
    seen.delete(f"/api/stores/bare{seen.width}")


PIECES = "[...document.querySelectorAll('dialog[open] .pieces li button')]"
CHOSEN = (
    "[...document.querySelectorAll('dialog[open] .marked mark.chosen')].map((it) => it.textContent).join('')"
)


@pytest.mark.slow
async def test_the_chunks_of_a_document_are_marked_in_its_text_and_navigable(seen: Seen) -> None:
    page, name = seen.page, f"tides{seen.width}"
    seen.post("/api/stores", {"name": name, "embedding_model": "vectors"})
    await visit(page, "library", "documents", name)
    path = seen.folder / "tide.md"
    path.write_text(TIDES, encoding="utf-8")
    pdf = seen.folder / "lease.pdf"
    pdf.write_bytes(written.pdf("A first page.", "The rent of the flat is 840 euros."))
    await page.until("document.querySelector('#upload') && true")
    await page.choose_file("#upload", path, pdf)
    await page.until("document.querySelectorAll('#filetable tbody tr').length === 2")
    await page.until(f"{text('#filetable')}.match(/ready/g)?.length === 2")
    strategy = {"type": "fixed", "size": 100, "overlap": 40}
    seen.post(f"/api/stores/{name}/groups", {"name": "small", "chunking_strategy": strategy})
    files = {row["filename"]: row["id"] for row in seen.get(f"/api/stores/{name}/files").json()["data"]}
    pieces = f"/api/stores/{name}/files/{files['tide.md']}/chunks"
    while seen.get(f"/api/stores/{name}/groups").json()["data"][1]["completed"] < 2:
        pass  # the group is created in the background
    await click(page, "tide.md")
    chunks = seen.get(pieces).json()["data"]
    await page.until(f"{PIECES}.length === {len(chunks)}")
    assert await page.until(CHOSEN) == chunks[0]["text"]
    assert await page.run("document.querySelectorAll('dialog[open] b').length") == 0
    await sound(seen)
    choose = "document.querySelector('dialog[open] [name=group]')"
    await page.until(f"{choose} && true")
    await page.run(
        f"{choose}.value = 'small', {choose}.dispatchEvent(new Event('change', {{bubbles: true}}))"
    )
    small = seen.get(f"{pieces}?group=small&limit=200").json()["data"]
    await page.until(f"{PIECES}.length === {len(small)}")
    await page.focus(f"{PIECES}[20]")
    await page.press_enter()
    await page.until(f"{PIECES}[20].getAttribute('aria-current') === 'true'")
    await page.until(f"{CHOSEN} === {json.dumps(small[20]['text'])}")
    assert await page.run("document.querySelectorAll('dialog[open] mark.overlap').length") > 10
    in_sight = (
        "(() => { const mark = document.querySelector('dialog[open] mark.chosen').getBoundingClientRect();"
        "const frame = document.querySelector('dialog[open] .marked').getBoundingClientRect();"
        "return mark.top >= frame.top && mark.bottom <= frame.bottom; })()"
    )
    assert await page.until(in_sight)
    unchosen_mark = "document.querySelector('dialog[open] mark:not(.chosen):not(.overlap)')"
    number = await page.run(f"Number({unchosen_mark}.dataset.piece)")
    await page.run(f"{unchosen_mark}.click()")
    await page.until(f"{CHOSEN} === {json.dumps(small[number]['text'])}")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{choose}.parentElement.innerText.startsWith('分块组')")
    await page.run("document.querySelector('#language').click()")
    await escape(page)

    await click(page, "lease.pdf")
    page_image = "document.querySelector('dialog[open] .drawnpage img')"
    await page.until(f"{page_image} && true")
    assert await page.run(f"{page_image}.decode().then(() => true)")
    await page.run(f"{PIECES}.at(-1).click()")
    await page.until(f"{page_image}?.alt.includes('840 euros')")
    await sound(seen)
    await click(page, "Show text", "dialog[open]")
    assert "840 euros" in await page.until(CHOSEN)
    await escape(page)
    seen.delete(f"/api/stores/{name}")


CUTS = "[...document.querySelectorAll('#cuts > section')].map((it) => it.innerText)"


async def test_chunkers_are_compared_side_by_side_on_a_pasted_text(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "documents", "handbook")
    await click(page, "Compare chunkers")
    await page.until("location.hash === '#/library/documents/handbook/chunkers'")
    await put(page, "text", "One sentence stands here. Another one follows it. " * 20)
    await put(page, "type1", "sentence")
    await put(page, "size1", "100")
    await put(page, "overlap1", "1000")  # more than a chunk holds
    await click(page, "Compare")
    assert "overlap" in await page.until(text("#chunkform .trouble"))
    await put(page, "overlap1", "0")
    await click(page, "Compare")
    cuts = await page.until(f"{CUTS}.length === 2 && {CUTS}")
    assert cuts[0].startswith("auto") and "1 chunks" in cuts[0]
    assert "size 100" in cuts[1] and "10 chunks" in cuts[1] and "characters" in cuts[1]
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('h1')} === '比较分块方式'")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('h1')} === 'Compare chunkers'")


async def test_a_chunker_is_compared_over_a_document_and_used_for_the_store(seen: Seen) -> None:
    page, name = seen.page, f"small{seen.width}"
    files = seen.get("/api/stores/handbook/files").json()["data"]
    file = next(item["id"] for item in files if item["filename"] == "harbour.md")
    await visit(page, "library", "documents", "handbook", file)
    await click(page, "Compare chunkers", "dialog[open]")
    await page.until(f"document.querySelector('main [name=document]')?.value === '{file}'")
    await put(page, "type1", "sentence")
    await put(page, "size1", "100")
    await put(page, "overlap1", "0")
    await put(page, "type2", "fixed")
    await click(page, "Compare")
    cuts = await page.until(f"{CUTS}.length === 3 && {CUTS}")
    assert "<blink>Boats</blink>" in cuts[1] and "fixed" in cuts[2]
    assert await page.run("document.querySelectorAll('#cuts b').length") == 0
    await sound(seen)
    await page.focus("document.querySelectorAll('#cuts button')[1]")
    await page.press_enter()
    await page.until("document.querySelector('dialog[open] [name=name]') && true")
    await page.run("document.querySelector('dialog[open] [name=name]').select()")
    await page.type("dialog[open] [name=name]", name)
    await page.press_enter()
    row = (
        f"[...document.querySelectorAll('#groups tbody tr')].find((it) => it.innerText.startsWith('{name}'))"
    )
    await page.until(f"!document.querySelector('dialog[open]') && ({row})?.innerText.includes('3 / 3')")
    groups = seen.get("/api/stores/handbook/groups").json()["data"]
    chunking = next(item["chunking"] for item in groups if item["name"] == name)
    assert (chunking["type"], chunking["size"]) == ("sentence", 100)
    await click(page, f"Remove {name}")
    await page.until(f"!({row})")


async def test_the_benefit_of_vector_search_is_measured_shown_and_applied(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "documents", "handbook")
    await click(page, "Search quality")
    await page.until(f"{text('h1')} === 'Search quality'")
    questions = [
        {"question": "when does the harbour open", "file": "harbour.md"},
        {"question": "how hot is bread baked", "file": "bread.md"},
        {"question": "where grows the snow lotus", "file": "snow.md"},
    ]
    await put(page, "questions", json.dumps(questions[0]) + "\nnonsense")
    await click(page, "Measure")
    assert "Line 2 is not JSON" in await page.until(text("#calibrateform .trouble"))
    await put(page, "questions", '{"question": "What?", "file": "nowhere.md"}')
    await click(page, "Measure")
    assert "The search finds no answer to any of the questions" in await page.until(
        text("main .trouble")
    )  # by the run, which reports why it failed
    await sound(seen)
    await click(page, "Measure with other questions")
    file = seen.folder / "questions.jsonl"
    file.write_text("\n".join(json.dumps(question) for question in questions), encoding="utf-8")
    await page.until("document.querySelector('#questionfile') && true")
    await page.choose_file("#questionfile", file)
    await click(page, "Measure")
    result_text = await page.until(text("#calibrated"))
    assert "on 3 questions. Not answered at any weight: 0." in result_text
    assert await page.run("document.querySelectorAll('#weights tbody tr').length") == 11
    assert await page.run("document.querySelectorAll('.chart polyline').length") == 3
    await sound(seen)
    address = await page.run("location.href")
    await page.open("about:blank")
    await page.open(address)  # the measurement has its own address
    assert await page.until(text("#calibrated")) == result_text
    best = float(result_text.removeprefix("The best weight is ").partition(",")[0])
    if seen.get("/api/stores/handbook").json()["vector_weight"] != best:
        await click(page, f"Use weight {best:g}")
    await page.until(f"{text('main .actions .good')} === 'This weight is in use.'")
    assert seen.get("/api/stores/handbook").json()["vector_weight"] == best


async def test_a_model_generates_the_questions_of_a_search_quality_measurement(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "documents", "handbook", "calibrate")
    await put(page, "from", "model")
    await put(page, "generate", "1")
    await click(page, "Measure")
    assert "on 1 questions" in await page.until(text("#calibrated"))


ARCHIVE = "The archive opens at nine. <blink>Ring</blink> the bell."
WRONG = (
    "[...document.querySelectorAll('#wronganswers .card')].map((it) => it.innerText.replace(/\\s+/g, ' '))"
)
GUARDS = "[...document.querySelectorAll('#guardquestions tbody tr')].map((it) => it.innerText.replace(/\\s+/g, ' '))"


@pytest.mark.slow
async def test_a_document_change_that_breaks_an_answer_is_held_then_accepted_or_rejected(seen: Seen) -> None:
    page, name = seen.page, f"hours{seen.width}"
    folder = seen.folder / name
    folder.mkdir()
    file = folder / "archive.md"
    file.write_text(ARCHIVE, encoding="utf-8")
    seen.post("/api/stores", {"name": name, "folder": str(folder), "embedding_model": "vectors"})

    async def change(content: str, state: str) -> None:
        file.write_text(content, encoding="utf-8")
        seen.post(f"/api/stores/{name}/sync", {})
        await page.until(f"{text('#reviewstate')} === {json.dumps(state)}")

    await visit(page, "library", "documents", name)
    await page.until(f"{text('#filetable')}?.includes('ready')")
    await click(page, "Review of changes")
    assert await page.until(text("main .empty h2")) == "No guard questions yet"
    await sound(seen)
    await click(page, "Add guard question")
    question = {"question": "When does the archive open?", "file": "archive.md", "passage": "opens at six"}
    await fill(page, **question)
    await sound(seen)
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")
    assert "archive.md" in await page.until(text("dialog[open] .trouble"))
    await page.run("document.querySelector('dialog[open] [name=passage]').select()")
    await fill(page, passage="opens at nine")
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")
    assert await page.until(f"{GUARDS}.length && {GUARDS}") == [
        "When does the archive open? archive.md · opens at nine passed "
    ]

    await put(page, "guard", "warn")
    while seen.get(f"/api/stores/{name}").json()["guard"] != "warn":
        pass  # the store keeps the rule
    await put(page, "guard", "hold")
    while seen.get(f"/api/stores/{name}").json()["guard"] != "hold":
        pass
    await change(
        "The archive is closed. <blink>Go</blink> home.", "The change is held. Searches use the old files."
    )
    [wrong] = await page.until(f"{WRONG}.length && {WRONG}")
    assert wrong == (
        f"When does the archive open? Without the change: archive.md {ARCHIVE} "
        "With the change: archive.md The archive is closed. <blink>Go</blink> home."
    )
    assert await page.run(text("main details summary")) == "Changed: 1"
    assert await page.run("document.querySelectorAll('main b').length") == 0
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('#reviewstate')} === '变更已暂缓，搜索仍使用旧文件。'")
    await page.run("document.querySelector('#language').click()")
    await visit(page, "library", "documents", name)
    await click(page, "Searches do not use the last change yet: review it.")
    await click(page, "Accept")
    await page.until(f"{text('#reviewstate')} === 'The change was accepted.'")
    await page.until(f"{GUARDS}[0].endsWith('failed ')")

    await change(ARCHIVE, "The change keeps all answers.")
    await page.until(f"{GUARDS}[0].endsWith('passed ')")
    await change("The archive is gone.", "The change is held. Searches use the old files.")
    await click(page, "Reject")
    await sound(seen)
    await click(page, "Reject", "dialog[open]")
    await page.until(f"{text('#reviewstate')} === 'The change was rejected.'")
    assert seen.get(f"/api/stores/{name}").json()["paused"]
    await click(page, "Remove When does the archive open?")
    assert await page.until(text("main .empty h2")) == "No guard questions yet"
    seen.delete(f"/api/stores/{name}")
