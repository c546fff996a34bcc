"""Detects the language of a question, as precisely as choosing one of the fixed sentences requires."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

CJK = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af"
"""Ranges of Han, kana and Hangul characters, for use in a regular expression's character class."""

_KANA = re.compile(r"[\u3040-\u30ff]")
_HANGUL = re.compile(r"[\uac00-\ud7af]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_CYRILLIC = re.compile(r"[\u0400-\u04ff]")
_WORD = re.compile(r"[^\W\d_]+")

# Characters that exist only in the traditional script, chosen from those that are most common in questions.
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

_EMPTY: Mapping[str, str] = {
    "en": "There are no documents to search.",
    "zh-Hans": "这里没有可供检索的文档。",
    "zh-Hant": "這裡沒有可供檢索的文件。",
    "ja": "ここには検索できる文書がありません。",
    "ko": "여기에는 검색할 수 있는 문서가 없습니다.",
    "ru": "Здесь нет документов, по которым можно искать.",
    "de": "Hier gibt es keine Dokumente, die durchsucht werden können.",
    "fr": "Il n'y a ici aucun document où chercher.",
    "es": "Aquí no hay documentos en los que buscar.",
    "it": "Qui non ci sono documenti in cui cercare.",
    "pt": "Aqui não há documentos onde procurar.",
}

_WAITING: Mapping[str, str] = {
    "en": "The documents are still being read. Ask again in a moment.",
    "zh-Hans": "文档还在读取中，请稍后再问。",
    "zh-Hant": "文件還在讀取中，請稍後再問。",
    "ja": "文書を読み込んでいます。少し待ってからもう一度お尋ねください。",
    "ko": "문서를 아직 읽고 있습니다. 잠시 후 다시 질문해 주세요.",
    "ru": "Документы ещё читаются. Спросите немного позже.",
    "de": "Die Dokumente werden noch gelesen. Bitte gleich noch einmal fragen.",
    "fr": "Les documents sont encore en cours de lecture. Reposez la question dans un instant.",
    "es": "Los documentos todavía se están leyendo. Pregunte de nuevo en un momento.",
    "it": "I documenti sono ancora in lettura. Riprova tra un momento.",
    "pt": "Os documentos ainda estão a ser lidos. Pergunte de novo daqui a pouco.",
}


_UNREAD: Mapping[str, str] = {
    "en": "Files still being read: {waiting} of {total}.",
    "zh-Hans": "还有文件在读取中：{waiting} 个（共 {total} 个）。",
    "zh-Hant": "還有檔案在讀取中：{waiting} 個（共 {total} 個）。",
    "ja": "まだ読み込み中のファイル：{total} 件中 {waiting} 件。",
    "ko": "아직 읽고 있는 파일: {total}개 중 {waiting}개.",
    "ru": "Ещё читаются файлы: {waiting} из {total}.",
    "de": "Noch nicht gelesene Dateien: {waiting} von {total}.",
    "fr": "Fichiers encore en cours de lecture : {waiting} sur {total}.",
    "es": "Archivos que aún se están leyendo: {waiting} de {total}.",
    "it": "File ancora in lettura: {waiting} di {total}.",
    "pt": "Ficheiros ainda a ser lidos: {waiting} de {total}.",
}


_NEAREST: Mapping[str, str] = {
    "en": "These documents may not answer this. The nearest passages:",
    "zh-Hans": "这些文档未必回答了这个问题。最接近的段落：",
    "zh-Hant": "這些文件未必回答了這個問題。最接近的段落：",
    "ja": "これらの文書に答えがあるとは限りません。最も近い箇所：",
    "ko": "이 문서들에 답이 없을 수 있습니다. 가장 가까운 구절:",
    "ru": "Возможно, в этих документах нет ответа. Ближайшие отрывки:",
    "de": "Diese Dokumente beantworten das vielleicht nicht. Die nächsten Stellen:",
    "fr": "Ces documents n'y répondent peut-être pas. Les passages les plus proches :",
    "es": "Puede que estos documentos no lo respondan. Los pasajes más cercanos:",
    "it": "Questi documenti forse non rispondono. I passaggi più vicini:",
    "pt": "Estes documentos talvez não respondam a isto. As passagens mais próximas:",
}


_NO_SENTENCE: Mapping[str, str] = {
    "en": "I found no sentence in these documents that answers this. The nearest sections:",
    "zh-Hans": "这些文档中没有找到回答这个问题的句子。最接近的章节：",
    "zh-Hant": "這些文件中沒有找到回答這個問題的句子。最接近的章節：",
    "ja": "これらの文書に、この質問に答える文は見つかりませんでした。最も近い節：",
    "ko": "이 문서들에서 이 질문에 답하는 문장을 찾지 못했습니다. 가장 가까운 부분:",
    "ru": "В этих документах не найдено предложения с ответом. Ближайшие разделы:",
    "de": "In diesen Dokumenten wurde kein Satz gefunden, der das beantwortet. Die nächsten Abschnitte:",
    "fr": "Je n'ai trouvé dans ces documents aucune phrase qui y réponde. Les sections les plus proches :",
    "es": "No se encontró en estos documentos una frase que lo responda. Las secciones más cercanas:",
    "it": "In questi documenti non è stata trovata una frase che risponda. Le sezioni più vicine:",
    "pt": "Não se encontrou nestes documentos uma frase que o responda. As secções mais próximas:",
}


_SEE_ALSO: Mapping[str, str] = {
    "en": "See also:",
    "zh-Hans": "另请参阅：",
    "zh-Hant": "另請參閱：",
    "ja": "関連項目：",
    "ko": "참고:",
    "ru": "См. также:",
    "de": "Siehe auch:",
    "fr": "Voir aussi :",
    "es": "Véase también:",
    "it": "Vedi anche:",
    "pt": "Ver também:",
}


_DIFFER: Mapping[str, str] = {
    "en": "The documents differ.",
    "zh-Hans": "各文档说法不一。",
    "zh-Hant": "各文件說法不一。",
    "ja": "文書によって内容が異なります。",
    "ko": "문서마다 내용이 다릅니다.",
    "ru": "Документы расходятся.",
    "de": "Die Dokumente sagen Verschiedenes.",
    "fr": "Les documents se contredisent.",
    "es": "Los documentos difieren.",
    "it": "I documenti differiscono.",
    "pt": "Os documentos divergem.",
}

_NEWER_FIRST: Mapping[str, str] = {
    "en": "The newer one first:",
    "zh-Hans": "先列较新的：",
    "zh-Hant": "先列較新的：",
    "ja": "新しいものから順に：",
    "ko": "더 새로운 것부터:",
    "ru": "Сначала более новый:",
    "de": "Das neuere zuerst:",
    "fr": "Le plus récent d'abord :",
    "es": "Primero el más reciente:",
    "it": "Prima il più recente:",
    "pt": "Primeiro o mais recente:",
}

_AUTHORITY_FIRST: Mapping[str, str] = {
    "en": "The authoritative one first:",
    "zh-Hans": "先列更权威的：",
    "zh-Hant": "先列更權威的：",
    "ja": "権威のあるものから順に：",
    "ko": "더 권위 있는 것부터:",
    "ru": "Сначала более авторитетный:",
    "de": "Das maßgebliche zuerst:",
    "fr": "Celui qui fait autorité d'abord :",
    "es": "Primero el que tiene autoridad:",
    "it": "Prima quello autorevole:",
    "pt": "Primeiro o que tem autoridade:",
}


_QUOTED_AS_IS: Mapping[str, str] = {
    "en": "The documents are in Chinese; this is quoted as it stands.",
    "zh-Hans": "这些文档是英文的，以下按原文引用。",
    "zh-Hant": "這些文件是英文的，以下按原文引用。",
}


_UNSUPPORTED: Mapping[str, str] = {
    "en": "No part of the answer was supported by these documents.",
    "zh-Hans": "答案中没有任何内容得到这些文档的支持。",
    "zh-Hant": "答案中沒有任何內容得到這些文件的支持。",
    "ja": "回答のどの部分も、これらの文書では裏付けられませんでした。",
    "ko": "답변 중 이 문서들로 뒷받침되는 내용이 없었습니다.",
    "ru": "Ничто в ответе не подтверждается этими документами.",
    "de": "Nichts von der Antwort wird durch diese Dokumente belegt.",
    "fr": "Rien dans la réponse n'est étayé par ces documents.",
    "es": "Nada de la respuesta está respaldado por estos documentos.",
    "it": "Nulla della risposta è supportato da questi documenti.",
    "pt": "Nada da resposta é sustentado por estes documentos.",
}


def language(text: str) -> str:
    """Return the language of ``text``, one of those for which `not_found` has a sentence; English if the language is
    unknown.
    """
    if _KANA.search(text):
        return "ja"
    if _HANGUL.search(text):
        return "ko"
    if _HAN.search(text):
        return "zh-Hant" if _TRADITIONAL.search(text) else "zh-Hans"
    if _CYRILLIC.search(text):
        return "ru"
    words = [word.lower() for word in _WORD.findall(text)]
    votes = {name: sum(word in stop_words for word in words) for name, stop_words in _WORDS.items()}
    return max(votes, key=lambda name: votes[name])  # with equal counts, the first language wins: English


def not_found(question: str) -> str:
    """Return a sentence that says that the documents do not contain the answer, in the language of the question."""
    return _NOT_FOUND[language(question)]


def no_documents(question: str, *, is_waiting: bool) -> str:
    """Return a sentence that says that there are no documents to search (``is_waiting``: not yet), in the language of
    the question.
    """
    return (_WAITING if is_waiting else _EMPTY)[language(question)]


def unread_files(question: str, waiting_count: int, total: int) -> str:
    """Return a sentence that says how many files have not been read yet, in the language of the question."""
    return _UNREAD[language(question)].format(waiting=waiting_count, total=total)


def nearest_passages(question: str) -> str:
    """Return a sentence that introduces quotations which may not answer the question, in the language of the
    question.
    """
    return _NEAREST[language(question)]


def quoted_as_is(question: str) -> str:
    """Return a sentence that says that the quotations are in English if ``question`` is in Chinese, or in Chinese if it
    is in English.
    """
    return _QUOTED_AS_IS[language(question)]


def see_also(question: str) -> str:
    """Return the words before further sections, in the language of ``question``."""
    return _SEE_ALSO[language(question)]


def no_sentence(question: str) -> str:
    """Return a sentence that introduces sections near a question that no sentence answers, in the language of the
    question.
    """
    return _NO_SENTENCE[language(question)]


def documents_differ(question: str, order: Literal["", "authority", "newer"]) -> str:
    """Return a sentence that says that sources contradict each other, and which source is quoted first, in the
    language of the question.
    """
    name = language(question)
    sentences = {"authority": _AUTHORITY_FIRST, "newer": _NEWER_FIRST}.get(order)
    if sentences is None:
        return _DIFFER[name]
    between = "" if name in ("zh-Hans", "zh-Hant", "ja") else " "
    return f"{_DIFFER[name]}{between}{sentences[name]}"


def unsupported_answer(question: str) -> str:
    """Return a sentence that replaces an answer of which all text was removed, in the language of the question."""
    return _UNSUPPORTED[language(question)]
