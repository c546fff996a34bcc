"""Finds the terms that a passage mentions, by rules alone: names, technical terms, code, references and file links, in
English and Chinese.

The first Chinese text loads the dictionaries of `portico_server.features.readers.analyse`, so use a worker thread.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote

from portico_server.core.dataclass import dataclass
from portico_server.core.stopwords import CHINESE_STOPWORDS, ENGLISH_STOPWORDS
from portico_server.core.word_forms import jieba
from portico_server.core.words import FAMILY_NAMES, HAN_RUN, MONTHS
from portico_server.db.links import (
    CODE,
    DEFINES_WEIGHT,
    FILE,
    NAME,
    NAME_WEIGHT,
    REFERENCE,
    WEAK_WEIGHT,
    NewLink,
)
from portico_server.features.readers.analyse import fold

MAX_TERMS_PER_CHUNK = 40
"""Maximum number of distinct terms kept for a chunk; the most significant terms are kept."""

MAX_TEXT_CHARS = 20_000
"""Maximum number of characters of a chunk that are examined."""

MAX_QUESTION_CHARS = 2_000
"""Maximum number of characters of a question that are examined."""

MAX_QUESTION_TERMS = 400
"""Maximum number of terms of a question that are looked up."""

MIN_WORD_COUNT = 50
"""Minimum frequency of an ordinary word in the dictionary's corpus; a rarer word may be the beginning of a name."""

MAX_NAME_WORDS = 6
"""Maximum number of words in a name."""


@dataclass(frozen=True, slots=True)
class Term:
    """A term that a passage mentions. ``text`` is normalised. ``within`` is the only file in which the term has its
    meaning, if any.
    """

    text: str
    kind: int
    weight: int = NAME_WEIGHT
    within: str = ""

    def key(self, store_id: str) -> int:
        """Return the hash of the term in a store, below 2**48. It is equal for all passages of the store that mention
        the term.
        """
        return _key(store_id, f"{self.within}\0{self.text}")


def _key(store_id: str, text: str) -> int:
    hash_state = _hash_of(store_id).copy()
    hash_state.update(text.encode(errors="replace"))
    return int.from_bytes(hash_state.digest())


@lru_cache(1_000)
def _hash_of(store_id: str) -> blake2b:
    return blake2b(store_id.encode(), digest_size=6)


@dataclass(frozen=True, slots=True)
class LinkSource:
    """A passage and its position in a file. ``heading`` is the path of the headings above the passage."""

    text: str
    heading: Sequence[str] = ()
    file_id: str = ""
    filename: str = ""
    first: bool = False
    """True if the passage is the first of its file. Links to the file then lead to this passage."""


def new_links(store_id: str, source: LinkSource) -> tuple[NewLink, ...]:
    """Return the terms that a passage of a store mentions, in their stored form."""
    return tuple(NewLink(term.key(store_id), term.kind, term.weight) for term in terms(source))


def terms(source: LinkSource) -> list[Term]:
    """Return the distinct terms of a passage, at most `MAX_TERMS_PER_CHUNK`. Topics precede terms that are only
    mentioned.
    """
    text = unicodedata.normalize("NFKC", source.text[:MAX_TEXT_CHARS])
    found_terms: dict[tuple[str, str], Term] = {}

    def take(term: Term) -> None:
        known_term = found_terms.get((term.text, term.within))
        if known_term is None or known_term.weight < term.weight:
            found_terms[term.text, term.within] = term

    if source.first and source.filename:
        take(Term(f"file {source.filename}", FILE, DEFINES_WEIGHT))
    for title in source.heading[-1:]:
        for term in _of_heading(title, source.file_id):
            take(term)
    for finder in (_references, _files, _quoted_terms, _code, _names, _chinese):
        for term in finder(text, source):
            take(term)
    best = sorted(
        found_terms.values(), key=lambda term: -term.weight
    )  # terms with equal weights stay in the order in which the finders returned them
    return best[:MAX_TERMS_PER_CHUNK]


def question_terms(question: str, store_id: str) -> dict[int, str]:
    """Return the terms that a question may mention, by lookup key: its names, and all short sequences of words in
    lower case.
    """
    text = unicodedata.normalize("NFKC", question[:MAX_QUESTION_CHARS])
    found_terms: dict[str, None] = {}
    for finder in (_quoted_terms, _code, _names, _chinese):
        found_terms.update((term.text, None) for term in finder(text, LinkSource(text)))
    folded_text = fold(text)
    words = _WORDS.findall(folded_text)
    for size in (3, 2, 1, 4):
        for i in range(len(words) - size + 1):
            run = words[i : i + size]
            if run[0] not in ENGLISH_STOPWORDS and run[-1] not in ENGLISH_STOPWORDS:
                found_terms[" ".join(run)] = None
    pieces = [piece for run in HAN_RUN.findall(folded_text) for piece in CHINESE_BREAK.split(run)]
    for size in (3, 4, 5, 6, 7, 8, 2):
        for piece in pieces:
            found_terms.update((piece[i : i + size], None) for i in range(len(piece) - size + 1))
    return {_key(store_id, f"\0{text}"): text for text in list(found_terms)[:MAX_QUESTION_TERMS]}


