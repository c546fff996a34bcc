"""The card of an agent: its endpoint, its input and output types, and its authentication. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import SplitResult, urlsplit

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed

VERSION: Final = "1.0"
"""The supported version of the protocol."""

CARD_PATH: Final = "/.well-known/agent-card.json"

MAX_CARD_BYTES: Final = 1024 * 1024

MAX_DESCRIPTION_CHARS: Final = 2_000

MAX_SKILLS_COUNT: Final = 50

MAX_MODES_COUNT: Final = 50

MAX_WORD_CHARS: Final = 200
"""Maximum length of a name or media type in a card, in characters."""

Binding: TypeAlias = Literal["JSONRPC", "HTTP+JSON"]

_BINDINGS: Final[tuple[Binding, ...]] = ("JSONRPC", "HTTP+JSON")
_PORTS: Final = {"http": 80, "https": 443}
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_NOT_FOR_KEYS: Final = frozenset(
    (
        *(
            "a2a-version",
            "accept-encoding",
            "connection",
            "content-length",
            "content-type",
            "expect",
            "host",
            "te",
        ),
        *("trailer", "transfer-encoding", "upgrade"),
    )
)
"""Headers that a card must not choose for the key, because they would change the request."""


@dataclass(frozen=True, slots=True)
class AgentSource:
    """The source of an agent and the options for calling the agent, derived from the spec of its model. ``idle`` is in
    seconds.
    """

    name: str
    location: str
    base_url: str
    key: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    idle: float


@dataclass(frozen=True, slots=True)
class RemoteAgent:
    """The information in an agent's card. ``header`` is the name of the header for the key; empty if no key is
    required.

    ``inputs`` and ``outputs`` are media types. Each of the ``skills`` has an id, a name and a description.
    """

    name: str
    description: str
    version: str
    url: str
    binding: Binding
    tenant: str
    streaming: bool
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    skills: tuple[Mapping[str, str], ...]
    header: str

    def reads(self, media_type: str) -> bool:
        """Return whether a message may contain a part of this media type. An agent that declares no types accepts
        any.
        """
        return not self.inputs or any(fnmatchcase(media_type, mode) for mode in self.inputs)

    @property
    def sees(self) -> bool:
        """Return whether the agent declares that it accepts images."""
        return any(mode == "*/*" or mode.startswith("image/") for mode in self.inputs)

    @property
    def reads_files(self) -> bool:
        """Return whether the agent declares that it accepts files other than text and images."""
        return any(mode.startswith(("application/pdf", "application/*", "*/*")) for mode in self.inputs)


def card_address(location: str) -> str:
    """Return the URL of an agent's card. If the location is already the URL of a document, return it unchanged."""
    return location if location.endswith(".json") else location.rstrip("/") + CARD_PATH


def origin(url: str) -> tuple[str, str, int]:
    """Return the scheme, the host and the port of a URL. Raises `ValueError`."""
    parts: SplitResult = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme)
    if port is None or not parts.hostname or parts.username is not None or parts.password is not None:
        raise ValueError("not an http(s) URL")
    return parts.scheme, parts.hostname, port


def parse_card(
    card: Any, name: str, address: str, *, base_url: str = "", is_keyed: bool, is_own: bool
) -> RemoteAgent:
    """Parse the card at ``address`` for the model ``name``.

    ``base_url`` overrides the URL in the card. ``is_keyed`` means that a key is configured, and ``is_own`` that the
    operator has configured headers, which may contain a key. Raises `EngineFailed` for an invalid card, and for an
    agent that cannot be called.
    """
    if not isinstance(card, Mapping) or not isinstance(card.get("supportedInterfaces"), list):
        raise EngineFailed(
            f"{address} did not return the card of an agent with A2A {VERSION}: it has no "
            "'supportedInterfaces'. Use the URL of its card as the source of the model.",
            code="invalid_agent_card",
        )
    interface_url, binding, tenant = _interface(card["supportedInterfaces"], name)
    capabilities = card.get("capabilities")
    capabilities = capabilities if isinstance(capabilities, Mapping) else {}
    for extension in _mappings(capabilities.get("extensions")):
        if extension.get("required") is True:
            raise EngineFailed(
                f"The agent '{name}' requires the protocol extension '{line(extension.get('uri'))}', which "
                "is not supported.",
                code="agent_unsupported",
            )
    return RemoteAgent(
        line(card.get("name")),
        text_of(card.get("description"), MAX_DESCRIPTION_CHARS),
        line(card.get("version")),
        _check_url(base_url or interface_url, name, address, is_trusted=bool(base_url)).rstrip("/"),
        binding,
        tenant,
        capabilities.get("streaming") is True,
        _modes(card, "Input"),
        _modes(card, "Output"),
        tuple(_skill(skill) for skill in _mappings(card.get("skills"))[:MAX_SKILLS_COUNT]),
        _key_header(card, name, is_keyed=is_keyed, is_own=is_own),
    )


def _interface(interfaces: Sequence[Any], name: str) -> tuple[str, Binding, str]:
    """Return the first supported interface of the agent: its URL, its binding and its tenant."""
    offered_bindings = []
    for interface in _mappings(interfaces):
        binding, version = interface.get("protocolBinding"), str(interface.get("protocolVersion") or "")
        offered_bindings.append(f"{line(binding)} {line(version)}".strip())
        for supported_binding in _BINDINGS:
            if binding == supported_binding and version.partition(".")[0] == "1":
                return str(interface.get("url") or ""), supported_binding, line(interface.get("tenant"))
    raise EngineFailed(
        f"The agent '{name}' offers {', '.join(offered_bindings[:8]) or 'nothing'}; only A2A {VERSION} over "
        f"{' or '.join(_BINDINGS)} is supported.",
        code="agent_unsupported",
    )


