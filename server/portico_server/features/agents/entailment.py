"""Whether a fact follows from what the user says: by rules for English, German and Chinese, without a model.

A fact follows if it is an extract of one statement of the user: its words occur there in the same order, nothing that
carries meaning is missing between them, both are about the same person, and both have the same signs. A sign is a
word that turns a statement, such as a negation, a wish, a doubt, a condition or the end of a state (`_SIGNS`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Final, Literal

from portico_server.core.dataclass import dataclass
from portico_server.features.answers.relevance import stem
from portico_server.features.answers.terms import has_cjk
from portico_server.features.answers.units import sentences

Verdict = Literal["follows", "unproven", "changed"]
"""``unproven``: the words differ, but not the sense as far as the rules can tell. ``changed``: the fact has another
sense, or the user does not state it.
"""

_SIGNS: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(rf"\b(?:{latin})\b|{chinese}")
    for name, latin, chinese in (
        (
            "negation",
            r"not(?! only)|no|never|none|neither|nor|without|nobody|nothing|nowhere|hardly|barely|scarcely|far from|"
            r"lacks?|refuse\w*|nicht(?! nur)|kein\w*|nie|niemals|ohne|weder|kaum|keineswegs",
            r"(?<![差])没|不(?![过错仅但只少断久管论])|无(?![论线])|从未|未(?!来|婚)|别(?!墅|人|的)(?<![特级性分个类告区]别)",
        ),
        (
            "aversion",
            r"hat(?:e|es|ed|ing)|dislik\w*|detest\w*|loath\w*|despis\w*|abhor\w*|allerg\w*|intoleran\w*|afraid|fears?|"
            r"scared|phobi\w*|avoid\w*|dread\w*|sick of|tired of|fed up|stand(?! up| in)|bear|hass\w*|verabscheu\w*|"
            r"unverträglich\w*|angst|fürcht\w*|meide\w*|vermeide\w*|eklig|ekel\w*",
            r"讨厌|厌恶|痛恨|恨|过敏|害怕|怕|避免|受不了|忌口|反感",
        ),
        (
            "end",
            r"used to|former\w*|previous\w*|no longer|any ?more|until|till|ex|sold|quits?|stop\w*|give up|gave up|left"
            r"(?! hand)|lost|divorced|retired|resigned|cancel\w*|back then|once(?! a| per| every)|originally|moved out|"
            r"moved away|broke up|ago|as a (?:child|kid|student|teenager)|früher\w*|ehemalig\w*|mehr|bis|damals|einst|"
            r"verkauft|aufgehört|verloren|geschieden|gekündigt|verlassen|als kind",
            r"以前|曾|从前|原来|原本|过去|不再|当年|当时|小时候|戒|辞|卖了|离婚|分手|离开|搬离|搬走|[住去吃养学做当用干](?:了.*)?过(?!敏)",
        ),
        (
            "wish",
            r"will|shall|would|going to|gonna|wanna|want\w*|plan(?:s|ned|ning)?|hop(?:e|es|ed|ing)|intend\w*|about to|"
            r"think\w* (?:of|about)|thought (?:of|about)|consider\w*|wish\w*|dreams? of|dreaming of|next "
            r"(?:year|month|week|summer|spring|autumn|fall|winter)|tomorrow|soon|someday|one day|looking (?:to|for)|"
            r"aim\w*|try|trying|tried|supposed|should|ought|must|need\w*|möchte\w*|würde\w*|werde\w*|wird|wirst|will|"
            r"wollen|wollte|plane|plant|planen|vorhabe|überleg\w*|hoff\w*|nächst\w*|demnächst|morgen|bald|"
            r"soll\w*|wünsch\w*|träume|hätte|wäre",
            r"想|要(?!是|好)(?<![需重主必]要)|打算|计划|准备|将|会(?![计议员])|希望|考虑|明年|下个?[月周]|明天|以后|愿意|应该|梦想|未来",
        ),
        (
            "doubt",
            r"maybe|perhaps|might|(?<!\d )may(?! \d)|could|probably|possibly|i (?:think|guess|believe|suppose|assume)|"
            r"seem\w*|apparently|supposedly|allegedly|not sure|unsure|wonder\w*|almost|nearly|sort of|kind of|likely|"
            r"sometimes|occasionally|rarely|seldom|vielleicht|wahrscheinlich|möglicherweise|könnte\w*|vermutlich|"
            r"glaube|fast|beinahe|eventuell|manchmal|selten|scheint|angeblich|unsicher|gelegentlich|wohl",
            r"可能|也许|大概|好像|似乎|或许|差点|差不多|几乎|有时|偶尔|很少|不确定|说不定|恐怕",
        ),
        (
            "condition",
            r"if|unless|suppos\w*|imagin\w*|pretend\w*|assum\w*|provided|hypothetical\w*|whether|in case|were i|had i|"
            r"what about|wenn|falls|angenommen|sofern|ob|stell\w* (?:dir|euch|sie)|tu\w* so|hypothetisch\w*",
            r"如果|要是|假如|假设|假装|倘若|若|万一|除非|想象|的话|是否|要不要",
        ),
        (
            "fiction",
            r"novels?|stor(?:y|ies)|tales?|characters?|role ?play\w*|(?:my|the|a) (?:dream|game|book|play|film|movie|"
            r"song|script)|dreamt|dreamed|protagonist|narrator|lyrics?|poem|kidding|joking|jokes?|sarcas\w*|yeah right|"
            r"oh (?:sure|yes|great|yeah)|"
            r"as if|let us (?:play|say)|act as|roman|romans|geschichte\w*|figur|rollenspiel\w*|geträumt|träumte|traum|"
            r"scherz\w*|witz\w*|ironie|ironisch|rolle|drehbuch|spiel",
            r"小说|故事|角色|扮演|梦见|梦到|梦里|开玩笑|台词|歌词|主角|剧本|游戏里|反话|呵呵|逗你",
        ),
        (
            "report",
            r"(?<!\bi )(?:said|says?|told|tells?|claim\w*|wrote|writes|thinks|thought|believes|argue\w*|insist\w*)|"
            r"i heard|hear\w* that|according to|asks?|asked|rumou?r\w*|quote\w*|sagt\w*|meint\w*|behaupte\w*|laut|"
            r"schrieb\w*|schreibt|erzähl\w*|denkt|glaubt|fragt\w*|translate|proofread|rephrase|paraphrase|rewrite|"
            r"übersetz\w*|korrigier\w*|evaluate|explain",
            r"(?<![会能])说(?![汉中英法德日俄韩粤])|告诉|认为|以为|声称|写道|问|翻译|润色|改写",
        ),
        (
            "limit",
            r"only|solely|exclusively|except\w*|apart from|besides|other than|everything but|all but|"
            r"every \w+ but|nur|lediglich|ausser\w*|ausgenommen|ausschliesslich",
            r"只|仅|除|唯一",
        ),
        (
            "part",
            r"some|few|several|half|most|part of|einige\w*|manche\w*|halb\w*|meisten|teil\w*",
            r"有些|一些|有的|部分|一半|大多|少数",
        ),
        (
            "comparison",
            r"than|more|less|better|worse|rather|instead|prefer\w* .* (?:to|over)|lieber|weniger|besser|schlechter|"
            r"statt\w*|anstatt",
            r"比(?!赛|较|利|如)|相较|更|不如|而不是|宁",
        ),
    )
}
"""Words that turn a statement. A fact and the statement must have the same kinds of them."""

_UNREAL: Final = frozenset(("doubt", "condition", "fiction", "report"))
"""Signs that apply to a whole sentence, and to the words that the user introduces with them."""

_SHARED: Final = frozenset(("negation", "wish", "doubt"))
"""Signs between a subject and its first verb that apply to its further verbs too."""

_PAST: Final = re.compile(
    r"\b(?:was|were|had|did|went|ate|drank|drove|wrote|spoke|grew|taught|ran|swam|rode|wore|met|knew|slept|"
    r"spent|lived|worked|war|waren|hatte\w*|wurde\w*|ging|wohnte|arbeitete|lebte|mochte|liebte|gewohnt|gelebt|"
    r"gearbeitet)\b"
)
_BEFORE: Final = re.compile(
    r"\b(?:imagine|pretend|suppose|role ?play|let us play|translate|proofread|rephrase|paraphrase|rewrite|"
    r"(?:correct|improve|edit|check) (?:this|the|my) (?:text|sentence|grammar|letter)|stell dir vor|rollenspiel|"
    r"übersetz\w*|korrigier\w*)\b|想象|假设|扮演|翻译|润色|改写"
)
"""Words of an earlier sentence after which the user states nothing."""
_AFTER: Final = re.compile(
    r"\b(?:kidding|joking|a joke|not really|sarcasm|not true|made that up|scherz|spass|stimmt nicht|gelogen)\b"
    r"|(?<!\w)/s\b|开玩笑|骗你|假的|逗你"
)
"""Words of the next sentence that take a statement back."""

_QUOTED: Final = re.compile(
    r"“[^”\n]*”|„[^“”\n]*[“”]|\"[^\"\n]*\"|«[^»\n]*»|「[^」\n]*」|‘[^’\n]*’|(?<!\w)'[^'\n]*'(?!\w)"
)
_ASKS: Final = re.compile(
    r"\W*(?:what|when|where|who|whose|which|why|how|do|does|did|am|is|are|can|could|should|would|will|was|have|has|"
    r"may|was|wer|wie|wo|wann|warum|bin|bist|ist|habe|hast|kann|kannst|soll|sollte|darf|weisst)\b"
)
_TAG: Final = re.compile(
    r"right|correct|or|do i|am i|do i not|am i not|is it not|oder|nicht wahr|gell|对吧|对吗|是吧"
)
"""A question that asks whether the statement before is true."""
_FIRST_PERSON: Final = re.compile(r"\b(?:i|we|my|our|me|us|ich|wir|mein\w*|unser\w*|mir|mich|uns)\b|我|咱")
_OWN_CLAUSE: Final = re.compile(
    r"(?:^|[,;:.!–—]|\b(?:and|but|so|well|yes|hi|hello)\b)\W*(?:i|we|my|our|mein\w*|unser\w*)\b|\b(?:ich|wir)\b|我|咱"
)
"""The beginning of a clause in which the user speaks about himself."""
_USER_WORDS: Final = (
    (
        re.compile(
            r"\b(?:the|this|der|die|dem|den) (?:user|nutzer|benutzer|anwender|nutzerin|benutzerin)'s\b"
        ),
        "my",
    ),
    (
        re.compile(
            r"\b(?:die|der|das|den|dem) (.{2,40}?) (?:des|der) "
            r"(?:nutzers|benutzers|anwenders|users|nutzerin|benutzerin)\b"
        ),
        r"my \1",
    ),
    (re.compile(r"\buser's\b"), "my"),
    (re.compile(r"\b(?:(?:the|this|der|die|dem|den) )?(?:user|nutzer|benutzer|anwender)(?:in)?\b"), "i"),
    (re.compile(r"(?:该|这位)?用户"), "我"),
)
_PHRASES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[’`]", "'"),
        (r"(?<=\w)-(?=\w)", " "),
        (r"\bi'm\b", "i am"),
        (r"\bcan't\b|\bcannot\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"n't\b", " not"),
        (r"'ve\b", " have"),
        (r"'re\b", " are"),
        (r"'ll\b", " will"),
        (r"'d\b", " would"),
        (r"\blet's\b", "let us"),
        (r"\b(he|she|it|that|what|there|who|here)'s\b", r"\1 is"),
        (r"\bwould (?:like|love) to\b", "want to"),
        (r"\bplease (?:remember|note|know)(?: that)?\b|\bby the way\b|\bfrom now on\b|\bübrigens\b", " "),
        (r"(?:^|(?<=[.,;:] ))please\b", "i want"),
        (r"\bworks? as\b", "is"),
        (r"\bmoved to\b", "have lived in"),
        (r"\bwas born\b", "is born"),
        (r"\b(?:gave|given|give|giving|gives) up\b", "stopped"),
        (r"\beach\b", "every"),
        (
            r"\b((?:every|all|any|no|nobody|nothing|everything|everybody|everyone)(?: \w+)?) but (?!i\b|my\b|we\b)",
            r"\1 except ",
        ),
    )
)
"""Spellings of the same words."""

_WORD: Final = re.compile(r"'s\b|[^\W_]+|[,;:—–()]")
_SEPARATORS_WORDS: Final = (
    ", ; : — – ( ) and but or while whereas who which whose und aber oder sondern während"
)
_SEPARATORS: Final = frozenset(_SEPARATORS_WORDS.split())
_LISTING_WORDS: Final = ", and or und oder"
_LISTING: Final = frozenset(_LISTING_WORDS.split())
_EMPTY_WORDS: Final = (
    "a an the to of in on at for with as by into is am are be been being was were do does did have has "
    "had got it its this that there so then well too also yes hi hello very really quite actually "
    "currently now always still just usually own dear new old little big lovely please he she his her "
    "their they them him me us myself i my we our you your since about 's not no who what der "
    "die das den dem des ein eine einen einem einer eines kein keine keinen nicht in im an am auf zu zum "
    "zur mit als von vom für bei seit ist bin sind war hat habe haben hast es sehr auch ja hallo gerade "
    "jetzt derzeit immer noch ich mein meine meinen meinem meiner wir unser unsere unseren er sie sein "
    "seine seinen ihr ihre mich mir sich"
)
_EMPTY: Final = frozenset(_EMPTY_WORDS.split())
"""Words that may be missing in a fact, or occur only in a fact."""

_MINE_WORDS: Final = "my our mein meine meinen meinem meiner unser unsere unseren unserem"
_MINE: Final = frozenset(_MINE_WORDS.split())
_SPEAKER_WORDS: Final = "i we ich wir"
_SPEAKER: Final = frozenset(_SPEAKER_WORDS.split())
_OTHERS_WORDS: Final = "you he she it they who which whose that this du er sie es ihr welche welcher"
_OTHERS: Final = frozenset(_OTHERS_WORDS.split())
_BE_WORDS: Final = "is am are be been was were ist bin sind war"
_BE: Final = frozenset(_BE_WORDS.split())
_HAVE_WORDS: Final = "have has had got own owns hat habe haben hatte"
_HAVE: Final = frozenset(_HAVE_WORDS.split())
_PERSON: Final = re.compile(
    r"\b(?:sister|brother|mother|father|mum|mom|dad|wife|husband|partner|boss|friend|colleague|neighbou?r|son|"
    r"daughter|uncle|aunt|cousin|girlfriend|boyfriend|teacher|manager|flatmate|roommate|parents|schwester|bruder|"
    r"mutter|vater|frau|mann|chef|chefin|freund|freundin|kollege|kollegin|nachbar|nachbarin|sohn|tochter)\b"
    r"|[姐妹哥弟爸妈]|朋友|同事|老板|先生|太太|老公|老婆|儿子|女儿|邻居|室友|同学|父亲|母亲|奶奶|爷爷"
)
_ENDINGS: Final = frozenset(
    ["", "e", "s", "t", "st", "et", "en", "n", "es", "er", "ing", "ed", "d", "y", "ies", "ied"]
)
_NUMBER_NAMES: Final = (
    "one/eins two/zwei three/drei four/vier five/fünf six/sechs seven/sieben eight/acht nine/neun ten/zehn "
    "eleven/elf twelve/zwölf"
)
_IRREGULAR: Final = {
    form: base
    for base, forms in {
        "ess": "isst esse essen",
        "les": "liest lese",
        "fahr": "fährt fahre",
        "trag": "trägt trage",
        "sprech": "spricht spreche",
        "schlaf": "schläft schlafe",
        "nehm": "nimmt nehme",
        "seh": "sieht sehe",
        "geb": "gibt gebe",
        "lauf": "läuft laufe",
        "treff": "trifft treffe",
        "woll": "will wollen",
        "child": "children child",
        "fear": "fears fear afraid",
        **{
            str(number): names.replace("/", " ")
            for number, names in enumerate(_NUMBER_NAMES.split(), start=1)
        },
    }.items()
    for form in forms.split()
}
"""Forms that the endings do not explain, numbers in words, and words of the same sense."""

_NUMERAL: Final = re.compile(r"[二两三四五六七八九十百千万]")
_EMPTY_CHINESE: Final = frozenset("的了家也很都还就呢啊吧平时一直现在目前非常特别真其实每")
_CHINESE_CLAUSE: Final = re.compile(r"[，,；;。.！!？?：:、\s]+")


@dataclass(frozen=True, slots=True)
class _Token:
    word: str
    start: int

    @property
    def is_content(self) -> bool:
        return self.word not in _EMPTY and self.word not in _SEPARATORS


@dataclass(frozen=True, slots=True)
class _Statement:
    """Words in one spelling, and their tokens."""

    text: str
    tokens: tuple[_Token, ...]

    @property
    def content(self) -> tuple[int, ...]:
        """The positions of the tokens that carry meaning."""
        return tuple(at for at, token in enumerate(self.tokens) if token.is_content)


def verdict(fact: str, message: str, start: int, end: int) -> Verdict:
    """Return whether a fact follows from ``message[start:end]``, read together with the sentences around it."""
    first, last = statement_around(message, start, end)
    statement = message[first:last]
    if _is_quoted(message, start, end) or _is_unstated(message, first, last):
        return "changed"
    claim, source = _normal(fact), _normal(statement)
    for pattern, replacement in _USER_WORDS:
        claim = pattern.sub(replacement, claim)
    if _signs(source) & _UNREAL != _signs(claim) & _UNREAL:
        return "changed"
    if _is_question(source, _normal(message[start:end])) or not _numbers(claim) <= _numbers(source):
        return "changed"
    if has_cjk(claim):
        return _chinese_verdict(claim, source)
    return _verdict(_statement(claim), _statement(source))


def statement_around(message: str, start: int, end: int) -> tuple[int, int]:
    """Return where the sentences begin and end that contain ``message[start:end]``."""
    spans = [span for span in sentences(message) if span[0] < end and start < span[1]]
    return (min(start, spans[0][0]), max(end, spans[-1][1])) if spans else (start, end)


def is_own_statement(fact: str, statement: str) -> bool:
    """Return whether the user says a statement about himself from which a fact takes most of its words, and its last
    one, which is mostly its value. Such a statement can replace a fact that is not proven.
    """
    claim, source = _normal(fact), _normal(statement)
    if not _OWN_CLAUSE.search(source) or has_cjk(claim) != has_cjk(source):
        return False
    for pattern, replacement in _USER_WORDS:
        claim = pattern.sub(replacement, claim)
    if has_cjk(claim):
        chars = [char for char in claim if char.isalnum() and char not in _EMPTY_CHINESE]
        return bool(chars) and chars[-1] in source and 2 * sum(char in source for char in chars) >= len(chars)
    words = [token.word for token in _statement(claim).tokens if token.is_content]
    source_words = [token.word for token in _statement(source).tokens]
    matches = [any(_is_same(word, source_word) for source_word in source_words) for word in words]
    if re.match(r"i\b", claim) and not _SPEAKER & set(source_words) and _PERSON.search(source):
        return False
    return bool(matches) and matches[-1] and 2 * sum(matches) >= len(matches)


def _normal(text: str) -> str:
    folded_text = unicodedata.normalize("NFKC", text).casefold().replace("ß", "ss")
    for pattern, replacement in _PHRASES:
        folded_text = pattern.sub(replacement, folded_text)
    return " ".join(folded_text.split())


def _statement(text: str) -> _Statement:
    return _Statement(text, tuple(_Token(match.group(), match.start()) for match in _WORD.finditer(text)))


def _signs(text: str) -> frozenset[str]:
    return frozenset(name for name, pattern in _SIGNS.items() if pattern.search(text))


def _numbers(text: str) -> frozenset[str]:
    words = (_IRREGULAR.get(word, word) for word in re.findall(r"[^\W_]+", text))
    return frozenset(word for word in words if word.isdigit()) | frozenset(_NUMERAL.findall(text))


def _is_quoted(message: str, start: int, end: int) -> bool:
    """Return whether the words are, or contain, a quoted sentence; a quoted name is none."""
    return any(
        match.start() < end - 1
        and start + 1 < match.end()
        and (len(match.group().split()) > 3 or _FIRST_PERSON.search(_normal(match.group())) is not None)
        and match.span() != (0, len(message))
        for match in _QUOTED.finditer(message)
    )


def _is_unstated(message: str, first: int, last: int) -> bool:
    """Return whether the text before says that the user only imagines or passes on what follows, or the next sentence
    takes it back.
    """
    following = sentences(message[last:])[:1]
    introduction = message[first:last].rpartition(":")[0]
    return (
        _BEFORE.search(_normal(f"{message[:first]} {introduction}")) is not None
        or any(_AFTER.search(_normal(message[last:][a:b])) for a, b in following)
        or _AFTER.search(_normal(message[first:last])) is not None
    )


def _is_question(source: str, quotation: str) -> bool:
    """Return whether the user asks the quoted words: a statement before the question of its sentence is none."""
    if not source.endswith(("?", "？")):
        return False
    following_text = source[source.find(quotation) + len(quotation) :].strip(" ,，?？")
    is_statement = _OWN_CLAUSE.match(source) is not None or _ASKS.match(source) is None
    return not following_text or not is_statement or _TAG.fullmatch(following_text) is not None


def _verdict(claim: _Statement, source: _Statement) -> Verdict:
    inverted = _inverted(claim)
    verdicts = {
        _compare(form, source, positions)
        for form in (claim, inverted)
        if form is not None
        for positions in _alignments(form, source)
    }
    if "follows" in verdicts:
        return "follows"
    is_same_time = bool(_PAST.search(claim.text)) == bool(_PAST.search(source.text))
    if "changed" in verdicts or not is_same_time or _signs(claim.text) != _signs(source.text):
        return "changed"
    return "unproven"


def _inverted(claim: _Statement) -> _Statement | None:
    """Return "my sister is momo" for "momo is my sister"."""
    subject, verb, predicate = claim.text.rstrip(".").partition(" is ")
    return _statement(f"{predicate} is {subject}") if verb and not re.match(r"i\b", subject) else None


def _alignments(claim: _Statement, source: _Statement) -> Iterator[tuple[int, ...]]:
    """Yield the positions of a claim's words in the source, in the claim's order: the nearest to each first word."""
    words = [claim.tokens[at].word for at in claim.content]
    for begin, token in enumerate(source.tokens):
        if not words or not _is_same(words[0], token.word):
            continue
        positions = [begin]
        for word in words[1:]:
            places = range(positions[-1] + 1, len(source.tokens))
            at = next((at for at in places if _is_same(word, source.tokens[at].word)), None)
            if at is None:
                break
            positions.append(at)
        else:
            yield tuple(positions)


def _compare(claim: _Statement, source: _Statement, positions: tuple[int, ...]) -> Verdict:
    """Compare a claim with the part of the source that has its words at ``positions``."""
    tokens, first = source.tokens, positions[0]
    begin, end = _clause_begin(tokens, first), _clause_end(tokens, positions[-1])
    subject, auxiliaries = _subject(tokens, begin, first), ""
    if subject is None:  # "I live in Oslo and work as a nurse": the subject is in an earlier clause
        subject, auxiliaries = _inherited(tokens, begin)
    own_words = {token.word for token in tokens[begin:first]}
    is_owned = _is_owned(tokens, first)
    lead_words = {token.word for token in claim.tokens[: claim.content[0]]}
    is_about_speaker = claim.tokens[0].word in _SPEAKER
    if is_about_speaker and is_owned and not lead_words & _HAVE:
        return "unproven"
    if is_about_speaker and not is_owned and subject != "speaker":
        return "unproven" if own_words & _MINE and not _PERSON.search(source.text) else "changed"
    if any(
        at > 0 and claim.tokens[at - 1].word in _MINE and not _is_owned(tokens, position)
        for at, position in zip(claim.content, positions, strict=True)
    ):
        return "changed"
    text = " ".join((auxiliaries, *(token.word for token in tokens[begin:end])))
    if _signs(claim.text) - _UNREAL != _signs(text) - _UNREAL or _is_other_time(
        claim, source, positions, text
    ):
        return "changed"
    if is_about_speaker and not is_owned:
        if not _is_same_verb(lead_words, tokens, begin, first):
            return "unproven"
        first = next((at for at in range(begin, first) if tokens[at].word in _SPEAKER), begin)
    return "follows" if _is_extract(tokens, first, positions) else "unproven"


def _is_same_verb(lead_words: Set[str], tokens: Sequence[_Token], begin: int, first: int) -> bool:
    """Return whether the source has the claim's "is" before the first common word, as "I'm Ann, a nurse" has."""
    if not lead_words & _BE or _BE & {token.word for token in tokens[begin:first]}:
        return True
    return begin > 1 and not _BE.isdisjoint(
        token.word for token in tokens[_clause_begin(tokens, begin - 2) : begin]
    )


