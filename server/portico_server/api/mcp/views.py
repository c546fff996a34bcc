"""Small pages that a host shows beside a call: citations with the document's page, what a call asks, charts.

Only hosts that declare the extension are told of them. A page holds no data and no key: the host gives it the call and
its result, and passes on the calls that it makes, those of `view_tools` among them. Built of ``page/src/views``.

Source: SEP-1865, the extension ``io.modelcontextprotocol/ui``, 2026-01-26.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import mcp_types as types
from mcp.server.context import ServerRequestContext

from portico_server.api.mcp import apps
from portico_server.core.servable import Card

EXTENSION: Final = "io.modelcontextprotocol/ui"
MEDIA_TYPE: Final = "text/html;profile=mcp-app"

View = Literal["citations", "approvals", "chart"]

_BASE: Final = "ui://portico/"
_TITLES: Final[Mapping[View, str]] = {
    "citations": "Citations",
    "approvals": "Questions",
    "chart": "Chart",
}
_CLOSED: Final = {
    "csp": {"connectDomains": [], "resourceDomains": [], "frameDomains": [], "baseUriDomains": []},
    "prefersBorder": True,
}
"""What a view may reach: nothing."""


def uri_of(view: View) -> str:
    """The address of a view."""
    return f"{_BASE}{view}"


def view_at(uri: str) -> View | None:
    """The view of an address; ``None`` if it is not one of a view."""
    if not uri.startswith(_BASE):
        return None
    return next((view for view in _TITLES if uri_of(view) == uri), None)


def shows_views(context: ServerRequestContext[Any]) -> bool:
    """Whether the host of this request shows pages of this kind."""
    capabilities = context.session.client_capabilities
    declared = (capabilities.extensions or {}).get(EXTENSION) if capabilities is not None else None
    accepted = declared.get("mimeTypes") if isinstance(declared, Mapping) else None
    return isinstance(accepted, list) and MEDIA_TYPE in accepted


def read(view: View) -> types.ReadResourceResult:
    """The page of a view."""
    return types.ReadResourceResult(
        contents=[
            types.TextResourceContents(
                uri=uri_of(view), mime_type=MEDIA_TYPE, text=_html(view), _meta={"ui": _CLOSED}
            )
        ]
    )


@cache
def _html(view: View) -> str:
    return files("portico_server.api").joinpath("web", f"view-{view}.html").read_text(encoding="utf-8")


def linked(tool: types.Tool, card: Card) -> types.Tool:
    """The tool of a card with the view of its calls, if there is one."""
    view = _view_of(card)
    return tool if view is None else tool.model_copy(update={"meta": link(view)})


def _view_of(card: Card) -> View | None:
    if card.kind in ("store", "app"):
        return "citations" if card.kind == "store" or not apps.typed(card) else "approvals"
    return "approvals" if card.labels.get("needs_approval") is True else None


def link(view: View, *visible: str) -> dict[str, Any]:
    """What a tool says of its view; ``visible``: to whom it is, if not to the model and the view alike."""
    return {"ui": {"resourceUri": uri_of(view), **({"visibility": list(visible)} if visible else {})}}
