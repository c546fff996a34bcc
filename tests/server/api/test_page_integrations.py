"""Integrations in the page: MCP servers, webhook receivers, schedules."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.browser import CHROMIUM, Page
from tests.page import Seen, click, escape, fill, sound, text, visit
from tests.server.features.webhooks.receiver import Receiver, receiving
from tests.slurm_standin import SlurmStandIn

from portico.webhooks import verify_webhook

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here"),
]

STRANGER = str(Path(__file__).parents[1] / "features" / "mcp_servers" / "stranger.py")


def variables(folder: Path) -> dict[str, str]:
    """Return the daemon's environment variables, including those of a stand-in Slurm."""
    return {
        "PORTICO_TOOL_HOSTS": "127.0.0.1",
        "PORTICO_SLURM_PARTITION": "gpu",
        "PATH": f"{SlurmStandIn(folder / 'bin').folder}{os.pathsep}{os.environ['PATH']}",
    }


VARIABLES = variables

CONFIGURATION: dict[str, Any] = {
    "models": [
        {"name": "clerk", "source": "fake://", "aliases": ["default"]},
        {"name": "fresh", "source": "fake://"},
    ],
    "apps": [
        {
            "name": "greeting",
            "flow": {"step": {"op": "code", "source": "lambda given: f'Good morning, {given}'"}},
        }
    ],
    "mcp": [
        {"name": "odd", "command": [sys.executable, STRANGER]},
        {"name": "bare", "command": [sys.executable, STRANGER, "bare"]},
        {"name": "careful", "command": [sys.executable, STRANGER], "approval": "always", "allow": ["echo"]},
        {"name": "gone", "command": ["/no/such/program"]},
    ],
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as webhook_receiver:
        yield webhook_receiver


CONTENT = "dialog[open] .chunks"


@pytest.mark.slow
async def test_resources_are_browsed_and_nothing_of_them_is_executed(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "tools")
    await click(page, "odd")
    await page.until("location.hash === '#/library/tools/odd'")
    await page.until("document.querySelectorAll('#resources tbody tr').length === 6")
    await sound(seen)
    await click(page, "lease")
    assert await page.until(text(f"{CONTENT} pre")) == (
        "<b>The rent</b> is 840 euros.<script>alert(1)</script>"
    )
    assert await page.run(f"document.querySelectorAll('{CONTENT} :is(b, script)').length") == 0
    await sound(seen)
    await escape(page)
    await page.until("location.hash === '#/library/tools/odd'")
    await page.focus("[...document.querySelectorAll('#resources a')].find((it) => it.innerText === 'pixel')")
    await page.press_enter()
    assert await page.until(f"document.querySelector('{CONTENT} img')?.decode().then(() => true)")
    await escape(page)
    await click(page, "drawing")  # a drawing with a script, which a picture does not run
    await page.until(f"document.querySelector('{CONTENT} img')?.src.startsWith('data:image/svg+xml')")
    await escape(page)
    await click(page, "archive/old.bin")
    await page.until(f"document.querySelector('{CONTENT} a')?.download === 'old.bin'")
    assert (await page.run(f"document.querySelector('{CONTENT} a').href")).startswith("blob:")
    await escape(page)
    await click(page, "huge")
    assert "8,000,000" in await page.until(text("dialog[open] .trouble"))
    await escape(page)


async def call(page: Page, tool: str, **fields: str) -> str:
    """Fill in and submit the form of a tool, and return the selector of its card."""
    cards = "[...document.querySelectorAll('#servertools > li')]"
    card = f"{cards}.find((it) => it.innerText.startsWith({json.dumps(tool)}))"
    await page.until(f"{card} && true")
    await page.run(f"{card}.id = 'called', {card}.querySelector('details').open = true")
    for value in fields.values():
        await page.type("#called form textarea", value)
    await page.run("document.querySelector('#called form').requestSubmit()")
    return "#called .toolcall"


async def test_an_mcp_server_shows_its_details_and_its_tools_are_called_by_form(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "tools", "odd")
    for words in (
        "A <b>stranger</b> 1",
        "ready",
        "MCP 20",
        "last response",
        "tools.listChanged",
        "<script>alert(1)",
    ):
        await page.until(f"{text('#servercard')}.includes({json.dumps(words)})")
    assert await page.run("document.querySelectorAll('#servercard :is(b, script)').length") == 0
    await sound(seen)
    result = await call(page, "odd_echo", text="Grüße 高山")
    assert await page.until(text(f"{result} > pre")) == "Grüße 高山"
    await page.run("document.querySelector('#called').removeAttribute('id')")
    await call(page, "odd_sum")
    assert '"sum": 3' in await page.until(text(f"{result} .structured"))
    await page.run("document.querySelector('#called').removeAttribute('id')")
    await call(page, "odd_picture")
    await page.until(f"document.querySelector('{result} img.made')?.alt === 'image-1.png'")
    await page.until(f"document.querySelector('{result} a.made')?.download === 'The report.pdf'")
    await sound(seen)
    await page.run("document.querySelector('#called').removeAttribute('id')")
    await call(page, "odd_fail")
    assert await page.until(text(f"{result} > pre.bad")) == "It did not work."
    await page.run("document.querySelector('#called').removeAttribute('id')")
    await call(page, "odd_hang")
    await click(page, "Stop", result)
    await page.until(f"document.querySelector('{result} .trouble') && true")


async def test_a_tool_that_asks_first_is_approved_or_refused_beside_its_form(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "tools", "careful")
    result = await call(page, "careful_echo", text="Anybody?")
    await page.until(f"{text(f'{result} .question')}?.includes('Anybody?')")
    await sound(seen)
    await click(page, "Allow", result)
    assert await page.until(text(f"{result} > pre")) == "Anybody?"
    await page.run("document.querySelector('#called form').requestSubmit()")
    await page.until(f"document.querySelector('{result} .question') && true")
    await page.type(f"{result} .question input", "Not now.")
    await click(page, "Refuse", result)
    assert "Not now." in await page.until(text(f"{result} > pre.bad"))


async def test_a_server_that_cannot_be_reached_says_why_and_is_tried_again(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "tools", "gone")
    await page.until(f"({text('#servercard .trouble')} ?? '').includes('/no/such/program')")
    assert await page.run("document.querySelector('#resources')") is None
    await sound(seen)
    await click(page, "Try again", "#servercard")
    await page.until(f"({text('#servercard .trouble')} ?? '').includes('/no/such/program')")


async def test_a_template_is_filled_in_and_an_address_opens_a_resource(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "tools", "odd")
    await click(page, "day")
    await page.until("document.querySelector('dialog[open] [name=address]') && true")
    await page.run("document.querySelector('dialog[open] [name=address]').select()")
    await page.type("dialog[open] [name=address]", "note://day/2026-01-02")
    await page.press_enter()
    assert await page.until(text(f"{CONTENT} pre")) == "Day 2026-01-02"
    await page.open("about:blank")
    await page.open(f"{seen.url}/#/library/tools/odd/resource/note%3A%2F%2Flease")
    assert "840 euros" in await page.until(text(f"{CONTENT} pre"))
    await escape(page)
    await visit(page, "library", "tools", "bare")
    await page.until("document.querySelectorAll('main .empty').length === 2")
    assert await page.run(text("main .empty h2")) == "No resources"
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{text('main .empty h2')} === '没有资源'")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await visit(page, "library", "tools", "nobody")
    assert "nobody" in await page.until(text("main .trouble"))


@pytest.mark.slow
async def test_a_prompt_is_filled_in_by_its_form_and_asked_in_a_conversation(seen: Seen) -> None:
    page = seen.page
    await visit(page, "library", "tools", "odd")
    await click(page, "A letter")
    await page.until("document.querySelectorAll('dialog[open] form textarea').length === 2")
    assert await page.run("document.querySelectorAll('main i').length") == 0
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")  # 'who' is required
    assert await page.run("document.querySelector('dialog[open] form :invalid') !== null")
    await page.type("dialog[open] form textarea", "Ada")
    await page.run("document.querySelector('dialog[open] form').requestSubmit()")
    assert await page.until(text("#messages pre")) == "Write to Ada, kindly."
    await sound(seen)
    await click(page, "Ask in a new conversation", "dialog[open]")
    await page.until("document.querySelector('#question')?.value === 'Write to Ada, kindly.'")
    await page.until("!document.querySelector('#send').disabled")
    await page.focus("document.querySelector('#question')")
    await page.press_enter()
    await page.until(f"{text('#talk .said.user')}?.includes('Write to Ada, kindly.')")
    await page.until("document.querySelector('#talk .figures') && true")
    await visit(page, "library", "tools", "odd", "prompt", "talk")
    await click(page, "Fill in", "dialog[open]")
    assert await page.until("document.querySelector('#messages img')?.decode().then(() => true)")
    assert "Hello." in await page.run(text("#messages"))
    await escape(page)


HOSTILE = "<img src=x onerror=alert(1)>"

DELIVERY = text("#deliveries tbody tr")


@pytest.mark.slow
async def test_a_webhook_is_made_tried_paused_and_deleted_and_its_deliveries_are_sent_again(
    seen: Seen, receiver: Receiver
) -> None:
    page, path = seen.page, f"/heard{seen.width}"
    state = text("#webhookstate")
    await visit(page, "run", "webhooks")
    assert await page.until(text("main .empty h2")) == "No webhooks yet"
    await click(page, "Create webhook")
    await page.until("document.querySelector('#eventtypes input') && true")
    await fill(page, url=receiver.url(path), name=HOSTILE)
    await page.press_enter()
    assert await page.until(text("dialog[open] .trouble")) == "Choose at least one event."
    await sound(seen)
    await page.run("document.querySelector('#eventtypes [value=\"run.finished\"]').click()")
    await page.type("dialog[open] [name=name]", " mine")
    await page.press_enter()
    secret = await page.until(text("#newsecret"))
    await click(page, "Close", "dialog .actions")
    assert "No deliveries yet." in await page.until(
        f"{text('#webhooks li')}?.includes('No deliveries') && {text('#webhooks li')}"
    )
    assert secret not in await page.run("document.body.innerHTML")
    await sound(seen)
    await click(page, f"{HOSTILE} mine")
    await page.until(f"{state}?.startsWith('enabled')")
    assert await page.until(text("main .empty h2")) == "No deliveries yet"
    await click(page, "Send test event")
    await click(page, "Send", "dialog[open]")
    assert await page.until(text("#testanswer")) == "The receiver responded with HTTP 200."
    message = await receiver.next(path)
    assert verify_webhook(message.body, message.headers, secret).type == "run.finished"
    await sound(seen)
    await escape(page)

    receiver.answers[path] = [410]  # a receiver that accepts nothing more
    seen.post(
        "/api/flows/run",
        {
            "flow": {"portico_flow": 1, "durability": "normal", "step": {"op": "llm", "model": "clerk"}},
            "input": "Hello",
        },
    )
    await receiver.next(path)
    row = await page.until(f"{DELIVERY}?.includes('failed') && {DELIVERY}")
    assert "run.finished" in row and "HTTP 410" in row
    await page.until(f"{state}.startsWith('disabled')")
    assert await page.run("document.querySelector('#deliveries button').disabled")
    await sound(seen)
    await click(page, "Enable")
    await page.until(f"{state}.startsWith('enabled')")
    await click(page, "Resend")
    assert (await receiver.next(path)).id != message.id
    await page.until(f"{DELIVERY}.includes('delivered') && {DELIVERY}.includes('HTTP 200')")
    await click(page, "Pause")
    await page.until(f"{state}.startsWith('disabled')")
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{state}.startsWith('已停用') && {DELIVERY}.includes('已送达')")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")

    await click(page, "Edit")
    await page.until("document.querySelector('#eventtypes [value=\"run.finished\"]')?.checked")
    await page.run("document.querySelector('#eventtypes [value=\"run.failed\"]').click()")
    await click(page, "Save and enable", "dialog[open]")
    await page.until(f"{state}.startsWith('enabled') && document.querySelectorAll('main code').length === 2")
    await click(page, "Rotate secret")
    await click(page, "Rotate secret", "dialog[open]")
    new_secret = await page.until(text("#newsecret"))
    assert new_secret != secret
    await click(page, "Close", "dialog .actions")
    await page.until(f"{state}.includes({json.dumps(new_secret[-4:])})")
    await click(page, "Webhooks", "main .crumbs")
    assert "delivered" in await page.until(
        f"{text('#webhooks li')}?.includes('Last event') && {text('#webhooks li')}"
    )
    assert await page.run("document.querySelectorAll('main img').length") == 0
    await click(page, f"{HOSTILE} mine")
    await click(page, "Delete")
    await click(page, "Delete", "dialog")
    assert (
        await page.until(f"location.hash === '#/run/webhooks' && {text('main .empty h2')}")
        == "No webhooks yet"
    )


