"""The card of an agent: where it takes messages, what it reads and writes, and how it wants its key. Pure."""

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
"""The version of the protocol that is spoken."""

CARD_PATH: Final = "/.well-known/agent-card.json"

MAX_CARD_BYTES: Final = 1024 * 1024

MAX_DESCRIPTION_CHARS: Final = 2_000

MAX_SKILLS_COUNT: Final = 50

MAX_MODES_COUNT: Final = 50

MAX_WORD_CHARS: Final = 200
"""Characters of a name or a media type in a card."""

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
"""Headers by which a card could change what a request is."""


@dataclass(frozen=True, slots=True)
class AgentSource:
    """Where an agent is and how it is to be treated, settled from the spec of its model. ``idle`` in seconds."""

    name: str
    location: str
    base_url: str
    key: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    idle: float


@dataclass(frozen=True, slots=True)
class RemoteAgent:
    """What the card of an agent says. ``header``: the one that carries its key; empty where it wants none.

    ``inputs`` and ``outputs`` are media types, ``skills`` have an id, a name and a description each.
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
        """Whether messages may have a part of this type; one that says nothing reads anything."""
        return not self.inputs or any(fnmatchcase(media_type, mode) for mode in self.inputs)

    @property
    def sees(self) -> bool:
        """Whether it says that it reads pictures."""
        return any(mode == "*/*" or mode.startswith("image/") for mode in self.inputs)

    @property
    def reads_files(self) -> bool:
        """Whether it says that it reads files that are neither text nor pictures."""
        return any(mode.startswith(("application/pdf", "application/*", "*/*")) for mode in self.inputs)


def card_address(location: str) -> str:
    """Where the card of an agent is: the address itself if it is that of a document."""
    return location if location.endswith(".json") else location.rstrip("/") + CARD_PATH


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises `ValueError`."""
    parts: SplitResult = urlsplit(url)
    port = parts.port or _PORTS.get(parts.scheme)
    if port is None or not parts.hostname or parts.username is not None or parts.password is not None:
        raise ValueError("not an http(s) address")
    return parts.scheme, parts.hostname, port


def parse_card(
    card: Any, name: str, address: str, *, base_url: str = "", is_keyed: bool, is_own: bool
) -> RemoteAgent:
    """Read the card at ``address`` of the model ``name``. ``base_url`` goes before the address that it names;
    ``is_keyed``: there is a key; ``is_own``: the operator gives headers of his own, which may hold one.

    Raises `EngineFailed` for what is not a card, and for an agent that cannot be called.
    """
    if not isinstance(card, Mapping) or not isinstance(card.get("supportedInterfaces"), list):
        raise EngineFailed(
            f"What is at {address} is not the card of an agent that speaks A2A {VERSION}: it has no "
            "'supportedInterfaces'. Give the address of its card as the source of the model.",
            code="invalid_agent_card",
        )
    where, binding, tenant = _interface(card["supportedInterfaces"], name)
    capabilities = card.get("capabilities")
    capabilities = capabilities if isinstance(capabilities, Mapping) else {}
    for extension in _mappings(capabilities.get("extensions")):
        if extension.get("required") is True:
            raise EngineFailed(
                f"The agent '{name}' wants the extension '{line(extension.get('uri'))}' of the protocol, which is not "
                "spoken here.",
                code="agent_unsupported",
            )
    return RemoteAgent(
        line(card.get("name")),
        text_of(card.get("description"), MAX_DESCRIPTION_CHARS),
        line(card.get("version")),
        _checked(base_url or where, name, address, is_trusted=bool(base_url)).rstrip("/"),
        binding,
        tenant,
        capabilities.get("streaming") is True,
        _modes(card, "Input"),
        _modes(card, "Output"),
        tuple(_skill(skill) for skill in _mappings(card.get("skills"))[:MAX_SKILLS_COUNT]),
        _key_header(card, name, is_keyed=is_keyed, is_own=is_own),
    )


