"""What the rules of a canary say of what was counted. Pure."""

from __future__ import annotations

from dataclasses import field

from portico_server.canaries.spec import DEFAULT_ROLLBACK_CALLS, SCORED_CONDITIONS, CanaryRule, CanarySpec
from portico_server.core.dataclass import dataclass
from portico_server.db.canaries import CanaryCounts, Decision, SideCounts


def rate(part: float, whole: int) -> float | None:
    """A share or a mean; ``None`` of nothing."""
    return part / whole if whole else None


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """A condition, and how it stands: ``holds`` is ``None`` while too little is known, which ``says`` explains."""

    holds: bool | None
    says: str


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """What the rules make of what was counted: how it ends, or what it waits for."""

    decision: Decision | None = None
    waits_for: tuple[str, ...] = field(default=())


def decide(spec: CanarySpec, counts: CanaryCounts) -> CanaryVerdict:
    """Whether a canary ends now. Taking it back comes before promoting it."""
    if spec.rollback is not None and counts.canary.calls >= spec.rollback.after:
        broken = [one.says for one in _findings(spec.rollback, counts) if one.holds is False]
        if broken:
            return CanaryVerdict(Decision("rolled_back", f"{'; '.join(broken)}."))
    if spec.promote is None:
        return CanaryVerdict(waits_for=("somebody who promotes it",))
    waits = []
    if counts.canary.calls < spec.promote.after:
        waits.append(f"calls of the canary: {counts.canary.calls} of {spec.promote.after}")
    found = _findings(spec.promote, counts)
    waits += [one.says for one in found if not one.holds]
    if waits:
        return CanaryVerdict(waits_for=tuple(waits))
    reasons = [f"{counts.canary.calls} calls of the canary", *(one.says for one in found)]
    return CanaryVerdict(Decision("promoted", f"{'; '.join(reasons)}."))


def _findings(rule: CanaryRule, counts: CanaryCounts) -> list[RuleFinding]:
    canary, baseline = counts.canary, counts.baseline
    found = []
    for name, bound in rule.conditions.items():
        needed = _needed(rule, name, canary, baseline)
        if needed is not None:
            found.append(RuleFinding(None, needed))
            continue
        if name == "max_error_rate":
            value = canary.errors / canary.calls
            found.append(RuleFinding(value <= bound, f"error rate {value:.2%}, at most {bound:.2%}"))
        elif name == "max_latency_ratio":
            ratio = _duration(canary) / max(_duration(baseline), 1e-9)
            says = f"{ratio:.2f} times as slow as the baseline, at most {bound:g}"
            found.append(RuleFinding(ratio <= bound, says))
        else:
            score = canary.score / canary.samples
            if name == "min_score":
                found.append(RuleFinding(score >= bound, f"score {score:.3f}, at least {bound:g}"))
            else:
                drop = baseline.score / baseline.samples - score
                where = "below" if drop > 0 else "above"
                says = f"score {abs(drop):.3f} {where} the baseline's, at most {bound:g} below"
                found.append(RuleFinding(drop <= bound, says))
    return found


def _duration(side: SideCounts) -> float:
    return side.milliseconds / side.calls


def _needed(rule: CanaryRule, name: str, canary: SideCounts, baseline: SideCounts) -> str | None:
    """What is missing before a condition can be looked at; ``None`` if nothing is."""
    if name in SCORED_CONDITIONS:
        for side, counted in (("canary", canary), ("baseline", baseline)):
            if counted.samples < rule.min_samples and (side == "canary" or name == "max_drop"):
                return f"judged answers of the {side}: {counted.samples} of {rule.min_samples}"
        return None
    if not canary.calls:
        return "calls of the canary: 0"
    # A mean of two calls compares with nothing.
    least = min(rule.after, DEFAULT_ROLLBACK_CALLS)
    if name == "max_latency_ratio" and baseline.calls < least:
        return f"calls of the baseline: {baseline.calls} of {least}"
    return None
