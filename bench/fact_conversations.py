"""Generated conversations in which a user states facts, and other texts state facts that nobody must remember.

The templates of the held-out half were written after the rules for facts, which were chosen with those of the
development half.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Statement:
    """A fact: the user's words, the sentence that a good extractor writes, and the value that both contain."""

    attribute: str
    words: str
    fact: str
    value: str


@dataclass(frozen=True, slots=True)
class Template:
    """The words and the fact of an attribute, with ``{}`` in place of the value."""

    attribute: str
    words: str
    fact: str
    values: Sequence[str]

    def fill(self, value: str) -> Statement:
        return Statement(self.attribute, self.words.format(value), self.fact.format(value), value)


@dataclass(frozen=True, slots=True)
class Conversation:
    """``messages`` of the user, each with its statements. ``instructions`` and ``attachment`` state facts that are not
    the user's. ``corrected`` is the statement that the last message contradicts, or ``None``.
    """

    name: str
    messages: Sequence[tuple[str, Sequence[Statement]]]
    instructions: Statement
    attachment: Statement
    corrected: Statement | None


CITIES: Final = ("Lisbon", "Tampere", "Graz", "Leeds", "Osaka", "Quito")
SURNAMES: Final = ("Weiss", "Okafor", "Lindh", "Moreau")
FLOORS: Final = ("third", "fifth", "sixth", "ninth")
DATABASES: Final = ("PostgreSQL", "SQLite", "MariaDB")
AMOUNTS: Final = ("800", "1200", "2500")
PROGRAMS: Final = ("Python", "Rust", "Kotlin")
SUBJECTS: Final = ("physics", "law", "history")
DISTANCES: Final = ("5", "8", "12")
COLOURS: Final = ("Green", "Orange", "Purple")
LANGUAGES: Final = ("German", "French", "Finnish")
NAMES: Final = ("Momo", "Ada", "Bruno", "Kira", "Otto", "Pepper")

