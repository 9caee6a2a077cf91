import hashlib
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from spanbert_jax.data import builtin_docs
from spanbert_jax.data.builtin_docs import PACKAGES, builtin_documents
from spanbert_jax.errors import UserError


@pytest.fixture(scope="module")
def documents():
    return builtin_documents()


def test_size_is_what_the_quickstart_counts_on(documents):
    characters = sum(len(sentence) + 1 for _, sentences in documents for sentence in sentences)
    assert 7_000_000 < characters < 9_000_000
    assert 2_500 < len(documents) < 3_500


def test_names_are_distinct_and_relative(documents):
    names = [name for name, _ in documents]
    assert len(set(names)) == len(names)
    assert {name.split("/")[0] for name in names} == {"python", *PACKAGES}
    assert not any("site-packages" in name or ".." in name for name in names)
    assert "python/topics/global" in names


@pytest.mark.parametrize("sign", [r">>>", r"::", r"^\s*def \w+\(", r"^(import|from) \w+$", r" = ", r"\{", r"\\", r"\n"])
def test_no_line_is_code(documents, sign):
    pattern = re.compile(sign)
    assert [s for _, sentences in documents for s in sentences if pattern.search(s)][:5] == []


def test_most_sentences_read_as_english(documents):
    sentences = [s for _, sentences in documents for s in sentences]
    closed = sum(s[-1] in ".!?:" for s in sentences)
    opened = sum(s[0].isupper() for s in sentences)
    letters = sum(c.isalpha() or c == " " for s in sentences[::10] for c in s)
    assert closed > 0.8 * len(sentences)
    assert opened > 0.7 * len(sentences)
    assert letters > 0.93 * sum(map(len, sentences[::10]))


def test_a_packages_copy_of_a_docstring_is_left_out(tmp_path, monkeypatch):
    docstring = '"""One paragraph of the module.\n\nAnother one, only in {}.\n"""\n'
    for name in ("a", "b"):
        Path(tmp_path, name).mkdir()
        Path(tmp_path, name, "module.py").write_text(docstring.format(name), encoding="utf-8")
    monkeypatch.setattr(builtin_docs, "_roots", lambda: [(name, tmp_path / name) for name in ("b", "a")])
    assert builtin_documents.__wrapped__() == (
        ("a/module.py", ("One paragraph of the module.", "Another one, only in a.")),
        ("b/module.py", ("Another one, only in b.",)),
    )


def test_docstrings_come_in_the_order_of_the_source_and_nothing_runs(tmp_path, monkeypatch):
    source = '''
        """The module is first."""
        raise SystemExit("this would run on import")
        class A:
            """The class is second."""
            def f(self):
                """The method is third."""
                """This string is not a docstring."""
        try:
            def g(): "The function is fourth."
        except ValueError:
            pass
    '''
    Path(tmp_path, "m.py").write_text(textwrap.dedent(source), encoding="utf-8")
    Path(tmp_path, "broken.py").write_text('"""The file is broken."""\ndef (', encoding="utf-8")
    Path(tmp_path, "test_m.py").write_text('"""The tests are left out."""', encoding="utf-8")
    monkeypatch.setattr(builtin_docs, "_roots", lambda: [("p", tmp_path)])
    ((name, sentences),) = builtin_documents.__wrapped__()
    assert name == "p/m.py"
    assert sentences == (
        "The module is first.",
        "The class is second.",
        "The method is third.",
        "The function is fourth.",
    )


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(builtin_docs, "PACKAGES", ("no_such_package",))
    with pytest.raises(UserError, match=r"builtin:docs.*no_such_package.*requirements\.txt"):
        builtin_documents.__wrapped__()


def test_every_package_is_pinned():
    root = Path(__file__).parents[2]
    pinned = re.findall(r"^[\w-]+", (root / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    # What is imported under another name than it is installed by.
    distributions = {"absl": "absl-py", "orbax": "orbax-checkpoint", "_pytest": "pytest"}
    names = {distributions.get(name, name).replace("_", "-").lower() for name in PACKAGES}
    assert names <= {name.replace("_", "-").lower() for name in pinned}


@pytest.mark.slow
def test_another_process_finds_the_same_documents(documents):
    code = (
        "import hashlib; from spanbert_jax.data.builtin_docs import builtin_documents as d; "
        "print(hashlib.sha256(repr(d()).encode()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.strip() == hashlib.sha256(repr(documents).encode()).hexdigest()
