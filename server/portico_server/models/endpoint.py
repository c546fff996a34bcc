"""The address of an engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from portico_server.core.dataclass import dataclass
from portico_server.core.secret_values import SecretValues, in_address, in_headers


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of an OpenAI-compatible server.

    ``url`` is the part before ``/chat/completions``. ``model`` is the server's name for the model.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    direct: bool = False
    """True if the server must be accessed without a proxy, as is the case for engines that Portico starts."""

    def secrets(self) -> SecretValues:
        """Return the key and the other secrets of the server, which its responses must not contain."""
        return SecretValues((self.key, *in_headers(self.headers), *in_address(self.url)))
