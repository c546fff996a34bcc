"""The verdict of a canary's rules, given the counts. Pure."""

from __future__ import annotations

from dataclasses import field

from portico_server.core.dataclass import dataclass
from portico_server.db.canaries import CanaryCounts, Decision, SideCounts
from portico_server.features.canaries.spec import (
    DEFAULT_ROLLBACK_CALLS,
    SCORED_CONDITIONS,
    CanaryRule,
    CanarySpec,
)


def rate(part: float, total: int) -> float | None:
    """Return ``part`` divided by ``total``; ``None`` if the total is 0."""
    return part / total if total else None


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """The state of a condition. ``holds`` is ``None`` while there are too few data; ``says`` describes the state in
    words.
    """

    holds: bool | None
    says: str


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """The result of the rules: how the canary ends, or what it waits for."""

    decision: Decision | None = None
    waits_for: tuple[str, ...] = field(default=())


def decide(spec: CanarySpec, counts: CanaryCounts) -> CanaryVerdict:
    """Return whether a canary ends now, and how. A rollback takes precedence over a promotion."""
    if spec.rollback is not None and counts.canary.calls >= spec.rollback.after:
        violations = [
            rule_finding.says
            for rule_finding in _findings(spec.rollback, counts)
            if rule_finding.holds is False
        ]
        if violations:
            return CanaryVerdict(Decision("rolled_back", f"{'; '.join(violations)}."))
    if spec.promote is None:
        return CanaryVerdict(waits_for=("an admin who promotes it",))
    waits = []
    if counts.canary.calls < spec.promote.after:
        waits.append(f"canary calls: {counts.canary.calls} of {spec.promote.after}")
    rule_findings = _findings(spec.promote, counts)
    waits += [rule_finding.says for rule_finding in rule_findings if not rule_finding.holds]
    if waits:
        return CanaryVerdict(waits_for=tuple(waits))
    reasons = [
        f"{counts.canary.calls} canary calls",
        *(rule_finding.says for rule_finding in rule_findings),
    ]
    return CanaryVerdict(Decision("promoted", f"{'; '.join(reasons)}."))


def _findings(rule: CanaryRule, counts: CanaryCounts) -> list[RuleFinding]:
    canary, baseline = counts.canary, counts.baseline
    rule_findings = []
    for name, bound in rule.conditions.items():
        need = _missing_data(rule, name, canary, baseline)
        if need is not None:
            rule_findings.append(RuleFinding(None, need))
            continue
        if name == "max_error_rate":
            value = canary.errors / canary.calls
            rule_findings.append(RuleFinding(value <= bound, f"error rate {value:.2%}, at most {bound:.2%}"))
        elif name == "max_latency_ratio":
            ratio = _duration(canary) / max(_duration(baseline), 1e-9)
            says = f"{ratio:.2f} times the baseline's duration, at most {bound:g}"
            rule_findings.append(RuleFinding(ratio <= bound, says))
        else:
            score = canary.score / canary.samples
            if name == "min_score":
                rule_findings.append(RuleFinding(score >= bound, f"score {score:.3f}, at least {bound:g}"))
            else:
                drop = baseline.score / baseline.samples - score
                direction = "below" if drop > 0 else "above"
                says = f"score {abs(drop):.3f} {direction} the baseline's, at most {bound:g} below"
                rule_findings.append(RuleFinding(drop <= bound, says))
    return rule_findings


def _duration(side: SideCounts) -> float:
    return side.milliseconds / side.calls


def _missing_data(rule: CanaryRule, name: str, canary: SideCounts, baseline: SideCounts) -> str | None:
    """Return a description of the data that a condition still needs; ``None`` if the data suffice."""
    if name in SCORED_CONDITIONS:
        for side, side_counts in (("canary", canary), ("baseline", baseline)):
            if side_counts.samples < rule.min_samples and (side == "canary" or name == "max_drop"):
                return f"judged answers of the {side}: {side_counts.samples} of {rule.min_samples}"
        return None
    if not canary.calls:
        return "canary calls: 0"
    # A mean of a few calls is no basis for a comparison.
    minimum = min(rule.after, DEFAULT_ROLLBACK_CALLS)
    if name == "max_latency_ratio" and baseline.calls < minimum:
        return f"baseline calls: {baseline.calls} of {minimum}"
    return None
