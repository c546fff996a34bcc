"""Trained weights of the features in `portico_server.apps.answer.material`, created by ``bench/answer_weights.py``."""

from __future__ import annotations

from collections.abc import Mapping

from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class DecisionLines:
    """Thresholds for a weighted sum to which ``constant`` is added. Below ``absent``, the answer counts as missing;
    below ``doubtful``, it counts as uncertain.

    94 percent of the unanswerable training questions score below ``absent``, or fewer if otherwise more than one in
    twenty answerable questions would. Three percent of all questions score between the two thresholds.
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
"""Weights that determine which candidate answers. Only differences between the candidates of one question matter."""

EVIDENCE: Mapping[str, float] = {
    "passage": 0.156,
    "plain": 1.023,
    "unit": 1.517,
    "pair": 1.092,
    "all": 1.041,
    "missing": -0.271,
    "named": 0.988,
    "gap": 2.109,
    "gap_5": 2.294,
    "terms": 0.483,
    "type": -0.917,
    "soft": 1.567,
    "soft_plain": 3.17,
    "cosine": 7.46,
}
"""Weights of the features that determine the log-odds that the passages contain an answer."""

EVIDENCE_LINES = DecisionLines(-10.035, -0.752, 0.099)

EVIDENCE_CJK: Mapping[str, float] = {
    "passage": 1.0,
    "plain": 2.217,
    "unit": 1.067,
    "pair": 1.501,
    "all": 0.521,
    "missing": -0.173,
    "named": 0.501,
    "gap": 1.18,
    "gap_5": 2.275,
    "terms": 0.998,
    "type": -0.18,
    "chinese": 1.492,
    "chinese_plain": 1.852,
    "chinese_named": 1.226,
    "chinese_all": 0.748,
    "chinese_unit": 1.776,
    "soft": 2.598,
    "soft_plain": 4.052,
    "cosine": 4.996,
}
"""As `EVIDENCE`, for questions in Chinese."""

EVIDENCE_CJK_LINES = DecisionLines(-17.079, -0.615, 0.079)

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
"""As `SENTENCE`, for stores without vectors of single words."""

EVIDENCE_WITHOUT_VECTORS: Mapping[str, float] = {
    "passage": 0.828,
    "plain": 2.919,
    "unit": 2.543,
    "pair": 2.007,
    "all": 1.447,
    "missing": -0.67,
    "named": 1.727,
    "gap": 1.794,
    "gap_5": 3.355,
    "terms": 1.228,
    "type": -0.051,
}

EVIDENCE_WITHOUT_VECTORS_LINES = DecisionLines(-8.892, -0.423, 0.157)

EVIDENCE_CJK_WITHOUT_VECTORS: Mapping[str, float] = {
    "passage": 1.453,
    "plain": 3.125,
    "unit": 1.469,
    "pair": 1.879,
    "all": 1.102,
    "missing": -0.291,
    "named": 0.535,
    "gap": 1.084,
    "gap_5": 2.279,
    "terms": 1.268,
    "type": -0.172,
    "chinese": 1.561,
    "chinese_plain": 2.276,
    "chinese_named": 1.3,
    "chinese_all": 0.883,
    "chinese_unit": 1.804,
}

EVIDENCE_CJK_WITHOUT_VECTORS_LINES = DecisionLines(-10.370, -0.763, 0.133)

CHAIN: Mapping[str, float] = {
    "cover": -1.714,
    "cover_rare": 0.798,
    "strong": 2.918,
    "more": 4.586,
    "hop_low": -0.29,
    "last": 0.072,
    "cosine": 7.103,
    "fresh": 4.343,
    "type": 0.114,
    "asked": -3.008,
    "one": -0.322,
    "words_of_hop": 0.212,
    "words_square": -0.507,
}
"""Weights of the features that determine the log-odds that the sentences of a chain answer together. In a chain, each
sentence contains a name from the previous sentence.
"""

CHAIN_LINES = DecisionLines(-3.685, 1.089, 2.015)
"""Thresholds for chains. Three percent of the questions without an answer score above ``absent``; of the questions
with a missing hop, one in ten scores above ``doubtful``.
"""

CHAIN_ONE_SCORE = 0.650
"""Minimum score at which a single sentence that contains a name from the question prevents the question from counting
as unanswered.
"""

CHAIN_CJK: Mapping[str, float] = {
    "cover": -0.758,
    "cover_rare": 5.007,
    "strong": 1.49,
    "more": 2.843,
    "hop_low": 1.528,
    "last": -4.657,
    "cosine": -0.132,
    "fresh": -2.236,
    "type": 0.585,
    "asked": -0.936,
    "one": -0.603,
    "words_of_hop": -0.055,
    "words_square": -0.31,
}

CHAIN_CJK_LINES = DecisionLines(3.0, 2.793, 3.029)

CHAIN_CJK_ONE_SCORE = 0.469
