"""Trained weights of the features in `portico_server.apps.answer.material`, made by ``bench/answer_weights.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DecisionLines:
    """``constant`` of the sum. Below ``absent`` no answer is there, below ``doubtful`` it is uncertain.

    Of the questions trained on, 94 in a hundred that cannot be answered lie below the first, unless more than one in
    twenty-five that can be answered would; one in ten of these lies below the second.
    """

    constant: float
    absent: float
    doubtful: float


SENTENCE: Mapping[str, float] = {
    "cov": -0.226,
    "near": 3.304,
    "both": 0.524,
    "prev": -0.797,
    "union": 1.506,
    "above": 1.941,
    "after": 1.717,
    "passage": 1.358,
    "score": 2.301,
    "chars": 1.194,
    "run": -1.356,
    "length": 0.136,
    "new": -0.429,
    "last": 0.603,
    "first": 0.536,
    "type": 0.465,
    "type_count": 0.431,
    "type_date": 0.751,
    "type_person": 0.529,
    "type_place": 0.84,
    "soft": 2.006,
    "soft_plain": 2.91,
    "soft_more": 2.796,
    "cosine": 1.352,
    "soft_cubed": 0.797,
    "soft_before": 2.569,
    "soft_after": 1.512,
    "after_best": 0.39,
    "before_best": 0.291,
    "names_person": 0.697,
    "names_place": 0.345,
    "names_name": 0.053,
    "chinese": 2.635,
    "chinese_before": 1.208,
    "chinese_above": 0.616,
    "common": 0.638,
}
"""What makes a candidate the one that answers: only differences between the candidates of a question count."""

EVIDENCE: Mapping[str, float] = {
    "passage": -0.089,
    "plain": 0.918,
    "unit": 1.106,
    "pair": 0.754,
    "all": 0.513,
    "missing": -0.23,
    "named": 0.825,
    "gap": 2.142,
    "gap_5": 2.212,
    "terms": 0.51,
    "type": -0.83,
    "pieces": 0.505,
    "pieces_all": 1.187,
    "pieces_unit": 2.316,
    "soft": 1.229,
    "soft_plain": 2.896,
    "cosine": 7.325,
}
"""The logarithm of the odds that an answer is in the passages."""

EVIDENCE_LINES = DecisionLines(-10.993, -0.796, 1.330)

EVIDENCE_CJK: Mapping[str, float] = {
    "passage": 0.825,
    "plain": 2.211,
    "unit": 0.775,
    "pair": 1.28,
    "all": 0.041,
    "missing": -0.109,
    "named": 0.457,
    "gap": 1.12,
    "gap_5": 2.32,
    "terms": 1.104,
    "type": -0.286,
    "pieces": 1.776,
    "pieces_all": 0.62,
    "pieces_unit": 2.626,
    "chinese": 1.071,
    "chinese_plain": 1.721,
    "chinese_named": 1.231,
    "chinese_all": 0.398,
    "chinese_unit": 1.209,
    "soft": 1.216,
    "soft_plain": 3.179,
    "cosine": 4.608,
}
"""The same for questions in Chinese."""

EVIDENCE_CJK_LINES = DecisionLines(-17.042, -0.776, 0.842)

SENTENCE_WITHOUT_VECTORS: Mapping[str, float] = {
    "cov": 2.491,
    "near": 4.902,
    "both": 1.403,
    "prev": -0.461,
    "union": 2.187,
    "above": 1.462,
    "after": 1.863,
    "passage": 1.735,
    "score": 2.84,
    "chars": 2.587,
    "run": 0.172,
    "length": 0.251,
    "new": -0.368,
    "last": 0.728,
    "first": 0.694,
    "type": 0.48,
    "type_count": 0.626,
    "type_date": 0.939,
    "type_person": 0.543,
    "type_place": 0.69,
    "after_best": 0.344,
    "before_best": 0.366,
    "names_person": 0.68,
    "names_place": 0.294,
    "names_name": -0.017,
    "chinese": 2.4,
    "chinese_before": 1.634,
    "chinese_above": 0.818,
    "common": -1.179,
}
"""The same for stores without vectors of single words."""

EVIDENCE_WITHOUT_VECTORS: Mapping[str, float] = {
    "passage": 0.295,
    "plain": 2.502,
    "unit": 1.801,
    "pair": 1.371,
    "all": 0.845,
    "missing": -0.516,
    "named": 1.471,
    "gap": 1.899,
    "gap_5": 3.058,
    "terms": 1.252,
    "type": 0.088,
    "pieces": 1.381,
    "pieces_all": 0.794,
    "pieces_unit": 3.138,
}

EVIDENCE_WITHOUT_VECTORS_LINES = DecisionLines(-10.157, -0.501, 0.679)

EVIDENCE_CJK_WITHOUT_VECTORS: Mapping[str, float] = {
    "passage": 1.068,
    "plain": 2.813,
    "unit": 0.985,
    "pair": 1.457,
    "all": 0.362,
    "missing": -0.152,
    "named": 0.512,
    "gap": 1.125,
    "gap_5": 2.229,
    "terms": 1.356,
    "type": -0.309,
    "pieces": 2.311,
    "pieces_all": 0.566,
    "pieces_unit": 2.916,
    "chinese": 0.993,
    "chinese_plain": 1.968,
    "chinese_named": 1.286,
    "chinese_all": 0.423,
    "chinese_unit": 1.074,
}

EVIDENCE_CJK_WITHOUT_VECTORS_LINES = DecisionLines(-11.970, -0.848, 0.867)