def _is_extract(tokens: Sequence[_Token], begin: int, positions: Sequence[int]) -> bool:
    """Return whether the words between the common words say nothing, or are other members of a list."""
    for at in range(begin, positions[-1]):
        token = tokens[at]
        if at in positions or not token.is_content:
            continue
        next_at = at + 1
        while (
            next_at < positions[-1] and next_at not in positions and tokens[next_at].word not in _SEPARATORS
        ):
            next_at += 1
        if at < positions[0] or tokens[next_at].word not in _LISTING:
            return False
    return True


def _is_other_time(claim: _Statement, source: _Statement, positions: Sequence[int], text: str) -> bool:
    """Return whether only one of a claim and the ``text`` that has its words is about the past.

    "I've lived in Oslo since May" is about the present too.
    """
    is_lasting = re.search(r"\bhave\b", text) and re.search(r"\b(?:since|for)\b", source.text)
    if is_lasting:
        return False
    if bool(_PAST.search(claim.text)) != bool(_PAST.search(text)):
        return True
    pairs = (
        (claim.tokens[at].word, source.tokens[position].word)
        for at, position in zip(claim.content, positions, strict=True)
    )
    return any(word.endswith("ed") != source_word.endswith("ed") for word, source_word in pairs)


def _clause_begin(tokens: Sequence[_Token], at: int) -> int:
    while at > 0 and tokens[at - 1].word not in _SEPARATORS:
        at -= 1
    return at - 1 if at > 0 and tokens[at - 1].word in ("who", "which", "whose") else at


