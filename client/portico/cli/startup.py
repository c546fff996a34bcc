"""What `portico up` shows: the start-up runs as bars, then one panel with everything needed to continue."""

from __future__ import annotations

import asyncio
import json
import os

from rich.rule import Rule
from rich.text import Text

from portico.cli.follow import follow
from portico.cli.render import console, count_reasons, one_line, print_json
from portico.client import AsyncClient
from portico.values import Status, Store


def show(url: str, key: str | None, *, as_json: bool, started_here: bool = True) -> Status:
    """Follow the start-up of the daemon at ``url`` to its end and print the panel, or one JSON document.

    ``begun``: this command began it. Of another start only what still runs is shown.
    """
    status = asyncio.run(_settled(url, key, started_here))
    if as_json:
        print_json(summary(status, url))
    else:
        _print_panel(status, url)
    return status


async def _settled(url: str, key: str | None, started_here: bool) -> Status:
    async with AsyncClient(url, key) as client:
        status = await client.status()
        # What a start could not do must not hide what it did: failures are shown, and the daemon serves.
        await follow(client, status.startup, further=lambda run: True, ended_too=started_here)
        return await client.status()


def summary(status: Status, url: str) -> dict[str, object]:
    """What the panel says, as values."""
    better = status.recommended
    return {
        "url": url,
        "page": f"{url}/",
        "base_url": f"{url}/v1",
        "reference": f"{url}/docs",
        "mcp": f"{url}/mcp",
        "apps": list(status.apps),
        "stores": [store.name for store in status.stores],
        "models": [model.name for model in status.models],
        "home": status.home,
        "version": status.version,
        "recommended": dict(better.raw) if better else None,
        "problems": [{"name": p.name, "place": p.place, "reason": p.reason} for p in status.problems],
    }


def _print_panel(status: Status, url: str) -> None:
    body = _body(status, url, status.apps[0] if status.apps else "default")
    out = console()
    if not out.is_terminal:
        out.print(body)
        return
    # Rules above and below instead of a box: what stands between can be copied as it is.
    out.print(Rule(f"Portico {one_line(status.version)}"), body, Rule())


def _body(status: Status, url: str, model: str) -> Text:
    body = Text()

    def line(name: str, value: str) -> None:
        body.append(f"{name:<10} ", "dim")
        body.append(f"{one_line(value)}\n")

    line("Page", f"{url}/  (portico open)")
    line("OpenAI API", f"{url}/v1")
    line("MCP", f"{url}/mcp")
    line("Reference", f"{url}/docs")
    if status.apps:
        line("Chat app", ", ".join(status.apps))
    else:
        line("Chat app", "none yet: portico stores add ./docs")
    for store in status.stores:
        if store.skipped or not store.file_counts.total:
            line("Skipped" if store.file_counts.total else "Empty", _left_out(store))
    line("Data", status.home)
    for problem in status.problems:
        label, _, rest = problem.line.partition(": ")
        line(label.capitalize(), rest)
    if status.small_model is not None:
        line("Model", status.small_model.hint)
    body.append("\nOpenAI client\n", "bold")
    body.append(python_snippet(url, model) + "\n")
    body.append("\nMCP, for an IDE assistant\n", "bold")
    body.append(mcp_snippet(url))
    return body


def _left_out(store: Store) -> str:
    """What of a store is not read."""
    skipped = f"{count_reasons(store.skipped)} skipped: portico stores show {store.name} --files"
    if store.file_counts.total:
        return f"{store.name}: {skipped}"
    return f"{store.name} holds no documents{f'; {skipped}' if store.skipped else ''}"


def python_snippet(url: str, model: str) -> str:
    """Python that asks ``model`` through OpenAI's own client."""
    key = 'os.environ["PORTICO_API_KEY"]' if os.environ.get("PORTICO_API_KEY") else '"local"'
    name = json.dumps(model, ensure_ascii=False)
    first = "import os\n" if key.startswith("os.") else ""
    return (
        f"{first}from openai import OpenAI\n"
        f'client = OpenAI(base_url="{url}/v1", api_key={key})\n'
        'question = [{"role": "user", "content": "What is this about?"}]\n'
        f"answer = client.chat.completions.create(model={name}, messages=question)\n"
        "print(answer.choices[0].message.content)"
    )


def mcp_snippet(url: str) -> str:
    """The entry for an assistant's list of MCP servers."""
    return json.dumps({"mcpServers": {"portico": {"url": f"{url}/mcp"}}})