TEMPLATES: Final[Mapping[str, Sequence[Template]]] = {
    "development": (
        Template("home", "I live in {}", "The user lives in {}.", CITIES),
        Template("job", "I work as a {}", "The user works as a {}.", ("nurse", "welder", "teacher", "baker")),
        Template("diet", "I eat no {}", "The user eats no {}.", ("fish", "pork", "nuts", "eggs")),
        Template("cat", "my cat is called {}", "The user's cat is called {}.", NAMES),
        Template("age", "I am {} years old", "The user is {} years old.", ("34", "27", "61", "45")),
        Template("drink", "I like {} best", "The user likes {} best.", ("green tea", "cocoa", "coffee")),
        Template("sister", "my sister {} visits me every Sunday", "{} is the user's sister.", NAMES),
        Template("language", "我在学{}", "用户在学{}。", ("葡萄牙语", "日语", "法语", "德语")),
        Template("town", "I moved to {} last year", "The user has lived in {} since last year.", CITIES),
        Template(
            "firm", "my employer is {}", "The user is employed by {}.", ("Norvik", "Haldor AG", "Telmex")
        ),
        Template(
            "allergy", "I'm allergic to {}", "The user is allergic to {}.", ("penicillin", "wasps", "latex")
        ),
        Template("dog", "our dog {} is afraid of thunder", "The user's dog {} fears thunder.", NAMES),
        Template("children", "we have {} children", "The user has {} children.", ("2", "3", "four", "five")),
        Template("seat", "I always take a {} seat", "The user always takes a {} seat.", ("window", "aisle")),
        Template(
            "deadline", "my thesis is due on {}", "The user's thesis is due on {}.", ("3 May", "12 June")
        ),
        Template(
            "instrument", "I play the {}", "The user is a {} player.", ("cello", "oboe", "harp", "tuba")
        ),
        Template(
            "transport", "I don't own a car, I cycle to {}", "The user cycles to {}.", ("work", "school")
        ),
        Template("food", "我不吃{}", "用户不吃{}。", ("香菜", "羊肉", "花生", "海鲜")),
        Template(
            "bike", "I sold my car and bought a {} bike", "The user bought a {} bike.", ("red", "cargo")
        ),
        Template("husband", "my husband {} cooks for us", "The user's husband is {}.", NAMES),
        Template("shoes", "I wear size {} shoes", "The user wears size {} shoes.", ("38", "42", "44")),
        Template(
            "doctor", "please remember that my doctor is Dr. {}", "The user's doctor is Dr. {}.", SURNAMES
        ),
        Template(
            "floor", "we live on the {} floor, without a lift", "The user lives on the {} floor.", FLOORS
        ),
        Template("database", "we decided to use {} for the project", "The project uses {}.", DATABASES),
        Template(
            "birthday", "my birthday is {}", "The user was born on {}.", ("3 March", "21 June", "9 May")
        ),
        Template(
            "tea", "I never put {} in my tea", "The user drinks tea without {}.", ("milk", "sugar", "lemon")
        ),
        Template("daughter", "我女儿叫{}", "用户的女儿叫{}。", ("小雨", "思琪", "一诺")),
        Template("plan", "我打算明年去{}工作", "用户打算明年去{}工作。", ("上海", "成都", "深圳")),
        Template(
            "phone", "my new phone is a {}", "The user has a {}.", ("Pixel 9", "Fairphone 5", "Nokia 3310")
        ),
        Template("neighbour", "{} from next door waters my plants", "The user's neighbour is {}.", NAMES),
        Template(
            "run", "I run {} kilometres each morning", "The user runs {} kilometres every morning.", DISTANCES
        ),
        Template("colour", "{} is my favourite colour", "The user's favourite colour is {}.", COLOURS),
        Template("vegetarian", "I've been a {} for ten years", "The user is a {}.", ("vegan", "vegetarian")),
        Template(
            "meeting",
            "from now on my Mondays are kept for {}",
            "Mondays are for {}.",
            ("planning", "writing"),
        ),
        Template(
            "language", "please answer me in {} from now on", "The user wants answers in {}.", LANGUAGES
        ),
        Template(
            "son", "my son {} starts school in autumn", "The user has a son, {}, who starts school.", NAMES
        ),
        Template(
            "smoke", "I gave up {} in 2019", "The user stopped {} in 2019.", ("smoking", "gaming", "sweets")
        ),
        Template("employer", "我在{}工作了五年", "用户在{}工作了五年。", ("华为", "小米", "腾讯")),
        Template("pet", "我家养了一只{}", "用户养了一只{}。", ("猫", "狗", "兔子")),
    ),
    "held out": (
        Template(
            "body", "I'm {}, by the way", "The user is {}.", ("left-handed", "colour-blind", "nearsighted")
        ),
        Template("wife", "my wife {} is a surgeon", "The user's wife {} is a surgeon.", NAMES),
        Template("budget", "our budget is {} euros per month", "The budget is {} euros per month.", AMOUNTS),
        Template("wake", "I get up at {} every day", "The user gets up at {} every day.", ("5:30", "6:15")),
        Template(
            "dislike", "I can't stand {}", "The user cannot stand {}.", ("coriander", "olives", "snails")
        ),
        Template(
            "team", "I've supported {} since I was a child", "The user supports {}.", ("Arsenal", "Ajax")
        ),
        Template("visa", "my visa expires in {}", "The user's visa expires in {}.", ("March", "August")),
        Template(
            "code", "always use {} in code that you write for me", "The user wants code in {}.", PROGRAMS
        ),
        Template("degree", "I studied {} at Uppsala", "The user has a degree in {} from Uppsala.", SUBJECTS),
        Template("move", "我下个月要搬到{}", "用户下个月要搬到{}。", ("杭州", "武汉", "西安")),
        Template("born", "我的生日是{}", "用户的生日是{}。", ("三月八日", "六月一日")),
    ),
}

CHATTER: Final = (
    "What is the weather like tomorrow?",
    "Thanks, that helped.",
    "Can you explain how tides work?",
    "今天有什么新闻？",
    "Write a short poem about rain.",
    "Which is larger, a hectare or an acre?",
)


def conversations(part: str, count: int, seed: int) -> list[Conversation]:
    """Return ``count`` conversations of ``part``, ``development`` or ``held out``."""
    chance = random.Random(f"{seed} {part}")
    return [
        _conversation(f"{part.replace(' ', '-')}-{number}", TEMPLATES[part], chance)
        for number in range(count)
    ]


def _conversation(name: str, templates: Sequence[Template], chance: random.Random) -> Conversation:
    chosen = chance.sample(templates, 5)
    instructions, attachment, *own = (template.fill(chance.choice(template.values)) for template in chosen)
    first_message = chance.sample(CHATTER, 1)
    messages = [
        _message(own[:2], first_message),
        _message((), chance.sample(CHATTER, 2)),
        _message(own[2:], ()),
    ]
    corrected = None
    if chance.random() < 0.4:
        corrected = own[0]
        template = chosen[2]
        value = chance.choice([value for value in template.values if value != corrected.value])
        messages.append(_message([template.fill(value)], ()))
    return Conversation(name, messages, instructions, attachment, corrected)


def _message(statements: Sequence[Statement], chatter: Sequence[str]) -> tuple[str, Sequence[Statement]]:
    sentences = [*(f"{statement.words}." for statement in statements), *chatter]
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences), tuple(statements)
