from collections import Counter

import pytest

from spanbert_jax.data.formats import FORMATS, guess_format, read_documents
from spanbert_jax.errors import UserError


def read(text: str, format: str, text_field: str = "text") -> tuple[list[list[str]], dict[str, int]]:
    counts: Counter[str] = Counter()
    lines = text.split("\n")
    documents = list(read_documents(lines, format, path="x.txt", text_field=text_field, counts=counts))
    return documents, dict(counts)


SENTENCES = """
One is here. Two is in its line.
three

four"""
DOCUMENTS = """One is here. Two is here.

Three is here."""
PROSE = """CHAPTER I

One is here in a line that goes on until the margin of
the page. Two is here.

Three is here."""
WIKI = """<doc id="1" url="u" title="Q &amp; A. The film">
Q &amp; A. The film

One is here. Two is here.
Heading.
</doc>

<doc id="2" title="Empty">
</doc>
<doc id="3" title="Open">
Open
<doc id="4" title="Last">
Last
"""
JSON_LINES = r"""
{"id": 1, "text": "One is here. Two is here.\n\nThree"}

{"text": ""}
{"text": "Four", "other": {"text": 2}}"""


@pytest.mark.parametrize(
    ("format", "text", "documents", "counts"),
    [
        ("sentences", SENTENCES, [["One is here. Two is in its line.", "three"], ["four"]], {}),
        ("documents", DOCUMENTS, [["One is here.", "Two is here."], ["Three is here."]], {}),
        (
            "prose",
            PROSE,
            [
                [
                    "CHAPTER I",
                    "One is here in a line that goes on until the margin of the page.",
                    "Two is here.",
                    "Three is here.",
                ]
            ],
            {},
        ),
        (
            "wiki",
            WIKI,
            [["Q & A. The film", "One is here.", "Two is here.", "Heading."], [], ["Open"], ["Last"]],
            {"unclosed_documents": 2},
        ),
        ("jsonl", JSON_LINES, [["One is here.", "Two is here.", "Three"], [], ["Four"]], {}),
    ],
)
def test_each_format(format, text, documents, counts):
    assert read(text, format) == (documents, counts)


@pytest.mark.parametrize("format", ["sentences", "documents", "prose", "wiki", "jsonl"])
@pytest.mark.parametrize("text", ["", "\n", " \n\t\n\n"])
def test_blank_files_hold_no_text(format, text):
    documents, _ = read(text, format)
    assert not any(documents)


@pytest.mark.parametrize("format", ["sentences", "documents"])
def test_the_last_document_needs_no_blank_line(format):
    assert read("One.\n\nTwo.", format) == read("One.\n\nTwo.\n\n", format) == ([["One."], ["Two."]], {})


def test_lines_between_wiki_blocks_are_counted():
    documents, counts = read("<doc id='1'>\nOne.\n</doc>\nstray\n<doc id='2'>\nTwo.\n</doc>\n", "wiki")
    assert documents == [["One."], ["Two."]]
    assert counts == {"lines_outside_documents": 1}


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("wiki", "\nplain text", r"x\.txt, line 2: text outside <doc"),
        ("jsonl", '{"text": "One."}\n{"text": ', r"x\.txt, line 2: not a JSON object"),
        ("jsonl", '["One."]', r"x\.txt, line 1: expected a JSON object, got list"),
        (
            "jsonl",
            '{"txt": "One."}',
            r"x\.txt, line 1: .*'text', got no such field \(did you mean txt\?\).*--text_field",
        ),
        ("jsonl", '{"text": 3}', r"x\.txt, line 1: .*'text', got int in it"),
        ("prosa", "One.", r"--format=prosa: expected one of .* \(did you mean prose\?\)"),
    ],
)
def test_what_does_not_follow_the_format_is_told(format, text, message):
    with pytest.raises(UserError, match=message):
        read(text, format)


WRAPPED = """It was the best of times, it was the worst of times, it was
the age of wisdom, it was the age of foolishness, it was the
epoch of belief, it was the epoch of incredulity. It was the
season of Light."""


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [
        ("x.jsonl.gz", "{", "jsonl"),
        ("x.json", "", "jsonl"),
        ("x", '{"text": "One."}\n{"text": "Two."}', "jsonl"),
        ("wiki_00", WIKI, "wiki"),
        ("x.txt", "One sentence.\nAnother one.\n\nA third.\n", "sentences"),
        ("x.txt", "one sentence without a stop\nAnother One\n\nA third\n", "sentences"),
        ("x.txt", "One. Two. Three.\nFour. Five.\nSix. Seven.", "documents"),
        ("x.txt", "One. Two. Three.\n\nFour. Five.\n\nSix. Seven.\n", "prose"),
        ("x.txt", "Title\nOne. Two. Three.\nFour. Five.\nSix. Seven. Eight. Nine.", "prose"),
        ("x.txt", "One. Two. Three. All the text is in one line.", "prose"),
        ("x.txt", WRAPPED, "prose"),
        ("x.txt", "Heading\n\n" + WRAPPED + "\n\n" + WRAPPED, "prose"),
        ("x.txt", "\n\n", "sentences"),
    ],
)
def test_the_format_is_guessed(name, text, format):
    assert format in FORMATS
    assert guess_format(name, text.split("\n")) == format
