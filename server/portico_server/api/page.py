"""The page at ``/`` and the API reference at ``/docs``, served from this machine without external resources."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from mimetypes import guess_type

from fastapi.responses import HTMLResponse, Response

from portico_server.api.endpoint import new_router
from portico_server.core.errors import NotFound

router = new_router(include_in_schema=False)

_NO_FRAMES = "frame-ancestors 'none'"

# Only this origin is allowed, and no page may show the daemon in a frame. The only document that accepts a frame is
# that of artifacts.
_STYLES = "style-src 'self'"
_POLICY = (
    f"default-src 'none'; script-src 'self'; {_STYLES}; font-src 'self'; "
    "img-src 'self' data: blob:; media-src blob:; connect-src 'self'; frame-src 'self'; base-uri 'none'; "
    f"form-action 'none'; {_NO_FRAMES}"
)

_ARTIFACT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; media-src data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
"""The policy of what a model wrote: it has its own origin, and can reach neither this daemon nor any other host."""

_REFERENCE_POLICY = _POLICY.replace(_STYLES, f"{_STYLES} 'unsafe-inline'")
"""The policy of the API reference, whose widgets need inline styles."""

_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
}

_REFERENCE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Portico API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="favicon.ico">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="reference"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/reference.js"></script>
</html>
"""

_START = """const server = new URL(".", location.href).pathname;
fetch("openapi.json").then((response) => response.json()).then((spec) => SwaggerUIBundle({
  spec: { ...spec, servers: [{ url: server === "/" ? server : server.slice(0, -1) }] },
  dom_id: "#reference",
  deepLinking: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  validatorUrl: null,
})).catch((error) => {
  document.getElementById("reference").textContent = String(error);
});
"""
"""The API reference. Its calls go to the folder of its own address, as a proxy may serve the daemon under a path."""

_ARTIFACT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Artifact</title>
<script>
addEventListener("message", ({ data, source }) => {
  if (source !== parent || parent === window) return;
  document.open();
  document.write(data);
  document.close();
});
parent.postMessage("ready", "*");
</script>
</html>
"""

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" fill="none" stroke="#3b6ea5" '
    'stroke-width="3"><path d="M3 12 16 4l13 8M6 12v14M16 12v14M26 12v14M3 27h26"/></svg>'
)

_WEB = files("portico_server.api").joinpath("web")
"""The built page. Its sources are in ``page``."""

_ASSETS = frozenset(item.name for item in _WEB.iterdir() if not item.name.endswith((".html", ".sha256")))

_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


@router.get("/")
async def front_page() -> HTMLResponse:
    """Serve the page: a chat, the documents, and an overview of what runs on the daemon."""
    return _page("<title>Portico</title>", _NO_FRAMES)


def app_page(title: str, origins: Sequence[str]) -> HTMLResponse:
    """Return the page of a single app. Pages from ``origins`` may embed it in a frame."""
    escaped_title = escape(title)
    head = f'<title>{escaped_title}</title><meta name="portico-app" content="{escaped_title}">'
    return _page(head, f"frame-ancestors {' '.join(origins)}" if origins else _NO_FRAMES)


def _page(head: str, frames: str) -> HTMLResponse:
    """Return the built page with another head. The editor adds a style element, for which a nonce is in the head."""
    nonce = secrets.token_urlsafe(16)
    page = _WEB.joinpath("index.html").read_text(encoding="utf-8")
    page = page.replace("<title>Portico</title>", f'{head}<meta name="style-nonce" content="{nonce}">')
    policy = _POLICY.replace(_NO_FRAMES, frames).replace(_STYLES, f"{_STYLES} 'nonce-{nonce}'")
    return HTMLResponse(
        page, headers={**_HEADERS, "Content-Security-Policy": policy, "Cache-Control": "no-cache"}
    )


@router.get("/web/artifact.html")
async def artifact_frame() -> HTMLResponse:
    """Serve the document of a frame in which the page shows HTML that a model wrote."""
    return HTMLResponse(_ARTIFACT, headers={**_HEADERS, "Content-Security-Policy": _ARTIFACT_POLICY})


@router.get("/web/{name}")
async def page_asset(name: str) -> Response:
    """Serve a script, style or font of the page. Its name changes whenever its contents change."""
    if name not in _ASSETS:
        raise NotFound(f"Nothing is served at GET /web/{name}.", code="unknown_url")
    content = _WEB.joinpath(name).read_bytes()
    headers = {**_HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
    media_type = "text/javascript" if name.endswith(".js") else guess_type(name)[0] or "font/woff2"
    return Response(content, media_type=media_type, headers=headers)


@router.get("/docs")
async def reference() -> HTMLResponse:
    """Serve the API reference."""
    return HTMLResponse(_REFERENCE, headers={**_HEADERS, "Content-Security-Policy": _REFERENCE_POLICY})


@router.get("/docs/reference.js")
async def reference_script() -> Response:
    """Serve the script that starts the API reference."""
    return Response(_START, media_type="text/javascript", headers=_HEADERS)


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """Serve the script or the style of the API reference from the installed package."""
    if name not in _TYPES:
        raise NotFound(f"Nothing is served at GET /docs/{name}.", code="unknown_url")
    content = files("fastapi_swagger.resources").joinpath(name).read_bytes()
    headers = {**_HEADERS, "Cache-Control": "max-age=86400"}
    return Response(content, media_type=_TYPES[name], headers=headers)


@router.get("/favicon.ico")
async def icon() -> Response:
    """A portico."""
    return Response(_ICON, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})