@pytest.mark.slow
async def test_a_schedule_is_made_run_paused_changed_and_deleted(seen: Seen) -> None:
    page, state = seen.page, text("#schedulestate")
    outcome = text("#scheduledruns tbody tr")
    await visit(page, "run", "schedules")
    assert await page.until(text("main .empty h2")) == "No schedules yet"
    await click(page, "Create schedule")
    await page.until("document.querySelector('dialog[open] [name=target]') && true")
    await fill(page, name="morning", target="greting", input=HOSTILE, when="0 7 * * 1-5")
    await page.press_enter()
    assert "greeting" in await page.until(text("dialog[open] .trouble"))  # suggests the intended name
    await sound(seen)
    await page.run("document.querySelector('dialog[open] [name=target]').select()")
    await page.type("dialog[open] [name=target]", "greeting")
    await page.press_enter()
    await page.until(f"{text('#schedules li')}?.includes('calls greeting · 0 7 * * 1-5')")
    await sound(seen)
    await click(page, "morning")
    await page.until(f"{state}?.includes('next')")
    assert (await page.until(text("#nexttimes"))).count(" · ") == 4
    assert await page.until(text("main .empty h2")) == "No runs yet"
    await click(page, "Run now")
    await page.until(f"{outcome}?.includes('manual') && {outcome}.includes('completed')")
    await sound(seen)
    await click(page, "Pause")
    await page.until(f"{state}.includes('paused')")
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{state}.includes('已暂停') && {outcome}.includes('手动')")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await click(page, "Edit")
    assert await page.until("document.querySelector('dialog[open] [name=when]')?.value") == "0 7 * * 1-5"
    await page.run("document.querySelector('dialog[open] [name=when]').select()")
    await page.type("dialog[open] [name=when]", "15m")
    await click(page, "Save", "dialog[open]")
    await page.until(f"{state}.includes('every 15m')")
    await click(page, "Resume")
    await page.until(f"{state}.includes('next')")
    assert await page.run("document.querySelectorAll('main img').length") == 0
    await click(page, "Delete")
    await click(page, "Delete", "dialog")
    assert (
        await page.until(f"location.hash === '#/run/schedules' && {text('main .empty h2')}")
        == "No schedules yet"
    )


