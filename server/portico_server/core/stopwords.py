"""Common words of questions that do not help a search. They are removed from questions only."""

from __future__ import annotations

_ENGLISH = """
a about all also am an and any are as at be because been being but by can could did do does doing for from had
has have having he her here hers him his how i if in into is it its just me more most my no nor not of on or
other our ours out over own s same she should so some such t than that the their theirs them then there these
they this those through to too under until up very was we were what when where which while who whom why will
with would you your yours
"""

_CHINESE = """
的 了 是 在 和 与 及 或 也 都 就 而 着 过 吗 呢 吧 啊 么 之 其 这 那 哪 个 被 把 将 对 从 到 为 以 于 有
什么 哪些 哪个 哪里 哪儿 怎么 怎样 如何 为什么 为何 多少 几 谁 何时 何 这个 那个 这些 那些 一个 一种 以及
我 你 他 她 它 我们 你们 他们 她们 它们 请问 是否 可以 能 会
"""

ENGLISH_STOPWORDS = frozenset(_ENGLISH.split())

CHINESE_STOPWORDS = frozenset(_CHINESE.split())
"""Chinese stop words in simplified characters, the form into which the analyser converts texts."""


def says(text: str, name: str) -> bool:
    """Return whether a folded text contains a folded name, as whole words where the name starts or ends with a
    letter.
    """
    at = text.find(name)
    while at >= 0:
        end = at + len(name)
        before = at > 0 and _is_letter(text[at - 1]) and _is_letter(name[0])
        behind = end < len(text) and _is_letter(text[end]) and _is_letter(name[-1])
        if not before and not behind:
            return True
        at = text.find(name, at + 1)
    return False


def _is_letter(char: str) -> bool:
    """Return whether a character belongs to a script that puts spaces between words, unlike Chinese."""
    return char.isalnum() and not "\u2e80" <= char <= "\u9fff"
