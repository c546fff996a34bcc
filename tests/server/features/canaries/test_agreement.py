"""The agreement of two answers, and the confidence of one answer."""

from __future__ import annotations

import math

import orjson
import pytest

from portico_server.features.canaries.agreement import agreement
from portico_server.features.canaries.confidence import confidence, take_logprobs

LONG = "The tide turns at noon, and the boats leave the harbour one hour later, on each day of the week."


@pytest.mark.parametrize(
    ("answer", "reference", "least", "most"),
    [
        ("Refund", " refund. ", 1, 1),
        ("refund", "delivery", 0, 0),
        ("退款", "退款。", 1, 1),
        ("?", "!", 0, 0),
        ('{"b": 2, "a": 1}', '{"a": 1, "b": 2}', 1, 1),
        ('```json\n{"a": 1}\n```', '{"a": 1}', 1, 1),
        ('{"a": 1}', '{"a": 2}', 0, 0),
        ("not json", '{"a": 1}', 0, 0),
        (LONG, LONG, 1, 1),
        (LONG.replace("noon", "dusk"), LONG, 0.9, 0.99),
    ],
)
def test_agreement_is_exact_for_json_and_labels_and_gradual_for_long_texts(
    answer: str, reference: str, least: float, most: float
) -> None:
    assert least <= agreement(answer, reference) <= most


def test_confidence_is_the_mean_probability_and_the_answer_loses_its_log_probabilities() -> None:
    tokens = [{"token": word, "logprob": math.log(chance)} for word, chance in (("re", 0.5), ("fund", 0.5))]
    choice = {"index": 0, "message": {"content": "refund"}, "logprobs": {"content": tokens}}
    document = {"choices": [choice]}
    answer, logprobs = take_logprobs(orjson.dumps(document), stream=False)
    assert orjson.loads(answer) == {"choices": [{**choice, "logprobs": None}]}
    assert confidence(logprobs) == pytest.approx(0.5)
    frames = b"".join(b"data: %s\n\n" % orjson.dumps(document) for _ in range(2)) + b"data: [DONE]\n\n"
    answer, logprobs = take_logprobs(frames, stream=True)
    assert len(logprobs) == 4 and b'logprob"' not in answer and answer.endswith(b"data: [DONE]\n\n")
    assert confidence([]) == 0
