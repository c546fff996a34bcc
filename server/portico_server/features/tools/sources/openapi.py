"""HTTP APIs as tools: each operation of an OpenAPI 3 document becomes a tool. Imports aiohttp on use."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urljoin, urlsplit

from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.json_pointer import follow, pointer_keys
from portico_server.core.request import ToolCall, ToolResult
from portico_server.core.untrusted_yaml import InvalidYaml, read_yaml
from portico_server.features.tools.sources.spec import ToolSpec
from portico_server.features.tools.tool import Tool
from portico_server.http.fetch.headers import is_unsafe
from portico_server.http.fetch.policy import AddressPolicy

_METHODS: Final = ("get", "head", "post", "put", "patch", "delete")
_MAX_BYTES: Final = 20 * 2**20
"""Maximum size of a document, in bytes."""

_REF: Final = "#/components/schemas/"
_MAX_OPERATIONS_COUNT: Final = 500
"""Maximum number of operations of a document that become tools."""

_MAX_SCHEMAS_CHARS: Final = 8_000_000
"""Maximum length, in characters, of the schemas of all operations as JSON. References are expanded in each
operation.
"""

logger = logging.getLogger(__name__)


_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_MAX_DECODINGS: Final = 4
"""How often a path argument is decoded to find out how a service could interpret the argument."""

FRAMING: Final = frozenset(
    {
        *("host", "cookie", "connection", "content-length", "expect", "forwarded", "keep-alive"),
        *("proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-http-method-override"),
    }
)
"""Headers that determine where a request goes, where it ends, or who sends it. A document cannot make them
arguments.
"""

_IGNORED: Final = frozenset({"accept", "content-type", "authorization"})
"""Header parameters that the specification says to ignore: https://spec.openapis.org/oas/v3.1.1#parameter-object."""


class InvalidDocument(InvalidRequest):
    """The document is not OpenAPI 3, or requests something that Portico forbids."""

    code = "invalid_openapi"