_NUMBERED = re.compile(r"(?:§\s*)?(\d+(?:\.\d+)+|\d+(?=[.、\s]))[.、]?\s*(?=\S)")
_PART_EN = re.compile(
    r"\b(sections?|sec\.|chapters?|appendix|tables?|tab\.|figures?|fig\.|clauses?|articles?|equations?|eq\.)\s*"
    r"\(?(\d+(?:\.\d+)*[a-z]?|[A-Z])\b\)?",
    re.I,
)
_PART_SIGN = re.compile(r"§\s*(\d+(?:\.\d+)*)")
_PART_ZH = re.compile(r"第\s*([\d.]+|[一二三四五六七八九十百]+)\s*([章节條条款])")
_FIGURE_ZH = re.compile(r"(附?[图圖表])\s*([\d]+(?:[.-]\d+)*)")
_CAPTION = re.compile(
    r"^[ \t>*_]*(?:(table|figure|fig\.?)\s*(\d+(?:\.\d+)*)|([图圖表])\s*(\d+(?:[.-]\d+)*))\s*[:.：。、 ]",
    re.I | re.M,
)
_FOOTNOTE = re.compile(r"\[\^([\w-]{1,32})\](:?)")
_PARTS = {
    **dict.fromkeys(("section", "sec.", "clause", "article", "节", "条", "條", "款"), "section"),
    **dict.fromkeys(("chapter", "章"), "chapter"),
    **dict.fromkeys(("table", "tab.", "表", "附表"), "table"),
    **dict.fromkeys(("figure", "fig.", "fig", "图", "圖", "附图", "附圖"), "figure"),
    **dict.fromkeys(("equation", "eq."), "equation"),
    "appendix": "appendix",
}
_DIGITS = {char: value for value, char in enumerate("零一二三四五六七八九")}


def _part(word: str, number: str) -> str:
    """Return a numbered part of a document in a canonical form: ``section 4.2``."""
    word = word.lower()
    kind = _PARTS.get(word) or _PARTS.get(word.rstrip("s"), word)
    return f"{kind} {_number(number).lower().rstrip('.')}"


def _number(number_text: str) -> str:
    """``12`` for 十二."""
    if not number_text or number_text[0] not in "一二三四五六七八九十百":
        return number_text
    total, digit = 0, 0
    for char in number_text:
        if char in _DIGITS:
            digit = _DIGITS[char]
        else:
            total += (digit or 1) * (10 if char == "十" else 100)
            digit = 0
    return str(total + digit)


def _of_heading(title: str, file_id: str) -> Iterator[Term]:
    """Yield the terms of a heading: the number of its part, its words as one name, and the names in it."""
    title = unicodedata.normalize("NFKC", title)[:200]
    match = _NUMBERED.match(title)
    if match:
        yield Term(f"section {match[1]}", REFERENCE, DEFINES_WEIGHT, file_id)
        title = title[match.end() :]
    for pattern in (_PART_EN, _PART_ZH):
        if part := pattern.match(title):
            word, number = part.groups() if pattern is _PART_EN else part.groups()[::-1]
            yield Term(_part(word, number), REFERENCE, DEFINES_WEIGHT, file_id)
            title = title[part.end() :]
    words = fold(title).strip(" .:：。,，-—")
    if 2 <= len(words) <= 60 and len(words.split()) <= MAX_NAME_WORDS:
        yield Term(_without_article(words), NAME, DEFINES_WEIGHT)
    for term in _names(title, LinkSource(title)):
        yield Term(term.text, NAME, DEFINES_WEIGHT)


