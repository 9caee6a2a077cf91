"""Running English text into paragraphs and sentences, by rules: the same text always splits the same way, anywhere."""

import re
from collections.abc import Iterable, Iterator

# A stop, whatever closes after it (quotes, brackets, a footnote mark), white space, whatever opens, one more character.
_CANDIDATE = re.compile(r"""(?:\.+|[!?]+|…)((?:["'\u201d\u2019»)\]}]|\[\d+\])*)\s+(?=["'\u201c\u2018«(\[{¿¡]*(\w))""")


def words(text: str) -> frozenset[str]:
    """A set of words written as running text."""
    return frozenset(text.split())


# The stop belongs to these words; what follows continues the sentence, capital or not.
_NEVER_LAST = words(
    "mr mrs ms messrs dr prof st ste sen rep gov gen col capt cmdr lt maj sgt adm rev hon pres supt mt ft "
    "e.g i.e eg ie cf viz vs v resp approx ca esp incl fig figs eq eqs eqn eqns tab ref refs dept univ"
)
# The stop belongs to these words when a number follows.
_BEFORE_NUMBER = words(
    "no nos vol vols p pp ch chap sec sect art para pt ver jan feb mar apr jun jul aug sep sept oct nov dec"
)
# These words may close a sentence or stand inside one: the next word decides.
_SOMETIMES_LAST = words("jr sr inc ltd co corp bros al ph.d m.d b.a m.a esq assn")
# A capital on one of these means a new sentence, since it would be lower case inside one.
_STARTERS = words(
    "A An The This That These Those It Its He She His Her They Their There We Our You Your I If In On At As By For "
    "From With Without Within After Before During Since Until While When Where What Why How Who Which Also Although "
    "Though Because But And Or Nor Yet So Then Thus Therefore Hence However Moreover Furthermore Finally First Not No "
    "Some Many Most Each Every All Any Both Such See Note Use To Of One Two Under Over Once Other Another Unlike Like"
)
_ACRONYM = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_LIST_NUMBER = re.compile(r"\(?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,4})")
_WORD = re.compile(r"\w+(?!\.\w|\.\s+[A-Z]\.)")
_OPENING = "\"'\u201c\u2018«([{"


def _stop_ends_sentence(text: str, start: int, stop: int, following: int) -> bool:
    """Whether the single "." at `stop` ends the sentence begun at `start`; the next word begins at `following`."""
    word = text[max(start, stop - 30) : stop].rstrip().rpartition(" ")[2].lstrip(_OPENING)
    lowered = word.lower()
    if lowered in _NEVER_LAST:
        return False
    if lowered in _BEFORE_NUMBER and text[following].isdigit():
        return False
    if stop - start <= 6 and _LIST_NUMBER.fullmatch(text[start:stop].strip()):
        return False
    if (len(word) == 1 and word.isupper()) or lowered in _SOMETIMES_LAST or _ACRONYM.fullmatch(word):
        next_word = _WORD.match(text, following)
        return next_word is not None and next_word.group() in _STARTERS
    return True


def split_sentences(paragraph: str) -> list[str]:
    """Sentences of one paragraph of English, white space collapsed; joined by spaces they give the paragraph back."""
    text = " ".join(paragraph.split())
    sentences = []
    start = 0
    for match in _CANDIDATE.finditer(text):
        following = match.start(2)
        if text[following].islower():
            continue
        single_stop = text[match.start()] == "." and text[match.start() - 1 : match.start() + 2].count(".") == 1
        closed = bool(match.group(1))
        if single_stop and not closed and not _stop_ends_sentence(text, start, match.start(), following):
            continue
        sentences.append(text[start : match.end()].rstrip())
        start = match.end()
    if start < len(text):
        sentences.append(text[start:])
    return sentences


# Hard-wrapped text breaks its lines near a margin: a longer line is a paragraph of its own, and so is a shorter one
# unless the next goes on in lower case (headings, verse and list items are not run together).
_LONGEST_WRAPPED_LINE = 120
_SHORTEST_WRAPPED_LINE = 50


def split_paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Paragraphs of running text whose lines may be hard-wrapped; a blank line always ends a paragraph."""
    held: list[str] = []
    for line in lines:
        line = line.strip()
        if held and not (line and _goes_on(held[-1], line)):
            yield " ".join(held)
            held = []
        if line:
            held.append(line)
    if held:
        yield " ".join(held)


def _goes_on(line: str, following: str) -> bool:
    if len(line) > _LONGEST_WRAPPED_LINE or len(following) > _LONGEST_WRAPPED_LINE:
        return False
    return len(line) >= _SHORTEST_WRAPPED_LINE or following[0].islower()


def split_text(text: str) -> list[str]:
    """Sentences of a whole document of running text."""
    return [s for paragraph in split_paragraphs(text.split("\n")) for s in split_sentences(paragraph)]