async def test_a_skill_is_added_in_versions_and_deleted(seen: Seen) -> None:
    page, version = seen.page, text("#skillversions")
    name, archive = f"greet-{seen.width}", seen.folder / f"greet-{seen.width}.zip"
    text_of_skill = f"---\nname: {name}\ndescription: {HOSTILE}\n---\n"
    await visit(page, "library", "skills")
    assert await page.until(text("main .empty h2")) == "No skills yet"
    for number in (1, 2):
        await click(page, "Add skill", "main")
        await page.until("document.querySelector('dialog[open] [name=folder]') && true")
        if number == 1:
            await click(page, "Add skill", "dialog[open]")
            assert "Choose a folder" in await page.until(text("dialog[open] .trouble"))
            await sound(seen)
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr(f"{name}/SKILL.md", f"{text_of_skill}Bow {number} times.\n")
        await page.choose_file("dialog[open] [name=archive]", archive)
        await click(page, "Add skill", "dialog[open]")
        await page.until(f"{text('#skills li')}?.includes('v{number}')")
    assert HOSTILE in await page.until(text("#skills li"))
    await sound(seen)
    await click(page, "Versions")
    await page.until(f"{version}?.includes('SKILL.md') && {version}.includes('v1')")
    await sound(seen)
    await click(page, "Make default", "dialog[open]")
    await page.until(f"{text('#skillversions > li:last-child')}?.includes('Default version')")
    await click(page, "Delete", "dialog[open]")
    await page.until(f"!{version}.includes('v2')")
    await escape(page)
    await click(page, "Delete")
    await click(page, "Delete", "dialog")
    assert await page.until(text("main .empty h2")) == "No skills yet"