def _check_url(url: str, name: str, address: str, *, is_trusted: bool) -> str:
    """Return the URL to which messages are sent.

    Only the operator may choose a server other than that of the card. Otherwise, a card could redirect messages and
    the key to any address, even in the daemon's own network.
    """
    try:
        if not (url.isascii() and url.isprintable()) or " " in url:
            raise ValueError("not a valid URL for requests")
        card_origin = origin(url)
    except ValueError as error:
        raise EngineFailed(
            f"The card of '{name}' has the URL '{line(url)}', which is not an http(s) URL. Set the model's "
            "parameter 'base_url' to override it.",
            code="invalid_agent_card",
        ) from error
    if not is_trusted and card_origin != origin(address):
        raise EngineFailed(
            f"The card of '{name}' at {address} refers to another server: {line(url)}. If that is correct, "
            "set the model's parameter 'base_url' to the URL for messages.",
            code="agent_elsewhere",
        )
    return url


def _key_header(card: Mapping[str, Any], name: str, *, is_keyed: bool, is_own: bool) -> str:
    """Return the header for the key. It comes from the first security requirement that can be met."""
    requirements = [
        _mapping(requirement.get("schemes")) for requirement in _mappings(card.get("securityRequirements"))
    ]
    if is_own and not is_keyed:
        return ""
    if not requirements or {} in requirements:
        return "Authorization" if is_keyed else ""
    schemes = _mapping(card.get("securitySchemes"))
    header_lists = [
        [_header_of(_mapping(schemes.get(scheme))) for scheme in requirement] for requirement in requirements
    ]
    for headers in header_lists:
        if len(headers) == 1 and headers[0]:
            if not is_keyed:
                raise EngineFailed(
                    f"The agent '{name}' requires a key: set an 'api_key' for the model.",
                    code="missing_provider_key",
                )
            return headers[0]
    kinds = sorted(
        {_kind(_mapping(schemes.get(scheme))) for requirement in requirements for scheme in requirement}
    )
    raise EngineFailed(
        f"The agent '{name}' requires {', '.join(kinds)}, which is not supported: only a bearer token or a "
        "key in one header is. If you have such a token, omit 'api_key' and set the parameter 'headers'.",
        code="agent_auth_unsupported",
    )


def _header_of(scheme: Mapping[str, Any]) -> str:
    """Return the header in which a security scheme expects the key, or an empty string for an unsupported scheme."""
    bearer = _mapping(scheme.get("httpAuthSecurityScheme"))
    if str(bearer.get("scheme") or "").lower() == "bearer":
        return "Authorization"
    key = _mapping(scheme.get("apiKeySecurityScheme"))
    header = key.get("name")
    if key.get("location") != "header" or not isinstance(header, str):
        return ""
    return header if _HEADER.fullmatch(header) and header.lower() not in _NOT_FOR_KEYS else ""


def _kind(scheme: Mapping[str, Any]) -> str:
    """Describe a security scheme."""
    names = {"oauth2SecurityScheme": "OAuth 2", "openIdConnectSecurityScheme": "OpenID Connect"}
    names |= {"mtlsSecurityScheme": "mutual TLS", "apiKeySecurityScheme": "a key outside the headers"}
    for name, words in names.items():
        if name in scheme:
            return words
    http = _mapping(scheme.get("httpAuthSecurityScheme"))
    return (
        f"HTTP authentication by '{line(http.get('scheme'))}'"
        if http
        else "a scheme that its card does not describe"
    )


def _modes(card: Mapping[str, Any], direction: str) -> tuple[str, ...]:
    """Return the media types that the agent or any of its skills declares, in lower case and without parameters."""
    mode_lists = [card.get(f"default{direction}Modes")]
    mode_lists += [
        skill.get(f"{direction.lower()}Modes") for skill in _mappings(card.get("skills"))[:MAX_SKILLS_COUNT]
    ]
    modes_found: dict[str, None] = {}
    for modes in mode_lists:
        for mode in modes if isinstance(modes, list) else ():
            if isinstance(mode, str) and len(modes_found) < MAX_MODES_COUNT:
                word = line(mode).partition(";")[0].strip().lower()
                modes_found[f"{word}/plain" if word == "text" else word if "/" in word else f"{word}/*"] = (
                    None
                )
    return tuple(modes_found)


def _skill(skill: Mapping[str, Any]) -> Mapping[str, str]:
    return {
        "id": line(skill.get("id")),
        "name": line(skill.get("name")),
        "description": text_of(skill.get("description"), MAX_DESCRIPTION_CHARS // 4),
    }


def line(value: Any) -> str:
    """Return a text from an agent for use in a sentence or a list: printable and short. Return "" for other values."""
    return text_of(value, MAX_WORD_CHARS).replace("\n", " ")


def text_of(value: Any, limit: int) -> str:
    """Return a text from an agent, printable and with at most ``limit`` characters. Return "" for other values."""
    if not isinstance(value, str):
        return ""
    shown_text = "".join(char for char in value[: limit + 1] if char.isprintable() or char == "\n").strip()
    return shown_text if len(shown_text) <= limit else f"{shown_text[:limit]}…"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return list(_only_mappings(value)) if isinstance(value, list) else []


def _only_mappings(values: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    return (value for value in values[:1_000] if isinstance(value, Mapping))
