import time

import pytest

from spanbert_jax.data.sentences import split_paragraphs, split_sentences, split_text


@pytest.mark.parametrize(
    "text",
    [
        # "|" marks where a sentence ends.
        "It rained.|We stayed in.",
        "Is it raining?|Yes!|We stay in.",
        "No stop at the end",
        "Mr. Bennet met Mrs. Long and Dr. Hooker.|They spoke.",
        "He was born on Jan. 5, 1859, in St. Petersburg.|He left in Jan.|That was early.",
        "See Fig. 3 and Eq. (4), pp. 12-14, vol. 2, No. 7.|No.|Never.",
        "Animals, e.g. Whales and i.e. Fish, vs. Birds, swim.|Some fly.",
        "The U.S. Government paid.|He lives in the U.S.|The house is large.",
        "J. R. R. Tolkien wrote it.|Then J. Smith read it.",
        "Lee et al. Showed it.|Smith et al.|This holds.",
        "Acme Inc. Holdings grew.|He owns Acme Inc.|It is big.",
        "It costs 3.14 dollars at v1.2.3 of example.com/a.b?c=d.|It is free now.",
        "Read https://example.com/index.html.|Then stop.",
        'He said "Go."|Then he left.',
        "“Why?” she asked.|“Because.”|He left.",
        "(It ended.)|[It began.]|Nobody knew.",
        "It stopped.[12]|It began.[3][4]|So it goes.",
        "Well... maybe.|He waited...|Then he left…|She came.",
        "What?!|Nothing.",
        "1. Introduction to it.|2. Methods are here.",
        "It uses x. y is lower.",
        "In 1859.|2000 people came.",
        "Oranges hold vitamin C.|The rest is known.",
        "He works at 5 p.m. Friday.|He left at 5 p.m.|The end.",
        "Sentences .|Spaced stops .|End .",
        "Élan vital.|Über alles.|Ça va.",
    ],
)
def test_sentences_end_where_a_reader_ends_them(text):
    assert split_sentences(text.replace("|", " ")) == text.split("|")


@pytest.mark.parametrize("text", ["", "  \n ", "\t"])
def test_no_text_has_no_sentences(text):
    assert split_sentences(text) == []


def test_nothing_is_lost():
    text = "A.B. C! D?  (E. F.) G... H.\nI \u201cJ.\u201d K. 12. L. M.N. The o. P"
    assert " ".join(split_sentences(text)) == " ".join(text.split())


def test_paragraphs_join_hard_wrapped_lines_only():
    lines = [
        "CHAPTER I",
        "It was the best of times, it was the worst of times, it was",
        "the age of wisdom, it was the age of Mr.",
        "",
        "   ",
        "A paragraph that is one long line. " * 5,
        "Another long line that stands by itself. " * 4,
        "A short line",
        "that goes on.",
    ]
    assert list(split_paragraphs(lines)) == [
        "CHAPTER I",
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of Mr.",
        ("A paragraph that is one long line. " * 5).strip(),
        ("Another long line that stands by itself. " * 4).strip(),
        "A short line that goes on.",
    ]


def test_text_is_split_within_paragraphs():
    assert split_text("Title\n\nOne is here. Two is\nhere.\n\nThree") == [
        "Title",
        "One is here.",
        "Two is here.",
        "Three",
    ]


def test_splitting_stays_linear():
    # 1.5 MB: a fraction of a second when linear, minutes when quadratic.
    paragraph = "He said (to Mr. Smith) that it works. Then... nothing? 'Yes', e.g. This. " * 20_000
    started = time.process_time()
    split_sentences(paragraph)
    assert time.process_time() - started < 10