@pytest.mark.slow
async def test_a_node_is_drained_and_resumed_and_running_processes_are_shown(seen: Seen) -> None:
    page, nodes = seen.page, seen.folder / "bin" / "nodes"
    nodes.write_text(nodes.read_text().replace("power State=IDLE", HOSTILE))
    seen.post("/api/deployments/clerk/load", {})
    await visit(page, "run", "machines")
    row = "[...document.querySelectorAll('#machines tbody tr')].find((it) => it.innerText.includes('g1'))"
    assert "8 of 64" in await page.until(f"{row}?.innerText")
    assert HOSTILE in await page.run(text("#machines"))
    assert await page.run("document.querySelectorAll('main img').length") == 0
    await page.until(f"{text('#processes')}?.includes('clerk')")
    assert seen.url in await page.run(text("#daemons"))
    await sound(seen)
    await click(page, "Drain")
    await fill(page, reason="New disks")
    await sound(seen)
    await page.press_enter()
    await page.until(f"{row}?.innerText.includes('drained') && !document.querySelector('dialog')")
    assert "New disks" in await page.run(f"{row}.innerText")
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{row}?.innerText.includes('已排空')")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await click(page, "Resume")
    await click(page, "Resume", "dialog")
    await page.until(f"{row}?.innerText.includes('idle')")