def _references(text: str, source: LinkSource) -> Iterator[Term]:
    """Yield captions, which define a numbered part, references to such parts, and footnotes. All are valid only in
    their file.
    """
    file_id = source.file_id
    for match in _CAPTION.finditer(text):
        word, number = match[1] or match[3], match[2] or match[4]
        yield Term(_part(word, number), REFERENCE, DEFINES_WEIGHT, file_id)
    for match in _PART_EN.finditer(text):
        if match[2].isalpha() and match[1].lower() != "appendix":
            continue
        yield Term(_part(match[1], match[2]), REFERENCE, NAME_WEIGHT, file_id)
    for match in _PART_SIGN.finditer(text):
        yield Term(f"section {match[1]}", REFERENCE, NAME_WEIGHT, file_id)
    for match in _PART_ZH.finditer(text):
        yield Term(_part(match[2], match[1]), REFERENCE, NAME_WEIGHT, file_id)
    for match in _FIGURE_ZH.finditer(text):
        yield Term(_part(match[1], match[2]), REFERENCE, NAME_WEIGHT, file_id)
    for match in _FOOTNOTE.finditer(text):
        yield Term(
            f"footnote {match[1].lower()}", REFERENCE, DEFINES_WEIGHT if match[2] else NAME_WEIGHT, file_id
        )


_MARKDOWN_LINK = re.compile(r"\]\(\s*+<?([^)\s>#?]{1,300}+)[^)]{0,200}+\)")


def _files(text: str, source: LinkSource) -> Iterator[Term]:
    """Yield the files of the store to which Markdown links in the text refer, by their paths in the store."""
    for match in _MARKDOWN_LINK.finditer(text):
        target = unquote(match[1])
        if "://" in target or target.startswith(("mailto:", "//")):
            continue
        base = "" if target.startswith("/") else posixpath.dirname(source.filename)
        path = posixpath.normpath(posixpath.join(base, target.lstrip("/")))
        if not path.startswith("..") and path != source.filename:
            yield Term(f"file {path}", FILE)


_WORDS = re.compile(r"[a-z0-9]+(?:[-'’.][a-z0-9]+)*|[^\W\d_\u3400-\u9fff]+")
_QUOTED = re.compile(r"[《「『“\"]([^《》「」『』“”\"\n]{2,60})[》」』”\"]")
_CODE = re.compile(
    r"`([^`\n]{2,60})`"
    r"|\b([A-Za-z_]\w*(?:_\w+)+(?:\(\))?|[a-z]+(?:[A-Z][a-z0-9]+)+|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*){1,20}\(\)|--[a-z][\w-]+)"
)
_MODEL = re.compile(r"\b((?:[A-Z]{1,8}|[A-Z][a-z]+)[- ]?\d[\dA-Za-z]*(?:[-./]\d+)*)\b")
_CAPITALISED = r"(?:[A-Z\u00c0-\u00de][\w’'&-]*[^\W_]|[A-Z])"
_JOINT = r"(?:of|de|del|der|den|van|von|la|le|du|di|da|al|bin|ibn|&|the)"
_NAME = re.compile(
    rf"\b{_CAPITALISED}(?:(?:(?<=\b[A-Z])\.|(?<=\bSt)\.)?[ ](?:{_JOINT}[ ](?:the[ ])?)?"
    rf"(?:{_CAPITALISED}|\d{{1,4}}\b)){{0,{MAX_NAME_WORDS - 1}}}"
)
_SENTENCE_START = re.compile(r"(?:\A|[.!?:\n#>*-])[\s#>*-]*\Z")
_WORDS_BESIDE_NAMES = """
monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays
saturdays sundays mr mrs ms dr prof professor sir lady lord saint st
president chapter section table figure appendix see note however although though since after before despite
according thus therefore moreover meanwhile later earlier today yesterday many several one two three four
five six seven eight nine ten first second third new old every each another both either neither whether
because given built founded born made located named known among between within without during against across
around beyond behind beside based began long short north south east west nobody nothing everything something
anyone everyone here there per via little much
"""
_NOT_NAMES = ENGLISH_STOPWORDS | frozenset(MONTHS) | frozenset(_WORDS_BESIDE_NAMES.split())
"""Words that begin sentences, precede names, or are not names on their own."""


def _quoted_terms(text: str, source: LinkSource) -> Iterator[Term]:
    del source
    for match in _QUOTED.finditer(text):
        inner = fold(match[1]).strip(" .,!?:;。，！？：；")
        if len(inner) >= 2 and len(inner.split()) <= MAX_NAME_WORDS and (len(inner) <= 20 or " " in inner):
            yield Term(_without_article(inner), NAME)


def _code(text: str, source: LinkSource) -> Iterator[Term]:
    del source
    for match in _CODE.finditer(text):
        inner = (match[1] or match[2]).strip().removesuffix("()")
        if len(inner) >= 3 and any(char.isalpha() for char in inner):
            yield Term(fold(inner), CODE)


