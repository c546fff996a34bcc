"""`portico mcp server-json`: describes an MCP endpoint of the daemon in the MCP registry's format.

Source: the registry's schema of 2025-12-11 and its requirements, https://github.com/modelcontextprotocol/registry
(docs/reference/server-json).
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote, urlsplit

import typer

from portico.cli.nouns import print_outcome
from portico.cli.render import shorten
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest

SCHEMA: Final = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
MAX_NAME_CHARS: Final = 200
MAX_TEXT_CHARS: Final = 100
MAX_VERSION_CHARS: Final = 255
PORT: Final = 8642

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})+/[A-Za-z0-9._-]+")
_VERSION = re.compile(r"(?!latest$)[0-9A-Za-z][0-9A-Za-z.+_-]*")
_WILDCARD = re.compile(r"(?:^|\.)[xX*](?:\.|$)")
_IMAGE = re.compile(
    r"[a-z0-9][a-z0-9.-]*(?::[0-9]+)?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+"
    r"(?::(?!latest$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(?:@sha256:[a-f0-9]{64})?|@sha256:[a-f0-9]{64})"
)
_ABOUT: Final = "Models, documents, tools and agents of a Portico daemon."


def server_json(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="The endpoint's name in the registry, such as com.example/handbook.")
    ],
    app: Annotated[str, typer.Option(help="Only this app's endpoint, not the whole daemon.")] = "",
    title: Annotated[str, typer.Option(help="The title shown to people (default: the app's title).")] = "",
    description: Annotated[
        str, typer.Option(help="A description of at most 100 characters (default: the app's description).")
    ] = "",
    version: Annotated[
        str, typer.Option(help="The version to publish (default: the app's, or the daemon's).")
    ] = "",
    address: Annotated[
        str,
        typer.Option(help="The public address of the daemon, with https (default: the address used here)."),
    ] = "",
    image: Annotated[
        str, typer.Option(help="An image that runs the daemon, such as ghcr.io/example/handbook:1.2.0.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Print server.json for listing the daemon's MCP endpoint, or that of one app, in the MCP registry.

    The same input always prints the same document. Publish it with the registry's own program, mcp-publisher.
    """
    with connected(context) as client:
        at = address or client.url
        if app:
            found_app = client.apps.get(app)
            defaults = (found_app.title, found_app.description, f"{max(found_app.version, 1)}.0.0")
        else:
            defaults = ("Portico", _ABOUT, str(client.health().get("version", "")))
    document = describe_server(
        name,
        title=title or shorten(defaults[0], MAX_TEXT_CHARS),
        description=description or shorten(defaults[1] or _ABOUT, MAX_TEXT_CHARS),
        version=version or defaults[2],
        path=f"/mcp/apps/{quote(app, safe='')}" if app else "/mcp",
        address=at,
        image=image,
    )
    print_outcome(document, as_json, json.dumps(document, ensure_ascii=False, indent=2))


def describe_server(
    name: str, *, title: str, description: str, version: str, path: str, address: str, image: str
) -> Mapping[str, Any]:
    """Return the content of server.json. Raises `InvalidRequest` for values that the registry would refuse."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS:
        raise _wrong(
            "name",
            f"'{name[:MAX_NAME_CHARS]}' is not a valid registry name: expected the reversed name of a domain "
            "that you own, one slash, and letters, digits, '.', '_' or '-': com.example/handbook, or "
            f"io.github.NAME/handbook. At most {MAX_NAME_CHARS} characters.",
        )
    for param, text, is_needed in (("description", description, True), ("title", title, False)):
        if len(text) > MAX_TEXT_CHARS or (is_needed and not text.strip()) or not (text.isprintable()):
            raise _wrong(
                param,
                f"The {param} must be one line of 1 to {MAX_TEXT_CHARS} characters; it has {len(text)}.",
            )
    if not _VERSION.fullmatch(version) or _WILDCARD.search(version) or len(version) > MAX_VERSION_CHARS:
        raise _wrong(
            "version",
            f"'{version[:50]}' is not a single version such as 1.2.0: the registry accepts neither ranges "
            "nor 'latest'.",
        )
    if image and not _IMAGE.fullmatch(image):
        raise _wrong(
            "image",
            f"'{image[:200]}' is not an image with its registry and either a tag other than 'latest' or a "
            "digest, such as ghcr.io/example/handbook:1.2.0.",
        )
    public = _is_public(address)
    if not public and not image:
        raise _wrong(
            "address",
            f"The registry lists only what is publicly reachable by https, and {address[:200]} is not. Give "
            "the daemon's public address with --address https://…, or an image with --image.",
        )
    document: dict[str, Any] = {"$schema": SCHEMA, "name": name}
    if title:
        document["title"] = title
    document |= {"description": description, "version": version}
    if public:
        document["remotes"] = [_transport(address.rstrip("/").removesuffix("/v1") + path)]
    if image:
        document["packages"] = [_package(image, path)]
    return document


def _transport(url: str) -> dict[str, Any]:
    """Describe the streamable HTTP transport. Clients ask their user for a key and keep it secret."""
    key = {
        "description": "A key of this Portico, or a token of its issuer",
        "isRequired": True,
        "isSecret": True,
    }
    header = {
        "name": "Authorization",
        "description": "Who calls",
        "isRequired": True,
        "isSecret": True,
        "value": "Bearer {key}",
        "variables": {"key": key},
    }
    return {"type": "streamable-http", "url": url, "headers": [header]}


def _package(image: str, path: str) -> dict[str, Any]:
    return {
        "registryType": "oci",
        "identifier": image,
        "runtimeHint": "docker",
        "transport": _transport(f"http://localhost:{PORT}{path}"),
        "runtimeArguments": [{"type": "named", "name": "-p", "value": f"127.0.0.1:{PORT}:{PORT}"}],
        "environmentVariables": [
            {
                "name": "PORTICO_API_KEY",
                "description": "The operator's key, which you choose; clients send it",
                "isRequired": True,
                "isSecret": True,
            }
        ],
    }


def _is_public(address: str) -> bool:
    try:
        parts = urlsplit(address)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return False
    plain = parts.scheme == "https" and not (parts.query or parts.fragment or parts.username or port == 0)
    if (
        not plain
        or any(char in address for char in "{} ")
        or not address.isascii()
        or not address.isprintable()
    ):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host.strip(".") and not host.endswith((".localhost", ".local", ".internal"))


def _wrong(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="invalid_value")
