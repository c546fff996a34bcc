"""The exact findings of the detectors on English and Chinese texts with hard negatives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from portico_server.core.detectors import Detection, Detector, find, mask
from portico_server.features.guards.checks import luhn
from portico_server.features.guards.detectors import GROUPS

EVERY = tuple(detector for group in GROUPS.values() for detector in group)

EXAMPLES: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("examples.yaml").read_text("utf-8").replace("·", "")
)


def found(text: str) -> list[tuple[str, str]]:
    return [(hit.kind, text[hit.start : hit.end]) for hit in find(text, EVERY)]


def expected(example: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (kind, str(value))
        for kind, values in example.get("finds", {}).items()
        for value in (values if isinstance(values, list) else [values])
    ]


def test_detectors_find_exactly_the_expected_matches_in_each_example() -> None:
    for example in EXAMPLES:
        text, expected_hits = example["text"], expected(example)
        if "alarms" in example:
            assert [kind for kind, _ in found(text)] == [example["alarms"]], text
            continue
        hits = found(text)
        assert [kind for kind, _ in hits] == [kind for kind, _ in expected_hits], (text, hits)
        for (kind, part), (_, expected_text) in zip(hits, expected_hits, strict=True):
            # For rules about sentences, the expected text is the beginning of the match.
            is_exact = kind not in ("injected_instruction", "self_harm_intent", "threat")
            assert (
                part == expected_text if is_exact else part.strip().lower().startswith(expected_text.lower())
            ), (text, part)


def test_precision_and_recall_are_what_the_documentation_says() -> None:
    right = sum(len(expected(example)) for example in EXAMPLES)
    miss_count = sum("misses" in example for example in EXAMPLES)
    alarms = sum("alarms" in example for example in EXAMPLES)
    negatives = sum(len(example) == 1 for example in EXAMPLES)
    assert (right, miss_count, alarms, negatives) == (40, 4, 1, 23)


def test_a_megabyte_of_near_matches_gives_no_false_detections() -> None:
    near = ("4112 ", "a@", "AB12 CD34 ", "1:", "忽略之前的", "ignore all ", "-----BEGIN ", "a\u200b")
    text = "\n".join(part * (125_000 // len(part)) for part in near)
    assert found(f"{text} jane@example.com") == [("email", "jane@example.com")]


def test_masked_text_replaces_every_detected_value_with_its_label() -> None:
    text = "a jane@exa\u200bmple.com, 4111-1111-1111-1111 b"
    hits = find(text, EVERY)
    assert mask(text, hits, lambda kind: f"<{kind}>") == "a <email>, <card> b"
    assert mask("nothing", [], str) == "nothing"


def test_overlapping_matches_are_merged_into_one_detection() -> None:
    words = (Detector("one", "[1]", ("ab+",), bounded=True), Detector("two", "[2]", ("b+c",), bounded=True))
    assert find("xabbbc", words) == [Detection(1, 6, "one")]
    assert luhn("79927398713") and not luhn("79927398710")
