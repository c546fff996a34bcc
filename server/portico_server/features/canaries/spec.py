"""The specification of a canary: parsed once from a request or a configuration into a typed value. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias, get_args

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type
from portico_server.core.names import check_name
from portico_server.db.canaries import CanaryRow

Sticky: TypeAlias = Literal["session", "caller", "request"]
"""The unit whose calls all get the same side: a conversation, all calls of a key, or a single request."""

MAX_KEYS: Final = 1_000
"""Maximum number of keys whose calls always go to the canary."""

MAX_NAME_CHARS: Final = 200
"""Maximum length of the name of a target, a key or an evaluation, in characters."""

MAX_COUNT: Final = 100_000_000
"""Maximum number of calls or samples that a rule can wait for."""

DEFAULT_SAMPLE_SHARE: Final = 0.2
"""Default share of answers that are judged, if an evaluation is named."""

DEFAULT_ROLLBACK_CALLS: Final = 20
"""Default number of calls to the canary before a rule can roll it back."""

DEFAULT_SAMPLES_COUNT: Final = 20
"""Default minimum number of judged answers before the score of a side is used."""

FIELDS: Final = (
    *("target", "weight", "keys", "sticky", "min_confidence", "sample", "eval", "promote", "rollback"),
)
ALIAS_FIELDS: Final = ("name", "target", "canary")
RULE_FIELDS: Final = (
    "after",
    "min_samples",
    "min_score",
    "max_drop",
    "max_error_rate",
    "max_latency_ratio",
)
SCORED_CONDITIONS: Final = ("min_score", "max_drop")
_COMPARED: Final = ("max_drop", "max_latency_ratio")
_BOUNDS: Final = {"min_score": 1.0, "max_drop": 1.0, "max_error_rate": 1.0, "max_latency_ratio": 1_000.0}


@dataclass(frozen=True, slots=True)
class CanaryRule:
    """Conditions on the counts, checked after ``after`` calls to the canary.

    ``min_score`` is the canary's minimum mean score; ``max_drop`` is how far the score may be below the baseline's.
    ``max_error_rate`` is the maximum share of failed calls. ``max_latency_ratio`` is the maximum ratio of the canary's
    mean duration to the baseline's. Scores are used only after ``min_samples`` judged answers.
    """

    after: int
    min_samples: int = DEFAULT_SAMPLES_COUNT
    min_score: float | None = None
    max_drop: float | None = None
    max_error_rate: float | None = None
    max_latency_ratio: float | None = None

    @property
    def conditions(self) -> Mapping[str, float]:
        """The conditions that are set, keyed by name."""
        bounds = {name: getattr(self, name) for name in _BOUNDS}
        return {name: value for name, value in bounds.items() if value is not None}

    def document(self) -> dict[str, Any]:
        """Return the rule in the form that a request contains."""
        document: dict[str, Any] = {"after": self.after, **self.conditions}
        if any(name in document for name in SCORED_CONDITIONS):
            document["min_samples"] = self.min_samples
        return document


@dataclass(frozen=True, slots=True)
class CanarySpec:
    """The specification of a canary. ``keys`` are names or ids of keys; ``eval`` is the name or id of an evaluation.

    With ``min_confidence``, the baseline answers where the canary is less sure than that. Without ``eval``, ``sample``
    is then the share of the canary's answers that are compared with the baseline's.
    """

    target: str
    weight: float = 0.0
    keys: tuple[str, ...] = ()
    sticky: Sticky = "session"
    min_confidence: float | None = None
    sample: float = 0.0
    eval: str | None = None
    promote: CanaryRule | None = None
    rollback: CanaryRule | None = None

    def document(self) -> dict[str, Any]:
        """Return the fields stored in the canary's row, without the target."""
        return {
            "weight": self.weight,
            "keys": list(self.keys),
            "sticky": self.sticky,
            "min_confidence": self.min_confidence,
            "sample": self.sample,
            "eval": self.eval,
            "promote": None if self.promote is None else self.promote.document(),
            "rollback": None if self.rollback is None else self.rollback.document(),
        }


@dataclass(frozen=True, slots=True)
class AliasSpec:
    """An alias in a configuration: its target, and the canary that may replace the target."""

    name: str
    target: str
    canary: CanarySpec | None = None


def parse_alias(fields: Mapping[str, Any], at: str) -> AliasSpec:
    """Parse an entry of a configuration; ``at`` is its path. Raises `InvalidRequest`."""
    for field_name in fields:
        if field_name not in ALIAS_FIELDS:
            raise InvalidRequest(
                f"{at} has no field '{str(field_name)[:80]}'.{nearest(str(field_name), ALIAS_FIELDS)}",
                code="unknown_parameter",
                param=f"{at}.{str(field_name)[:80]}",
            )
    check_name(fields["name"], "an alias")
    canary = None if fields.get("canary") is None else parse(fields["canary"], f"{at}.canary")
    target = _name(fields.get("target"), f"{at}.target")
    if canary is not None and canary.target == target:
        wrong(f"{at}.canary.target", "is already the target of the alias")
    return AliasSpec(fields["name"], target, canary)


