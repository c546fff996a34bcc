"""Cross-references and formatter lines of reStructuredText and AsciiDoc, as a reader sees them."""

import pytest
from tests.server.features.readers.reading import Reading

SHOWN = {
    "a label with a title": ("rst", "See :ref:`the guide <guide_label>`.", "See the guide."),
    "a label without space": ("rst", ":ref:`Forum<ansible_forum>`", "Forum"),
    "a label alone": ("rst", "See :ref:`intro_inventory`.", "See intro_inventory."),
    "a document": ("rst", ":doc:`Tutorial </intro/tutorial>`", "Tutorial"),
    "a variable and a file": ("rst", ":envvar:`HOME` and :file:`a.cfg`", "HOME and a.cfg"),
    "a name of a domain": ("rst", ":py:func:`~os.path.join`", "os.path.join"),
    "a name that is no link": ("rst", ":class:`!Model`", "Model"),
    "an abbreviation": ("rst", ":abbr:`LIFO (last in, first out)`", "LIFO (last in, first out)"),
    "a literal about a role": ("rst", "Write ``:ref:`label```.", "Write ``:ref:`label```."),
    "a link": ("rst", "`Python <https://python.org>`_", "`Python <https://python.org>`_"),
    "a role without an end": ("rst", "See :ref:`guide", "See :ref:`guide"),
    "a page of the manual": ("adoc", "See linkgit:git-branch[1].", "See git-branch(1)."),
    "an anchor": ("adoc", "See <<EXAMPLES>>.", "See EXAMPLES."),
    "an anchor with a title": ("adoc", "See <<db,Database Backend>>.", "See Database Backend."),
    "a reference": ("adoc", "xref:install.adoc#linux[Linux]", "Linux"),
    "a reference without a text": ("adoc", "link:howto/new.html[]", "howto/new.html"),
    "attributes that are characters": ("adoc", "`{litdd}graph HEAD{caret}2`", "`--graph HEAD^2`"),
    "another attribute": ("adoc", "version {release}", "version {release}"),
    "a condition": ("adoc", "One.\nifdef::git-pull[]\nTwo.\nendif::git-pull[]", "One.\n\nTwo."),
    "a comment": ("adoc", "One.\n// A note to authors\nTwo.", "One.\n\nTwo."),
    "an item that continues": ("adoc", "* One.\n+\nTwo.", "* One.\n\nTwo."),
    "code": ("adoc", "----\n+\n<<EOF>> // {plus}\n----", "----\n+\n<<EOF>> // {plus}\n----"),
    "a shift": ("adoc", "`a << b` and `c >> d`", "`a << b` and `c >> d`"),
}


@pytest.mark.parametrize(("suffix", "source", "shown_text"), SHOWN.values(), ids=SHOWN)
async def test_markup_within_a_line_is_read_as_it_is_shown(
    read: Reading, suffix: str, source: str, shown_text: str
) -> None:
    (part,) = await read(f"a.{suffix}", source.encode())
    assert part.text.strip() == shown_text