class RefusedArgument(InvalidRequest):
    """An argument of a call would select another operation, or change the sender of the request."""

    code = "argument_refused"


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of an API.

    ``server`` is the URL of the server without a query; ``query`` contains the operator's parameters, which every
    request includes.
    """

    method: str
    server: str
    path: str
    places: Mapping[str, str]
    """The place of each argument in the request, by name: ``path``, ``query``, ``header`` or ``body``."""
    headers: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    policy: AddressPolicy
    timeout: float

    async def __call__(self, call: ToolCall, _context: Context) -> ToolResult:
        from portico_server.http.fetch.client import FetchRequest, fetch

        query, headers, body = list(self.query), dict(self.headers), None
        arguments = call.arguments
        try:
            url = self.server + fill_path(
                self.path,
                {name: _text(value) for name, value in arguments.items() if self.places[name] == "path"},
            )
            for name, value in arguments.items():
                match self.places[name]:
                    case "query":
                        query += [
                            (name, _text(item)) for item in (value if isinstance(value, list) else [value])
                        ]
                    case "header":
                        headers[name] = self._header(name, _text(value))
                    case "body":
                        body = json.dumps(value).encode()
                        headers["Content-Type"] = "application/json"
            if call.key and self.method not in ("get", "head") and not any(map(_is_key, headers)):
                headers["Idempotency-Key"] = quote(call.key, safe=":.[]#")
            if query:
                url += ("&" if "?" in url else "?") + urlencode(query)
            fetched_page = await fetch(
                FetchRequest(url, self.method.upper(), headers, body),
                replace(self.policy, timeout=self.timeout),
            )
        except PorticoError as error:
            return ToolResult(error.message, is_error=True)
        return _result(fetched_page.status, fetched_page.text, fetched_page.truncated)

    def _header(self, name: str, value: str) -> str:
        """Return the value of a header for an argument. Raises `RefusedArgument`."""
        if _fold(name) in FRAMING | _IGNORED | {_fold(header) for header in self.headers}:
            raise RefusedArgument(f"The header '{name}' is not an argument of this tool; omit it.")
        if is_unsafe(value):
            raise RefusedArgument(
                f"The argument '{name}' contains control characters, which a header cannot contain."
            )
        return value


def _is_key(header: str) -> bool:
    return header.lower() == "idempotency-key"


def fill_path(path: str, arguments: Mapping[str, str]) -> str:
    """Return a path with its arguments filled in. Each argument stays within its own segment. Raises
    `RefusedArgument`.
    """
    segments = []
    for segment in path.split("/"):
        names = [name for name in _PLACEHOLDER.findall(segment) if name in arguments]
        if not names:
            segments.append(segment)
            continue
        filled_segment = _PLACEHOLDER.sub(
            lambda placeholder: arguments.get(placeholder[1], placeholder[0]), segment
        )
        if not all(arguments[name].strip() for name in names) or _leaves(filled_segment):
            raise RefusedArgument(
                f"The argument '{names[0]}' is part of the address: it must not be empty, '.' or '..', and "
                "must not contain a slash, backslash or control character, encoded or not."
            )
        segments.append(
            _PLACEHOLDER.sub(
                lambda placeholder: (
                    quote(arguments[placeholder[1]], safe="")
                    if placeholder[1] in arguments
                    else placeholder[0]
                ),
                segment,
            )
        )
    return "/".join(segments)


def _leaves(segment: str) -> bool:
    """Return whether a service that decodes a path segment, perhaps several times, could read it as another segment."""
    for _ in range(_MAX_DECODINGS):
        plain = segment.partition(";")[
            0
        ].strip()  # some services read the text after ; as a parameter of the segment
        if plain in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\x7f]", segment):
            return True
        decoded_segment = unquote(segment)
        if decoded_segment == segment:
            return False
        segment = decoded_segment
    return True


async def tools_of(spec: ToolSpec, policy: AddressPolicy) -> list[Tool]:
    """Return the tools of a document. Raises `InvalidDocument` if it is invalid, and `PorticoError` if it cannot be
    fetched.

    The host of ``url``, or of the document if ``url`` is not set, can have any address, because the operator names it.
    """
    text, origin = await _text_of(spec, policy)
    try:
        return await pools.DOCUMENTS.run(_read, spec, text, origin, policy)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InvalidDocument(
            f"'{spec.openapi}' is not a valid OpenAPI 3 document: the type of a value differs from the "
            f"specification ({type(error).__name__}: {str(error)[:200]})."
        ) from error


def _read(spec: ToolSpec, text: str, origin: str, policy: AddressPolicy) -> list[Tool]:
    from portico_server.core.json_schema import oversize

    document = _parse(text)
    if not isinstance(document, dict):
        raise InvalidDocument(f"'{spec.openapi}' is neither JSON nor YAML.")
    if not str(document.get("openapi", "")).startswith("3"):
        raise InvalidDocument(f"'{spec.openapi}' is not an OpenAPI 3 document.")
    base, policy = _server(spec, document, origin, policy)
    address = urlsplit(base)
    server = f"{address.scheme}://{address.netloc}{address.path.rstrip('/')}"
    query = parse_qsl(address.query, keep_blank_values=True)
    tools: list[Tool] = []
    chars = 0
    for path, method, operation in _operations(document):
        name = operation.get("operationId") or f"{method}_{path}"
        name = re.sub(r"[^A-Za-z0-9-]+", "_", str(name)).strip("_")
        if not spec.offers(name):
            continue
        places, properties, required_names = _arguments(spec, document, query, name, operation)
        schema = _standing_alone(properties, required_names, document)
        chars += len(json.dumps(schema))
        if chars > _MAX_SCHEMAS_CHARS:
            raise InvalidDocument(
                f"The argument schemas of the operations in '{spec.openapi}' exceed {_MAX_SCHEMAS_CHARS:,} "
                "characters in total. Select the operations you need with 'allow'."
            )
        if reason := oversize(schema):
            logger.warning("skipped operation %s of %s: invalid schema: %s", name, spec.name, reason)
            continue
        work = Operation(method, server, path, places, spec.headers, query, policy, spec.timeout)
        tools.append(_tool(spec, name, operation, work, schema))
        if len(tools) == _MAX_OPERATIONS_COUNT:
            break
    if not tools:
        raise InvalidDocument(f"'{spec.openapi}' has no operation that can become a tool.")
    return tools


def _server(
    spec: ToolSpec, document: Mapping[str, Any], origin: str, policy: AddressPolicy
) -> tuple[str, AddressPolicy]:
    """Return the address of the server, and the policy for the addresses that its tools can reach.

    A document from another host can choose neither an address in the operator's network nor the recipient of the
    operator's headers. Raises `InvalidDocument`.
    """
    servers = document.get("servers") or [{"url": "/"}]
    base = spec.url or urljoin(origin, str(servers[0].get("url", "/")))
    if urlsplit(base).scheme not in ("http", "https"):
        raise InvalidDocument(f"'{spec.openapi}' names no server; set its address with 'url'.")
    host = _host(base)
    if spec.url or not origin or host == _host(spec.openapi):
        return base, replace(policy, hosts=policy.hosts | {host})
    if spec.headers:
        raise InvalidDocument(
            f"The server of '{spec.openapi}' is {host[:200]}, which is not the host of the document. If this "
            "server can receive your headers, set its address with 'url'."
        )
    return base, policy


async def _text_of(spec: ToolSpec, policy: AddressPolicy) -> tuple[str, str]:
    """Return the text of the document, and the base URL for its server (empty for a file)."""
    from portico_server.http.fetch.client import FetchRequest, fetch

    if urlsplit(spec.openapi).scheme in ("http", "https"):
        address_policy = replace(policy, hosts=policy.hosts | {_host(spec.openapi)}, max_bytes=_MAX_BYTES)
        fetched_page = await fetch(FetchRequest(spec.openapi, headers=spec.headers), address_policy)
        if fetched_page.status != 200:
            raise InvalidDocument(f"'{spec.openapi}' responded with status {fetched_page.status}.")
        return fetched_page.text, fetched_page.url
    try:
        text = await pools.DOCUMENTS.run((Path(spec.folder) / spec.openapi).read_text, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDocument(f"'{spec.openapi}' cannot be read: {error}.") from error
    return text, ""


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        try:
            return read_yaml(text, max_length=_MAX_BYTES)
        except InvalidYaml:
            return None


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    paths = document.get("paths")
    for path, item in (paths if isinstance(paths, dict) else {}).items():
        if not str(path).startswith("/"):
            continue  # appended to a host name, '.example.com' or '@example.com' would select another host
        for method in _METHODS:
            operation = item.get(method) if isinstance(item, dict) else None
            if isinstance(operation, dict):
                shared_parameters = item.get("parameters") or []
                yield (
                    str(path),
                    method,
                    {**operation, "parameters": [*shared_parameters, *(operation.get("parameters") or [])]},
                )


def _arguments(
    spec: ToolSpec,
    document: Mapping[str, Any],
    query: Sequence[tuple[str, str]],
    name: str,
    operation: Mapping[str, Any],
) -> tuple[dict[str, str], dict[str, Any], list[str]]:
    """Return the place of each argument of an operation, the schemas of the arguments, and the required arguments.

    Values that the operator sets, and credentials of the document, are not arguments. Raises `InvalidDocument` for a
    header that determines where a request goes.
    """
    fixed_parameters = {("header", _fold(header)) for header in spec.headers} | {
        ("query", header_name) for header_name, _ in query
    }
    fixed_parameters |= {("header", ignored_name) for ignored_name in _IGNORED} | _credentials(document)
    properties: dict[str, Any] = {}
    places: dict[str, str] = {}
    required_names: list[str] = []
    for given_parameter in operation["parameters"]:
        parameter = _deref(given_parameter, document)
        key, place = str(parameter.get("name", "")), parameter.get("in")
        if not key or place not in ("path", "query", "header"):
            continue
        if place == "header" and (_fold(key) in FRAMING or not _TOKEN.fullmatch(key)):
            raise InvalidDocument(
                f"The operation '{name}' has the header '{key[:100]}' as an argument, but this header "
                f"determines where a request goes or ends. Exclude the operation with deny: ['{name}']."
            )
        if (place, _fold(key) if place == "header" else key) in fixed_parameters:
            continue
        schema = {**(parameter.get("schema") or {}), **spec.parameters.get(key, {})}
        if parameter.get("description"):
            schema.setdefault("description", parameter["description"])
        properties[key], places[key] = schema, str(place)
        if place == "path" or parameter.get("required"):
            required_names.append(key)
    body = _deref(operation.get("requestBody") or {}, document)
    content = (body.get("content") or {}).get("application/json")
    if content is not None:
        properties["body"], places["body"] = content.get("schema") or {}, "body"
        if body.get("required"):
            required_names.append("body")
    return places, properties, required_names


def _credentials(document: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return where the document places credentials, as pairs (place, name)."""
    schemes = (document.get("components") or {}).get("securitySchemes")
    credentials = set()
    for security_scheme in (schemes if isinstance(schemes, dict) else {}).values():
        scheme = _deref(security_scheme, document)
        name, place = str(scheme.get("name", "")), str(scheme.get("in", ""))
        if scheme.get("type") == "apiKey" and name:
            credentials.add((place, _fold(name) if place == "header" else name))
    return credentials