@pytest.mark.slow
async def test_a_canary_is_set_by_the_keyboard_watched_changed_and_promoted(seen: Seen) -> None:
    page, alias, state = seen.page, f"helper-{seen.width}", text("#canarystate")
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.put(f"{seen.url}/api/aliases/{alias}", json={"target": "clerk"})
    assert answer.is_success, answer.text
    await visit(page, "run", "canaries")
    await page.until(f"{text('main h1')} === 'Canaries'")
    await click(page, "Create canary")
    await fill(page, alias=alias, target="frsh")
    await page.press_enter()
    assert "fresh" in await page.until(text("dialog[open] .trouble"))  # suggests the intended name
    await sound(seen)
    await page.run("document.querySelector('dialog[open] [name=target]').select()")
    await fill(page, target="fresh")
    await page.run("document.querySelector('dialog[open] [name=weight]').select()")
    await fill(page, weight="1")
    await page.type("dialog[open] [name='promote.after']", "3")
    await page.press_enter()
    await page.until("!document.querySelector('dialog')")
    split = f"[...document.querySelectorAll('#canaries li')].find((it) => it.innerText.includes('{alias}'))"
    assert "fresh gets 100.0 % of the calls, clerk the rest" in await page.until(f"{split}?.innerText")
    await sound(seen)
    await page.focus(f"{split}.querySelector('a')")
    await page.press_enter()
    await page.until(f"{state}?.startsWith('running')")
    seen.post("/v1/chat/completions", {"model": alias, "messages": [{"role": "user", "content": "hi"}]})
    side = text("#canarysides tbody tr:last-child")
    assert "fresh" in await page.until(f"/fresh\\s+1\\s/.test({side}) && {side}")
    assert "canary calls: 1 of 3" in await page.until(
        f"{text('#waitsfor')}?.includes('1 of') && {text('#waitsfor')}"
    )
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{state}.startsWith('进行中') && {side}.startsWith('灰度')")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await click(page, "Edit")
    assert await page.until("document.querySelector('dialog[open] [name=target]')?.readOnly")
    assert await page.run("document.querySelector(\"dialog[open] [name='promote.after']\").value") == "3"
    await page.run("document.querySelector('dialog[open] [name=weight]').select()")
    await fill(page, weight="0.5")
    await click(page, "Save", "dialog[open]")
    await page.until(f"{state}.includes('50.0 %')")
    await click(page, "Promote")
    await fill(page, reason=HOSTILE)
    await page.press_enter()
    await page.until(f"{state}.startsWith('promoted') && !document.querySelector('dialog')")
    assert HOSTILE in await page.run(text("#canaryjournal"))
    assert await page.run("document.querySelectorAll('main img').length") == 0
    await sound(seen)
    await click(page, "Canaries", "main .crumbs")
    await page.until(f"{split}?.innerText.includes('promoted')")


