"""The analyser for indexed texts and for questions: splits text into words and character bigrams.

Traditional Chinese is folded to simplified (OpenCC). Runs of Chinese become words (jieba) and bigrams; runs of kana
and of hangul become bigrams. All other text becomes lower-case words, stemmed as English (Snowball). In a comparison
on seven public sets, words with bigrams at half weight performed better than words or bigrams alone.

The first text, and the first Chinese text, load dictionaries, so analyse texts in a worker thread.
"""

from __future__ import annotations

import re
import unicodedata

from portico_server.core.dataclass import dataclass
from portico_server.core.stopwords import CHINESE_STOPWORDS, ENGLISH_STOPWORDS
from portico_server.core.word_forms import english_stems, jieba, simplify
from portico_server.core.words import CJK_RUN, HAN_RUN, bigrams, compounds
from portico_server.features.readers.value_terms import value_terms

ANALYSER_VERSION = 4
"""Version of the analyser. Increased whenever a text can produce different terms or the index has different fields.
Indexes of other versions are rebuilt.
"""

MAX_TERM_CHARS = 64
"""Maximum length of a term in characters; longer terms (base64, hashes) are truncated."""

MAX_QUESTION_TERMS = 1_024
"""Maximum number of different terms of a question that are searched; further terms are ignored."""

_WORD = re.compile(r"[^\W_]+")
_MARKS = {"\uff0c": ","} | dict.fromkeys("\uff1a\uff1b\uff01\uff1f\uff08\uff09\u2026", " ")
"""Replacements for the full-width comma, colon, semicolon, exclamation mark, question mark and parentheses, and the
ellipsis. NFKC changes these characters, but none is part of a word. A comma can be part of a number.
"""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a text, in no particular order. Each term is repeated as often as it occurs in the text."""

    words: list[str]
    grams: list[str]

    def joined(self) -> tuple[str, str]:
        """Return the words and the bigrams, each joined with spaces."""
        return " ".join(self.words), " ".join(self.grams)


def analyse(text: str) -> Terms:
    """Return the terms under which ``text`` is indexed."""
    plain, chinese, grams = _split(text)
    return Terms(english_stems(plain) + chinese, grams)


def analyse_question(text: str) -> Terms:
    """Return the distinct terms to search for. Stop words are left out unless the question contains nothing else."""
    plain, chinese, grams = _split(text)
    telling = english_stems(
        [*(word for word in plain if word not in ENGLISH_STOPWORDS), *compounds(plain, ENGLISH_STOPWORDS)]
    )
    telling += [word for word in chinese if word not in CHINESE_STOPWORDS]
    words = telling or english_stems(plain) + chinese
    return Terms(
        list(dict.fromkeys(words))[:MAX_QUESTION_TERMS], list(dict.fromkeys(grams))[:MAX_QUESTION_TERMS]
    )


def fold(text: str) -> str:
    """Return ``text`` in lower case, compatibility form and simplified characters, for comparing words."""
    if text.isascii():
        return text.lower()
    folded_text = _fold(text)
    return simplify(folded_text) if HAN_RUN.search(folded_text) else folded_text


def _split(text: str) -> tuple[list[str], list[str], list[str]]:
    """Return (alphabetic words, Chinese words, bigrams) of ``text``, folded but not stemmed."""
    folded_text = _fold(text)
    runs = CJK_RUN.findall(folded_text)
    if not runs:
        return _plain_terms(folded_text, folded_text), [], []
    plain = _plain_terms(CJK_RUN.sub(" ", folded_text), folded_text)
    chinese: list[str] = []
    # All runs are converted in one call, because calling native code takes longer than converting a run.
    joined_runs = "\n".join(runs)
    if HAN_RUN.search(joined_runs):
        joined_runs = simplify(joined_runs)
        runs = joined_runs.split("\n")
        # jieba receives only runs of Chinese, because it would keep "il-10" and "full-term" as whole words.
        chinese = [word for word in jieba().cut("\n".join(HAN_RUN.findall(joined_runs))) if word != "\n"]
    grams = [gram for run in runs for gram in bigrams(run)]
    return plain, chinese, grams


def _plain_terms(alphabetic_text: str, folded_text: str) -> list[str]:
    """Return the words of a text without CJK runs, and the numbers and dates of the whole text."""
    return [*(word[:MAX_TERM_CHARS] for word in _WORD.findall(alphabetic_text)), *value_terms(folded_text)]


def _fold(text: str) -> str:
    """Return ``text`` in lower case and compatibility form.

    In a Chinese text, usually only the punctuation is not in compatibility form. Because punctuation ends words in any
    form, it is replaced first. The rest is then usually recognized as normalized, which is several times faster
    than normalizing it.
    """
    for mark, replacement in _MARKS.items():
        text = text.replace(mark, replacement)
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    return text.lower()
