"""Questions over one to three passages about many kinds of names: ``generate("en", "heldout", seed=1, chains=12)``.

Where `multihop.py` has one chain with capitalised names, this set has several families of relations, and names that
no capital letter or ending marks: lower-case products, codes, and Chinese names of people, places and companies.
Sentences are passive, have the name in the middle, an apposition, or a pronoun that refers to the previous sentence.
The families, sentences and questions of ``tuned`` and ``heldout`` have nothing in common.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multihop import FILLERS, MultihopQuestion, MultihopSet

HOP_CHAINS = 12
"""Number of chains of a family; each has as many questions as its family."""


@dataclass(frozen=True, slots=True)
class Family:
    """Names that lead from one to the next. ``facts`` has the sentences for each step from ``{a}`` to ``{b}``,
    ``asides`` other sentences about ``{x}`` for each kind of name.

    A question is the number of its first name, its hops, and its text.
    """

    kinds: Sequence[str]
    facts: Sequence[Sequence[str]]
    asides: Sequence[Sequence[str]]
    questions: Sequence[tuple[int, int, str]]


NAME_PARTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "en": {
        "person": (
            "Ines|Pavel|Ruth|Omar|Greta|Silas|Wanda|Hugo|Freya|Lionel|Petra|Amos",
            " ",
            "Calder|Whitlock|Sorensen|Ibarra|Maddox|Pell|Farrow|Quist|Hargreave|Lund|Teasdale|Okafor",
        ),
        "employer": (
            "Brandt|Calloway|Ferrix|Morrow|Stellan|Tarn|Vickers|Aldous|Pike|Rowan|Hexham|Dunmore",
            " ",
            "Logistics|& Moor|Instruments|Glass|Shipping|Analytics",
        ),
        "city": (
            "Ash|Bram|Cold|Dun|Elm|Fen|Gar|Hollow|Kirk|Lang|Mar|Nether",
            "bridge|ford|haven|mouth|stead|wick",
        ),
        "river": ("Ar|Bel|Cor|Der|Esk|Fal|Ise|Lod|Nar|Orr|Tav|Wey", "a|en|ith|le|ow|une"),
        "part": (
            "rust|brass|north|south|amber|slate|copper|flint|gale|birch|iron|chalk",
            "-| gate | ",
            "widget|pump|valve|gasket|hinge|coupling|spindle|bracket",
        ),
        "supplier": (
            "oakfield|westmere|larkhill|stonebeck|redcliff|millbrook|ashdown|fernleigh|highmoor|coldwell",
            " ",
            "castings|fasteners|tooling|alloys|springs",
        ),
        "contract": (
            "AB|KL|QR|TS|WX|ZD",
            "-",
            "1100|1117|1134|1151|1168|1185|1202|1219|1236|1253|1270|1287|1304|1321|1338|1355|1372|1389",
        ),
        "days": ("2|4|5|6|7|8|9|10|12|13|14|15", "1|2|3|4|5|6|7|8|9", " days"),
        "ship": (
            "Grey|Silver|Lonely|Merry|Northern|Patient|Crimson|Steady|Royal|Hidden",
            " ",
            "Heron|Lantern|Margaret|Tern|Compass|Dolphin|Harvest|Thistle",
        ),
        "school": (
            "Saint-Brannoc|Tolworth|Eastlea|Penhallow|Marchmont|Corvane|Haldon|Wexley|Orford",
            " ",
            "Academy|Naval College|Grammar School|Institute",
        ),
        "library": (
            "tidy|quick|paper|cloud|lazy|moss|tiny|echo|quiet|plain|dusk|cedar",
            "-",
            "parser|queue|router|cache|ledger|mixer|scraper|broker",
        ),
        "team": (
            "harbour|lighthouse|kestrel|juniper|monsoon|granite|saffron|otter|walnut|pelican",
            " ",
            "crew|guild|desk|circle",
        ),
        "room": ("A|B|C|D|E|F|G|H", "2|4|5|6|7|8|9|10|12|13|14|15", "1|2|3|4|5|6|7|8|9"),
    },
    "zh": {
        "person": (
            "王|李|张|刘|陈|杨|黄|赵|周|吴|徐|孙|欧阳|上官",
            "建国|志强|秀英|海燕|雨桐|子轩|敏|磊|婷婷|文博|丽华|晓东|思远|国栋|玉兰",
        ),
        "employer": (
            "华腾|锐捷达|博远|天瑞|鼎新|卓越达|蓝信|金帆|中旭|远景",
            "科技|物流|食品|商贸|集团|生物",
        ),
        "city": ("临|永|安|清|宁|德|福|武|平|新", "川|州|阳|宁|城|溪|源|丰"),
        "river": ("白|清|乌|沙|金|青|赤|澜|汝|灵", "水河|龙江|溪|沙江|石河|沧江"),
        "part": (
            "北门|铜芯|高压|三号|静音|防锈|双层|快装|耐磨|车顶",
            "水泵|阀门|垫片|轴承|滤芯|支架|接头",
        ),
        "supplier": (
            "宏达|永兴|顺昌|明辉|长盛|佳鑫|利民|恒丰|东升|万通",
            "铸造|五金|机电|轴业|弹簧",
        ),
        "contract": (
            "HT|CG|XY|ZB",
            "-",
            "2001|2018|2035|2052|2069|2086|2103|2120|2137|2154|2171|2188|2205|2222|2239|2256|2273|2290|2307|2324|2341|2358|2375|2392",
        ),
        "days": ("2|4|5|6|7|8|9|10|12|13|14|15", "1|2|3|4|5|6|7|8|9", "天"),
        "ship": ("海棠|远帆|东方|破浪|银鸥|长风|晨星|碧波|金鲤|望归", "号|一号|二号|三号|轮"),
        "school": (
            "崇文|启明|滨海|育才|江东|南屏|博雅|求实|弘毅|致远",
            "航海学校|商船学院|职业学校|水产专科学校",
        ),
        "town": ("石|桃|柳|沙|竹|柏|枣|荷|梅|杏", "埠|坪|塘|湾|岭|滩|浦|垭"),
        "library": (
            "tidy|quick|paper|cloud|lazy|moss|tiny|echo|quiet|plain|dusk|cedar",
            "-",
            "parser|queue|router|cache|ledger|mixer|scraper|broker",
        ),
        "team": ("灯塔|红隼|季风|花岗|水獭|胡桃|鹈鹕|海港|银杏|北斗", "小组|工作室|班"),
        "room": ("甲|乙|丙|丁", "1|2|3|4", "02|05|07|11|13|18|21|26", "室"),
    },
}
"""The parts of each kind of name, each with its choices."""

FAMILIES: Mapping[str, Mapping[str, Sequence[Family]]] = {
    "en": {
        "tuned": (
            Family(
                ("person", "employer", "city", "river"),
                (
                    (
                        "Since the spring {a} has worked for {b} as an accountant.",
                        "Nobody at the desk knew {a} well. She was hired by {b} on the advice of a friend.",
                        "The payroll of {b} lists {a}, a clerk of the second grade.",
                    ),
                    (
                        "The head office of {a}, a firm of eighty people, was moved to {b}.",
                        "It took a year to find rooms for {a}. They were rented in {b} at last.",
                        "In {b} the offices of {a} fill two floors above the bank.",
                    ),
                    (
                        "Every bridge in {a} crosses the {b}, and most of them are made of stone.",
                        "{a} is an old town. The {b} runs past its walls and turns two mills.",
                        "Water for the gardens of {a} is taken from the {b} at night.",
                    ),
                ),
                (
                    ("{x} plays the oboe on Sundays.", "A letter to {x} was returned unopened."),
                    (
                        "The canteen of {x} is praised for its soup.",
                        "Last year {x} lost a case about a fence.",
                    ),
                    ("The market in {x} closes at noon.", "A new bus line connects {x} with the coast."),
                    ("An angler caught a pike in the {x}.",),
                ),
                (
                    (0, 1, "For which firm does {x} work?"),
                    (0, 2, "In which city is the employer of {x} based?"),
                    (1, 2, "Which river flows through the city where {x} has its head office?"),
                    (0, 3, "Which river flows through the city where the employer of {x} is based?"),
                ),
            ),
            Family(
                ("part", "supplier", "contract", "days"),
                (
                    (
                        "We buy the {a} from {b}, never from stock.",
                        "The {a} broke twice last winter. It is supplied by {b} in boxes of ten.",
                        "For spares, {b} delivers the {a} within a week.",
                    ),
                    (
                        "Everything that {a} sells us is covered by contract {b}.",
                        "With {a} we signed {b}, a frame agreement for two years.",
                        "Prices were agreed with {a} in May. They are fixed in {b} until further notice.",
                    ),
                    (
                        "Under {a}, notice must be given {b} before the end of the term.",
                        "The notice period in {a} is {b}, counted from the first of the month.",
                        "{a} can be ended by either side. Notice has to arrive {b} in advance.",
                    ),
                ),
                (
                    ("Store the {x} in a dry place.", "A drawing of the {x} hangs in the workshop."),
                    ("The driver of {x} arrives on Tuesdays.", "An audit at {x} found nothing of note."),
                    ("A copy of {x} is filed with the legal department.", "Nobody has read {x} to the end."),
                    (),
                ),
                (
                    (0, 1, "Who supplies the {x}?"),
                    (0, 2, "Under which contract does the supplier of the {x} deliver?"),
                    (1, 2, "What is the notice period of the contract with {x}?"),
                    (0, 3, "What is the notice period of the contract with the supplier of the {x}?"),
                ),
            ),
        ),
        "heldout": (
            Family(
                ("ship", "person", "school", "city"),
                (
                    (
                        "Command of the {a} passed to {b} in a gale.",
                        "When the {a} sailed, {b}, then aged thirty, stood on the bridge as master.",
                        "The {a} had a bad name in port. Her captain was {b}, who never swore.",
                    ),
                    (
                        "Among the pupils of {a} the register names {b} with the best marks in geometry.",
                        "{b} was bright but poor. A scholarship paid for four years at {a}.",
                        "Navigation was taught to {b} at {a} by a retired pilot.",
                    ),
                    (
                        "{a}, a building with a copper dome, overlooks the square of {b}.",
                        "Visitors to {b} are shown the observatory of {a}.",
                        "The founders of {a} wanted clean air. They chose {b} for its hills.",
                    ),
                ),
                (
                    ("The figurehead of the {x} was carved from lime wood.", "Rats left the {x} in March."),
                    ("{x} collected shells and maps.", "The widow of the cook wrote to {x} twice."),
                    ("Winter lessons at {x} begin before dawn.", "A storm took the roof of {x}."),
                    ("Cherries from {x} are sold as far as the capital.",),
                ),
                (
                    (0, 1, "Who was the captain of the {x}?"),
                    (0, 2, "Which school did the captain of the {x} attend?"),
                    (1, 2, "In what town is the school that {x} attended?"),
                    (0, 3, "In what town is the school that the captain of the {x} attended?"),
                ),
            ),
            Family(
                ("library", "team", "person", "room"),
                (
                    (
                        "Pull requests to {a} are reviewed by the {b} before lunch.",
                        "The code of {a} is small. Its upkeep lies with the {b} these days.",
                        "Ownership of {a}, a module of nine files, went to the {b}.",
                    ),
                    (
                        "The {a} reports to {b}, and so do the interns.",
                        "Appointed lead of the {a} was {b}, to everyone's surprise.",
                        "The {a} has six members. {b} leads it and hates meetings.",
                    ),
                    (
                        "You will meet {a} in {b}, behind the glass door.",
                        "The desk of {a} is not hard to locate: go to {b} and look for plants.",
                        "{a} moved last week. The new office is {b}, next to the kitchen.",
                    ),
                ),
                (
                    ("The logo of {x} shows a snail.", "A talk about {x} was given in Lisbon."),
                    ("The {x} eats together on Fridays.", "A mug with the words {x} was left in the sink."),
                    ("{x} cycles to work even in snow.", "The badge of {x} stopped working."),
                    ("The heating in {x} is too strong.",),
                ),
                (
                    (0, 1, "Which team maintains {x}?"),
                    (0, 2, "Who leads the team that maintains {x}?"),
                    (1, 2, "In which room does the lead of the {x} sit?"),
                    (0, 3, "In which room does the lead of the team that maintains {x} sit?"),
                ),
            ),
        ),
    },
    "zh": {
        "tuned": (
            Family(
                ("person", "employer", "city", "river"),
                (
                    (
                        "从今年春天起，{a}就在{b}做会计。",
                        "办公室里没有人跟{a}熟。她是经朋友介绍进{b}上班的。",
                        "{b}的工资表上有{a}，一名二级文员。",
                    ),
                    (
                        "{a}有八十名员工，总部前年搬到了{b}。",
                        "找了一年，{a}才找到合适的办公楼。新址选在{b}。",
                        "在{b}，{a}占了银行楼上的两层。",
                    ),
                    (
                        "{a}的桥都架在{b}上，大多是石头砌的。",
                        "{a}是座老城。{b}从城墙外绕过，带动两座水磨。",
                        "{a}浇花园的水，夜里从{b}里抽。",
                    ),
                ),
                (
                    ("{x}星期天吹双簧管。", "有一封寄给{x}的信被原样退回。"),
                    ("{x}食堂的汤很有名。", "去年{x}为一道围墙打输了官司。"),
                    ("{x}的早市中午就散。", "新开的公交线把{x}和海边连了起来。"),
                    ("有人在{x}里钓到一条大鱼。",),
                ),
                (
                    (0, 1, "{x}在哪家公司上班？"),
                    (0, 2, "{x}所在的公司总部在哪个城市？"),
                    (1, 2, "{x}总部所在的城市有哪条河？"),
                    (0, 3, "{x}工作的公司总部所在的城市有哪条河？"),
                ),
            ),
            Family(
                ("part", "supplier", "contract", "days"),
                (
                    (
                        "{a}一直向{b}订货，不留库存。",
                        "去年冬天{a}坏了两次。它由{b}供货，十个一箱。",
                        "要备件的话，{b}一周之内就能送来{a}。",
                    ),
                    (
                        "{a}卖给我们的东西都按合同{b}执行。",
                        "我们同{a}签了{b}，是一份两年的框架协议。",
                        "五月跟{a}谈好了价格。价格写在{b}里，暂不调整。",
                    ),
                    (
                        "按照{a}，要在到期前{b}提出终止。",
                        "{a}约定的通知期是{b}，从每月一号算起。",
                        "{a}双方都可以解除。通知须提前{b}送达。",
                    ),
                ),
                (
                    ("{x}要放在干燥的地方。", "车间里挂着{x}的图纸。"),
                    ("{x}的司机每周二来。", "对{x}的审核没有查出什么。"),
                    ("{x}的副本存在法务部。", "没有人把{x}从头到尾看完。"),
                    (),
                ),
                (
                    (0, 1, "{x}是谁供货的？"),
                    (0, 2, "{x}的供应商适用哪份合同？"),
                    (1, 2, "与{x}的合同通知期是多少天？"),
                    (0, 3, "与{x}供应商的合同通知期是多少天？"),
                ),
            ),
        ),
        "heldout": (
            Family(
                ("ship", "person", "school", "town"),
                (
                    (
                        "大风里，{a}交给了{b}指挥。",
                        "{a}出海那天，三十岁的{b}站在驾驶台上当船长。",
                        "{a}在港口名声不好。船长{b}却从不骂人。",
                    ),
                    (
                        "{a}的学籍册里，几何成绩最好的是{b}。",
                        "{b}聪明，可家里穷。靠助学金才在{a}念完四年书。",
                        "教{b}航海的是{a}一位退休的引水员。",
                    ),
                    (
                        "{a}有铜色的圆顶，正对着{b}的广场。",
                        "到{b}的游客都要去看{a}的天文台。",
                        "办{a}的人想要好空气。他们看中了{b}的山。",
                    ),
                ),
                (
                    ("{x}船头的雕像是椴木的。", "三月里，老鼠都离开了{x}。"),
                    ("{x}喜欢收集贝壳和地图。", "厨师的遗孀给{x}写过两封信。"),
                    ("冬天{x}天没亮就上课。", "一场风暴掀掉了{x}的屋顶。"),
                    ("{x}的樱桃一直卖到省城。",),
                ),
                (
                    (0, 1, "{x}的船长是谁？"),
                    (0, 2, "{x}的船长毕业于哪所学校？"),
                    (1, 2, "{x}就读的学校在什么地方？"),
                    (0, 3, "{x}的船长就读的学校在什么地方？"),
                ),
            ),
            Family(
                ("library", "team", "person", "room"),
                (
                    (
                        "提交给{a}的改动，午饭前由{b}审阅。",
                        "{a}的代码不多。眼下归{b}维护。",
                        "{a}只有九个文件，已经移交{b}。",
                    ),
                    (
                        "{a}向{b}汇报，实习生也一样。",
                        "出乎大家意料，{a}的组长是{b}。",
                        "{a}一共六个人。带队的{b}最讨厌开会。",
                    ),
                    (
                        "要见{a}，请到玻璃门后面的{b}。",
                        "{a}的座位不难找：进{b}，看见绿植就是。",
                        "{a}上周搬了。新办公室在{b}，挨着茶水间。",
                    ),
                ),
                (
                    ("{x}的图标是一只蜗牛。", "有人在里斯本讲过{x}。"),
                    ("{x}每周五一起吃饭。", "水池里有一只印着{x}的杯子。"),
                    ("下雪天{x}也骑车上班。", "{x}的门禁卡坏了。"),
                    ("{x}的暖气太热。",),
                ),
                (
                    (0, 1, "{x}由哪个团队维护？"),
                    (0, 2, "维护{x}的团队由谁负责？"),
                    (1, 2, "{x}的负责人在哪间办公室？"),
                    (0, 3, "维护{x}的团队，其负责人在哪间办公室？"),
                ),
            ),
        ),
    },
}


class _NamePool:
    """Names of each kind, all different."""

    def __init__(self, language: str, chance: random.Random) -> None:
        self._parts = NAME_PARTS[language]
        self._chance = chance
        self._used: set[str] = set()

    def draw(self, kind: str) -> str:
        """Return a name of ``kind`` that no earlier call has returned."""
        while (
            name := "".join(self._chance.choice(part.split("|")) for part in self._parts[kind])
        ) in self._used:
            pass
        self._used.add(name)
        return name


def generate(language: str, templates: str, seed: int, chains: int = HOP_CHAINS) -> MultihopSet:
    """Return the set of all families in one language (``en``, ``zh``), from one half (``tuned``, ``heldout``)."""
    chance = random.Random(f"{seed} {language} {templates} families")
    names = _NamePool(language, chance)
    space = " " if language == "en" else ""
    passages: list[str] = []
    drafts: list[tuple[str, int, list[int], str]] = []

    def add_passage(sentence: str) -> int:
        before, after = chance.sample(list(FILLERS[language]), 2)
        order = [before, sentence, after] if chance.random() < 0.5 else [sentence, before, after]
        passages.append(space.join(order))
        return len(passages) - 1

    for family in FAMILIES[language][templates]:
        for _ in range(chains):
            chain = [names.draw(kind) for kind in family.kinds]
            numbers = [
                add_passage(_sentence(chance.choice(facts).format(a=a, b=b)))
                for facts, a, b in zip(family.facts, chain, chain[1:], strict=False)
            ]
            for aside_group, name in zip(family.asides, chain, strict=True):
                for aside in aside_group:
                    add_passage(_sentence(aside.format(x=name)))
            for first, hops, text in family.questions:
                evidence = numbers[first : first + hops]
                drafts.append((text.format(x=chain[first]), hops, evidence, chain[first + hops]))
    order = list(range(len(passages)))
    chance.shuffle(order)
    file_names = {number: f"h{position:05}" for position, number in enumerate(order)}
    return MultihopSet(
        {file_names[number]: passages[number] for number in order},
        [
            MultihopQuestion(text, hops, tuple(file_names[number] for number in evidence), answer)
            for text, hops, evidence, answer in drafts
        ],
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