def _interface(interfaces: Sequence[Any], name: str) -> tuple[str, Binding, str]:
    """The first interface that is spoken here: its address, binding and tenant."""
    offered_bindings = []
    for interface in _mappings(interfaces):
        binding, version = interface.get("protocolBinding"), str(interface.get("protocolVersion") or "")
        offered_bindings.append(f"{line(binding)} {line(version)}".strip())
        for supported_binding in _BINDINGS:
            if binding == supported_binding and version.partition(".")[0] == "1":
                return str(interface.get("url") or ""), supported_binding, line(interface.get("tenant"))
    raise EngineFailed(
        f"The agent '{name}' speaks {', '.join(offered_bindings[:8]) or 'nothing'}; only A2A {VERSION} over "
        f"{' or '.join(_BINDINGS)} is spoken here.",
        code="agent_unsupported",
    )


def _checked(url: str, name: str, address: str, *, is_trusted: bool) -> str:
    """The address of messages. Only the operator may name another server than that of the card: messages, and the key,
    would go wherever a card says, into the daemon's own network too.
    """
    try:
        if not (url.isascii() and url.isprintable()) or " " in url:
            raise ValueError("not an address as requests have it")
        card_origin = origin(url)
    except ValueError as error:
        raise EngineFailed(
            f"The card of '{name}' names '{line(url)}' as its address, which is not an http(s) URL. The parameter "
            "'base_url' of the model goes before it.",
            code="invalid_agent_card",
        ) from error
    if not is_trusted and card_origin != origin(address):
        raise EngineFailed(
            f"The card of '{name}' at {address} names another server as its address: {line(url)}. If that is right, "
            "give the model the parameter 'base_url' with the address to which messages go.",
            code="agent_elsewhere",
        )
    return url


def _key_header(card: Mapping[str, Any], name: str, *, is_keyed: bool, is_own: bool) -> str:
    """The header that carries the key, by the first requirement that can be met."""
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
                    f"The agent '{name}' wants a key: give the model an 'api_key'.",
                    code="missing_provider_key",
                )
            return headers[0]
    kinds = sorted(
        {_kind(_mapping(schemes.get(scheme))) for requirement in requirements for scheme in requirement}
    )
    raise EngineFailed(
        f"The agent '{name}' wants {', '.join(kinds)}, which is not done here: a bearer token or a key in one header "
        "is. If you have such a token, leave 'api_key' out and give the parameter 'headers'.",
        code="agent_auth_unsupported",
    )


def _header_of(scheme: Mapping[str, Any]) -> str:
    """The header in which a security scheme wants the key; empty for what is not done."""
    bearer = _mapping(scheme.get("httpAuthSecurityScheme"))
    if str(bearer.get("scheme") or "").lower() == "bearer":
        return "Authorization"
    key = _mapping(scheme.get("apiKeySecurityScheme"))
    header = key.get("name")
    if key.get("location") != "header" or not isinstance(header, str):
        return ""
    return header if _HEADER.fullmatch(header) and header.lower() not in _NOT_FOR_KEYS else ""


def _kind(scheme: Mapping[str, Any]) -> str:
    """A security scheme in words."""
    names = {"oauth2SecurityScheme": "OAuth 2", "openIdConnectSecurityScheme": "OpenID Connect"}
    names |= {"mtlsSecurityScheme": "mutual TLS", "apiKeySecurityScheme": "a key elsewhere than in a header"}
    for name, words in names.items():
        if name in scheme:
            return words
    http = _mapping(scheme.get("httpAuthSecurityScheme"))
    return (
        f"HTTP authentication by '{line(http.get('scheme'))}'"
        if http
        else "a scheme that its card does not explain"
    )


def _modes(card: Mapping[str, Any], direction: str) -> tuple[str, ...]:
    """The media types of all that it does, in lower case and without parameters."""
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
    """A word of others for a sentence or a list: printable and short; empty if it is not text."""
    return text_of(value, MAX_WORD_CHARS).replace("\n", " ")


def text_of(value: Any, limit: int) -> str:
    """A text of others: printable, at most so many characters; empty if it is not one."""
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