def _names(text: str, source: LinkSource) -> Iterator[Term]:
    """Yield runs of capitalised words without the words that often precede a name, acronyms, and model names such as
    X-200.
    """
    del source
    for match in _NAME.finditer(text):
        all_words = words = match[0].replace("’", "'").split()
        while words and _bare(words[0]) in _NOT_NAMES:
            words = words[1:]
        # A possessive ends a name: "Mara Velling's Orlix" contains two names.
        run: list[str] = []
        # A capitalised word alone at the beginning of a sentence is not a name, because any word may be
        # capitalised there. After another word, as in "In Langhaven", it is.
        is_alone = (
            len(all_words) == 1
            and _SENTENCE_START.search(text, max(0, match.start() - 3), match.start()) is not None
        )
        for word in words:
            if word.endswith("'s"):
                yield from _name([*run, word[:-2]])
                run = []
            else:
                run.append(word)
        for term in _name(run):
            yield Term(term.text, NAME, WEAK_WEIGHT) if is_alone else term
    for match in _MODEL.finditer(text):
        if not _PART_EN.match(match[1]) and match[1].split()[0].lower() not in _NOT_NAMES:
            yield Term(fold(match[1]), CODE)


def _name(words: list[str]) -> Iterator[Term]:
    while words and (_bare(words[0]) in _NOT_NAMES or words[0] == "&"):
        words = words[1:]
    while words and _bare(words[-1]) in _NOT_NAMES:
        words = words[:-1]
    name = fold(" ".join(words)).strip(" .'-&")
    if len(name) < 3 and not name.isupper():
        return
    if name and not name.replace(" ", "").isdigit():
        yield Term(name, NAME)


def _bare(word: str) -> str:
    return word.lower().rstrip(".'")


def _without_article(name: str) -> str:
    for article in ("the ", "a ", "an "):
        if name.startswith(article) and len(name) > len(article) + 2:
            return name[len(article) :]
    return name


# Names in Chinese, which has no capital letters: runs with the ending of a place or an institution, runs that
# begin with a family name, and runs that no dictionary contains, between everyday words.


_SPLIT_CHARS = (
    "的了在是由与和及或于为被把从到向对将以而且并也都就还又则所其此这那该每各某有无没不未已曾自至同跟给让使令"
    "当如因虽但只仅再很最更太较我你他她它们时个位座条"
)
_SPLIT_WORDS = (
    "位于 坐落 设计 创办 创立 创建 建立 成立 发明 出生 生于 毕业 担任 负责 主持 开发 研制 制造 生产 收购 "
    "属于 隶属 流经 发源 注入 使用 采用 命名 来自 前往 现任 时任 首任 曾任 导师 老师 学生 弟子 妻子 丈夫 "
    "父亲 母亲 儿子 女儿 兄长 建筑师 工程师 科学家 作家 画家 诗人 作曲家 创始人 发明者 设计师 教授 博士 "
    "先生 女士 院长 校长 馆长 市长 经理 董事长 总部 首都 省会 城市 小镇 村庄 著名 当地 公元 其中 以及 "
    "根据 因此 目前 后来 最终 同年 次年 现在 之后 之前 期间 之间 接任 撰写 编写 完成 提出 发现 获得 参与 "
    "支持 资助 出资 管理 运营 经营 提供 提到 包括 包含 组成 连接 通往 毗邻 靠近 穿过 拥有 设有 设在 建于 "
    "始建 落成 举行 举办 纪念 记载 记录 显示 表示 认为 指出 宣布 决定 计划 开始 结束 附近 旁边 境内 北部 "
    "南部 东部 西部 中部 一座 一家 一位 一名 一条 一种 一部 什么 多少 哪里 这座 这家 这位 关于 生在 记着 "
)
CHINESE_BREAK = re.compile(f"[{_SPLIT_CHARS}]")
"""Pattern at which a run of Chinese is split into pieces. A name never contains these characters."""
_BREAK = re.compile(
    f"(?:{'|'.join(sorted(_SPLIT_WORDS.split(), key=len, reverse=True))})(?![局厂院所部司])|[{_SPLIT_CHARS}]"
)
"""Pattern at which a run of Chinese is split. Words such as 制造局 and 设计院 stay whole."""
_INSTITUTION = re.compile(
    "公司|集团|银行|大学|学院|中学|小学|研究院|研究所|实验室|医院|图书馆|博物馆|美术馆|剧院|出版社|报社|基金会|协会|学会|"
    "委员会|制造局|[厂局部社院所馆]|机场|车站|码头|灯塔|大桥|水库|山脉|群岛|半岛|高原|盆地"
)
_PLACE = re.compile("[省市县镇乡村区州洲岛山河江湖海港湾寺庙塔桥]")


