"""Documents that contradict each other or only seem to, and questions about them, in English and Chinese.

Four sets of templates have different subjects, sentences and values: ``tuned`` for tuning, ``later`` for measuring,
and ``seen`` and ``heldout``, which were held out for the first two measurements and then used for tuning.
The same seed gives the same set. Each case concerns an invented subject with two or three documents of different
years. The documents state different values (``number``, ``period``, ``office``, ``negation``), or the same value in
other words (``agree``), or say something else about the same subject (``other``). The documents of all cases are in one
store, so each case also has documents about other subjects of the same kind beside it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

LANGUAGES = ("en", "zh")
CONFLICTS = ("number", "period", "office", "negation")
"""Kinds of cases whose documents contradict each other."""

CASES = 7
CONFLICT_ROUNDS = 4
"""Number of cases for each template, and of those whose documents contradict each other."""

THIRD_SHARE = 0.25
"""Share of the contradictions that have a third document with a third value."""

YEARS = (2024, 2022, 2019)


@dataclass(frozen=True, slots=True)
class ConflictCase:
    """A question, and the texts of which an answer must contain one for each document, newest first.

    ``dated``: the documents show their years. The texts are empty if the documents do not contradict each other.
    """

    kind: str
    question: str
    sides: tuple[str, ...]
    dated: bool


@dataclass(frozen=True, slots=True)
class ConflictSet:
    """Documents by file name, and the cases about them."""

    documents: Mapping[str, str]
    cases: Sequence[ConflictCase]


@dataclass(frozen=True, slots=True)
class Template:
    """A question about ``{x}``, sentences that answer it with ``{v}``, and rows of values that differ.

    ``same``: rows of values that are equal but written differently. A negation has sentences that affirm in
    ``sentences``, and sentences that deny in ``denials``; then there are no values.
    """

    kind: str
    subject: str
    question: str
    sentences: tuple[str, ...]
    values: tuple[tuple[str, ...], ...] = ()
    same: tuple[tuple[str, str], ...] = ()
    denials: tuple[str, ...] = ()
    other: str = ""
    """A sentence about the same subject that does not answer the question."""


PERSON = (("{p}", "{q}", "{r}"),)
SAME_PERSON = (("{p}", "{p}"),)

TEMPLATES: Mapping[str, Mapping[str, Sequence[Template]]] = {
    "en": {
        "tuned": (
            Template(
                "number",
                "{x} trail",
                "How long is the {x} trail?",
                ("The {x} trail is {v} long.", "The {x} trail runs through the woods for {v}."),
                (
                    ("14 km", "12 km", "11 km"),
                    ("14 kilometres", "12 km", "10 km"),
                    ("11 miles", "9 miles", "8 miles"),
                ),
                (("12 km", "12 kilometres"), ("12 km", "12,000 m")),
                other="The {x} trail crosses 16 bridges.",
            ),
            Template(
                "number",
                "{x} pool",
                "What does a day ticket for the {x} pool cost?",
                (
                    "A day ticket for the {x} pool costs {v}.",
                    "The price of a day ticket at the {x} pool is {v}.",
                ),
                (("5 EUR", "4 EUR", "3 EUR"), ("$7.50", "$6", "$5.50"), ("6 euros", "5.50 EUR", "5 EUR")),
                (("5 EUR", "5 euros"), ("$6", "6 dollars")),
                other="A locker at the {x} pool costs 1 EUR per day.",
            ),
            Template(
                "number",
                "{x} choir",
                "How many members does the {x} choir have?",
                ("The {x} choir has {v} members.", "There are {v} members in the {x} choir."),
                (("52", "45", "40"), ("61", "forty", "thirty-five")),
                (("40", "forty"),),
                other="The {x} choir gives 8 concerts a year.",
            ),
            Template(
                "number",
                "{x} ferry",
                "How long does the crossing with the {x} ferry take?",
                ("The crossing with the {x} ferry takes {v}.", "On the {x} ferry the crossing lasts {v}."),
                (("1 hour", "40 minutes", "30 minutes"), ("2 hours", "90 minutes", "75 minutes")),
                (("90 minutes", "1.5 hours"), ("1 hour", "60 minutes")),
                other="The {x} ferry carries 60 cars.",
            ),
            Template(
                "number",
                "{x} reservoir",
                "How deep is the {x} reservoir?",
                ("The {x} reservoir is {v} deep.", "The depth of the {x} reservoir is {v}."),
                (("21 m", "18 m", "17 m"), ("21 metres", "18 m", "16 m")),
                (("18 m", "18 metres"),),
                other="The dam of the {x} reservoir is 400 m wide.",
            ),
            Template(
                "period",
                "{x} library",
                "When does the {x} library open on Saturdays?",
                ("On Saturdays the {x} library opens at {v}.", "The {x} library opens at {v} on Saturdays."),
                (("10:30", "9:00", "8:30"), ("10 am", "9 am", "8 am"), ("11 a.m.", "10 a.m.", "9 a.m.")),
                (("9:00", "9 am"), ("09:30", "9.30 a.m.")),
                other="On Saturdays the {x} library reads to children for 45 minutes.",
            ),
            Template(
                "period",
                "{x} run",
                "Until when can one register for the {x} run?",
                (
                    "One can register for the {x} run until {v}.",
                    "Registration for the {x} run closes on {v}.",
                ),
                (("28 March", "14 March", "1 March"), ("2 June", "26 May", "20 May")),
                (("14 March", "March 14"), ("26 May", "26th of May")),
                other="The {x} run starts on 4 July.",
            ),
            Template(
                "period",
                "{x} market",
                "When is the {x} market held?",
                ("The {x} market is held {v}.", "Farmers meet {v} for the {x} market."),
                (
                    ("on Thursdays", "on Tuesdays", "on Mondays"),
                    ("from April to October", "from May to September", "from June to August"),
                ),
                (("on Tuesdays", "every Tuesday"),),
                other="The {x} market has 30 stalls.",
            ),
            Template(
                "period",
                "{x} bridge",
                "When was the {x} bridge built?",
                ("The {x} bridge was built in {v}.", "Engineers from the coast built the {x} bridge in {v}."),
                (("1891", "1884", "1880"),),
                (("1884", "the year 1884"),),
                other="The {x} bridge was painted in 1977.",
            ),
            Template(
                "period",
                "{x} museum",
                "What are the opening hours of the {x} museum?",
                (
                    "The opening hours of the {x} museum are {v}.",
                    "The {x} museum has opening hours from {v}.",
                ),
                (
                    ("10:00 to 18:00", "9:00 to 17:00", "9:00 to 16:00"),
                    ("10 am to 6 pm", "9 am to 5 pm", "9 am to 4 pm"),
                ),
                (("10:00 to 18:00", "10 am to 6 pm"),),
                other="A tour of the {x} museum lasts 50 minutes.",
            ),
            Template(
                "office",
                "{x} museum",
                "Who is the director of the {x} museum?",
                (
                    "The director of the {x} museum is {v}.",
                    "{v} is the director of the {x} museum.",
                    "{v} has been director of the {x} museum since spring.",
                ),
                PERSON,
                SAME_PERSON,
                other="The museum shop at {x} belongs to {q}.",
            ),
            Template(
                "office",
                "{x}",
                "Who is the mayor of {x}?",
                (
                    "{v} is the mayor of {x}.",
                    "The mayor of {x} is {v}.",
                    "The mayor of {x}, {v}, opened the fair.",
                ),
                PERSON,
                SAME_PERSON,
                other="{q} paints views of {x}.",
            ),
            Template(
                "office",
                "{x} rowing club",
                "Who chairs the {x} rowing club?",
                ("{v} chairs the {x} rowing club.", "The {x} rowing club is chaired by {v}."),
                PERSON,
                SAME_PERSON,
                other="{q} trains the juniors of the {x} rowing club.",
            ),
            Template(
                "negation",
                "{x} park",
                "Are dogs allowed in the {x} park?",
                ("Dogs are allowed in the {x} park.", "In the {x} park dogs are welcome."),
                denials=(
                    "Dogs are not allowed in the {x} park.",
                    "Dogs are forbidden in the {x} park.",
                    "The {x} park no longer admits dogs.",
                ),
                other="In the {x} park dogs have a pond.",
            ),
            Template(
                "negation",
                "{x} ferry",
                "Does the {x} ferry run in winter?",
                ("The {x} ferry runs in winter.", "In winter the {x} ferry runs as usual."),
                denials=(
                    "The {x} ferry does not run in winter.",
                    "In winter the {x} ferry is suspended.",
                    "The {x} ferry no longer runs in winter.",
                ),
                other="In winter the {x} ferry gets new paint.",
            ),
            Template(
                "negation",
                "{x} pool",
                "Is the {x} pool open on Mondays?",
                ("The {x} pool is open on Mondays.", "On Mondays the {x} pool is open as usual."),
                denials=("The {x} pool is closed on Mondays.", "The {x} pool is no longer open on Mondays."),
                other="On Mondays the {x} pool has music.",
            ),
            Template(
                "negation",
                "{x} clinic",
                "Is parking at the {x} clinic free?",
                ("Parking at the {x} clinic is free.", "Visitors of the {x} clinic enjoy free parking."),
                denials=(
                    "Parking at the {x} clinic is no longer free.",
                    "Parking at the {x} clinic is not free.",
                ),
                other="Parking at the {x} clinic is behind the kitchen.",
            ),
            Template(
                "negation",
                "{x} shop",
                "Does the {x} shop accept cash?",
                ("The {x} shop accepts cash.", "Cash is accepted in the {x} shop."),
                denials=("The {x} shop no longer accepts cash.", "The {x} shop refuses cash."),
                other="The {x} shop counts its cash at night.",
            ),
        ),
        "seen": (
            Template(
                "number",
                "{x} drill",
                "What is the warranty of the {x} drill?",
                ("The {x} drill comes with a warranty of {v}.", "Buyers of a {x} drill get {v} of warranty."),
                (("3 years", "2 years", "1 year"), ("36 months", "24 months", "18 months")),
                (("2 years", "24 months"), ("2 years", "two years")),
                other="Since last autumn the {x} drill is sold in 30 countries.",
            ),
            Template(
                "number",
                "{x} server",
                "How large may an upload to the {x} server be?",
                (
                    "An upload to the {x} server may be {v} large.",
                    "The {x} server takes an upload of at most {v}.",
                ),
                (("50 MB", "25 MB", "10 MB"), ("2 GB", "500 MB", "250 MB")),
                (("25 MB", "25 megabytes"),),
                other="The {x} server answers an upload within 200 ms.",
            ),
            Template(
                "number",
                "{x} Ltd",
                "How many employees does {x} Ltd have?",
                ("{x} Ltd has {v} employees.", "At {x} Ltd there are {v} employees."),
                (("1,450", "1,200", "900"), ("310", "two hundred and eighty", "250")),
                (("1,200", "1200"),),
                other="{x} Ltd gives its employees 27 days of leave.",
            ),
            Template(
                "number",
                "{x} loader",
                "How heavy is the {x} loader?",
                ("The {x} loader weighs {v}.", "Without its shovel the {x} loader is {v} heavy."),
                (("3.4 tonnes", "3.1 tonnes", "2.9 tonnes"), ("850 kg", "790 kg", "760 kg")),
                (("3.1 tonnes", "3,100 kg"),),
                other="The {x} loader lifts 1.2 tonnes.",
            ),
            Template(
                "number",
                "{x} road",
                "What is the speed limit on the {x} road?",
                ("The speed limit on the {x} road is {v}.", "On the {x} road a speed limit of {v} applies."),
                (("60 km/h", "80 km/h", "100 km/h"), ("30 mph", "40 mph", "50 mph")),
                (("80 km/h", "80 kilometres per hour"),),
                other="A fine on the {x} road is 120 euros.",
            ),
            Template(
                "period",
                "{x} office",
                "When does the {x} office close on Fridays?",
                (
                    "On Fridays the {x} office closes at {v}.",
                    "The doors of the {x} office close at {v} on Fridays.",
                ),
                (("3 pm", "5 pm", "6 pm"), ("15:30", "17:00", "18:00")),
                (("5 pm", "17:00"),),
                other="On Fridays the {x} office serves soup.",
            ),
            Template(
                "period",
                "{x} grant",
                "What is the deadline of the {x} grant?",
                (
                    "The deadline of the {x} grant is {v}.",
                    "Applications for the {x} grant have {v} as their deadline.",
                ),
                (("30 November", "15 October", "1 October"), ("January 31", "February 15", "March 1")),
                (("15 October", "October 15"),),
                other="The {x} grant pays 4,000 euros.",
            ),
            Template(
                "period",
                "{x} festival",
                "When does the {x} festival take place?",
                ("The {x} festival takes place {v}.", "Every summer {v} the {x} festival takes place."),
                (
                    ("in August", "in July", "in June"),
                    ("from 12 to 16 August", "from 5 to 9 July", "from 1 to 4 June"),
                ),
                (("in July", "in the month of July"),),
                other="The {x} festival has 3 stages.",
            ),
            Template(
                "period",
                "{x} bus",
                "When does the last {x} bus leave?",
                ("The last {x} bus leaves at {v}.", "At {v} the last {x} bus leaves."),
                (("22:45", "23:30", "23:50"), ("10.15 pm", "11 pm", "11.40 pm")),
                (("11 pm", "23:00"),),
                other="The {x} bus leaves every 20 minutes.",
            ),
            Template(
                "period",
                "{x} cathedral",
                "When was the organ of the {x} cathedral installed?",
                (
                    "The organ of the {x} cathedral was installed in {v}.",
                    "The {x} cathedral had its organ installed in {v}.",
                ),
                (("1923", "1911", "1907"),),
                (("1911", "the year 1911"),),
                other="The organ of the {x} cathedral was tuned in 2003.",
            ),
            Template(
                "office",
                "{x} Bank",
                "Who is the chief executive of {x} Bank?",
                (
                    "The chief executive of {x} Bank is {v}.",
                    "{v} is chief executive of {x} Bank.",
                    "{x} Bank is led by its chief executive {v}.",
                ),
                PERSON,
                SAME_PERSON,
                other="The annual report of {x} Bank was printed by {q}.",
            ),
            Template(
                "office",
                "{x} school",
                "Who is the head teacher of the {x} school?",
                (
                    "{v} is head teacher of the {x} school.",
                    "The head teacher of the {x} school, {v}, greets the pupils.",
                ),
                PERSON,
                SAME_PERSON,
                other="{q} planted the garden of the {x} school.",
            ),
            Template(
                "office",
                "{x} Rovers",
                "Who coaches the {x} Rovers?",
                ("{v} coaches the {x} Rovers.", "The {x} Rovers are coached by {v}."),
                PERSON,
                SAME_PERSON,
                other="{q} wrote a song for the {x} Rovers.",
            ),
            Template(
                "negation",
                "{x} lift",
                "Does the {x} lift operate at night?",
                ("The {x} lift operates at night.", "At night the {x} lift operates normally."),
                denials=(
                    "The {x} lift does not operate at night.",
                    "At night the {x} lift is out of service.",
                    "The {x} lift has stopped operating at night.",
                ),
                other="At night the {x} lift is lit in blue.",
            ),
            Template(
                "negation",
                "{x} app",
                "Does the {x} app support offline maps?",
                ("The {x} app supports offline maps.", "Offline maps are supported by the {x} app."),
                denials=(
                    "The {x} app does not support offline maps.",
                    "Support for offline maps was removed from the {x} app.",
                    "The {x} app lacks offline maps.",
                ),
                other="Offline maps of the {x} app use green for forests.",
            ),
            Template(
                "negation",
                "{x} beach",
                "Is camping permitted on the {x} beach?",
                ("Camping is permitted on the {x} beach.", "Visitors may go camping on the {x} beach."),
                denials=(
                    "Camping is prohibited on the {x} beach.",
                    "Camping on the {x} beach is not permitted.",
                    "Camping is banned on the {x} beach.",
                ),
                other="Camping on the {x} beach began with a scout group.",
            ),
            Template(
                "negation",
                "{x} course",
                "Is an exam required for the {x} course?",
                ("An exam is required for the {x} course.", "The {x} course requires an exam."),
                denials=(
                    "No exam is required for the {x} course.",
                    "An exam is optional for the {x} course.",
                ),
                other="The {x} course prints its exam on yellow paper.",
            ),
            Template(
                "negation",
                "{x} canteen",
                "Is the {x} canteen open during the holidays?",
                (
                    "The {x} canteen is open during the holidays.",
                    "During the holidays the {x} canteen stays open.",
                ),
                denials=(
                    "The {x} canteen is closed during the holidays.",
                    "During the holidays the {x} canteen remains shut.",
                ),
                other="During the holidays the {x} canteen gets new chairs.",
            ),
        ),
        "heldout": (
            Template(
                "number",
                "{x} tower",
                "How high is the {x} tower?",
                ("The {x} tower is {v} high.", "With a height of {v} the {x} tower is seen from afar."),
                (("96 m", "88 m", "85 m"), ("310 feet", "290 feet", "270 feet")),
                (("88 m", "88 metres"),),
                other="The {x} tower has 412 steps.",
            ),
            Template(
                "number",
                "{x} theatre",
                "How many seats does the {x} theatre have?",
                (
                    "The {x} theatre has {v} seats.",
                    "There is room for an audience on {v} seats in the {x} theatre.",
                ),
                (("720", "640", "600"), ("seven hundred", "640", "580")),
                (("640", "six hundred and forty"),),
                other="A season at the {x} theatre has 9 plays.",
            ),
            Template(
                "period",
                "{x} bakery",
                "What time does the {x} bakery open?",
                ("The {x} bakery opens at {v}.", "From {v} on, the {x} bakery is open."),
                (("6:30", "7:00", "7:30"), ("6 am", "7 am", "8 am")),
                (("7:00", "7 am"),),
                other="The {x} bakery bakes 300 loaves.",
            ),
            Template(
                "period",
                "{x} exhibition",
                "When does the {x} exhibition end?",
                (
                    "The {x} exhibition ends on {v}.",
                    "Until its end on {v}, the {x} exhibition is in the old hall.",
                ),
                (("21 June", "9 June", "2 June"), ("April 30", "April 12", "March 31")),
                (("9 June", "June 9"),),
                other="The {x} exhibition shows 120 maps.",
            ),
            Template(
                "office",
                "{x} Institute",
                "Who is the president of the {x} Institute?",
                (
                    "The president of the {x} Institute is {v}.",
                    "{v} serves as president of the {x} Institute.",
                    "The {x} Institute has elected {v} as its president.",
                ),
                PERSON,
                SAME_PERSON,
                other="{q} gave a talk at the {x} Institute.",
            ),
            Template(
                "office",
                "{x} orchestra",
                "Who conducts the {x} orchestra?",
                ("{v} conducts the {x} orchestra.", "The {x} orchestra is conducted by {v}."),
                PERSON,
                SAME_PERSON,
                other="{q} tunes the pianos of the {x} orchestra.",
            ),
            Template(
                "negation",
                "{x} tunnel",
                "May cyclists use the {x} tunnel?",
                ("Cyclists may use the {x} tunnel.", "The {x} tunnel is open to cyclists."),
                denials=(
                    "Cyclists may not use the {x} tunnel.",
                    "The {x} tunnel is closed to cyclists.",
                    "Cyclists are no longer allowed in the {x} tunnel.",
                ),
                other="Cyclists like the echo in the {x} tunnel.",
            ),
            Template(
                "negation",
                "{x} hotel",
                "Does the {x} hotel offer breakfast?",
                ("The {x} hotel offers breakfast.", "Breakfast is available in the {x} hotel."),
                denials=(
                    "The {x} hotel does not offer breakfast.",
                    "There is no breakfast in the {x} hotel.",
                    "The {x} hotel has stopped serving breakfast.",
                ),
                other="Breakfast in the {x} hotel was once served by a parrot.",
            ),
        ),
        "later": (
            Template(
                "number",
                "{x} canal",
                "How many locks does the {x} canal have?",
                ("The {x} canal has {v} locks.", "Boats pass {v} locks on the {x} canal."),
                (("24", "21", "19"), ("thirty", "27", "25")),
                (("21", "twenty-one"),),
                other="Boats on the {x} canal pay 15 euros.",
            ),
            Template(
                "number",
                "{x} printer",
                "How much does the {x} printer weigh?",
                ("The {x} printer weighs {v}.", "The weight of the {x} printer is {v}."),
                (("9 kg", "8.5 kg", "8 kg"), ("12 kg", "11,000 g", "10 kg")),
                (("8.5 kg", "8,500 g"),),
                other="The {x} printer holds 250 sheets of paper.",
            ),
            Template(
                "number",
                "{x} flat",
                "What is the monthly rent of the {x} flat?",
                (
                    "The monthly rent of the {x} flat is {v}.",
                    "For the {x} flat a monthly rent of {v} is charged.",
                ),
                (("950 EUR", "900 EUR", "860 EUR"), ("1,200 euros", "1,150 EUR", "1,100 EUR")),
                (("900 EUR", "900 euros"),),
                other="The {x} flat has 3 rooms.",
            ),
            Template(
                "number",
                "{x} train",
                "How long does the journey with the {x} train take?",
                ("The journey with the {x} train takes {v}.", "A journey with the {x} train lasts {v}."),
                (("2 hours", "105 minutes", "95 minutes"), ("50 minutes", "45 minutes", "40 minutes")),
                (("2 hours", "120 minutes"),),
                other="The {x} train has 6 carriages.",
            ),
            Template(
                "period",
                "{x} pharmacy",
                "When does the {x} pharmacy close on Sundays?",
                (
                    "On Sundays the {x} pharmacy closes at {v}.",
                    "The {x} pharmacy is open until {v} on Sundays.",
                ),
                (("13:00", "12:30", "12:00"), ("2 pm", "1 pm", "12 pm")),
                (("13:00", "1 pm"),),
                other="On Sundays the {x} pharmacy is staffed by 2 people.",
            ),
            Template(
                "period",
                "{x} law",
                "When did the {x} law come into force?",
                ("The {x} law came into force on {v}.", "It was on {v} that the {x} law came into force."),
                (
                    ("1 July 2018", "1 January 2018", "1 May 2017"),
                    ("March 3, 1999", "March 1, 1999", "February 1, 1999"),
                ),
                (("1 January 2018", "January 1, 2018"),),
                other="The {x} law was printed on 3 February 2016.",
            ),
            Template(
                "period",
                "{x} fair",
                "On which day does the {x} fair begin?",
                ("The {x} fair begins on {v}.", "On {v} the {x} fair begins."),
                (("5 September", "29 August", "22 August"), ("12 May", "5 May", "1 May")),
                (("5 May", "May 5"),),
                other="The {x} fair has 80 stands.",
            ),
            Template(
                "office",
                "{x} Foundation",
                "Who is the treasurer of the {x} Foundation?",
                (
                    "The treasurer of the {x} Foundation is {v}.",
                    "{v} is the treasurer of the {x} Foundation.",
                    "{v} works as treasurer for the {x} Foundation.",
                ),
                PERSON,
                SAME_PERSON,
                other="{q} painted the door of the {x} Foundation.",
            ),
            Template(
                "office",
                "{x} fire brigade",
                "Who commands the {x} fire brigade?",
                ("{v} commands the {x} fire brigade.", "The {x} fire brigade is commanded by {v}."),
                PERSON,
                SAME_PERSON,
                other="{q} drove for the {x} fire brigade once.",
            ),
            Template(
                "negation",
                "{x} spring",
                "Is the water of the {x} spring drinkable?",
                ("The water of the {x} spring is drinkable.", "The {x} spring has drinkable water."),
                denials=(
                    "The water of the {x} spring is not drinkable.",
                    "The water of the {x} spring is no longer drinkable.",
                ),
                other="The water of the {x} spring smells of iron.",
            ),
            Template(
                "negation",
                "{x} garage",
                "Can electric cars charge in the {x} garage?",
                (
                    "Electric cars can charge in the {x} garage.",
                    "In the {x} garage electric cars can charge.",
                ),
                denials=(
                    "Electric cars cannot charge in the {x} garage.",
                    "Electric cars can no longer charge in the {x} garage.",
                ),
                other="Electric cars in the {x} garage are mostly white.",
            ),
            Template(
                "negation",
                "{x} concert hall",
                "Are photographs permitted in the {x} concert hall?",
                (
                    "Photographs are permitted in the {x} concert hall.",
                    "Guests may take photographs in the {x} concert hall.",
                ),
                denials=(
                    "Photographs are prohibited in the {x} concert hall.",
                    "Photographs are not permitted in the {x} concert hall.",
                    "The {x} concert hall has banned photographs.",
                ),
                other="Photographs in the {x} concert hall show its architects.",
            ),
        ),
    },
    "zh": {
        "tuned": (
            Template(
                "number",
                "{x}步道",
                "{x}步道全长多少？",
                ("{x}步道全长{v}。", "{x}步道穿过树林，全长{v}。"),
                (
                    ("14公里", "12公里", "11公里"),
                    ("14公里", "12km", "10km"),
                    ("十四公里", "十二公里", "十公里"),
                ),
                (("12公里", "12km"), ("12公里", "12千米"), ("12公里", "十二公里")),
                other="{x}步道上有16座桥。",
            ),
            Template(
                "number",
                "{x}游泳馆",
                "{x}游泳馆的日票多少钱？",
                ("{x}游泳馆的日票是{v}。", "{x}游泳馆日票价格为{v}。"),
                (("35元", "30元", "25元"), ("四十元", "30元", "25元")),
                (("30元", "三十元"), ("30元", "30元人民币")),
                other="{x}游泳馆的储物柜每天2元。",
            ),
            Template(
                "number",
                "{x}合唱团",
                "{x}合唱团有多少名成员？",
                ("{x}合唱团有{v}名成员。", "{x}合唱团现有成员{v}名。"),
                (("52", "45", "40"), ("六十一", "四十", "三十五")),
                (("40", "四十"),),
                other="{x}合唱团每年举办8场音乐会。",
            ),
            Template(
                "number",
                "{x}渡轮",
                "{x}渡轮过江需要多长时间？",
                ("{x}渡轮过江需要{v}。", "乘{x}渡轮过江，用时{v}。"),
                (("1小时", "40分钟", "30分钟"), ("两小时", "90分钟", "75分钟")),
                (("1小时", "60分钟"), ("90分钟", "1.5小时")),
                other="{x}渡轮能装60辆汽车。",
            ),
            Template(
                "number",
                "{x}水库",
                "{x}水库有多深？",
                ("{x}水库深{v}。", "{x}水库的水深为{v}。"),
                (("21米", "18米", "17米"),),
                (("18米", "十八米"),),
                other="{x}水库的大坝宽400米。",
            ),
            Template(
                "period",
                "{x}图书馆",
                "{x}图书馆周六几点开门？",
                ("{x}图书馆周六{v}开门。", "周六，{x}图书馆的开门时间是{v}。"),
                (("10:30", "9:00", "8:30"), ("上午十点", "上午九点", "上午八点"), ("10点半", "9点", "8点半")),
                (("9:00", "上午九点"), ("9点", "九点")),
                other="{x}图书馆周六给孩子们读45分钟的书。",
            ),
            Template(
                "period",
                "{x}长跑",
                "{x}长跑什么时候截止报名？",
                ("{x}长跑{v}截止报名。", "{x}长跑的报名截止日期为{v}。"),
                (("3月28日", "3月14日", "3月1日"), ("六月二日", "五月二十六日", "五月二十日")),
                (("3月14日", "三月十四日"),),
                other="{x}长跑7月4日开跑。",
            ),
            Template(
                "period",
                "{x}集市",
                "{x}集市什么时候举行？",
                ("{x}集市{v}举行。", "{x}集市在{v}举行。"),
                (("每周四", "每周二", "每周一"), ("4月至10月", "5月至9月", "6月至8月")),
                (("每周二", "每星期二"),),
                other="{x}集市有30个摊位。",
            ),
            Template(
                "period",
                "{x}桥",
                "{x}桥建于哪一年？",
                ("{x}桥建于{v}。", "{x}桥是{v}建成的。"),
                (("1891年", "1884年", "1880年"),),
                (("1884年", "一八八四年"),),
                other="{x}桥1977年刷过漆。",
            ),
            Template(
                "period",
                "{x}博物馆",
                "{x}博物馆的开放时间是什么？",
                ("{x}博物馆的开放时间是{v}。", "{x}博物馆开放时间：{v}。"),
                (("10:00至18:00", "9:00至17:00", "9:00至16:00"), ("10点到18点", "9点到17点", "9点到16点")),
                (("9:00至17:00", "9点到17点"),),
                other="{x}博物馆的讲解持续50分钟。",
            ),
            Template(
                "office",
                "{x}博物馆",
                "{x}博物馆的馆长是谁？",
                ("{x}博物馆的馆长是{v}。", "{v}是{x}博物馆馆长。", "{x}博物馆由{v}担任馆长。"),
                PERSON,
                SAME_PERSON,
                other="{q}给{x}博物馆捐过一口钟。",
            ),
            Template(
                "office",
                "{x}县",
                "{x}县的县长是谁？",
                ("{v}是{x}县县长。", "{x}县的县长是{v}。", "{x}县县长{v}出席了开幕式。"),
                PERSON,
                SAME_PERSON,
                other="{q}画过{x}县的风景。",
            ),
            Template(
                "office",
                "{x}车间",
                "谁是{x}车间的主任？",
                ("{x}车间的主任是{v}。", "主任{v}负责{x}车间。", "{v}担任{x}车间主任。"),
                PERSON,
                SAME_PERSON,
                other="{q}为{x}车间写过一首诗。",
            ),
            Template(
                "negation",
                "{x}公园",
                "{x}公园可以遛狗吗？",
                ("{x}公园可以遛狗。", "{x}公园允许遛狗。"),
                denials=("{x}公园不可以遛狗。", "{x}公园禁止遛狗。", "{x}公园不再允许遛狗。"),
                other="{x}公园遛狗的人喜欢早晨。",
            ),
            Template(
                "negation",
                "{x}渡轮",
                "{x}渡轮冬季运行吗？",
                ("{x}渡轮冬季照常运行。", "冬季，{x}渡轮正常运行。"),
                denials=("{x}渡轮冬季停运。", "{x}渡轮冬季不运行。", "{x}渡轮冬季不再运行。"),
                other="{x}渡轮冬季刷漆。",
            ),
            Template(
                "negation",
                "{x}游泳馆",
                "{x}游泳馆周一开放吗？",
                ("{x}游泳馆周一照常开放。", "{x}游泳馆周一开放。"),
                denials=("{x}游泳馆周一闭馆。", "{x}游泳馆周一不再开放。", "{x}游泳馆周一不开放。"),
                other="{x}游泳馆周一播放音乐。",
            ),
            Template(
                "negation",
                "{x}医院",
                "{x}医院停车免费吗？",
                ("{x}医院停车免费。", "在{x}医院停车是免费的。"),
                denials=("{x}医院停车收费。", "{x}医院停车不再免费。", "{x}医院停车不免费。"),
                other="{x}医院停车要绕过厨房。",
            ),
            Template(
                "negation",
                "{x}商店",
                "{x}商店收现金吗？",
                ("{x}商店收现金。", "{x}商店接受现金。"),
                denials=("{x}商店不收现金。", "{x}商店拒收现金。", "{x}商店不再收现金。"),
                other="{x}商店的现金晚上清点。",
            ),
        ),
        "seen": (
            Template(
                "number",
                "{x}电钻",
                "{x}电钻的保修期是多久？",
                ("{x}电钻的保修期为{v}。", "购买{x}电钻，可享受{v}的保修期。"),
                (("3年", "2年", "1年"), ("36个月", "24个月", "18个月"), ("三年", "两年", "一年半")),
                (("2年", "两年"), ("24个月", "2年")),
                other="{x}电钻销往30个国家。",
            ),
            Template(
                "number",
                "{x}平台",
                "{x}平台单个文件最大可以上传多大？",
                ("{x}平台单个文件最大可上传{v}。", "在{x}平台上传单个文件，上限为{v}。"),
                (("50MB", "25MB", "10MB"), ("2GB", "500MB", "250MB")),
                (("25MB", "25 MB"),),
                other="{x}平台上传文件的响应时间为200毫秒。",
            ),
            Template(
                "number",
                "{x}公司",
                "{x}公司有多少员工？",
                ("{x}公司有{v}员工。", "{x}公司共有员工{v}。"),
                (("1450人", "1200人", "900人"), ("三百一十人", "二百八十人", "二百五十人")),
                (("1200人", "1,200人"), ("280人", "二百八十人")),
                other="{x}公司员工每年有27天年假。",
            ),
            Template(
                "number",
                "{x}装载机",
                "{x}装载机有多重？",
                ("{x}装载机重{v}。", "{x}装载机的重量是{v}。"),
                (("3.4吨", "3.1吨", "2.9吨"), ("850公斤", "790公斤", "760公斤")),
                (("3.1吨", "3100公斤"), ("790公斤", "790千克")),
                other="{x}装载机能举起1.2吨的货物。",
            ),
            Template(
                "number",
                "{x}公路",
                "{x}公路限速多少？",
                ("{x}公路限速{v}。", "{x}公路的限速为{v}。"),
                (("60公里", "80公里", "100公里"), ("每小时六十公里", "每小时八十公里", "每小时一百公里")),
                (("80公里", "八十公里"),),
                other="{x}公路的罚款是200元。",
            ),
            Template(
                "period",
                "{x}营业厅",
                "{x}营业厅周五几点关门？",
                ("{x}营业厅周五{v}关门。", "每逢周五，{x}营业厅于{v}关门。"),
                (
                    ("下午3点", "下午5点", "下午6点"),
                    ("15:30", "17:00", "18:00"),
                    ("下午三点半", "下午五点", "下午六点"),
                ),
                (("下午5点", "17:00"), ("下午五点", "下午5点")),
                other="{x}营业厅周五供应热汤。",
            ),
            Template(
                "period",
                "{x}基金",
                "{x}基金的申请截止到哪天？",
                ("{x}基金的申请截止到{v}。", "申请{x}基金，请在{v}前提交，逾期截止。"),
                (("11月30日", "10月15日", "10月1日"), ("十一月三十日", "十月十五日", "十月一日")),
                (("10月15日", "十月十五日"),),
                other="{x}基金资助4000元。",
            ),
            Template(
                "period",
                "{x}音乐节",
                "{x}音乐节在几月举办？",
                ("{x}音乐节在{v}举办。", "{x}音乐节每年{v}举办。"),
                (("8月", "7月", "6月"), ("八月", "七月", "六月")),
                (("7月", "七月"),),
                other="{x}音乐节有3个舞台。",
            ),
            Template(
                "period",
                "{x}专线",
                "{x}专线末班车几点发车？",
                ("{x}专线末班车{v}发车。", "{x}专线的末班车发车时间为{v}。"),
                (
                    ("22:45", "23:30", "23:50"),
                    ("晚上10点", "晚上11点", "晚上11点半"),
                    ("二十二点", "二十三点", "二十一点"),
                ),
                (("晚上11点", "23:00"), ("23:00", "23点")),
                other="{x}专线每20分钟发车一班。",
            ),
            Template(
                "period",
                "{x}大学",
                "{x}大学创建于哪一年？",
                ("{x}大学创建于{v}。", "{x}大学于{v}创建。"),
                (("1923年", "1911年", "1907年"),),
                (("1911年", "一九一一年"),),
                other="{x}大学2003年换了校徽。",
            ),
            Template(
                "office",
                "{x}银行",
                "{x}银行的行长是谁？",
                ("{x}银行的行长是{v}。", "{v}任{x}银行行长。", "{x}银行行长{v}发表了讲话。"),
                PERSON,
                SAME_PERSON,
                other="{q}设计了{x}银行的大门。",
            ),
            Template(
                "office",
                "{x}中学",
                "{x}中学的校长是谁？",
                ("{v}是{x}中学的校长。", "{x}中学现任校长为{v}。", "{x}中学的校长由{v}担任。"),
                PERSON,
                SAME_PERSON,
                other="{q}给{x}中学种过树。",
            ),
            Template(
                "office",
                "{x}队",
                "谁是{x}队的主教练？",
                ("{v}是{x}队的主教练。", "{x}队的主教练是{v}。", "{x}队聘请{v}出任主教练。"),
                PERSON,
                SAME_PERSON,
                other="{q}为{x}队写了一首歌。",
            ),
            Template(
                "negation",
                "{x}缆车",
                "{x}缆车夜间运营吗？",
                ("{x}缆车夜间照常运营。", "夜间{x}缆车正常运营。"),
                denials=("{x}缆车夜间停止运营。", "{x}缆车夜间暂停运营。", "{x}缆车夜间不运营。"),
                other="{x}缆车夜间亮蓝灯。",
            ),
            Template(
                "negation",
                "{x}软件",
                "{x}软件支持离线地图吗？",
                ("{x}软件支持离线地图。", "{x}软件提供离线地图。"),
                denials=("{x}软件不支持离线地图。", "{x}软件已取消离线地图。", "{x}软件没有离线地图。"),
                other="{x}软件的离线地图用绿色表示森林。",
            ),
            Template(
                "negation",
                "{x}沙滩",
                "{x}沙滩能露营吗？",
                ("{x}沙滩可以露营。", "游客能在{x}沙滩露营。"),
                denials=("{x}沙滩严禁露营。", "{x}沙滩不得露营。", "{x}沙滩不能露营。"),
                other="{x}沙滩露营的人多半是学生。",
            ),
            Template(
                "negation",
                "{x}课程",
                "{x}课程需要考试吗？",
                ("{x}课程需要考试。", "{x}课程必须考试。"),
                denials=("{x}课程无需考试。", "{x}课程不需要考试。", "{x}课程免考试。"),
                other="{x}课程的考试用黄色的纸。",
            ),
            Template(
                "negation",
                "{x}食堂",
                "{x}食堂假期营业吗？",
                ("{x}食堂假期照常营业。", "{x}食堂假期营业。"),
                denials=("{x}食堂假期歇业。", "{x}食堂假期不营业。", "{x}食堂假期停止营业。"),
                other="{x}食堂假期换桌椅。",
            ),
        ),
        "heldout": (
            Template(
                "number",
                "{x}塔",
                "{x}塔有多高？",
                ("{x}塔高{v}。", "{x}塔的高度为{v}。"),
                (("96米", "88米", "85米"), ("九十六米", "八十八米", "八十五米")),
                (("88米", "八十八米"),),
                other="{x}塔有412级台阶。",
            ),
            Template(
                "number",
                "{x}剧院",
                "{x}剧院有多少个座位？",
                ("{x}剧院有{v}个座位。", "{x}剧院共设座位{v}个。"),
                (("720", "640", "600"), ("七百二十", "六百四十", "六百")),
                (("640", "六百四十"),),
                other="{x}剧院每季上演9部戏。",
            ),
            Template(
                "period",
                "{x}面包店",
                "{x}面包店早上几点开门？",
                ("{x}面包店早上{v}开门。", "每天早上{v}，{x}面包店准时开门。"),
                (("6:30", "7:00", "7:30"), ("六点", "七点", "八点"), ("6点半", "7点", "7点半")),
                (("7:00", "7点"), ("七点", "7点")),
                other="{x}面包店早上烤300个面包。",
            ),
            Template(
                "period",
                "{x}展览",
                "{x}展览什么时候结束？",
                ("{x}展览{v}结束。", "{x}展览将于{v}结束。"),
                (("6月21日", "6月9日", "6月2日"), ("四月三十日", "四月十二日", "三月三十一日")),
                (("6月9日", "六月九日"),),
                other="{x}展览展出120幅地图。",
            ),
            Template(
                "office",
                "{x}研究所",
                "{x}研究所的所长是谁？",
                ("{x}研究所的所长是{v}。", "{v}现任{x}研究所所长。", "{x}研究所所长由{v}兼任。"),
                PERSON,
                SAME_PERSON,
                other="{q}在{x}研究所作过报告。",
            ),
            Template(
                "office",
                "{x}村",
                "谁是{x}村的村长？",
                ("{v}是{x}村村长。", "{x}村的村长是{v}。", "{v}当选{x}村村长。"),
                PERSON,
                SAME_PERSON,
                other="{q}给{x}村修过水车。",
            ),
            Template(
                "negation",
                "{x}隧道",
                "{x}隧道允许自行车通行吗？",
                ("{x}隧道允许自行车通行。", "自行车可以通行{x}隧道。"),
                denials=(
                    "{x}隧道禁止自行车通行。",
                    "{x}隧道不允许自行车通行。",
                    "{x}隧道不再允许自行车通行。",
                ),
                other="{x}隧道里的自行车铃声很响。",
            ),
            Template(
                "negation",
                "{x}酒店",
                "{x}酒店提供早餐吗？",
                ("{x}酒店提供早餐。", "{x}酒店照常供应早餐。"),
                denials=("{x}酒店不提供早餐。", "{x}酒店停止供应早餐。", "{x}酒店已取消早餐。"),
                other="{x}酒店的早餐曾经由鹦鹉端上桌。",
            ),
        ),
        "later": (
            Template(
                "number",
                "{x}运河",
                "{x}运河有多少座船闸？",
                ("{x}运河有{v}座船闸。", "{x}运河上共有船闸{v}座。"),
                (("24", "21", "19"), ("二十四", "二十一", "十九")),
                (("21", "二十一"),),
                other="{x}运河每年运煤300万吨。",
            ),
            Template(
                "number",
                "{x}打印机",
                "{x}打印机重多少？",
                ("{x}打印机重{v}。", "{x}打印机的净重为{v}。"),
                (("9公斤", "8.5公斤", "8公斤"), ("十二公斤", "十一公斤", "十公斤")),
                (("8.5公斤", "8500克"),),
                other="{x}打印机的纸盒能装250张纸。",
            ),
            Template(
                "number",
                "{x}公寓",
                "{x}公寓的月租是多少？",
                ("{x}公寓的月租是{v}。", "租住{x}公寓，月租{v}。"),
                (("2800元", "2500元", "2300元"), ("三千元", "两千八百元", "两千六百元")),
                (("2500元", "两千五百元"),),
                other="{x}公寓有3个房间。",
            ),
            Template(
                "number",
                "{x}列车",
                "乘{x}列车到终点要多久？",
                ("乘{x}列车到终点要{v}。", "{x}列车开到终点需{v}。"),
                (("两个半小时", "2小时", "100分钟"), ("一小时", "50分钟", "45分钟")),
                (("2小时", "120分钟"),),
                other="{x}列车有6节车厢。",
            ),
            Template(
                "period",
                "{x}药店",
                "{x}药店周日几点打烊？",
                ("{x}药店周日{v}打烊。", "周日，{x}药店{v}打烊。"),
                (("13:00", "12:30", "12:00"), ("下午两点", "下午一点", "中午十二点")),
                (("13:00", "下午一点"),),
                other="{x}药店周日有2人值班。",
            ),
            Template(
                "period",
                "{x}条例",
                "{x}条例自哪天起施行？",
                ("{x}条例自{v}起施行。", "自{v}起，{x}条例正式施行。"),
                (("2018年7月1日", "2018年1月1日", "2017年5月1日"), ("三月三日", "三月一日", "二月一日")),
                (("2018年1月1日", "二〇一八年一月一日"),),
                other="{x}条例2016年2月3日印发。",
            ),
            Template(
                "period",
                "{x}庙会",
                "{x}庙会哪天开始？",
                ("{x}庙会{v}开始。", "{x}庙会从{v}开始。"),
                (("9月5日", "8月29日", "8月22日"), ("五月十二日", "五月五日", "五月一日")),
                (("5月5日", "五月五日"),),
                other="{x}庙会有80个摊位。",
            ),
            Template(
                "office",
                "{x}基金会",
                "{x}基金会的秘书长是谁？",
                ("{x}基金会的秘书长是{v}。", "{v}是{x}基金会秘书长。", "{x}基金会秘书长一职由{v}担任。"),
                PERSON,
                SAME_PERSON,
                other="{q}给{x}基金会刷过门。",
            ),
            Template(
                "office",
                "{x}消防队",
                "谁是{x}消防队的队长？",
                ("{v}是{x}消防队的队长。", "{x}消防队队长是{v}。"),
                PERSON,
                SAME_PERSON,
                other="{q}为{x}消防队开过车。",
            ),
            Template(
                "negation",
                "{x}泉",
                "{x}泉的水能直接喝吗？",
                ("{x}泉的水能直接喝。", "{x}泉的水可以直接喝。"),
                denials=("{x}泉的水不能直接喝。", "{x}泉的水已不能直接喝。", "{x}泉的水不可以直接喝。"),
                other="{x}泉的水带铁味。",
            ),
            Template(
                "negation",
                "{x}车库",
                "{x}车库可以给电动车充电吗？",
                ("{x}车库可以给电动车充电。", "电动车能在{x}车库充电。"),
                denials=(
                    "{x}车库不可以给电动车充电。",
                    "{x}车库禁止电动车充电。",
                    "{x}车库不再给电动车充电。",
                ),
                other="{x}车库里的电动车多半是白色的。",
            ),
            Template(
                "negation",
                "{x}音乐厅",
                "{x}音乐厅允许拍照吗？",
                ("{x}音乐厅允许拍照。", "观众可以在{x}音乐厅拍照。"),
                denials=("{x}音乐厅禁止拍照。", "{x}音乐厅不允许拍照。", "{x}音乐厅谢绝拍照。"),
                other="{x}音乐厅的拍照点在门口。",
            ),
        ),
    },
}

FILLERS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "en": {
        "tuned": (
            "Little has been written about it.",
            "People from the neighbourhood helped a lot.",
            "A photograph hangs in the hall.",
            "More can be learned at the gate.",
        ),
        "heldout": (
            "It is worth a visit.",
            "The staff is friendly.",
            "Bring an umbrella.",
            "The view is fine.",
        ),
        "seen": (
            "Questions are answered by telephone.",
            "Please read this page with care.",
            "The text replaces nothing else.",
            "We thank everybody for their patience.",
        ),
        "later": (
            "Maps are sold nearby.",
            "The entrance faces the river.",
            "Snow is rare in the region.",
            "A plaque explains the name.",
        ),
    },
    "zh": {
        "tuned": (
            "关于它的文字不多。",
            "附近的居民出了不少力。",
            "大厅里挂着一张照片。",
            "详情可到门口了解。",
        ),
        "heldout": ("值得一去。", "工作人员很热情。", "记得带伞。", "风景不错。"),
        "seen": ("如有疑问请致电咨询。", "请仔细阅读本页。", "感谢大家的耐心。", "本文供参考。"),
        "later": ("附近有地图出售。", "大门朝着河。", "这一带很少下雪。", "名字的由来刻在牌子上。"),
    },
}

DATE_PLACES = ("file", "heading", "line", "sentence", "")
"""Where the documents of a case show their years; nowhere for the last."""

_NAMES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "en": {
        "tuned": ("Tar", "Bel", "Os", "Mil", "Ran"),
        "heldout": ("Gor", "Pel", "Ubr", "Fen", "Kas"),
        "seen": ("Cor", "Vin", "Hal", "Dre", "Lus"),
        "later": ("Ash", "Bram", "Wex", "Tol", "Nor"),
    },
    "zh": {
        "tuned": ("青", "白", "霜", "澄", "鹭", "枫"),
        "heldout": ("北", "南", "松", "柏", "碧", "紫"),
        "seen": ("永", "裕", "泰", "宏", "祥", "恒"),
        "later": ("金", "银", "玉", "龙", "凤", "华"),
    },
}
_NAME_ENDS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "en": {
        "tuned": ("beck", "mond", "wick", "ford", "stead"),
        "heldout": ("ley", "tal", "mar", "dun", "vik"),
        "seen": ("ano", "eria", "owen", "ico", "utt"),
        "later": ("holm", "ridge", "croft", "minster", "gate"),
    },
    "zh": {
        "tuned": ("溪", "石", "云", "岭", "湾", "林"),
        "heldout": ("山", "泉", "峰", "谷", "塘", "桥"),
        "seen": ("安", "昌", "隆", "和", "达", "丰"),
        "later": ("川", "海", "沙", "原", "河", "洲"),
    },
}
_FIRST: Mapping[str, Mapping[str, Sequence[str]]] = {
    "en": {
        "tuned": ("Anna", "Tom", "Ilse", "Nora"),
        "heldout": ("Karin", "Hugo", "Maria", "Sven"),
        "seen": ("Peter", "Grace", "Omar", "Lucy"),
        "later": ("Ruth", "Ivan", "Clara", "Dev"),
    },
    "zh": {
        "tuned": ("王", "李", "张", "陈"),
        "heldout": ("徐", "孙", "马", "朱"),
        "seen": ("赵", "周", "吴", "林"),
        "later": ("黄", "何", "高", "罗"),
    },
}
_LAST: Mapping[str, Mapping[str, Sequence[str]]] = {
    "en": {
        "tuned": ("Weber", "Fuchs", "Lindqvist", "Okafor"),
        "heldout": ("Petrov", "Nakamura", "Berg", "Dubois"),
        "seen": ("Hansen", "Moreau", "Costa", "Whitfield"),
        "later": ("Novak", "Sato", "Lindgren", "Okoye"),
    },
    "zh": {
        "tuned": ("建国", "晓明", "秀英", "文博"),
        "heldout": ("国栋", "佳怡", "振华", "美玲"),
        "seen": ("志强", "丽华", "海涛", "雨桐"),
        "later": ("俊杰", "淑芬", "立新", "思远"),
    },
}
_MONTHS: Mapping[str, str] = {"en": "March", "zh": "3月"}


def generate(language: str, templates: str, seed: int) -> ConflictSet:
    """Return a set in one language (``en``, ``zh``) from one set of templates (``tuned``, ``seen`` …)."""
    chance = random.Random(f"{seed} {language} {templates} conflicts")
    names = [
        f"{begin}{end}" for begin in _NAMES[language][templates] for end in _NAME_ENDS[language][templates]
    ]
    persons = [
        f"{first}{last}" if language == "zh" else f"{first} {last}"
        for first in _FIRST[language][templates]
        for last in _LAST[language][templates]
    ]
    documents: dict[str, str] = {}
    cases: list[ConflictCase] = []
    for template in TEMPLATES[language][templates]:
        subjects = chance.sample(names, CASES)
        for subject, (kind, statements) in zip(subjects, _statements(template, chance), strict=True):
            people = dict(zip("pqr", chance.sample(persons, 3), strict=True))
            date = DATE_PLACES[len(cases) % len(DATE_PLACES)]
            for place, (statement, _side) in enumerate(statements):
                text = statement.format(x=subject, **people)
                title = template.subject.format(x=subject)
                document = _document(
                    text, title, YEARS[place], date, language, chance.sample(FILLERS[language][templates], 2)
                )
                year = f"-{YEARS[place]}" if date == "file" else ""
                name = f"{len(cases):03}{'cab'[place]}-{title.replace(' ', '-')}{year}.md"
                documents[name] = document
            cases.append(
                ConflictCase(
                    kind,
                    template.question.format(x=subject),
                    tuple(side.format(x=subject, **people) for _statement, side in statements)
                    if kind in CONFLICTS
                    else (),
                    date != "",
                )
            )
    return ConflictSet(documents, cases)


def _statements(template: Template, chance: random.Random) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the kind of each case of a template, and for each document its statement and the text that an answer must
    contain, newest first.
    """

    def put(value: str) -> tuple[str, str]:
        return chance.choice(template.sentences).replace("{v}", value), value

    for number in range(CONFLICT_ROUNDS):
        third = chance.random() < THIRD_SHARE
        if template.denials:
            sides = [chance.choice(template.sentences), chance.choice(template.denials)]
            chance.shuffle(sides)
            yield template.kind, [(side, side.removesuffix(".").removesuffix("。")) for side in sides]
        else:
            values = template.values[number % len(template.values)]
            yield template.kind, [put(value) for value in values[: 3 if third else 2]]
    if template.denials:
        side = template.sentences if chance.random() < 0.5 else template.denials
        pairs = [chance.sample(side, 2) for _ in range(2)]
        yield from (("agree", [(text, "") for text in pair]) for pair in pairs)
    else:
        for pair in (template.same * 2)[:2]:
            yield "agree", [put(value) for value in pair]
    statement = put(template.values[0][0]) if template.values else (template.sentences[0], "")
    yield "other", [statement, (template.other, "")]


def _document(text: str, title: str, year: int, date: str, language: str, fillers: Sequence[str]) -> str:
    """Return a document with a statement. ``date`` says where it shows its year."""
    english = language == "en"
    month = _MONTHS[language]
    if date == "heading":
        title = f"{title}, {month} {year}" if english else f"{title}（{year}年{month}）"
    elif date == "sentence":
        text = f"As of {year}: {text}" if english else f"截至{year}年，{text}"
    space = " " if english else ""
    parts = [f"# {title}", space.join((fillers[0], text, fillers[1]))]
    if date == "line":
        parts.insert(1, f"Last updated: {month} {year}" if english else f"发布日期：{year}年{month}")
    return "\n\n".join(parts) + "\n"