def _clause_end(tokens: Sequence[_Token], at: int) -> int:
    while at < len(tokens) and tokens[at].word not in _SEPARATORS:
        at += 1
    return at


def _subject(tokens: Sequence[_Token], begin: int, first: int) -> str | None:
    """Return who acts in a clause, ``speaker`` or ``other``; ``None`` if the clause does not name its subject."""
    words = [token.word for token in tokens[begin:first]]
    if _SPEAKER & set(words):
        return "speaker"
    if set(words) & (_OTHERS | _MINE) or any(token.is_content for token in tokens[begin:first]):
        return "other"
    return None


def _inherited(tokens: Sequence[_Token], begin: int) -> tuple[str | None, str]:
    """Return the subject of the clauses before a clause without one, and the words after that subject that apply to
    both, such as "do not" in "I do not drive or cycle".
    """
    while begin > 0:
        end = begin - 1
        begin = _clause_begin(tokens, end - 1) if end > 0 else 0
        if tokens[begin].word in ("who", "which", "whose"):
            continue
        for at in range(begin, end):
            if tokens[at].word in _SPEAKER:
                words = []
                for token in tokens[at + 1 : end]:
                    if token.is_content and token.word != "used" and not _signs(token.word) & _SHARED:
                        break
                    words.append(token.word)
                return "speaker", " ".join(words)
        if not (_OTHERS | _MINE).isdisjoint(token.word for token in tokens[begin:end]):
            return "other", ""
    return None, ""