def _chinese(text: str, source: LinkSource) -> Iterator[Term]:
    """Yield runs of Chinese characters that may be names, the most likely first."""
    del source
    if HAN_RUN.search(text) is None:
        return
    ranked_runs: list[dict[str, None]] = [{} for _ in range(4)]
    for run in HAN_RUN.findall(fold(text)):
        for piece in _BREAK.split(run):
            if len(piece) >= 2:
                _sort_runs(piece, ranked_runs)
    for rank, rank_names in enumerate(ranked_runs):
        for name in rank_names:
            yield Term(name, NAME, NAME_WEIGHT if rank < 2 else WEAK_WEIGHT)


def short_names(names: Iterable[str]) -> list[str]:
    """Return the first two characters of likely Chinese personal names, because the third may belong to the following
    word.
    """
    return [name[:2] for name in names if len(name) > 2 and name[0] in FAMILY_NAMES and is_person(name[:3])]


def _sort_runs(piece: str, ranked_runs: Sequence[dict[str, None]]) -> None:
    """Add the possible names in a run without everyday words to ``ranked_runs``, the most likely names to the
    first item.
    """
    start = 0
    for match in _INSTITUTION.finditer(piece):
        if match.end() - start >= 4:
            ranked_runs[0][piece[start : match.end()][-12:]] = None
            start = match.end()
    places: set[int] = set()
    for match in _PLACE.finditer(piece):
        if match.end() >= 3 and is_place(name := piece[match.end() - 3 : match.end()]):
            ranked_runs[0][name] = None
            places.add(match.start())
    for i, char in enumerate(piece):
        # A family name such as 江 at the end of a place does not begin a person's name.
        if (
            i not in places
            and char in FAMILY_NAMES
            and len(piece) - i >= 2
            and is_person(name := piece[i : i + 3])
        ):
            ranked_runs[1][name] = None
    for rank, name in unknown_runs(piece):
        ranked_runs[rank][name] = None
    if len(piece) <= 8 and piece not in CHINESE_STOPWORDS and not is_common(piece):
        ranked_runs[3][piece] = None


_NAME_TAGS = ("nr", "ns", "nt", "nz")
_EDGE_TAGS = frozenset("vpdcufmqk")


@lru_cache(20_000)
def unknown_runs(piece: str) -> tuple[tuple[int, str], ...]:
    """Return runs that are known names or that no dictionary contains, each with a rank (lower for more likely names).

    Each run is also returned together with the following word, which often says what the name refers to.
    """
    words = _dictionary()
    tagged_words = jieba().tag(piece)
    # For each word, whether it is a name or not in the dictionary. The next list marks single characters that
    # may belong to a name.
    odd = [
        len(word) > 1 and (tag[:2] in _NAME_TAGS or not words.has_word(word)) for word, tag in tagged_words
    ]
    single = [len(word) == 1 and tag[:1] not in _EDGE_TAGS for word, tag in tagged_words]
    runs: list[tuple[int, str]] = []
    at = 0
    while at < len(tagged_words):
        end = at
        while end < len(tagged_words) and (odd[end] or single[end]):
            end += 1
        name = "".join(word for word, _ in tagged_words[at:end])
        if end - at > 1 or (end > at and odd[at]):
            if 2 <= len(name) <= 8:
                runs.append((2, name))
            if end < len(tagged_words) and 3 <= len(longer_name := name + tagged_words[end][0]) <= 8:
                runs.append((2, longer_name))
            if len(name) > 3:
                runs.append((3, name[:3]))
        at = max(end, at + 1)
    return tuple(runs)


@lru_cache(20_000)
def is_person(run: str) -> bool:
    """Return whether a run that begins with a family name may be a person's name. False if a common word begins the
    same way.
    """
    words, start = _dictionary(), run[:2]
    return not words.has_word(start) or words.suggest_freq(start) < MIN_WORD_COUNT or _is_named(start)


@lru_cache(20_000)
def is_place(run: str) -> bool:
    """Return whether two characters with the ending of a place name may be a place, because they are not another
    word.
    """
    return _is_named(run) or not any(_dictionary().has_word(part) for part in (run, run[:2]))


@lru_cache(50_000)
def is_common(run: str) -> bool:
    """Return whether a run of up to three characters is, or begins with, a dictionary word that is not a name."""
    if len(run) > 3:
        return False
    words = _dictionary()
    return any(words.has_word(part) and not _is_named(part) for part in (run, run[:2], run[-2:]))


def _is_named(word: str) -> bool:
    return all(tag[:2] in _NAME_TAGS for _, tag in jieba().tag(word))


@cache
def _dictionary() -> Any:
    return jieba().Jieba()