def _tool(
    spec: ToolSpec, name: str, operation: Mapping[str, Any], work: Operation, schema: dict[str, Any]
) -> Tool:
    description = (
        operation.get("description") or operation.get("summary") or f"{work.method.upper()} {work.path}"
    )
    return Tool(
        name=f"{spec.name}_{name}"[:128],
        title=str(operation.get("summary") or name)[:200],
        description=str(description)[:4_000],
        input_schema=schema,
        keyed=work,
        read_only=work.method in ("get", "head"),
        destructive=work.method in ("delete", "put", "patch"),
        open_world=True,
        timeout=spec.timeout + 5,
        source=f"openapi:{spec.name}",
    )


def _standing_alone(
    properties: Mapping[str, Any], required_names: list[str], document: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a self-contained schema of the arguments. Its definitions include the components that it refers to."""
    components = (document.get("components") or {}).get("schemas") or {}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": _move_references(properties),
        "required": list(dict.fromkeys(required_names)),
        "additionalProperties": False,
    }
    pending_names, definitions = _referred(properties), {}
    while pending_names:
        name = pending_names.pop()
        if name not in definitions and name in components:
            definitions[name] = _move_references(components[name])
            pending_names |= _referred(components[name])
    return {**schema, "$defs": definitions} if definitions else schema


def _move_references(value: Any) -> Any:
    """Return a schema whose references point to its own definitions."""
    if isinstance(value, dict):
        return {
            key: f"#/$defs/{item.removeprefix(_REF)}"
            if key == "$ref" and isinstance(item, str) and item.startswith(_REF)
            else _move_references(item)
            for key, item in value.items()
        }
    return [_move_references(item) for item in value] if isinstance(value, list) else value


def _referred(value: Any) -> set[str]:
    if isinstance(value, dict):
        ref = value.get("$ref")
        direct_names = {ref.removeprefix(_REF)} if isinstance(ref, str) and ref.startswith(_REF) else set()
        return direct_names.union(*(_referred(item) for item in value.values()))
    return set().union(*(_referred(item) for item in value)) if isinstance(value, list) else set()


def _deref(value: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter or body. If it is a reference, return the component that it refers to."""
    ref = value.get("$ref") if isinstance(value, dict) else None
    if isinstance(ref, str) and ref.startswith("#/"):
        try:
            value = follow(document, pointer_keys(ref))
        except KeyError:
            return {}
    return value if isinstance(value, dict) else {}


def _result(status: int, text: str, is_truncated: bool) -> ToolResult:
    shown_text = text + ("\n[cut off here]" if is_truncated else "")
    if status >= 400:
        return ToolResult(f"The service responded with status {status}: {shown_text[:4000]}", is_error=True)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    structured_content = value if isinstance(value, dict) else None if value is None else {"result": value}
    return ToolResult(shown_text or f"Status {status}, no content.", structured_content)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value)


def _fold(header: str) -> str:
    """Return a header name as a service may read it. Some services treat '_' as '-'."""
    return header.lower().replace("_", "-")


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{(parts.hostname or '').lower()}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
