"""Answers questions about whole stores, such as "What are the main themes?", from their themes and names, and "What
changed since May?" from the times of their files.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import chain, zip_longest
from typing import Final, Literal, TypeAlias, cast

from portico.schemas.stores import MentionedName, StoreThemes, Theme
from portico.wire import Passage
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.pools import SEARCH
from portico_server.core.themes import ChangedFile, ChangedFiles, FindChangedFiles, FindThemes
from portico_server.features.answers.language import language
from portico_server.features.answers.tables.answer import ComputedAnswer
from portico_server.features.answers.tables.periods import find_periods
from portico_server.features.answers.terms import fold
from portico_server.features.answers.theme_names import name_themes
from portico_server.features.answers.units import sentences

logger = logging.getLogger(__name__)

MAX_QUESTION_CHARS: Final = 120
"""Maximum length of a question about a whole store, in characters."""

MAX_SENTENCE_CHARS: Final = 240
"""Maximum length of a quoted sentence, in characters."""

MAX_LISTED_THEMES: Final = 8
"""Maximum number of themes in an answer, unless more stores were asked: each store has at least one."""

MAX_LISTED_NAMES: Final = 8

MAX_LISTED_FILES: Final = 10

MAX_FEW_FILES: Final = 3
"""Number of files up to which "What is this about?" is answered by the beginning of each file, not by themes."""

_Subject: TypeAlias = Literal["about", "themes", "names", "person", "place", "organisation"]

_DOCUMENTS = (
    r"(?:(?:all|of|these|those|this|the|my|our|your|here|stores?|folder|whole|entire) )*"
    r"(?:documents?|files?|docs|papers?|texts?|stores?|collection|folder|knowledge base|notes|library|articles?|"
    r"sources|materials?|data|data ?set|corpus)"
)
_MOST = r"(?: (?:the )?most(?: often| frequently)?)"
_VERB = r"(?:appears?|occurs?|(?:is|are) (?:mentioned|named))"
_PLACE = rf"(?: (?:of|in|across|from|covered (?:in|by)|discussed in|mentioned in) {_DOCUMENTS}| here)?"
_THEMES_EN = re.compile(
    r"(?:(?:what|which)(?: are| is|'s)?|list|name|show me|tell me|give me) (?:all )?(?:the )?"
    r"(?:(?:main|major|key|central|common|important|most|overall|principal|different|top|\d{1,2}|three|five|ten) )*"
    rf"(?:themes?|topics?|subjects?){_PLACE}"
    rf"|(?:the )?(?:main|major|key|central|most important) (?:themes|topics){_PLACE}"
    rf"|(?:what|which) (?:themes|topics|subjects) (?:do|does) {_DOCUMENTS} (?:cover|contain|discuss|deal with)"
    r"|(?:what|which) (?:themes|topics|subjects) (?:dominate|define|run through|occur in|appear in|come up in) "
    rf"{_DOCUMENTS}"
    rf"|(?:what|which) (?:themes|topics|subjects) are (?:covered|discussed)(?: (?:in|by) {_DOCUMENTS}| here)?"
)
_POLITE_EN = re.compile(
    r"^(?:(?:please|so|ok(?:ay)?|well|hi|hello|hey|can you|could you|would you|briefly|in short)\b[,:]? ?)+"
    r"|(?:,? (?:please|briefly|in short|in a few words|for me))+$"
)
_WHOLE = rf"(?:{_DOCUMENTS}|(?:all )?(?:of )?th(?:is|ese)(?: here| all)?|(?:in )?here|everything(?: in)?(?: here)?)"
_ABOUT_EN = re.compile(
    rf"what(?: is|'s| are) (?:all )?{_WHOLE} (?:all )?about(?: here)?"
    r"|what(?: is|'s| are) th(?:is|ese)(?: (?:documents?|files?|docs|stores?|collection|folder|data))?(?: here)?"
    rf"|what(?: is|'s| are| do (?:we|you) have)(?: there)?(?: stored| kept)?(?: in)? {_WHOLE}"
    rf"|what (?:do|does) {_WHOLE} (?:cover|contain|discuss|deal with|talk about|describe|say)"
    rf"|what (?:do you know|can you (?:tell me|answer|explain|help(?: me)? with))(?:(?: about| from| in)? {_WHOLE})?"
    rf"|what (?:questions )?can (?:i|we|one) ask(?: you)?(?:(?: about)? {_WHOLE})?"
    rf"|what questions can (?:you|{_WHOLE}) answer"
    r"|what (?:information|knowledge|content|material|data) (?:is|do you have|can i find)(?: there)?"
    rf"(?:(?: in)? {_WHOLE})?"
    rf"|what (?:kind|sort|type)s? of (?:documents?|files?|docs|data|information|texts?) (?:is|are|do you have)"
    rf"(?: there)?(?:(?: in)? {_WHOLE}| they)?"
    rf"|(?:which|what) (?:documents|files|docs) (?:do you have|are there|are)(?:(?: in)? {_WHOLE})?"
    rf"|(?:describe|summari[sz]e|sum up|outline|explain)(?: {_WHOLE})?"
    rf"|tell me (?:something |more )?about {_WHOLE}|tell me what {_WHOLE} (?:is|are) about"
    r"|(?:(?:give|show) me )?(?:an? |the )?(?:short |brief |quick )?(?:summary|overview|introduction|outline|gist)"
    rf"(?: (?:of|about|to) {_WHOLE})?"
    rf"|what(?: is|'s) the (?:gist|content|contents|subject)(?: of {_WHOLE})?"
)
_NAMES_EN = re.compile(
    rf"(?P<person>who {_VERB}{_MOST}{_PLACE}|(?:who|which) are the (?:main|key|most (?:important|mentioned)) "
    rf"(?:people|persons|figures|characters){_PLACE}"
    rf"|(?:which|what) (?:people|persons?|figures|characters) {_VERB}{_MOST}{_PLACE})"
    rf"|(?P<place>(?:which|what) (?:places?|locations?|cities|city|countries|country) {_VERB}{_MOST}{_PLACE})"
    rf"|(?P<organisation>(?:which|what) (?:organi[sz]ations?|companies|company|institutions?) {_VERB}{_MOST}{_PLACE})"
    rf"|(?P<names>(?:which|what) (?:names?|entities|entity|terms?) {_VERB}{_MOST}{_PLACE})"
)
_DOCUMENTS_ZH = (
    r"(?:请问|请)?(?:在|关于)?(?:这些|所有|全部|这个|这份|这批|本|我的|我们的|整个|上述)?的?"
    r"(?:文档|文件夹|文件|目录|资料|知识库|材料|文章|文本|文集|文献|内容)(?:库|集)?(?:里面|里|中|当中)?"
)
_THEMES_ZH = re.compile(
    rf"(?:{_DOCUMENTS_ZH})?的?(?:主要|核心|中心|重要)的?(?:主题|话题|议题|内容|题材)(?:都)?(?:是什么|是哪些|有哪些|有什么|为何|包括什么|包括哪些)?"
    rf"|{_DOCUMENTS_ZH}的?(?:主题|话题|议题)(?:都)?(?:是什么|是哪些|有哪些|有什么)"
)
_WHOLE_ZH = rf"(?:{_DOCUMENTS_ZH}|这里面|这里边|这里|这些|这个|这|里面|里边|其中)"
_ABOUT_ZH = re.compile(
    r"(?:请问|请|那么|那|麻烦你?|能否|你能|你可以|帮我)?(?:"
    rf"{_WHOLE_ZH}(?:主要|都|大概|大致|到底|究竟)*(?:是|讲|说|写|谈|讨论|介绍|涉及|包含|包括|关于|有|存)(?:了|的|的是|到|着|些)*(?:关于)?"
    r"(?:什么|啥|哪些|哪方面)(?:的|内容|主题|话题|方面|东西|资料|文档|文件|信息)*"
    rf"|(?:概述|概括|总结|归纳|介绍|描述|说明|讲讲|说说)(?:一下|下)?(?:{_WHOLE_ZH})?的?(?:内容|主题|要点|情况)?"
    r"|(?:你|您)(?:都)?(?:知道|了解|能回答|可以回答|能告诉我|能帮我回答)(?:些)?(?:什么|哪些)(?:问题|内容|东西|信息)?"
    r"|(?:我|我们)?(?:可以|能|能够)(?:问|查)(?:你)?(?:些)?(?:什么|哪些)(?:问题|内容|东西)?"
    r")[呢吗吧啊呀]?"
)
_VERB_ZH = r"(?:被?提到|被?提及|出现)(?:次数)?(?:得|的次数|次数)?最(?:多|频繁|经常)"
_NAMES_ZH = re.compile(
    rf"(?:{_DOCUMENTS_ZH})?(?:(?P<person>谁{_VERB_ZH}|(?:哪个|哪位|哪些|什么)(?:人物|人){_VERB_ZH}"
    rf"|{_VERB_ZH}的(?:人物|人)是谁|的?(?:主要|重要|核心)人物(?:是谁|有谁|有哪些|都有谁))"
    rf"|(?P<place>(?:哪个|哪些|什么)(?:地方|地点|城市|国家|地名){_VERB_ZH})"
    rf"|(?P<organisation>(?:哪个|哪家|哪些|什么)(?:机构|组织|公司|单位){_VERB_ZH})"
    rf"|(?P<names>(?:哪个|哪些|什么)(?:名字|名称|实体|词){_VERB_ZH}))"
)


_CHANGES_EN = re.compile(
    rf"what(?:'s| is| has| have)? (?:been )?(?:changed|new|updated|added)(?: in {_DOCUMENTS}| here)? (?:since|after) "
    r"(?P<since>.{1,40})"
    rf"|(?:which|what) (?:documents|files|docs) (?:(?:have |were |are )?(?:been )?(?:changed|updated|added|new)) "
    r"(?:since|after) (?P<from>.{1,40})"
)
_CHANGES_ZH = re.compile(
    rf"(?:{_DOCUMENTS_ZH})?(?:自|从|自从)?(?P<since>[^自从]{{1,20}}?)(?:以来|之后|以后|起)，?(?:{_DOCUMENTS_ZH})?(?:都)?(?:有|发生)?了?"
    r"(?:什么|哪些)?(?:文档|文件|内容)?(?:变化|更新|改动|变更|新增|修改|改变|新内容)了?(?:什么|哪些)?(?:文档|文件|内容)?"
)
_DAYS_AGO: Final = {"yesterday": 1, "昨天": 1, "today": 0, "今天": 0, "last week": 7, "上周": 7, "上星期": 7}


@dataclass(frozen=True, slots=True)
class _OverviewWording:
    """The sentences of an answer in one language."""

    themes: str
    theme: str
    names: str
    name: str
    changes: str
    change: str
    documents: tuple[str, str]
    document: str
    joint: str
    colon: str
    passages: tuple[str, str]
    files: tuple[str, str]
    """How one of them is counted, and how several are."""

    def stores(self, names: Sequence[str], count: int) -> str:
        """Return the names of stores before what they contain; empty if the answer concerns one store."""
        return f"{self.joint.join(names)}{self.colon}" if count > 1 else ""


_ENGLISH = _OverviewWording(
    themes="The main themes of these documents, by the words that passages share:",
    theme="{name}{words} ({stores}{passages}, {files}): “{sentence}” [{number}]",
    names="The most frequent names, by the number of passages that mention them:",
    name="{name} ({stores}{passages}): “{sentence}” [{number}]",
    changes="Files added or changed since {date}: {count}",
    change="{file} ({stores}{date}): “{sentence}” [{number}]",
    documents=("This is {} document:", "These are {} documents:"),
    document="{stores}{file}: “{sentence}” [{number}]",
    joint=", ",
    colon=": ",
    passages=("{} passage", "{} passages"),
    files=("{} file", "{} files"),
)
_SIMPLIFIED = _OverviewWording(
    themes="这些文档的主要主题（按段落共有的词归纳）：",
    theme="{name}{words}（{stores}{passages}，{files}）：“{sentence}” [{number}]",
    names="提到最多的名称（按提到它的段落数）：",
    name="{name}（{stores}{passages}）：“{sentence}” [{number}]",
    changes="{date} 以来新增或修改的文件：{count} 个",
    change="{file}（{stores}{date}）：“{sentence}” [{number}]",
    documents=("这里有 {} 个文档：", "这里有 {} 个文档："),
    document="{stores}{file}：“{sentence}” [{number}]",
    joint="、",
    colon="：",
    passages=("{} 个段落", "{} 个段落"),
    files=("{} 个文件", "{} 个文件"),
)
_TRADITIONAL = _OverviewWording(
    themes="這些文件的主要主題（按段落共有的詞歸納）：",
    theme="{name}{words}（{stores}{passages}，{files}）：「{sentence}」 [{number}]",
    names="提到最多的名稱（按提到它的段落數）：",
    name="{name}（{stores}{passages}）：「{sentence}」 [{number}]",
    changes="{date} 以來新增或修改的檔案：{count} 個",
    change="{file}（{stores}{date}）：「{sentence}」 [{number}]",
    documents=("這裡有 {} 個文件：", "這裡有 {} 個文件："),
    document="{stores}{file}：「{sentence}」 [{number}]",
    joint="、",
    colon="：",
    passages=("{} 個段落", "{} 個段落"),
    files=("{} 個檔案", "{} 個檔案"),
)
_WORDINGS: Mapping[str, _OverviewWording] = {"zh-Hans": _SIMPLIFIED, "zh-Hant": _TRADITIONAL}


_NAMED = re.compile(rf"\b{_DOCUMENTS}\b|{_DOCUMENTS_ZH}")
"""What a question about whole stores names if it does not only say "this"."""


async def answer_overview(
    question: str, stores: Sequence[str], context: Context, *, writer: str = "", is_first: bool = True
) -> ComputedAnswer | None:
    """Return the answer to a question about whole stores, or ``None`` for any other question.

    ``stores`` are the keys of the stores in the registry. ``writer`` is the model that names the themes, if any.
    ``is_first``: no question came before, so "What is this about?" means the stores.
    """
    if len(question) > MAX_QUESTION_CHARS:
        return None
    folded_question = await SEARCH.run(fold, question)
    plain_question = " ".join(folded_question.split()).strip(" ?？.。!！")
    subject = _subject(plain_question)
    if subject == "about" and not is_first and not _NAMED.search(plain_question):
        return None
    since = None if subject is not None else _since(plain_question, datetime.now().date())
    try:
        if subject == "about":
            request = FindChangedFiles(0.0, MAX_LISTED_FILES)
            documents = [cast("ChangedFiles", await context.call(store, request)) for store in stores]
            if sum(item.count for item in documents) <= MAX_FEW_FILES:
                return await SEARCH.run(_list_documents, question, documents)
        if subject is not None:
            themes = [cast("StoreThemes", await context.call(store, FindThemes())) for store in stores]
            if subject not in ("about", "themes"):
                return await SEARCH.run(_list_names, question, subject, themes)
            largest = _largest_themes([item.themes for item in themes])
            names = await name_themes(largest, question, writer, context) if writer and largest else {}
            answer = await SEARCH.run(_list_themes, question, largest, names, len(stores))
            if answer is None and subject == "about":
                answer = await SEARCH.run(_list_documents, question, documents)
            return answer
        if since is not None:
            start = datetime.combine(since, datetime.min.time()).timestamp()
            request = FindChangedFiles(start, MAX_LISTED_FILES)
            changes = [cast("ChangedFiles", await context.call(store, request)) for store in stores]
            return await SEARCH.run(_list_changes, question, since, changes)
    except PorticoError as error:
        logger.info("answering from passages instead of whole stores: %s", error.message)
    return None


def _since(plain_question: str, today: date) -> date | None:
    """Return the day from which a question asks for changes; ``None`` for any other question."""
    words = ""
    if (match := _CHANGES_EN.fullmatch(plain_question)) is not None:
        words = match["since"] or match["from"]
    elif (match := _CHANGES_ZH.fullmatch(plain_question)) is not None:
        words = match["since"]
    words = words.strip(" ，,的")
    if words in _DAYS_AGO:
        return today - timedelta(days=_DAYS_AGO[words])
    if words == "may":
        words = "may 1"  # without a day, it is read as a verb
    periods = list(find_periods(words))
    if len(periods) != 1 or (periods[0].start, periods[0].end) != (0, len(words)):
        return None
    [period] = periods
    years = (period, period.in_year(today.year), period.in_year(today.year - 1))
    days = (date.fromisoformat(item.first) for item in years if item is not None and item.first)
    return next((day for day in days if day <= today), None)


def _list_changes(question: str, since: date, changes: Sequence[ChangedFiles]) -> ComputedAnswer:
    wording = _WORDINGS.get(language(question), _ENGLISH)
    files = sorted(chain.from_iterable(item.files for item in changes), key=lambda item: -item.changed_at)
    files = files[:MAX_LISTED_FILES]
    sentences_of_files = [_sentence(item.passage.text, ()) for item in files]
    lines = _file_lines(wording.change, wording, files, sentences_of_files, len(changes))
    heading = wording.changes.format(date=since.isoformat(), count=sum(item.count for item in changes))
    return _numbered_list(heading, lines, [item.passage for item in files])


def _list_documents(question: str, documents: Sequence[ChangedFiles]) -> ComputedAnswer | None:
    """Return the answer that quotes the beginning of each document, or ``None`` if the stores are empty."""
    wording = _WORDINGS.get(language(question), _ENGLISH)
    files = list(chain.from_iterable(item.files for item in documents))[:MAX_LISTED_FILES]
    beginnings = [_beginning(item.passage.text) for item in files]
    lines = _file_lines(wording.document, wording, files, beginnings, len(documents))
    heading = _write_count(wording.documents, sum(item.count for item in documents))
    return _numbered_list(heading, lines, [item.passage for item in files]) if lines else None


def _file_lines(
    template: str,
    wording: _OverviewWording,
    files: Sequence[ChangedFile],
    quotations: Sequence[str],
    store_count: int,
) -> list[str]:
    """Return a line for each file, with its quotation. ``template`` is one of the sentences of ``wording``."""
    return [
        template.format(
            file=item.passage.filename,
            stores=wording.stores([item.passage.store], store_count),
            date=datetime.fromtimestamp(item.changed_at).date().isoformat(),
            sentence=quotation,
            number=number,
        )
        for number, (item, quotation) in enumerate(zip(files, quotations, strict=True), 1)
    ]


def _numbered_list(heading: str, lines: Sequence[str], examples: Sequence[Passage]) -> ComputedAnswer:
    text = "\n".join((heading, "", *(f"{number}. {line}" for number, line in enumerate(lines, 1)))).rstrip()
    return ComputedAnswer(
        text, tuple(replace(passage, rank=rank) for rank, passage in enumerate(examples, 1))
    )


def _subject(plain_question: str) -> _Subject | None:
    """Return what a question about the whole store asks for; ``None`` if it asks for something else."""
    if _THEMES_EN.fullmatch(plain_question) or _THEMES_ZH.fullmatch(plain_question):
        return "themes"
    if _ABOUT_ZH.fullmatch(plain_question) or _ABOUT_EN.fullmatch(_POLITE_EN.sub("", plain_question)):
        return "about"
    match = _NAMES_EN.fullmatch(plain_question) or _NAMES_ZH.fullmatch(plain_question)
    if match is None:
        return None
    subjects: tuple[_Subject, ...] = ("person", "place", "organisation")
    return next((subject for subject in subjects if match[subject]), "names")


def _write_count(forms: tuple[str, str], count: int) -> str:
    return forms[count > 1].format(count)


def _list_themes(
    question: str, themes: Sequence[Theme], names: Mapping[int, str], store_count: int
) -> ComputedAnswer | None:
    """Return the answer with the words of each theme, after its name if it has one."""
    wording = _WORDINGS.get(language(question), _ENGLISH)
    lines = [
        wording.theme.format(
            name=f"{names[number]}{wording.colon}" if number in names else "",
            words=wording.joint.join(theme.words),
            stores=wording.stores([theme.example.store], store_count),
            passages=_write_count(wording.passages, theme.passage_count),
            files=_write_count(wording.files, theme.file_count),
            sentence=_sentence(theme.example.text, theme.words),
            number=number,
        )
        for number, theme in enumerate(themes, 1)
    ]
    return _numbered_list(wording.themes, lines, [theme.example for theme in themes]) if lines else None


def _list_names(question: str, subject: _Subject, stores: Sequence[StoreThemes]) -> ComputedAnswer | None:
    wording = _WORDINGS.get(language(question), _ENGLISH)
    names = _most_mentioned(subject, list(chain.from_iterable(item.names for item in stores)))
    lines = [
        wording.name.format(
            name=mentions[0].name,
            stores=wording.stores([item.example.store for item in mentions], len(stores)),
            passages=_write_count(wording.passages, sum(item.passage_count for item in mentions)),
            sentence=_sentence(mentions[0].example.text, (mentions[0].name,)),
            number=number,
        )
        for number, mentions in enumerate(names, 1)
    ]
    return (
        _numbered_list(wording.names, lines, [mentions[0].example for mentions in names]) if lines else None
    )


def _largest_themes(themes_of_stores: Sequence[Sequence[Theme]]) -> Sequence[Theme]:
    """Return the themes of all stores, the largest first: the first theme of each store before the second of any."""
    by_rank = chain.from_iterable(zip_longest(*themes_of_stores))
    themes = [theme for theme in by_rank if theme is not None]
    limit = max(MAX_LISTED_THEMES, len(themes_of_stores))
    return sorted(themes[:limit], key=lambda theme: -theme.passage_count)


def _most_mentioned(subject: _Subject, names: Sequence[MentionedName]) -> Sequence[Sequence[MentionedName]]:
    """Return the most mentioned names of a kind, each with its entries in the stores, the largest entry first. If no
    name has this kind, return the names of unknown kind.
    """
    matching_names = [item for item in names if subject in ("names", item.kind)]
    entries: dict[str, list[MentionedName]] = {}
    for item in matching_names or [item for item in names if item.kind == "name"]:
        entries.setdefault(item.name.casefold(), []).append(item)
    for mentions in entries.values():
        mentions.sort(key=lambda item: -item.passage_count)
    largest = sorted(entries.values(), key=lambda mentions: -sum(item.passage_count for item in mentions))
    return largest[:MAX_LISTED_NAMES]


def _beginning(text: str) -> str:
    """Return the first sentences of a document, after the marks of its headings, shortened if they are long."""
    texts = (" ".join(text[start:end].split()).lstrip("# ") for start, end in sentences(text))
    return _shorten(" ".join(filter(None, texts)))


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_SENTENCE_CHARS else f"{text[:MAX_SENTENCE_CHARS].rstrip()}…"


def _sentence(text: str, words: Sequence[str]) -> str:
    """Return the sentence of a passage that contains most of the words, shortened if it is long."""
    texts = [" ".join(text[start:end].split()) for start, end in sentences(text)]
    best = max(texts, key=lambda item: sum(word.lower() in item.lower() for word in words), default="")
    return _shorten(best)
