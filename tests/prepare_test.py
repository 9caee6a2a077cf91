"""The command line of `prepare`."""

import os
import subprocess
import sys

import pytest


def run(*arguments):
    command = [sys.executable, "-m", "spanbert_jax.prepare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    (root / "corpus.txt").write_text("\n\n".join(f"a b c {'d ' * i}\nc b a" for i in range(30)))
    (root / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcd"]))
    return root


def test_reports_on_stdout_and_again_when_already_done(inputs, tmp_path):
    arguments = [
        f"--input={inputs}/corpus.txt",
        f"--tokenizer={inputs}/vocab.txt",
        f"--output_dir={tmp_path}/out",
        "--max_length=16",
        "--shards=2",
        "--workers=1",
    ]
    first = run(*arguments)
    assert first.returncode == 0, first.stderr
    assert "share of slots filled" in first.stdout
    assert "building shards: 3 of 3 shards" in first.stderr
    second = run(*arguments)
    assert (second.returncode, second.stdout) == (0, first.stdout)
    assert "already prepared" in second.stderr


def test_a_mistake_is_one_line_on_stderr(inputs, tmp_path):
    result = run(f"--input={tmp_path}/none.txt", f"--tokenizer={inputs}/vocab.txt", f"--output_dir={tmp_path}/out")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_workers_start_without_jax():
    script = "import sys, spanbert_jax.prepare; print([m for m in ('jax', 'grain', 'tensorflow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"
