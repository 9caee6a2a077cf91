"""The shapes in which corpora come: what divides documents, and what divides sentences, in each."""

import html
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from spanbert_jax.data.files import bare_name
from spanbert_jax.data.sentences import split_paragraphs, split_sentences, split_text
from spanbert_jax.errors import UserError, did_you_mean

FORMATS = ("auto", "sentences", "documents", "prose", "wiki", "jsonl")
GUESSED_FROM = 200  # lines

_DOC_START = re.compile(r"<doc\b.*>\s*")
_TITLE = re.compile(r'\btitle="([^"]*)"')


def read_documents(
    lines: Iterable[str], format: str, *, path: str, text_field: str, counts: Counter[str]
) -> Iterator[list[str]]:
    """Documents of a file's lines, each a list of sentences, empty ones included so that ordinals name places.

    Adds to `counts` what was repaired: "unclosed_documents", "lines_outside_documents". Raises UserError that names the
    file and the line of what does not follow the format.
    """
    match format:
        case "sentences":
            return _sentence_per_line(lines)
        case "documents":
            return (split_sentences(line) for line in lines if line.strip())
        case "prose":
            return iter([[s for paragraph in split_paragraphs(lines) for s in split_sentences(paragraph)]])
        case "wiki":
            return _wiki(lines, path, counts)
        case "jsonl":
            return _json_lines(lines, path, text_field)
    raise UserError(f"--format={format}: expected one of {', '.join(FORMATS)}{did_you_mean(format, FORMATS)}")


def _sentence_per_line(lines: Iterable[str]) -> Iterator[list[str]]:
    held: list[str] = []
    for line in lines:
        sentence = line.strip()
        if sentence:
            held.append(sentence)
        elif held:
            yield held
            held = []
    if held:
        yield held


def _wiki(lines: Iterable[str], path: str, counts: Counter[str]) -> Iterator[list[str]]:
    """WikiExtractor's blocks; the title that opens a block is its first sentence."""
    held: list[str] | None = None
    title = ""
    started = False
    for number, line in enumerate(lines, 1):
        text = html.unescape(line).strip() if "&" in line else line.strip()
        if text.startswith("<doc ") and _DOC_START.fullmatch(text):
            if held is not None:
                counts["unclosed_documents"] += 1
                yield held
            found = _TITLE.search(line)
            held, started, title = [], True, html.unescape(found[1]) if found else ""
        elif text == "</doc>":
            if held is not None:
                yield held
            held = None
        elif not text:
            continue
        elif held is not None:
            held.extend([text] if text == title and not held else split_sentences(text))
        elif started:
            counts["lines_outside_documents"] += 1
        else:
            raise UserError(f"{path}, line {number}: text outside <doc ...> ... </doc>; is --format=wiki right?")
    if held is not None:
        counts["unclosed_documents"] += 1
        yield held


def _json_lines(lines: Iterable[str], path: str, text_field: str) -> Iterator[list[str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not a JSON object on one line ({error})") from error
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number}: expected a JSON object, got {type(record).__name__}")
        text = record.get(text_field)
        if not isinstance(text, str):
            found = f"{type(text).__name__} in it" if text_field in record else "no such field"
            near = "" if text_field in record else did_you_mean(text_field, record)
            raise UserError(
                f"{path}, line {number}: expected a string in the field {text_field!r}, got {found}{near}; "
                f"--text_field names the field, of {', '.join(map(repr, record)) or 'none'}"
            )
        yield split_text(text)


_SENTENCE_END = re.compile(r"""[.!?:;…]["'\u201d\u2019»)\]]*$""")
# With this many sentences to a line on average, lines hold paragraphs or documents, not sentences.
_SENTENCES_OF_A_PARAGRAPH = 1.5
# Documents of one sentence are rare; headings, remarks and short paragraphs are not.
_MOST_SHORT_DOCUMENTS = 0.05


def guess_format(name: str, lines: list[str]) -> str:
    """The format a file's name and first lines speak for."""
    if bare_name(name).endswith((".jsonl", ".json", ".ndjson")):
        return "jsonl"
    texts = [line.strip() for line in lines]
    full = [text for text in texts if text]
    if not full:
        return "sentences"
    if full[0].startswith("<doc "):
        return "wiki"
    if full[0].startswith("{") and full[0].endswith("}"):
        return "jsonl"
    blank_inside = "" in texts[texts.index(full[0]) : len(texts) - texts[::-1].index(full[-1])]
    sizes = [len(split_sentences(text)) for text in full]
    if sum(sizes) > _SENTENCES_OF_A_PARAGRAPH * len(full):
        paragraphs = blank_inside or len(full) == 1 or sizes.count(1) > _MOST_SHORT_DOCUMENTS * len(full)
        return "prose" if paragraphs else "documents"
    pairs = [(a, b) for a, b in itertools.pairwise(texts) if a and b]
    broken = sum(not _SENTENCE_END.search(a) and not b[0].isupper() for a, b in pairs)
    if broken > len(pairs) / 3:
        return "prose"
    return "sentences"
