"""The English prose inside Python documentation: docstrings (reStructuredText, NumPy, Google, Markdown), pydoc topics.

What is not prose goes (code, doctests, tables, formulas, signatures, lists of references); mark-up is reduced to its
text.
"""

import inspect
import itertools
import re

from spanbert_jax.data.sentences import split_sentences, words

_DIRECTIVE = re.compile(r"\.\. *(?:([\w:-]+?):: ?(.*)|.*)")
_TABLE_BORDER = re.compile(r"[=-]{2,}(?:\s+[=-]{2,})+|\+[-=+]+|\|?[\s:|-]*-{3,}[\s:|-]*\|[\s:|-]*")
_TABLE_ROW = re.compile(r"[|+].*[|+]")
_VERSION = re.compile(r"v?\d[\w.]*")
_PROSE_DIRECTIVES = words(
    "note warning important tip caution attention hint danger versionadded versionchanged deprecated seealso "
    "admonition impl-detail availability"
)
_SKIPPED_SECTIONS = frozenset(["references", "see also", "bibliography", "methods", "citation"])
_LIST_ITEM = re.compile(r"(?:[-*+•]|\(?\d{1,2}[.)]|\(?[a-z]\))\s+(?=\S)")
# "x : array_like, optional", then its description indented below.
_NUMPY_ENTRY = re.compile(r"[\w*`'\"{][\w*`'\"., {}|\\/-]*\s:(?:\s.*)?")
# "x: int or None", with the description indented below.
_TYPED_ENTRY = re.compile(r"\w+: ?\w+(?:\[.*\])?(?: or \w+)*(?:, optional)?")
# "x: the array", "x (int): the number", ":param int x: the number", "x -- the number", "`x` - the number".
_NAMED_ENTRY = re.compile(
    r"(?::\w+(?: [\w*. \[\],|]+)?:|[`*'\"]*[\w.*-]+[`*'\"]*(?: ?\([^()]*\))?(?::| --?|  -)) +(?=\S)"
)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _is_underline(text: str) -> bool:
    return len(text) > 2 and not text[0].isalnum() and text == text[0] * len(text)


def _is_table(text: str) -> bool:
    return text[0] in "=-+|" and bool(_TABLE_BORDER.fullmatch(text) or _TABLE_ROW.fullmatch(text))


def _drop_blocks(lines: list[str]) -> list[str]:
    """The lines without code, doctests, tables, headings, reference lists and directives that hold no prose."""
    kept: list[str] = []
    skip_deeper_than: int | None = None
    skip_section = skip_to_blank = fenced = False
    for line, following in itertools.pairwise([*lines, ""]):
        text = line.strip()
        indent = _indent(line)
        if text.startswith(("```", "~~~")):
            fenced = not fenced
            kept.append("")
        elif fenced:
            continue
        elif not text:
            skip_to_blank = False
            kept.append("")
        elif skip_deeper_than is not None and indent > skip_deeper_than:
            continue
        elif _is_underline(following.strip()) and len(text) < 80 and not _is_underline(text):
            skip_section = text.rstrip(":").lower() in _SKIPPED_SECTIONS
            skip_to_blank = False
            skip_deeper_than = None
            kept.append("")
        elif skip_section or skip_to_blank:
            continue
        elif text.startswith((">>>", "In [", "$ ", "% ")) or _is_table(text):
            skip_to_blank = True
        elif _is_underline(text):
            kept.append("")
        else:
            skip_deeper_than = None
            directive = _DIRECTIVE.fullmatch(text) if text.startswith("..") else None
            if directive and directive[1] in _PROSE_DIRECTIVES:
                kept.append("" if _VERSION.fullmatch(directive[2]) else " " * indent + directive[2])
            elif directive or text == "::":
                skip_deeper_than = indent
            elif text.endswith("::"):
                skip_deeper_than = indent
                kept.append(line.rstrip()[:-1])
            else:
                kept.append(line)
    return kept


def _names_only(text: str) -> bool:
    """Whether a line that heads a deeper one is a parameter and its type, without a description."""
    return ":" in text and bool(_NUMPY_ENTRY.fullmatch(text) or _TYPED_ENTRY.fullmatch(text))


def _breaks_off(line: str, following: str) -> bool:
    """Whether a sentence of `line` runs on in `following`, whatever their indents."""
    return len(line) > 40 and line[-1] not in ".:" and following[0].islower() and not _NAMED_ENTRY.match(following)


def _entry(text: str, indent: int) -> re.Match[str] | None:
    """The name before a parameter's description, as Google's style and field lists write it."""
    return _NAMED_ENTRY.match(text) if indent > 0 or text[0] == ":" else None


