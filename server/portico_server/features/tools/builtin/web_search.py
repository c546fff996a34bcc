"""Searches the web through the provider that the operator has chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.request import ToolResult
from portico_server.features.tools.tool import Tool
from portico_server.http.fetch.policy import AddressPolicy


@dataclass(frozen=True, slots=True)
class SearchProvider:
    """The request and response format of one search service.

    ``query`` and ``count`` are the names of the parameters; ``header`` carries the key in the form ``key_form``.
    ``rows`` is the path to the list of results in the JSON response; ``fields`` are the fields of title, URL and text
    in a row. Without ``rows``, the response is DuckDuckGo's page.
    """

    url: str
    query: str = "q"
    count: str = ""
    fixed: Mapping[str, str] | None = None
    posts: bool = False
    header: str = ""
    key_form: str = "{key}"
    rows: Sequence[str] = ()
    fields: tuple[str, str, str] = ("title", "url", "content")


PROVIDERS: Final[Mapping[str, SearchProvider]] = {
    "searxng": SearchProvider("", fixed={"format": "json"}, rows=("results",)),
    "brave": SearchProvider(
        "https://api.search.brave.com/res/v1/web/search",
        count="count",
        header="X-Subscription-Token",
        rows=("web", "results"),
        fields=("title", "url", "description"),
    ),
    "tavily": SearchProvider(
        "https://api.tavily.com/search",
        query="query",
        count="max_results",
        posts=True,
        header="Authorization",
        key_form="Bearer {key}",
        rows=("results",),
    ),
    "bing": SearchProvider(
        "https://api.bing.microsoft.com/v7.0/search",
        count="count",
        header="Ocp-Apim-Subscription-Key",
        rows=("webPages", "value"),
        fields=("name", "url", "snippet"),
    ),
    "duckduckgo": SearchProvider("https://html.duckduckgo.com/html/"),
}


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """The operator's settings: the name of a provider or ``none``, a custom URL for the provider, and its key."""

    provider: str = "none"
    url: str = ""
    key: str = ""


def tool(policy: AddressPolicy, choice: SearchSettings) -> Tool:
    """Return ``web_search``, which returns titles, addresses and excerpts for a query."""

    async def work(arguments: Mapping[str, Any], context: Context) -> ToolResult:
        try:
            return await _work(
                arguments["query"], int(arguments.get("max_results", 5)), policy, choice, context.caller.id
            )
        except PorticoError as error:
            return ToolResult(error.message, is_error=True)

    return Tool(
        name="web_search",
        title="Search the web",
        description="Search the web: titles, addresses and excerpts. Read a result with 'web_fetch'.",
        input_schema={
            "type": "object",
            "properties": {
                "query": {"type": "string", "minLength": 1, "maxLength": 500},
                "max_results": {"type": "integer", "minimum": 1, "maximum": 20, "default": 5},
            },
            "required": ["query"],
            "additionalProperties": False,
        },
        output_schema={
            "type": "object",
            "properties": {
                "results": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {name: {"type": "string"} for name in ("title", "url", "text")},
                        "required": ["title", "url", "text"],
                    },
                }
            },
            "required": ["results"],
        },
        work=work,
        group="web",
        open_world=True,
    )


async def _work(
    query: str, count: int, policy: AddressPolicy, choice: SearchSettings, caller: str
) -> ToolResult:
    from portico_server.http.fetch.client import FetchRequest, fetch

    provider = PROVIDERS.get(choice.provider)
    if provider is None:
        return ToolResult(
            "Web search is not configured. The operator chooses a provider with the setting 'web_search' "
            f"({', '.join(PROVIDERS)}), and sets 'web_search_url' or 'web_search_key' if the provider needs "
            "it.",
            is_error=True,
        )
    address = choice.url or provider.url
    if not address:
        return ToolResult(
            f"'{choice.provider}' needs the setting 'web_search_url', such as https://searx.example.org/search.",
            is_error=True,
        )
    if provider.header and not choice.key:
        return ToolResult(f"'{choice.provider}' needs the setting 'web_search_key'.", is_error=True)
    parameters: dict[str, Any] = {provider.query: query, **(provider.fixed or {})}
    if provider.count:
        parameters[provider.count] = count
    headers = {provider.header: provider.key_form.format(key=choice.key)} if provider.header else {}
    if provider.posts:
        headers["Content-Type"] = "application/json"
        ask = FetchRequest(address, "POST", headers, json.dumps(parameters).encode())
    else:
        ask = FetchRequest(
            f"{address}{'&' if '?' in address else '?'}{urlencode(parameters)}", "GET", headers
        )
    fetched_page = await fetch(ask, policy)
    if fetched_page.status >= 400:
        return ToolResult(
            f"The search of '{choice.provider}' responded with status {fetched_page.status}: "
            f"{fetched_page.text[:300]}",
            is_error=True,
        )
    read: Callable[..., list[dict[str, str]]] = _from_json if provider.rows else _from_page
    results = (await pools.DOCUMENTS.run_for(caller, read, provider, fetched_page.data, fetched_page.url))[
        :count
    ]
    lines = [f"[{n}] {row['title']}\n{row['url']}\n{row['text']}" for n, row in enumerate(results, 1)]
    return ToolResult("\n\n".join(lines) or "No results were found.", {"results": results})


def _from_json(provider: SearchProvider, data: bytes, _url: str) -> list[dict[str, str]]:
    try:
        document = json.loads(data)
        for key in provider.rows:
            document = document.get(key) or {}
        rows = [row for row in document if isinstance(row, dict)]
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise PorticoError(
            "The search service did not respond in JSON. If it is SearXNG, its operator must allow the "
            "format json.",
            code="bad_answer",
        ) from error
    title, link, text = provider.fields
    return [
        {"title": _line(row.get(title)), "url": str(row[link]), "text": _line(row.get(text))}
        for row in rows
        if row.get(link)
    ]


def _from_page(_provider: SearchProvider, data: bytes, url: str) -> list[dict[str, str]]:
    """Return the results on DuckDuckGo's page without scripts. Links on this page are redirects that contain the
    target.
    """
    from lxml.html import HTMLParser, document_fromstring

    if not data.strip():
        return []
    root = document_fromstring(data, parser=HTMLParser(encoding="utf-8", no_network=True))
    results = []
    for link in root.xpath("//a[contains(concat(' ', @class, ' '), ' result__a ')]"):
        target = urljoin(url, link.get("href", ""))
        target = parse_qs(urlsplit(target).query).get("uddg", [target])[0]
        excerpt = link.xpath(
            "ancestor::*[contains(@class, 'result')][1]/..//*[contains(@class, 'result__snippet')][1]"
        )
        text = excerpt[0].text_content() if excerpt else ""
        results.append({"title": _line(link.text_content()), "url": target, "text": _line(text)})
    return results


def _line(value: Any) -> str:
    return " ".join(str(value or "").split())[:1_000]
