import json
import subprocess
import sys

import numpy as np
import pytest

from spanbert_jax import predict, pretrain
from spanbert_jax.errors import UserError
from spanbert_jax.tasks.fill_mask import BEAMS, CANDIDATES, fill_mask
from spanbert_jax.tasks.pretrained import load_pretrained
from tests.devices import REPOSITORY, environment
from tests.tiny import pretrain_config

TEXT = "the cat [MASK] the [MASK] [MASK] ."


@pytest.fixture(scope="module")
def workdir(prepared, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("model")
    pretrain.run(pretrain_config(prepared), workdir)
    return workdir


@pytest.fixture(scope="module")
def model(workdir):
    return load_pretrained(workdir)


def test_every_blank_gets_candidates_of_both_heads(model):
    answer = fill_mask(model, TEXT)
    #        [CLS] the cat [MASK] the [MASK] [MASK] . [SEP]
    assert [blank.position for blank in answer.blanks] == [3, 5, 6]
    for blank in answer.blanks:
        for candidates in (blank.mlm, blank.sbo):
            assert len(candidates) == CANDIDATES
            probabilities = [candidate.probability for candidate in candidates]
            assert probabilities == sorted(probabilities, reverse=True)
            assert 0 < sum(probabilities) <= 1
            for candidate in candidates:
                assert model.tokenizer.token(candidate.id) == candidate.token
    assert [(span.start, span.length) for span in answer.spans] == [(3, 1), (5, 2)]


def test_a_span_at_the_edge_has_no_boundary(model):
    first, last = fill_mask(model, "[MASK] cat sees the [MASK]").blanks
    assert (len(first.mlm), len(last.mlm)) == (CANDIDATES, CANDIDATES)
    assert first.sbo == last.sbo == []


def test_targets_beyond_the_boundary_heads_reach_have_none(model):
    blanks = fill_mask(model, "the " + "[MASK] " * 17 + "house .").blanks
    assert [bool(blank.sbo) for blank in blanks] == [True] * 15 + [False] * 2


def test_joint_fills_are_scored_by_the_model(model, monkeypatch):
    """A fill's score is the product of each piece's probability given those before it."""
    answer = fill_mask(model, TEXT)
    fills = answer.spans[1].fills
    assert len(fills) == BEAMS
    assert [score for _, score in fills] == sorted((score for _, score in fills), reverse=True)
    words, score = next((text, score) for text, score in fills if len(text.split()) == 2)
    first, second = words.split()

    def log_probability(text, blank, word):
        ids = model.tokenizer.encode(text, allow_special=True)
        assert model.tokenizer.mask_id in ids
        monkeypatch.setattr("spanbert_jax.tasks.fill_mask.CANDIDATES", model.tokenizer.vocab_size)
        found = fill_mask(model, text).blanks[blank].mlm
        return np.log(next(candidate.probability for candidate in found if candidate.token == word))

    expected = log_probability(TEXT, 1, first) + log_probability(f"the cat [MASK] the {first} [MASK] .", 1, second)
    np.testing.assert_allclose(score, expected, rtol=1e-4)


def test_padding_to_buckets_changes_nothing(model, monkeypatch):
    padded = fill_mask(model, TEXT)
    for bucket in ("_LENGTH_BUCKET", "_BLANK_BUCKET"):
        monkeypatch.setattr(f"spanbert_jax.tasks.fill_mask.{bucket}", 1)
    for ours, theirs in zip(padded.blanks, fill_mask(model, TEXT).blanks, strict=True):
        for head in ("mlm", "sbo"):
            a, b = ([c.probability for c in getattr(blank, head)] for blank in (ours, theirs))
            np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the cat sees the house .", "nothing to fill"),
        ("[MASK] " * 40, "text of 42 pieces: the model reads 32 at most; shorten it"),
    ],
)
def test_texts_that_cannot_be_filled_are_refused(model, text, message):
    with pytest.raises(UserError, match=message):
        fill_mask(model, text)


def test_a_checkpoint_is_a_model_too(model, workdir):
    answer = fill_mask(load_pretrained(workdir / "checkpoints" / "12"), TEXT)
    assert answer == fill_mask(model, TEXT)


def test_text_output_names_both_heads(model):
    shown = predict.to_text(TEXT, fill_mask(model, TEXT))
    assert shown.splitlines()[0] == TEXT
    assert shown.count(" mlm ") == shown.count(" sbo ") == 3
    assert "span of 2  joint" in shown


def test_standard_input_gives_one_json_object_a_line(workdir, model):
    result = subprocess.run(
        [sys.executable, "-m", "spanbert_jax.predict", "--task=fill_mask", f"--model={workdir}", "--json"],
        input=f"{TEXT}\nno blank here\n\n{TEXT}\n",
        cwd=REPOSITORY,
        env=environment(1),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "error: input 2: text without [MASK]: nothing to fill in 'no blank here'" in result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["text"] for line in lines] == [TEXT, "no blank here", TEXT]
    assert "error" in lines[1]
    assert lines[2] == lines[0]
    blank = lines[0]["blanks"][0]
    assert blank["position"] == 3
    assert blank["mlm"][0].keys() == {"token", "id", "probability"}
    assert blank["mlm"][0]["token"] == fill_mask(model, TEXT).blanks[0].mlm[0].token


@pytest.mark.parametrize(
    ("prepare_folder", "message"),
    [
        (lambda folder: None, "no such folder; expected a work folder or a checkpoint"),
        (lambda folder: folder.mkdir(), "neither a work folder .* nor a checkpoint"),
        (lambda folder: (folder / "checkpoints").mkdir(parents=True), "holds no finished checkpoint"),
    ],
)
def test_a_folder_without_a_model_is_refused(tmp_path, prepare_folder, message):
    prepare_folder(tmp_path / "model")
    with pytest.raises(UserError, match=message):
        load_pretrained(tmp_path / "model")
