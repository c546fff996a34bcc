"""Prices of online models in US dollars, from the lists of genai-prices, and from ``prices.json`` for other providers.

An operator's own price file takes precedence over these lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from portico.wire import Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.models.sources import parse_source

PRICED_TOKENS = 1_000_000

_DATED = re.compile(r"[-@](?:\d{8}|\d{4}-\d{2}-\d{2}|latest)$")
"""Suffixes with which providers distinguish versions of a model."""

_LISTED_PROVIDERS = {"gemini": "google", "moonshot": "moonshotai", "xai": "x-ai", "zhipu": "zai"}
"""Names of providers in genai-prices that differ from ours."""

_FIELDS = ("model", "input", "cached", "output", "above")


@dataclass(frozen=True, slots=True)
class Price:
    """A price in dollars per million tokens.

    ``model`` is PROVIDER/MODEL, or HOST:PORT/MODEL for any other server; ``*`` matches anything. ``cached`` is the
    price of prompt tokens that the provider had already cached; ``above`` is the number of prompt tokens from which
    the price applies.
    """

    model: str
    input: float
    output: float
    cached: float | None = None
    above: int = 0


class Tariff:
    """The prices of the model ``name``, prices for the longest prompts first.

    ``prices`` are the operator's rows, which take precedence over the lists.
    """

    def __init__(self, name: str, prices: Sequence[Price] = ()) -> None:
        self._name = name
        self._own_prices = prices

    @cached_property
    def prices(self) -> tuple[Price, ...]:
        """Return the prices; empty if no price is known. The first call reads the lists, which blocks for a few tenths
        of a second.
        """
        for candidate in (self._name, _DATED.sub("", self._name)):
            if prices := _matching(self._own_prices, candidate):
                break
        else:
            prices = _list_prices(self._name) or _matching(price_table(), self._name)
        return tuple(sorted(prices, key=lambda price: -price.above))

    def priced(self, usage: Usage) -> Usage:
        """Return the usage with its cost, if a price is known."""
        price = next((price for price in self.prices if usage.prompt_tokens > price.above), None)
        if price is None:  # no price is known, or nothing was used
            return usage
        cached_tokens = min(usage.cached_tokens, usage.prompt_tokens)
        dollars = (
            (usage.prompt_tokens - cached_tokens) * price.input
            + cached_tokens * (price.input if price.cached is None else price.cached)
            + usage.completion_tokens * price.output
        )
        return replace(usage, cost=dollars / PRICED_TOKENS)


class Prices:
    """The operator's ``prices``, followed by the price lists."""

    def __init__(self, prices: Sequence[Price] = ()) -> None:
        self._own_prices = tuple(prices)

    def of(self, source: str) -> Tariff | None:
        """Return the tariff of a model by its source, or ``None`` for local models."""
        name = priced_name(source)
        return None if name is None else Tariff(name, self._own_prices)


def priced_name(source: str) -> str | None:
    """Return PROVIDER/MODEL or HOST:PORT/MODEL of a source, or ``None`` for a local model."""
    model_source = parse_source(source)
    if model_source.scheme == "remote":
        return f"{model_source.location}/{model_source.model}"
    if model_source.scheme in ("http", "https"):
        host = model_source.location.partition("://")[2].partition("/")[0]
        return f"{host}/{model_source.model}"
    return None


def _matching(rows: Iterable[Price], name: str) -> list[Price]:
    """Return the rows with the first pattern that matches ``name``. They differ in the prompt length."""
    pattern = ""
    prices = []
    for row in rows:
        if (pattern or row.model) == row.model and fnmatchcase(name, row.model):
            pattern = row.model
            prices.append(row)
    return prices


def _list_prices(name: str) -> list[Price]:
    """Return today's prices of PROVIDER/MODEL in the lists of genai-prices."""
    # imported here, so that only users of online models pay for the import
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import TieredPrices

    provider, _, model = name.partition("/")
    snapshot = get_snapshot()
    # The library would guess a provider from parts of a name: it would take "openai-proxy.lan" for OpenAI.
    providers = {listed.id: listed for listed in snapshot.providers}
    listed_provider = providers.get(_LISTED_PROVIDERS.get(provider, provider))
    if listed_provider is None:
        return []
    try:
        _, model_info = snapshot.find_provider_model(model, listed_provider, None, None)
    except LookupError:
        return []
    model_price = model_info.get_prices(datetime.now(UTC))
    units = {
        unit: getattr(model_price, key, None)
        for unit, key in (("input", "input_mtok"), ("cached", "cache_read_mtok"), ("output", "output_mtok"))
    }
    if units["input"] is None:
        return []
    tiers = {
        0,
        *(tier.start for price in units.values() if isinstance(price, TieredPrices) for tier in price.tiers),
    }

    def price_of(unit: str, above: int) -> float | None:
        price = units[unit]
        if isinstance(price, TieredPrices):
            price = next((tier.price for tier in reversed(price.tiers) if tier.start <= above), price.base)
        return None if price is None else float(price)

    return [
        Price(
            name,
            price_of("input", above) or 0.0,
            price_of("output", above) or 0.0,
            price_of("cached", above),
            above,
        )
        for above in tiers
    ]


@cache
def price_table() -> tuple[Price, ...]:
    """Return the rows of ``prices.json``. The file gives the source and the date of each list."""
    document = json.loads((files("portico_server.models") / "prices.json").read_text("utf-8"))
    return tuple(
        Price(**{**row, "model": f"{group['provider']}/{row['model']}"})
        for group in document["lists"]
        for row in group["prices"]
    )


def read_prices(path: Path) -> Prices:
    """Read the operator's file, YAML or JSON: a list of objects with the fields of `Price`. Raise `InvalidRequest`."""
    import yaml  # imported here, so that only users of a price file pay for the import

    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidRequest(f"The prices in {path} cannot be read: {error}.", param="prices") from error
    if not isinstance(document, list):
        raise InvalidRequest(
            f"{path} must be a list of objects with 'model', 'input' and 'output'.", param="prices"
        )
    return Prices([_price(row, f"{path}: row {number}") for number, row in enumerate(document, 1)])


def _price(row: Any, at: str) -> Price:
    if not isinstance(row, Mapping):
        raise InvalidRequest(
            f"{at} must be an object with these fields, some of which are optional: {', '.join(_FIELDS)}.",
            param="prices",
        )
    for name, value in row.items():
        if name not in _FIELDS:
            raise InvalidRequest(f"{at} has no field '{name}'.{nearest(str(name), _FIELDS)}", param="prices")
        number = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if not (isinstance(value, str) if name == "model" else number):
            expectation = "a text such as openai/gpt-4o" if name == "model" else "a number of at least 0"
            raise InvalidRequest(f"{at}: '{name}' must be {expectation}, not {value!r}.", param="prices")
    missing = next((name for name in ("model", "input", "output") if name not in row), None)
    if missing:
        raise InvalidRequest(f"{at} needs '{missing}'.", param="prices")
    return Price(**row)
