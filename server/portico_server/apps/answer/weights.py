"""Trained weights of the features in `portico_server.apps.answer.material`, created by ``bench/answer_weights.py``."""

from __future__ import annotations

from collections.abc import Mapping

from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class DecisionLines:
    """Thresholds for a weighted sum to which ``constant`` is added. Below ``absent``, the answer counts as missing;
    below ``doubtful``, it counts as uncertain.

    94 percent of the unanswerable training questions score below ``absent``, or fewer if otherwise too many answerable
    questions would: one in twenty for chains and for English, three in a hundred for Chinese, as a mean over the sets.
    Three percent of all questions score between the two thresholds.
    """

    constant: float
    absent: float
    doubtful: float


SENTENCE: Mapping[str, float] = {
    "near": 3.375,
    "both": -0.230,
    "prev": -1.086,
    "union": 1.433,
    "above": 1.104,
    "after": 1.427,
    "topic": 1.158,
    "passage": 1.054,
    "score": 1.721,
    "chars": 1.618,
    "run": -0.781,
    "length": -0.147,
    "new": -0.215,
    "last": 0.553,
    "first": 0.433,
    "type": 0.432,
    "type_count": 0.329,
    "type_date": 1.863,
    "type_person": 0.235,
    "type_place": 0.267,
    "soft": 0.702,
    "soft_plain": 2.654,
    "soft_more": 0.947,
    "cosine": 1.754,
    "soft_before": 2.661,
    "soft_after": 1.148,
    "soft_topic": 1.387,
    "soft_passage": 1.229,
    "soft_nearest": 1.875,
    "after_best": 0.571,
    "begins": 0.585,
    "rank": -0.343,
    "names_person": 0.663,
    "names_place": 0.675,
    "chinese": -0.011,
    "chinese_topic": 1.467,
    "chinese_late": 2.176,
    "common": -0.241,
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
    "passage": 0.675,
    "plain": 1.285,
    "unit": 0.904,
    "pair": 1.119,
    "all": 0.489,
    "missing": -0.015,
    "named": 0.129,
    "gap": 0.816,
    "gap_5": 1.439,
    "gap_all": 5.069,
    "terms": 0.304,
    "type": -0.089,
    "chinese": 0.861,
    "chinese_plain": 0.532,
    "chinese_named": 0.858,
    "chinese_all": 0.961,
    "chinese_unit": 1.452,
    "phrase_missing": -0.617,
    "title": 3.642,
    "early": 1.060,
    "soft": -0.442,
    "soft_plain": 1.717,
    "cosine": 4.995,
    "cosine_lead": -6.668,
}
"""As `EVIDENCE`, for questions in Chinese."""

EVIDENCE_CJK_LINES = DecisionLines(-15.391, -0.628, 0.022)

SENTENCE_WITHOUT_VECTORS: Mapping[str, float] = {
    "near": 6.409,
    "both": 1.352,
    "prev": -0.881,
    "union": 2.639,
    "above": 0.824,
    "after": 1.768,
    "topic": 1.767,
    "passage": 1.299,
    "score": 1.926,
    "chars": 3.198,
    "run": 0.750,
    "length": 0.049,
    "new": -0.205,
    "last": 0.760,
    "first": 0.570,
    "type": 0.345,
    "type_count": 0.473,
    "type_date": 2.049,
    "type_person": 0.319,
    "type_place": 0.184,
    "after_best": 0.517,
    "begins": 0.563,
    "rank": -0.369,
    "names_person": 0.716,
    "names_place": 0.650,
    "chinese": -0.085,
    "chinese_topic": 2.294,
    "chinese_late": 2.058,
    "common": -2.176,
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
    "passage": 0.694,
    "plain": 1.667,
    "unit": 0.892,
    "pair": 1.125,
    "all": 0.560,
    "missing": 0.037,
    "named": 0.107,
    "gap": 0.736,
    "gap_5": 1.246,
    "gap_all": 5.311,
    "terms": 0.626,
    "type": -0.097,
    "chinese": 0.796,
    "chinese_plain": 0.686,
    "chinese_named": 0.917,
    "chinese_all": 1.004,
    "chinese_unit": 1.438,
    "phrase_missing": -0.579,
    "title": 3.579,
    "early": 1.099,
}

EVIDENCE_CJK_WITHOUT_VECTORS_LINES = DecisionLines(-12.726, -0.873, -0.110)

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
