"""The web addresses that the steps of a flow may request although they have read foreign data."""

from __future__ import annotations

import json
from collections.abc import Container
from functools import cached_property
from typing import Any

from portico_server.core.addresses import SeenAddresses, addresses_in, host_of, plain_address
from portico_server.features.flows.spec import ClientStep, FlowSpec, HttpStep, ToolStep
from portico_server.features.flows.tree import every


class FlowAddresses:
    """The addresses in the flow's input and in what its steps have read, and all on hosts that its author names.

    ``outer``: the addresses that the caller of the flow has seen.
    """

    def __init__(self, flow: FlowSpec, outer: Container[str]) -> None:
        self._flow = flow
        self._known_addresses = SeenAddresses(outer)

    def __contains__(self, address: object) -> bool:
        return address in self._known_addresses or self.names_host(str(address))

    def names_host(self, address: str) -> bool:
        """Return whether the flow's author names the host of an address."""
        return host_of(plain_address(address)) in self._hosts

    def read(self, value: Any) -> None:
        """Add the addresses in a value, unless no step of the flow requests any."""
        if self._requests:
            self._known_addresses.read(json.dumps(value, default=str, ensure_ascii=False))

    @cached_property
    def _requests(self) -> bool:
        return any(isinstance(step.op, ClientStep | HttpStep | ToolStep) for step in every(self._flow.step))

    @cached_property
    def _hosts(self) -> frozenset[str]:
        texts = json.dumps(self._flow.source, default=str, ensure_ascii=False)
        return frozenset(host_of(address) for address in addresses_in(texts)) - {""}
