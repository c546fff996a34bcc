"""Trained weights of the features in `portico_server.apps.answer.material`, made by ``bench/answer_weights.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lines:
    """``constant`` of the sum. Below ``absent`` no answer is there, below ``doubtful`` it is uncertain.

    One answerable question in twenty-five of those trained on lies below the first, one in ten below the second.
    """

    constant: float
    absent: float
    doubtful: float


SENTENCE: Mapping[str, float] = {
    "cov": -2.601,
    "near": 5.609,
    "both": 1.427,
    "prev": -0.933,
    "union": 4.39,
    "above": 2.194,
    "after": 2.766,
    "passage": 3.331,
    "score": 4.386,
    "chars": 2.496,
    "run": -1.781,
    "length": 0.876,
    "new": -1.022,
    "last": 0.574,
    "first": 0.511,
    "type": 0.422,
    "type_count": 0.634,
    "type_date": 1.019,
    "type_person": 0.983,
    "type_place": 1.419,
    "soft": 1.645,
    "soft_plain": 3.92,
    "soft_more": 2.043,
    "cosine": 1.958,
}
"""What makes a candidate the one that answers: only differences between the candidates of a question count."""

EVIDENCE: Mapping[str, float] = {
    "passage": 0.909,
    "plain": 2.652,
    "unit": 1.74,
    "pair": 1.718,
    "all": 1.601,
    "missing": -0.346,
    "named": 0.967,
    "gap": 1.804,
    "gap_5": 2.279,
    "terms": 0.666,
    "type": -0.025,
    "cjk": -0.933,
    "soft": 1.528,
    "soft_plain": 3.783,
    "cosine": 4.312,
}
"""What tells that an answer is in the passages: the logarithm of the odds."""

EVIDENCE_LINES = Lines(-11.923, -0.815, 0.540)

SENTENCE_WITHOUT_VECTORS: Mapping[str, float] = {
    "cov": 3.337,
    "near": 7.53,
    "both": -0.61,
    "prev": -0.81,
    "union": 3.769,
    "above": 2.22,
    "after": 2.623,
    "passage": 2.993,
    "score": 5.116,
    "chars": 3.073,
    "run": -1.019,
    "length": 0.867,
    "new": -0.805,
    "last": 0.71,
    "first": 0.604,
    "type": 0.377,
    "type_count": 1.008,
    "type_date": 1.301,
    "type_person": 1.119,
    "type_place": 1.188,
}
"""The same for stores without vectors of single words."""

EVIDENCE_WITHOUT_VECTORS: Mapping[str, float] = {
    "passage": 1.457,
    "plain": 4.017,
    "unit": 2.339,
    "pair": 2.311,
    "all": 1.515,
    "missing": -0.44,
    "named": 1.494,
    "gap": 1.704,
    "gap_5": 2.745,
    "terms": 1.17,
    "type": -0.057,
    "cjk": 0.882,
}

EVIDENCE_WITHOUT_VECTORS_LINES = Lines(-9.345, -1.068, 0.172)
