"""The input of a simulation: calls with their times and token counts, models with their rates, and kinds of
machines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from itertools import product
from typing import Any, TypeVar

from portico.errors import InvalidRequest
from portico.spelling import nearest

T = TypeVar("T")

MAX_CALLS = 1_000_000
"""Maximum number of calls in a trace."""

MAX_MACHINES = 1_000
"""Maximum number of machines of one kind."""

MAX_COMBINATIONS = 64
"""Maximum number of machine combinations to compare."""

MAX_SPAN_S = 10_000_000.0
"""Maximum duration of a trace in seconds: four months."""

MAX_RATE = 1_000_000.0
"""Maximum rate in tokens per second."""

MAX_TOKENS = 10_000_000
"""Maximum number of tokens per call."""


@dataclass(frozen=True, slots=True)
class TracedCall:
    """A call in a trace. ``at`` is in seconds since the start of the trace; ``cached`` tokens need not be computed
    again.

    Example::

        from portico.simulation import read_trace

        line = '{"at": 0, "model": "small", "prompt_tokens": 200, "completion_tokens": 50}'
        print(read_trace([line])[0].prompt_tokens)
    """

    at: float
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ModelRates:
    """The requirements and speed of a model on one machine.

    ``decode`` contains pairs: a number of concurrent calls, and their total tokens per second; values between the
    pairs are interpolated. ``step_tokens``: prompt tokens computed per step, in addition to one token for each running
    answer. ``keep_alive``: seconds without a call until the model is unloaded. ``replicas``: maximum number of
    machines that can have the model loaded at the same time; 0 means all machines.

    Example::

        from portico.simulation import ModelRates

        rates = ModelRates(memory_gb=8, load_s=20, prefill=4_000, decode=((1, 40.0), (8, 200.0)), slots=8)
        print(rates.keep_alive)
    """

    memory_gb: float
    load_s: float
    prefill: float
    decode: tuple[tuple[int, float], ...]
    slots: int = 1
    step_tokens: int = 256
    keep_alive: float = 300.0
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class MachineKind:
    """A kind of machine. All machines of a kind are identical. ``counts``: the numbers of machines to try;
    ``cost_per_hour`` is per machine.

    Example::

        from portico.simulation import MachineKind

        print(MachineKind("l4", memory_gb=24, counts=(1, 2, 4), cost_per_hour=0.8).counts)
    """

    name: str
    memory_gb: float
    counts: tuple[int, ...] = (1,)
    cost_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """The models, keyed by name, and the machines on which to simulate them.

    Example::

        from portico.simulation import ClusterPlan, MachineKind

        plan = ClusterPlan((MachineKind("l4", 24, counts=(0, 1, 2)), MachineKind("h100", 80, counts=(0, 1))))
        print(plan.combinations())
    """

    machines: tuple[MachineKind, ...]
    models: Mapping[str, ModelRates] = field(default_factory=dict)

    def combinations(self) -> list[tuple[int, ...]]:
        """Return the combinations to compare, each with the number of machines of every kind, sorted by total number
        of machines.
        """
        every = product(*(kind.counts for kind in self.machines))
        return sorted((counts for counts in every if sum(counts)), key=lambda counts: (sum(counts), counts))


def read_trace(lines: Iterable[str], name: str = "the trace") -> list[TracedCall]:
    """Parse a trace in JSON Lines and return its calls, sorted by time. Raises `InvalidRequest` that contains the
    number of the invalid line.
    """
    calls: list[TracedCall] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{name}, line {number}"
        if len(calls) == MAX_CALLS:
            raise InvalidRequest(f"{place}: a trace can have at most {MAX_CALLS:,} calls.", param="trace")
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{place} is not JSON: {error}.", param="trace") from error
        calls.append(
            _build(
                TracedCall,
                document,
                place,
                {
                    "at": _number(0, MAX_SPAN_S),
                    "model": _text,
                    "prompt_tokens": _integer_reader(0, MAX_TOKENS),
                    "completion_tokens": _integer_reader(0, MAX_TOKENS),
                    "cached_tokens": _integer_reader(0, MAX_TOKENS),
                },
            )
        )
    if not calls:
        raise InvalidRequest(
            f"{name} has no calls: expected JSON Lines with one call per line.", param="trace"
        )
    return sorted(calls, key=lambda call: call.at)


def read_cluster(document: Any, name: str = "the machines") -> ClusterPlan:
    """Parse machines and models from a JSON value. Raises `InvalidRequest` that contains the position of the error."""
    top = _mapping(document, name, {"machines", "models"})
    kinds = top.get("machines")
    if not isinstance(kinds, list) or not kinds:
        raise InvalidRequest(
            f"{name}: 'machines' must be a list of at least one kind of machine.", param="machines"
        )
    machines = tuple(
        _build(
            MachineKind,
            kind,
            f"{name}: machines[{number}]",
            {
                "name": _text,
                "memory_gb": _number(0.001, 1e6),
                "counts": _counts,
                "cost_per_hour": _number(0, 1e6),
            },
        )
        for number, kind in enumerate(kinds)
    )
    given_models = top.get("models")
    if not isinstance(given_models, Mapping) or not given_models:
        raise InvalidRequest(f"{name}: 'models' must map model names to their rates.", param="models")
    models = {
        str(model): _build(
            ModelRates,
            rates,
            f"{name}: models.{model}",
            {
                "memory_gb": _number(0.001, 1e6),
                "load_s": _number(0, 86_400),
                "prefill": _number(0.001, MAX_RATE),
                "decode": _decode,
                "slots": _integer_reader(1, 10_000),
                "step_tokens": _integer_reader(1, 1_000_000),
                "keep_alive": _number(0, MAX_SPAN_S),
                "replicas": _integer_reader(0, MAX_MACHINES),
            },
        )
        for model, rates in given_models.items()
    }
    cluster_plan = ClusterPlan(machines, models)
    combination_count = math.prod(len(kind.counts) for kind in machines)
    if combination_count > MAX_COMBINATIONS:
        raise InvalidRequest(
            f"{name}: the 'counts' of all kinds give {combination_count:,} combinations, more than the "
            f"maximum of {MAX_COMBINATIONS}. Use fewer.",
            param="machines",
        )
    if not cluster_plan.combinations():
        raise InvalidRequest(f"{name}: 'counts' contain no machines.", param="machines")
    largest = max(kind.memory_gb for kind in machines)
    for model, rates in models.items():
        if rates.memory_gb > largest:
            raise InvalidRequest(
                f"{name}: models.{model} needs {rates.memory_gb:g} GB, more than any machine has ({largest:g} GB).",
                param="models",
            )
    return cluster_plan


Reader = Callable[[Any, str], Any]


def _mapping(value: Any, place: str, known_fields: Iterable[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{place} must be an object, not {type(value).__name__}.", param="file")
    names = sorted(known_fields)
    for key in value:
        if key not in names:
            hint = nearest(str(key), names) or f" It has {', '.join(names)}."
            raise InvalidRequest(f"{place} has no '{key}'.{hint}", code="unknown_parameter", param=str(key))
    return value


def _build(cls: type[T], value: Any, place: str, readers: Mapping[str, Reader]) -> T:
    given_fields = _mapping(value, place, readers)
    for item in fields(cls):  # type: ignore[arg-type]  # dataclasses, all of them
        if item.default is MISSING and item.name not in given_fields:
            raise InvalidRequest(f"{place} lacks '{item.name}'.", param=item.name)
    return cls(
        **{key: readers[key](field_value, f"{place}.{key}") for key, field_value in given_fields.items()}
    )


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{place} must be text, not {value!r:.80}.", param="file")
    return value


def _number(low: float, high: float) -> Reader:
    def read(value: Any, place: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise InvalidRequest(
                f"{place} must be a number from {low:g} to {high:g}, not {value!r:.80}.", param="file"
            )
        return float(value)

    return read


def _integer_reader(low: int, high: int) -> Reader:
    def read(value: Any, place: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidRequest(
                f"{place} must be a whole number from {low:,} to {high:,}, not {value!r:.80}.", param="file"
            )
        return value

    return read


def _counts(value: Any, place: str) -> tuple[int, ...]:
    """``3``, ``[1, 2, 4]`` or ``"1-4"``."""
    if isinstance(value, str) and value.count("-") == 1:
        ends = [part.strip() for part in value.split("-")]
        if all(part.isascii() and part.isdecimal() and len(part) < 6 for part in ends):
            value = list(range(int(ends[0]), int(ends[1]) + 1))
    read = _integer_reader(0, MAX_MACHINES)
    if isinstance(value, list) and 0 < len(value) <= MAX_MACHINES:
        return tuple(sorted({read(item, place) for item in value}))
    if isinstance(value, int):
        return (read(value, place),)
    raise InvalidRequest(
        f'{place} must be a number, a list of numbers or "1-4", not {value!r:.80}.', param="file"
    )


def _decode(value: Any, place: str) -> tuple[tuple[int, float], ...]:
    """Parse a number of tokens per second, or a mapping from concurrent calls to their total tokens per second."""
    rate, calls = _number(0.001, MAX_RATE), _integer_reader(1, 10_000)
    if not isinstance(value, Mapping):
        return ((1, rate(value, place)),)
    pairs = {}
    for key, rate_value in value.items():
        text = str(key)
        at_once = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else text
        pairs[calls(at_once, place)] = rate(rate_value, f"{place}.{key}")
    if not pairs:
        raise InvalidRequest(f"{place} must have at least one rate.", param="file")
    return tuple(sorted(pairs.items()))
