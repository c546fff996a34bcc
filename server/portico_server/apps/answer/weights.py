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
    "cov": -2.308,
    "near": 5.658,
    "both": 1.446,
    "prev": -0.908,
    "union": 4.378,
    "above": 2.331,
    "after": 2.845,
    "passage": 3.138,
    "score": 4.388,
    "chars": 2.459,
    "run": -1.89,
    "length": 0.896,
    "new": -1.033,
    "last": 0.543,
    "first": 0.514,
    "type": 0.419,
    "type_count": 0.653,
    "type_date": 1.024,
    "type_person": 1.005,
    "type_place": 1.43,
    "soft": 1.582,
    "soft_plain": 3.952,
    "soft_more": 1.968,
    "cosine": 2.011,
}
"""What makes a candidate the one that answers: only differences between the candidates of a question count."""

EVIDENCE: Mapping[str, float] = {
    "passage": 0.899,
    "plain": 2.708,
    "unit": 1.738,
    "pair": 1.711,
    "all": 1.596,
    "missing": -0.361,
    "named": 0.994,
    "gap": 1.774,
    "gap_5": 2.311,
    "terms": 0.686,
    "type": -0.041,
    "cjk": -0.95,
    "soft": 1.472,
    "soft_plain": 3.739,
    "cosine": 4.313,
}
"""What tells that an answer is in the passages: the logarithm of the odds."""

EVIDENCE_LINES = Lines(-11.870, -0.840, 0.555)

SENTENCE_WITHOUT_VECTORS: Mapping[str, float] = {
    "cov": 3.612,
    "near": 7.851,
    "both": -0.872,
    "prev": -0.823,
    "union": 3.756,
    "above": 2.346,
    "after": 2.727,
    "passage": 2.86,
    "score": 5.142,
    "chars": 3.011,
    "run": -1.22,
    "length": 0.901,
    "new": -0.826,
    "last": 0.671,
    "first": 0.598,
    "type": 0.398,
    "type_count": 0.989,
    "type_date": 1.303,
    "type_person": 1.141,
    "type_place": 1.024,
}
"""The same for stores without vectors of single words."""

EVIDENCE_WITHOUT_VECTORS: Mapping[str, float] = {
    "passage": 1.441,
    "plain": 4.071,
    "unit": 2.326,
    "pair": 2.276,
    "all": 1.538,
    "missing": -0.452,
    "named": 1.526,
    "gap": 1.674,
    "gap_5": 2.802,
    "terms": 1.187,
    "type": -0.059,
    "cjk": 0.818,
}

EVIDENCE_WITHOUT_VECTORS_LINES = Lines(-9.352, -1.166, 0.228)