SAVING = """(() => {
  const made = URL.createObjectURL;
  window.saved = {};
  URL.createObjectURL = (content) => {
    URL.createObjectURL = made;
    window.saved.content = content;
    return made.call(URL, content);
  };
  HTMLAnchorElement.prototype.click = function () {
    delete HTMLAnchorElement.prototype.click;
    window.saved.name = this.download;
  };
})()"""
"""Stores the next file that the page saves as ``window.saved``."""


async def test_a_container_is_made_and_files_are_put_there_saved_and_deleted(seen: Seen) -> None:
    page, csv_path = seen.page, seen.folder / f"table {seen.width}.csv"
    csv_path.write_text("n\n1\n", encoding="utf-8")
    await visit(page, "run", "containers")
    assert await page.until(text("main .empty h2")) == "No containers yet"
    await click(page, "Create container")
    await fill(page, name=HOSTILE)
    await sound(seen)
    await page.press_enter()
    await page.until("/^#.run.containers.cntr_/.test(location.hash)")
    assert await page.until(text("main .empty h2")) == "No files yet"
    await page.choose_file("#containerupload", csv_path)
    row = text("#containerfiles tbody tr")
    assert f"/work/{csv_path.name}" in await page.until(f"{row}?.includes('uploaded') && {row}")
    await sound(seen)
    await page.run(SAVING)
    await page.focus("document.querySelector('#containerfiles button')")
    await page.press_enter()
    assert await page.until("window.saved?.name") == csv_path.name
    assert await page.run("window.saved.content.text()") == "n\n1\n"
    await page.run("document.querySelector('#language').click()")
    await page.until(f"{row}.includes('上传')")
    await sound(seen)
    await page.run("document.querySelector('#language').click()")
    await click(page, "Delete", "#containerfiles")
    await click(page, "Delete", "dialog")
    assert await page.until(text("main .empty h2")) == "No files yet"
    await click(page, "Containers", "main .crumbs")
    await page.until(f"{text('#containers li')}?.includes('expires 20 minutes')")
    assert await page.run("document.querySelectorAll('main img').length") == 0
    await click(page, HOSTILE)
    await click(page, "Delete")
    await click(page, "Delete", "dialog")
    assert (
        await page.until(f"location.hash === '#/run/containers' && {text('main .empty h2')}")
        == "No containers yet"
    )
