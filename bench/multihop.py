"""Questions whose evidence is in one to four passages, about invented entities: ``python bench/multihop.py FOLDER``.

Writes ``en`` and ``zh`` below FOLDER: ``files`` with a text for each passage, and ``questions.jsonl`` (``question``,
``hops``, ``evidence``: names of files). The same seed gives the same set. Two sets of templates, for passages and for
questions, have no sentence in common: one is used for tuning, the other for measuring.

A chain is product, maker, founder, place of birth, river: a question names the product, or the maker, and asks for the
end of the chain. Each entity also has passages with other facts about it, and some facts have a passage that
contradicts them; all of these are distractors.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHAINS = 150
"""Number of chains in each language; each has questions of two, three and four hops, and of one."""

CONFLICT_SHARE = 0.25
"""Share of the chains with a fact that another passage contradicts."""

LANGUAGES = ("en", "zh")


@dataclass(frozen=True, slots=True)
class MultihopQuestion:
    """A question, the number of passages that together answer it, their names, and the answer.

    ``answerable``: whether all these passages exist.
    """

    text: str
    hops: int
    evidence: tuple[str, ...]
    answer: str = ""
    answerable: bool = True


@dataclass(frozen=True, slots=True)
class MultihopSet:
    """Passages by name, and questions about them."""

    passages: Mapping[str, str]
    questions: Sequence[MultihopQuestion]


FACTS: Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]] = {
    "en": {
        "tuned": {
            "made": (
                "The {a} was built by {b}, and some four hundred of them left the yard.",
                "{b} brought the {a} to market after two winters of trials.",
                "Every {a} that is still in use came from the halls of {b}.",
            ),
            "founded": (
                "{a} was founded by {b} with money borrowed from an uncle.",
                "It was {b} who set up {a}, in a rented shed behind a bakery.",
                "The founder of {a} was {b}, who kept the books in person.",
            ),
            "born": (
                "{a} was born in {b}, the third child of a ferryman.",
                "{a} grew up poor, having been born in {b} in a year of floods.",
                "The parish book of {b} records the birth of {a}.",
            ),
            "river": (
                "{a} lies on the {b}, which floods the lower streets in spring.",
                "The {b} flows through {a} and under its five bridges.",
                "Barges reach {a} by the {b} as long as the ice allows.",
            ),
        },
        "heldout": {
            "made": (
                "{b} is the manufacturer of the {a}, whose drawings are lost.",
                "Workers at {b} assembled the {a} by hand until the strike.",
                "The {a}, a product of {b}, won a medal at the autumn fair.",
            ),
            "founded": (
                "{b} started {a} with two apprentices and a lathe.",
                "{a} goes back to {b}, whose portrait hangs in the lobby.",
                "Established by {b}, {a} soon employed half of the valley.",
            ),
            "born": (
                "{a} came into the world in {b}, above a shop for lamps.",
                "A plaque in {b} marks the house where {a} was born.",
                "Like both parents, {a} was a native of {b}.",
            ),
            "river": (
                "The river at {a} is the {b}, known for its eels.",
                "{a} stands on the left bank of the {b}.",
                "At {a} the {b} widens and turns to the east.",
            ),
        },
    },
    "zh": {
        "tuned": {
            "made": (
                "{a}由{b}制造，前后共出厂四百余台。",
                "经过两个冬天的试验，{b}把{a}推向了市场。",
                "至今仍在使用的{a}都出自{b}的车间。",
            ),
            "founded": (
                "{a}由{b}创办，本钱是向叔父借来的。",
                "当年是{b}在面包房后面的棚子里办起了{a}。",
                "{a}的创始人是{b}，账目一向由其亲自过目。",
            ),
            "born": (
                "{a}出生于{b}，在家中排行第三。",
                "{a}生在{b}，那一年正好发大水。",
                "{b}的户籍册上记着{a}的出生。",
            ),
            "river": (
                "{a}坐落在{b}边，每到春天低处的街道就会被淹。",
                "{b}流经{a}，从五座桥下穿过。",
                "只要没有结冰，货船就能沿{b}开到{a}。",
            ),
        },
        "heldout": {
            "made": (
                "{b}是{a}的生产厂家，当年的图纸已经遗失。",
                "罢工以前，{b}的工人一直手工装配{a}。",
                "{a}是{b}的产品，曾在秋季展销会上获奖。",
            ),
            "founded": (
                "{b}带着两名学徒和一台车床开始了{a}的生意。",
                "{a}的历史要从{b}说起，大厅里至今挂着其画像。",
                "自从{b}建立{a}以后，山谷里一半的人都在那里做工。",
            ),
            "born": (
                "{a}在{b}一家灯具店的楼上来到人世。",
                "{b}有一块牌子，标明{a}诞生的房子。",
                "和父母一样，{a}也是{b}人。",
            ),
            "river": (
                "{a}旁边的河就是{b}，以鳗鱼闻名。",
                "{a}建在{b}的左岸。",
                "到了{a}，{b}河面变宽，转向东去。",
            ),
        },
    },
}
"""Sentences of each fact: ``a`` is the entity in the question, ``b`` the next entity."""

QUESTIONS: Mapping[str, Mapping[str, Sequence[tuple[int, str]]]] = {
    "en": {
        "tuned": (
            (1, "Who founded {maker}?"),
            (2, "Who founded the company that built the {product}?"),
            (2, "In which place was the founder of {maker} born?"),
            (3, "Where was the founder of the company that built the {product} born?"),
            (3, "Which river flows through the place where the founder of {maker} was born?"),
            (
                4,
                "Which river flows through the place where the founder of the builder of the {product} was born?",
            ),
        ),
        "heldout": (
            (1, "Which person stood at the beginning of {maker}?"),
            (2, "What is the name of the person who established the manufacturer of the {product}?"),
            (2, "What is the home town of whoever started {maker}?"),
            (3, "The {product} had a manufacturer; of what town was the person who started it a native?"),
            (3, "On what river stands the town from which the person behind {maker} came?"),
            (
                4,
                "The person who started the maker of the {product} came from a town; on what river's bank is it?",
            ),
        ),
    },
    "zh": {
        "tuned": (
            (1, "{maker}是谁创办的？"),
            (2, "制造{product}的公司是谁创办的？"),
            (2, "{maker}的创始人出生于哪里？"),
            (3, "制造{product}的公司，其创始人出生于哪里？"),
            (3, "{maker}创始人的出生地有哪条河流经？"),
            (4, "制造{product}的公司的创始人，其出生地有哪条河流经？"),
        ),
        "heldout": (
            (1, "当初建立{maker}的是什么人？"),
            (2, "建立{product}生产厂家的人叫什么名字？"),
            (2, "当初开办{maker}的人是哪里人？"),
            (3, "生产{product}的厂家，开办的人是哪里人？"),
            (3, "开办{maker}的人，老家建在哪条河的岸边？"),
            (4, "生产{product}的厂家是有人开办的，那个人的老家在哪条河的岸边？"),
        ),
    },
}

ASIDES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "en": {
        "product": (
            "A {x} was shown at the museum of technology, next to a steam plough.",
            "Collectors pay well for a {x} with its first coat of paint.",
            "The manual of the {x} has forty pages and no index.",
        ),
        "maker": (
            "{x} added a second hall after the fire and painted it green.",
            "In a poor year {x} paid its people with coal.",
            "The choir of {x} sang at the opening of the station.",
        ),
        "person": (
            "{x} never learnt to swim and disliked long letters.",
            "A biography of {x} appeared in three volumes.",
            "In later years {x} planted walnut trees and kept bees.",
        ),
        "place": (
            "The market of {x} is held on Thursdays, also in the rain.",
            "{x} has a tower of red brick and two schools.",
            "A railway has served {x} since the year of the comet.",
        ),
    },
    "zh": {
        "product": (
            "技术博物馆里展出过一台{x}，就放在蒸汽犁旁边。",
            "漆面完好的{x}很受收藏家欢迎。",
            "{x}的说明书有四十页，却没有目录。",
        ),
        "maker": (
            "火灾之后，{x}加盖了第二间厂房，刷成绿色。",
            "收成不好的那一年，{x}用煤来发工钱。",
            "车站开通时，{x}的合唱队唱了歌。",
        ),
        "person": (
            "{x}一辈子没有学会游泳，也不爱写长信。",
            "关于{x}的传记一共出了三卷。",
            "晚年的{x}种核桃树，也养蜜蜂。",
        ),
        "place": (
            "{x}的集市逢周四开，下雨也不停。",
            "{x}有一座红砖塔和两所学校。",
            "从彗星出现的那年起，铁路就通到了{x}。",
        ),
    },
}

FILLERS: Mapping[str, Sequence[str]] = {
    "en": (
        "Little else is known from those days.",
        "The papers were found in an attic much later.",
        "Old people still talk about it in the evening.",
        "No photograph of it has been kept.",
        "The local newspaper gave it half a column.",
        "Nobody thought then that it would matter.",
    ),
    "zh": (
        "那些年的事情，留下来的记载不多。",
        "这些材料很久以后才在阁楼上被人发现。",
        "老人们晚上还会说起这件事。",
        "没有照片保存下来。",
        "当地的报纸只用了半栏来写它。",
        "那时没有人觉得这有什么要紧。",
    ),
}

CONFLICTS: Mapping[str, str] = {
    "en": "An older register disagrees: {claim}",
    "zh": "一份更早的登记册说法不同：{claim}",
}


ONSETS = [
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
    "z",
]
FIRST_NAMES = [
    *("Mara", "Tobin", "Ilse", "Edgar", "Nora", "Anton"),
    *("Vera", "Jonas", "Clara", "Henrik", "Lotte", "Oskar"),
]


class Names:
    """Invented names, all different."""

    def __init__(self, language: str, chance: random.Random) -> None:
        self._language = language
        self._chance = chance
        self._used: set[str] = set()

    def _fresh(self, make: object) -> str:
        assert callable(make)
        while (name := str(make())) in self._used:
            pass
        self._used.add(name)
        return name

    def _syllables(self, count: int) -> str:
        onsets, ends = (
            ONSETS,
            ["al", "an", "el", "en", "or", "ix", "um", "ar", "ost", "ick", "une", "eth", "ov", "ay"],
        )
        return "".join(
            self._chance.choice(onsets) + self._chance.choice(ends) for _ in range(count)
        ).capitalize()

    def _han(self, chars: str, count: int) -> str:
        return "".join(self._chance.sample(chars, count))

    def product(self) -> str:
        if self._language == "zh":
            kinds = ("座钟", "印刷机", "水泵", "显微镜", "收音机", "拖拉机", "织布机")
            return self._fresh(
                lambda: self._han("星槎凌霄琼岚澜朔曜黛珩璟", 2) + "牌" + self._chance.choice(kinds)
            )
        kinds_en = ("engine", "loom", "lamp", "pump", "press", "radio", "plough")
        return self._fresh(lambda: f"{self._syllables(2)} {self._chance.choice(kinds_en)}")

    def maker(self) -> str:
        if self._language == "zh":
            kinds = ("机械厂", "仪器公司", "造船厂", "纺织公司", "机器制造局", "电器公司")
            return self._fresh(lambda: self._han("恒泰裕丰宏顺鼎祥瑞隆永昌", 2) + self._chance.choice(kinds))
        kinds_en = ("Works", "Brothers", "Company", "Foundry", "& Daughters", "Yard")
        return self._fresh(lambda: f"{self._syllables(2)} {self._chance.choice(kinds_en)}")

    def person(self) -> str:
        if self._language == "zh":
            surnames, given = "顾沈林苏陆程叶贺谢褚唐纪严", "明远晚秋砚之清嘉屿舟景行若岚怀瑾知微"
            return self._fresh(
                lambda: self._chance.choice(surnames) + self._han(given, self._chance.choice((1, 2, 2, 2)))
            )
        first = FIRST_NAMES
        return self._fresh(lambda: f"{self._chance.choice(first)} {self._syllables(2)}")

    def place(self) -> str:
        if self._language == "zh":
            return self._fresh(
                lambda: self._han("青白霜澄鹭松枫月云石溪雁", 2) + self._chance.choice("镇市县港洲村")
            )
        return self._fresh(
            lambda: self._chance.choice(
                (f"Port {self._syllables(2)}", f"{self._syllables(2)} Bay", self._syllables(3))
            )
        )

    def river(self) -> str:
        if self._language == "zh":
            return self._fresh(lambda: self._han("沅泠漓湑洛泗汶淇溱沂", 2) + self._chance.choice("河江水"))
        return self._fresh(lambda: self._syllables(2))


def generate(
    language: str, templates: str, seed: int, chains: int = CHAINS, broken: float = 0.0
) -> MultihopSet:
    """Return a set in one language (``en``, ``zh``) from one set of templates (``tuned``, ``heldout``).

    In a share ``broken`` of the chains, one evidence passage is left out, together with its contradictions.
    """
    chance = random.Random(f"{seed} {language} {templates}")
    breaks = random.Random(f"{seed} {language} {templates} broken")
    names = Names(language, chance)
    facts, asides, fillers = FACTS[language][templates], ASIDES[language], FILLERS[language]
    space = " " if language == "en" else ""
    passages: list[str] = []
    drafts: list[tuple[str, int, list[int], str]] = []
    dropped: set[int] = set()

    def put(sentence: str) -> int:
        around = chance.sample(list(fillers), 2)
        order = [around[0], sentence, around[1]] if chance.random() < 0.5 else [sentence, *around]
        passages.append(space.join(order))
        return len(passages) - 1

    for _ in range(chains):
        product, maker, person, place, river = (
            names.product(),
            names.maker(),
            names.person(),
            names.place(),
            names.river(),
        )
        steps = (
            ("made", product, maker),
            ("founded", maker, person),
            ("born", person, place),
            ("river", place, river),
        )
        numbers = [put(chance.choice(facts[kind]).format(a=a, b=b)) for kind, a, b in steps]
        lost = breaks.choice(steps)[0] if breaks.random() < broken else ""
        dropped |= {number for number, (kind, _, _) in zip(numbers, steps, strict=True) if kind == lost}
        for kind, name in (("product", product), ("maker", maker), ("person", person), ("place", place)):
            for sentence in chance.sample(list(asides[kind]), 2):
                put(sentence.format(x=name))
        if chance.random() < CONFLICT_SHARE:
            kind, a, _ = chance.choice(steps)
            other = {"made": names.maker, "founded": names.person, "born": names.place, "river": names.river}[
                kind
            ]()
            number = put(CONFLICTS[language].format(claim=chance.choice(facts[kind]).format(a=a, b=other)))
            dropped |= {number} if kind == lost else set()
        for hops, form in QUESTIONS[language][templates]:
            begin = 0 if "{product}" in form else 1
            text = form.format(product=product, maker=maker)
            drafts.append((text, hops, numbers[begin : begin + hops], steps[begin + hops - 1][2]))
    order = list(range(len(passages)))
    chance.shuffle(order)  # neighbours in a listing are unrelated
    called = {number: f"p{position:05}" for position, number in enumerate(order)}
    return MultihopSet(
        {called[number]: passages[number] for number in order if number not in dropped},
        [
            MultihopQuestion(
                text, hops, tuple(called[number] for number in evidence), answer, dropped.isdisjoint(evidence)
            )
            for text, hops, evidence, answer in drafts
        ],
    )


def write(made: MultihopSet, folder: Path) -> None:
    """Write a set to a folder."""
    (folder / "files").mkdir(parents=True)
    for name, text in made.passages.items():
        (folder / "files" / f"{name}.txt").write_text(text, encoding="utf-8")
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as file:
        for item in made.questions:
            row = {"question": item.text, "hops": item.hops, "evidence": item.evidence}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--templates", choices=("tuned", "heldout"), default="heldout")
    parser.add_argument("--chains", type=int, default=CHAINS)
    given = parser.parse_args()
    for language in LANGUAGES:
        made = generate(language, given.templates, given.seed, given.chains)
        write(made, given.folder / language)
        print(f"{language}: {len(made.passages)} passages, {len(made.questions)} questions")


if __name__ == "__main__":
    main()