def _is_owned(tokens: Sequence[_Token], at: int) -> bool:
    """Return whether a word has "my" before it, with only adjectives that say nothing between."""
    for token in reversed(tokens[:at]):
        if token.word in _MINE:
            return True
        if token.word not in ("new", "old", "own", "dear", "little", "big", "lovely"):
            return False
    return False


def _is_same(word: str, second_word: str) -> bool:
    """Return whether two words are forms of one word."""
    word, second_word = _IRREGULAR.get(word, word), _IRREGULAR.get(second_word, second_word)
    if word == second_word:
        return True
    if word.isdigit() or second_word.isdigit():
        return False
    prefix_length = next(
        (
            at
            for at, (first_char, second_char) in enumerate(zip(word, second_word, strict=False))
            if first_char != second_char
        ),
        min(len(word), len(second_word)),
    )
    endings = {word[prefix_length:], second_word[prefix_length:]}
    return (prefix_length >= 3 and endings <= _ENDINGS) or (
        min(len(word), len(second_word)) > 3 and stem(word) == stem(second_word) and prefix_length >= 4
    )


def _chinese_verdict(claim: str, source: str) -> Verdict:
    chars = [char for char in claim if char.isalnum() and char not in _EMPTY_CHINESE]
    about_speaker = bool(chars) and chars[0] == "我"
    best: Verdict = "unproven"
    aligned = False
    for begin, char in enumerate(source):
        if not chars or char != chars[0]:
            continue
        position, gaps = begin, []
        for claim_char in chars[1:]:
            at = source.find(claim_char, position + 1)
            if at < 0:
                break
            gaps.append(source[position + 1 : at])
            position = at
        else:
            aligned = True
            ending = _CHINESE_CLAUSE.search(source, position)
            clause_start = _CHINESE_CLAUSE.split(source[:begin])[-1]
            text = clause_start + source[begin : ending.start() if ending else len(source)]
            if _signs(claim) != _signs(text):
                best = "changed"
                continue
            missing = "".join(gaps)
            if about_speaker and _PERSON.search(missing):
                best = "changed"
                continue
            if all(_is_empty_chinese(part) for part in gaps):
                return "follows"
    if not aligned and _signs(claim) != _signs(source):
        return "changed"
    return best


def _is_empty_chinese(text: str) -> bool:
    """Return whether text between two characters of a claim says nothing, or is an earlier clause or list member."""
    last_part = _CHINESE_CLAUSE.split(text)[-1]
    return all(char in _EMPTY_CHINESE for char in last_part)
