"""Which language a question is in, as far as one fixed sentence needs to know it."""

from __future__ import annotations

import re
from collections.abc import Mapping

CJK = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af"
"""Han, kana and Hangul, as the inside of a regular expression's character class."""

_KANA = re.compile(r"[\u3040-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7af]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_CYRILLIC = re.compile(r"[\u0400-\u04ff]")
_WORD = re.compile(r"[^\W\d_]+")

# Characters that only the traditional script has, among the commonest in questions.
_TRADITIONAL = re.compile(
    r"[個們這麼嗎為誰幾時間國說話請問開關檔設變應該與後來裡頁應機會學電腦點從動發樣經現實對寫讀買賣號]"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORDS: Mapping[str, frozenset[str]] = {
    "en": _words("what which who how why when where is are the of does do can a to in and"),
    "de": _words("was wie wer wo wann warum welche welcher welches ist sind der die das ein und nicht"),
    "fr": _words("que quel quelle quels comment pourquoi où quand est sont le la les des une et du"),
    "es": _words("qué cuál cómo dónde cuándo quién es son el los las una de por para y del"),
    "it": _words("che quale come dove quando perché chi è sono il gli una di per e della"),
    "pt": _words("que qual como onde quando quem é são o os uma do da por para e não"),
}

_NOT_FOUND: Mapping[str, str] = {
    "en": "This is not in these documents.",
    "zh-Hans": "这些文档中没有相关内容。",
    "zh-Hant": "這些文件中沒有相關內容。",
    "ja": "これらの文書には該当する内容がありません。",
    "ko": "이 문서들에는 해당 내용이 없습니다.",
    "ru": "В этих документах этого нет.",
    "de": "Das steht nicht in diesen Dokumenten.",
    "fr": "Cela ne figure pas dans ces documents.",
    "es": "Esto no está en estos documentos.",
    "it": "Questo non si trova in questi documenti.",
    "pt": "Isso não está nestes documentos.",
}


def language(text: str) -> str:
    """The language of ``text``, one that `not_found` has a sentence for; English if nothing tells."""
    if _KANA.search(text):
        return "ja"
    if _HANGUL.search(text):
        return "ko"
    if _HAN.search(text):
        return "zh-Hant" if _TRADITIONAL.search(text) else "zh-Hans"
    if _CYRILLIC.search(text):
        return "ru"
    words = [word.lower() for word in _WORD.findall(text)]
    votes = {name: sum(word in known for word in words) for name, known in _WORDS.items()}
    return max(votes, key=lambda name: votes[name])  # the first of equals: English


def not_found(question: str) -> str:
    """The sentence that says that the documents do not hold the answer, in the language of the question."""
    return _NOT_FOUND[language(question)]
