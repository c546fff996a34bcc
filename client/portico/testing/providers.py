"""The contract of every provider: checks for authors of providers. Portico's own providers pass them too.

A check accepts the name under which a provider is installed. It raises `AssertionError` for a violation, as
``docs/plugins.md`` shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from portico_server.core.errors import InvalidRequest
from portico_server.models.engines.openai_client.quirks import fit_body
from portico_server.models.engines.remote.providers import PROVIDERS
from portico_server.models.engines.remote.target import find_target
from portico_server.models.spec import ModelSpec

__all__ = ["PROVIDER_CHECKS", "ProviderCheck"]

ProviderCheck: TypeAlias = Callable[[str], None]

_OTHER_ADDRESS = "https://mine.example"

_CHAT: dict[str, Any] = {"model": "x", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def _spec(name: str, key: str = "", **parameters: Any) -> ModelSpec:
    return ModelSpec("m", f"remote://{name}/x", api_key=key, parameters=parameters)


def it_has_an_address(name: str) -> None:
    """Check that the provider has a URL, its own or one from the environment, with a scheme and a host and without a
    trailing slash.
    """
    provider = PROVIDERS[name]
    assert provider.url or provider.address
    target = find_target(
        _spec(name, "secret"), {provider.address: _OTHER_ADDRESS} if provider.address else {}
    )
    parts = urlsplit(target.endpoint.url)
    assert parts.scheme in ("http", "https")
    assert parts.netloc
    assert not target.endpoint.url.endswith("/")
    assert target.endpoint.model == "x"
    if provider.address:
        assert target.endpoint.url == _OTHER_ADDRESS + provider.suffix


def it_takes_a_key(name: str) -> None:
    """Check that the provider uses the model's key, or else the key in the environment, and that without a key the
    target counts as having none.
    """
    provider = PROVIDERS[name]
    target = find_target(_spec(name, "secret", base_url=_OTHER_ADDRESS), {})
    assert target.keyed
    assert target.endpoint.key == "secret" or target.endpoint.headers[provider.header] == "secret"
    if provider.key:
        assert not find_target(_spec(name, base_url=_OTHER_ADDRESS), {}).keyed
        remote_target = find_target(_spec(name, base_url=_OTHER_ADDRESS), {provider.key: "theirs"})
        assert "theirs" in (remote_target.endpoint.key, remote_target.endpoint.headers.get(provider.header))


def its_quirks_fit_a_chat(name: str) -> None:
    """Check that fields common to all chats pass unchanged, and that other fields are renamed, dropped or refused as
    the provider declares.
    """
    quirks = PROVIDERS[name].quirks
    assert fit_body(_CHAT, "chat/completions", quirks, "m") == _CHAT
    assert not quirks.dropped & quirks.refused
    for field, target_field in quirks.renamed.items():
        fitted_body = fit_body({**_CHAT, field: 1}, "chat/completions", quirks, "m")
        assert fitted_body[target_field] == 1
        assert field not in fitted_body
    for field in quirks.dropped:
        assert field not in fit_body({**_CHAT, field: "x"}, "chat/completions", quirks, "m")
    for field in quirks.refused:
        try:
            fit_body({**_CHAT, field: "x"}, "chat/completions", quirks, "m")
        except InvalidRequest as error:
            assert (error.code, error.param) == ("unsupported_parameter", field)
        else:
            raise AssertionError(f"{name} refuses '{field}', but it was accepted")


PROVIDER_CHECKS: Final[tuple[ProviderCheck, ...]] = (it_has_an_address, it_takes_a_key, its_quirks_fit_a_chat)
