"""Trained weights of the measures in `portico_server.features.answers.material`, written by
``bench/answer_weights.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

from portico_server.core.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class DecisionLines:
    """Thresholds for a weighted sum to which ``constant`` is added. Below ``absent``, the answer counts as missing;
    below ``doubtful``, it counts as uncertain.

    94 percent of the unanswerable training questions score below ``absent``, or fewer if otherwise too many answerable
    questions would: one in twenty for chains and for English, four in a hundred for Chinese, as a mean over the sets.
    Three percent of all questions score between the two thresholds.
    """

    constant: float
    absent: float
    doubtful: float


SENTENCE: Mapping[str, float] = {
    "near": 3.072,
    "both": -0.272,
    "prev": -0.940,
    "union": 0.993,
    "above": 1.124,
    "after": 1.277,
    "topic": 1.178,
    "passage": 0.864,
    "score": 1.634,
    "chars": 2.032,
    "run": -0.763,
    "length": -0.146,
    "new": -0.244,
    "last": 0.518,
    "first": 0.474,
    "type": 0.515,
    "type_count": 0.670,
    "type_date": 1.721,
    "type_person": 0.180,
    "type_place": 0.321,
    "soft": 0.751,
    "soft_plain": 2.590,
    "soft_more": 0.985,
    "cosine": 1.951,
    "soft_before": 2.568,
    "soft_after": 0.965,
    "soft_topic": 1.540,
    "soft_passage": 1.389,
    "soft_nearest": 1.634,
    "after_best": 0.469,
    "begins": 0.595,
    "rank": -0.358,
    "names_person": 0.720,
    "names_place": 0.633,
    "chinese": -0.085,
    "chinese_topic": 1.727,
    "chinese_late": 2.038,
    "common": -0.389,
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
    "passage": 0.477,
    "plain": 1.169,
    "unit": 0.779,
    "pair": 0.964,
    "all": 0.304,
    "missing": 0.022,
    "named": 0.653,
    "gap": 0.963,
    "gap_5": 1.390,
    "terms": 0.434,
    "type": -0.225,
    "chinese": 0.635,
    "chinese_plain": 0.510,
    "chinese_named": 1.210,
    "chinese_all": 0.829,
    "chinese_unit": 1.064,
    "phrase_missing": -0.591,
    "title": 3.496,
    "early": 0.859,
    "gap_all": 4.645,
    "soft": 0.720,
    "soft_plain": 1.719,
    "cosine": 4.221,
    "cosine_lead": -5.025,
}
"""As `EVIDENCE`, for questions in Chinese."""

EVIDENCE_CJK_LINES = DecisionLines(-15.854, -0.554, 0.177)

SENTENCE_WITHOUT_VECTORS: Mapping[str, float] = {
    "near": 6.053,
    "both": 1.297,
    "prev": -0.676,
    "union": 2.200,
    "above": 0.814,
    "after": 1.516,
    "topic": 1.755,
    "passage": 1.155,
    "score": 1.940,
    "chars": 3.349,
    "run": 0.853,
    "length": 0.054,
    "new": -0.236,
    "last": 0.737,
    "first": 0.633,
    "type": 0.476,
    "type_count": 0.788,
    "type_date": 1.850,
    "type_person": 0.170,
    "type_place": 0.239,
    "after_best": 0.399,
    "begins": 0.534,
    "rank": -0.403,
    "names_person": 0.755,
    "names_place": 0.592,
    "chinese": -0.223,
    "chinese_topic": 2.532,
    "chinese_late": 1.994,
    "common": -2.295,
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
    "passage": 0.598,
    "plain": 1.624,
    "unit": 0.855,
    "pair": 1.060,
    "all": 0.465,
    "missing": 0.035,
    "named": 0.626,
    "gap": 0.940,
    "gap_5": 1.362,
    "terms": 0.705,
    "type": -0.200,
    "chinese": 0.623,
    "chinese_plain": 0.728,
    "chinese_named": 1.243,
    "chinese_all": 0.880,
    "chinese_unit": 1.043,
    "phrase_missing": -0.586,
    "title": 3.458,
    "early": 0.896,
    "gap_all": 4.648,
}

EVIDENCE_CJK_WITHOUT_VECTORS_LINES = DecisionLines(-12.635, -0.642, 0.054)

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