def _paragraphs(lines: list[str]) -> list[str]:
    """Joins lines into paragraphs; a list item or a parameter's description is a paragraph of its own."""
    paragraphs: list[list[str]] = []
    start = -1  # indent of the open paragraph's first line, -1 when none is open
    hanging = False  # its further lines are indented deeper than its first
    for line, following in itertools.pairwise([*lines, ""]):
        text = line.strip()
        indent = _indent(line)
        if not text:
            start = -1
            continue
        if _names_only(text) and _indent(following) > indent:
            start = -1
            continue
        marker = _LIST_ITEM.match(text)
        if not marker and (start < 0 or hanging or indent != start):
            marker = _entry(text, indent)
        moved = indent < start or (indent == start if hanging else indent > start)
        if marker or start < 0 or (moved and not _breaks_off(paragraphs[-1][-1], text)):
            paragraphs.append([text[marker.end() :] if marker else text])
            start, hanging = indent, marker is not None
        else:
            paragraphs[-1].append(text)
    return [" ".join(paragraph) for paragraph in paragraphs]


# What a paragraph must hold for the pattern to apply, the pattern, and the text that remains.
_MARKUP = [
    ("]_", re.compile(r"\s?\[(?:\d+|[A-Z][\w+]*\d+\w?|#\w*)\]_"), ""),  # footnote marks
    (":`", re.compile(r":[\w:+-]+:`~[\w.]*?(\w+)`"), r"\1"),  # :func:`~a.b.c`
    (":`", re.compile(r":[\w:+-]+:`[!~]?([^`<]*?)\s*<[^>`]*>`"), r"\1"),  # :doc:`text <target>`
    (":`", re.compile(r":[\w:+-]+:`[!~]?([^`]*)`"), r"\1"),
    ("<", re.compile(r"`([^`<]+?)\s*<[^>`]*>`__?"), r"\1"),  # `text <link>`_
    ("](", re.compile(r"!?\[([^\[\]]+)\]\([^()\s]*\)"), r"\1"),  # [text](link)
    ("`", re.compile(r"``?[~!]?([^`]*)``?_{0,2}"), r"\1"),
    ("*", re.compile(r"(?<![\w*'\"])\*{1,3}(?=\S)([^*]*?\S)\*{1,3}(?![\w*'\"])"), r"\1"),
    ("|", re.compile(r"\|(\w+)\|"), r"\1"),
    ("\\", re.compile(r"\\([*`_|:\"' ])"), r"\1"),
]
_FUNCTION_WORDS = words(
    "the a an is are was be been of to in for and or with that this these if not by as from on at it its when "
    "which will can may should must no all any each only into than we you"
)
_STATEMENT = re.compile(
    r"[@#]|(?:import|from) [\w.]+$|from \S+ import |"
    r"(?:import|from|def|class|return|assert|print|for|with|while|if|async|lambda|yield) \S+.*[:)\]\"']$"
)
_CODE = re.compile(
    r"[{}\\$]|>>>|::| : |%\(|\]\(|->|=>|&&|\|\||</?\w+>|https?:|;$|\);|\(['\"]|\(\w*\)\.\w|--\w+=|[=(,]\s?\w+=|"
    r"[=!<>+*/-]=\s?\w| = | [+*/^@%&|~] [\w(\[]"
)
_SIGNS = re.compile(r"[^a-zA-Z\s.,;:!?'\"()-]")
_FEWEST_WORDS = 3
_LONGEST_SENTENCE = 600  # characters; more are tables and lists run together
_MOST_SIGNS = 0.08


def _reads_as_prose(sentence: str) -> bool:
    lowered = sentence.lower().split()
    if len(sentence) > _LONGEST_SENTENCE:
        return False
    if len(lowered) < _FEWEST_WORDS or _FUNCTION_WORDS.isdisjoint(lowered) or _STATEMENT.match(sentence):
        return False
    if sentence[-1] not in ".!?:;)\"'" and len(lowered) < 2 * _FEWEST_WORDS:
        return False
    signs = len(_SIGNS.findall(sentence))
    if signs > _MOST_SIGNS * len(sentence):
        return False
    return not ((signs or "(" in sentence or ":" in sentence) and _CODE.search(sentence))


def prose(documentation: str) -> list[list[str]]:
    """Paragraphs of sentences that read as English, in the order of the text."""
    lines = inspect.cleandoc(documentation).split("\n")
    paragraphs = []
    for paragraph in _paragraphs(_drop_blocks(lines)):
        for sign, pattern, replacement in _MARKUP:
            if sign in paragraph:
                paragraph = pattern.sub(replacement, paragraph)
        sentences = [sentence for sentence in split_sentences(paragraph) if _reads_as_prose(sentence)]
        if sentences:
            paragraphs.append(sentences)
    return paragraphs
