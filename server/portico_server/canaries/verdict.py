"""What the rules of a canary say of what was counted. Pure."""

from __future__ import annotations

from dataclasses import field

from portico_server.canaries.spec import DEFAULT_ROLLBACK_CALLS, SCORED_CONDITIONS, CanaryRule, CanarySpec
from portico_server.core.dataclass import dataclass
from portico_server.db.canaries import CanaryCounts, Decision, SideCounts


def rate(part: float, total: int) -> float | None:
    """A share or a mean; ``None`` of nothing."""
    return part / total if total else None


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
        broken = [
            rule_finding.says
            for rule_finding in _findings(spec.rollback, counts)
            if rule_finding.holds is False
        ]
        if broken:
            return CanaryVerdict(Decision("rolled_back", f"{'; '.join(broken)}."))
    if spec.promote is None:
        return CanaryVerdict(waits_for=("somebody who promotes it",))
    waits = []
    if counts.canary.calls < spec.promote.after:
        waits.append(f"calls of the canary: {counts.canary.calls} of {spec.promote.after}")
    rule_findings = _findings(spec.promote, counts)
    waits += [rule_finding.says for rule_finding in rule_findings if not rule_finding.holds]
    if waits:
        return CanaryVerdict(waits_for=tuple(waits))
    reasons = [
        f"{counts.canary.calls} calls of the canary",
        *(rule_finding.says for rule_finding in rule_findings),
    ]
    return CanaryVerdict(Decision("promoted", f"{'; '.join(reasons)}."))


def _findings(rule: CanaryRule, counts: CanaryCounts) -> list[RuleFinding]:
    canary, baseline = counts.canary, counts.baseline
    rule_findings = []
    for name, bound in rule.conditions.items():
        need = _needed(rule, name, canary, baseline)
        if need is not None:
            rule_findings.append(RuleFinding(None, need))
            continue
        if name == "max_error_rate":
            value = canary.errors / canary.calls
            rule_findings.append(RuleFinding(value <= bound, f"error rate {value:.2%}, at most {bound:.2%}"))
        elif name == "max_latency_ratio":
            ratio = _duration(canary) / max(_duration(baseline), 1e-9)
            says = f"{ratio:.2f} times as slow as the baseline, at most {bound:g}"
            rule_findings.append(RuleFinding(ratio <= bound, says))
        else:
            score = canary.score / canary.samples
            if name == "min_score":
                rule_findings.append(RuleFinding(score >= bound, f"score {score:.3f}, at least {bound:g}"))
            else:
                drop = baseline.score / baseline.samples - score
                where = "below" if drop > 0 else "above"
                says = f"score {abs(drop):.3f} {where} the baseline's, at most {bound:g} below"
                rule_findings.append(RuleFinding(drop <= bound, says))
    return rule_findings


def _duration(side: SideCounts) -> float:
    return side.milliseconds / side.calls


def _needed(rule: CanaryRule, name: str, canary: SideCounts, baseline: SideCounts) -> str | None:
    """What is missing before a condition can be looked at; ``None`` if nothing is."""
    if name in SCORED_CONDITIONS:
        for side, side_counts in (("canary", canary), ("baseline", baseline)):
            if side_counts.samples < rule.min_samples and (side == "canary" or name == "max_drop"):
                return f"judged answers of the {side}: {side_counts.samples} of {rule.min_samples}"
        return None
    if not canary.calls:
        return "calls of the canary: 0"
    # A mean of two calls compares with nothing.
    minimum = min(rule.after, DEFAULT_ROLLBACK_CALLS)
    if name == "max_latency_ratio" and baseline.calls < minimum:
        return f"calls of the baseline: {baseline.calls} of {minimum}"
    return None