def parse(value: Any, at: str = "") -> CanarySpec:
    """Parse a canary; ``at`` is its path in the request or configuration. Raises `InvalidRequest` that names the
    invalid field.
    """
    place = f"{at}." if at else ""
    fields = _mapping(value, at or "canary", FIELDS, "A canary")
    target = _name(fields.get("target"), f"{place}target")
    keys = fields.get("keys", [])
    if not isinstance(keys, Sequence) or isinstance(keys, str):
        wrong_type(f"{place}keys", "a list of names or ids of keys", keys)
    if len(keys) > MAX_KEYS:
        wrong(f"{place}keys", f"has {len(keys):,} entries; the maximum is {MAX_KEYS:,}")
    names = tuple(dict.fromkeys(_name(key, f"{place}keys[{n}]") for n, key in enumerate(keys)))
    if "weight" not in fields and not names:
        missing(f"{place}weight")
    weight = _number(fields.get("weight", 0), f"{place}weight", 1.0)
    if not weight and not names:
        wrong(f"{place}weight", "is 0, and 'keys' is empty: no call would reach the canary")
    sticky = fields.get("sticky", "session")
    if sticky not in get_args(Sticky):
        not_one_of(f"{place}sticky", sticky, get_args(Sticky))
    judge = None if fields.get("eval") is None else _name(fields["eval"], f"{place}eval")
    sample = _number(
        fields.get("sample", DEFAULT_SAMPLE_SHARE if judge is not None else 0), f"{place}sample", 1.0
    )
    confidence = fields.get("min_confidence")
    min_confidence = None if confidence is None else _number(confidence, f"{place}min_confidence", 1.0)
    if sample and judge is None and min_confidence is None:
        wrong(f"{place}sample", "needs an 'eval': the name or id of an evaluation that judges the answers")
    if judge is not None and not sample:
        wrong(f"{place}sample", "is 0, so the 'eval' would judge no answers")
    rules = {
        name: _rule(fields[name], f"{place}{name}", name == "promote", _scored(judge, sample), weight)
        for name in ("promote", "rollback")
        if fields.get(name) is not None
    }
    return CanarySpec(
        target,
        weight,
        names,
        sticky,
        min_confidence,
        sample,
        judge,
        rules.get("promote"),
        rules.get("rollback"),
    )


def _scored(judge: str | None, sample: float) -> frozenset[str]:
    """Return the conditions on scores that have a score: a comparison with the baseline gives the canary alone one."""
    if judge is not None:
        return frozenset(SCORED_CONDITIONS)
    return frozenset({"min_score"} if sample else ())


def _mapping(value: Any, at: str, known_fields: Sequence[str], subject: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        wrong_type(at, "an object", value)
    for name in value:
        if name not in known_fields:
            raise InvalidRequest(
                f"{subject} has no field '{str(name)[:80]}'.{nearest(str(name), known_fields)}",
                code="unknown_parameter",
                param=f"{at}.{name}" if at != "canary" else str(name)[:80],
            )
    return value


def _name(value: Any, at: str) -> str:
    if value is None:
        missing(at)
    if not isinstance(value, str):
        wrong_type(at, "a string", value)
    if not 1 <= len(value) <= MAX_NAME_CHARS:
        wrong(at, f"must have 1 to {MAX_NAME_CHARS} characters")
    return value


def _number(value: Any, at: str, maximum: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        wrong_type(at, "a number", value)
    if not math.isfinite(value) or not 0 <= value <= maximum:
        wrong(at, f"is {value:g}, but must be from 0 to {maximum:g}")
    return float(value)


def _count(value: Any, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        wrong_type(at, "a whole number", value)
    if not 1 <= value <= MAX_COUNT:
        wrong(at, f"must be from 1 to {MAX_COUNT:,}")
    return value


def _rule(value: Any, at: str, promotes: bool, scored: frozenset[str], weight: float) -> CanaryRule:
    fields = _mapping(value, at, RULE_FIELDS, "A rule of a canary")
    if promotes and "after" not in fields:
        missing(f"{at}.after")
    values: dict[str, Any] = {"after": _count(fields.get("after", DEFAULT_ROLLBACK_CALLS), f"{at}.after")}
    if "min_samples" in fields:
        values["min_samples"] = _count(fields["min_samples"], f"{at}.min_samples")
    for name, maximum in _BOUNDS.items():
        if fields.get(name) is not None:
            values[name] = _number(fields[name], f"{at}.{name}", maximum)
    for name in SCORED_CONDITIONS:
        if name in values and name not in scored:
            wrong(f"{at}.{name}", "needs an 'eval': the name or id of an evaluation that judges the answers")
    for name in _COMPARED:
        if name in values and weight == 1:
            wrong(f"{at}.{name}", "compares with the baseline, which gets no calls if the weight is 1")
    rule = CanaryRule(**values)
    if not promotes and not rule.conditions:
        wrong(at, f"contains no condition, so it would never take effect; set one of {', '.join(_BOUNDS)}")
    return rule


def stored_spec(row: CanaryRow) -> CanarySpec:
    """Return the specification of a canary from its row."""
    fields = {
        name: value for name, value in row.spec.items() if name not in ("key_ids", "eval_id", "is_widened")
    }
    return parse({"target": row.target, **fields})


def current_spec(row: CanaryRow) -> CanarySpec:
    """Return the specification that a canary follows now. A widened canary gets all calls."""
    spec = stored_spec(row)
    return replace(spec, weight=1.0, promote=None) if row.spec.get("is_widened") else spec
