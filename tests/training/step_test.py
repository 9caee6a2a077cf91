import dataclasses
import functools

import jax
import numpy as np
import pytest

from spanbert_jax.data.blocks import Batch
from spanbert_jax.masking import MaskingConfig, mask_batch
from spanbert_jax.training.losses import ObjectiveConfig
from spanbert_jax.training.optimizer import make_optimizer
from spanbert_jax.training.sharding import MeshConfig, make_mesh
from spanbert_jax.training.state import graph_definition, init_state
from spanbert_jax.training.step import evaluation_step
from tests.devices import run_program
from tests.training import problem

NO_DROPOUT = dataclasses.replace(problem.MODEL, dropout=0.0, attention_dropout=0.0)


def one_device():
    return make_mesh(MeshConfig(), jax.devices()[:1])


def test_losses_fall():
    """Random tokens of a few kinds only: both objectives learn which kinds there are."""
    curve, state = problem.train(one_device(), steps=60, model=NO_DROPOUT, distinct=8)
    assert int(state.step) == 60
    for objective in (0, 1):
        assert curve[-1][objective] < np.log(8) + 0.3 < curve[0][objective] - 1


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    first, again, other = (problem.train(one_device(), steps=3, seed=seed)[0] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_no_mesh_changes_the_losses():
    """20 steps with dropout: sums run in another order on each mesh, nothing else differs."""
    curves = run_program("tests.training.problem", "1x1x1", "8x1x1", "2x2x2")
    single = np.array(curves.pop("1x1x1"))
    assert len(curves) == 2
    for mesh, curve in curves.items():
        np.testing.assert_allclose(curve, single, rtol=2e-4, err_msg=mesh)
    np.testing.assert_allclose(problem.train(one_device())[0], single, rtol=2e-4)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_changes_nothing(parts):
    whole, whole_state = problem.train(one_device(), steps=4, model=NO_DROPOUT)
    split, split_state = problem.train(one_device(), steps=4, model=NO_DROPOUT, accumulation_steps=parts)
    np.testing.assert_allclose(split, whole, rtol=1e-4)
    for a, b in zip(jax.tree.leaves(split_state.params), jax.tree.leaves(whole_state.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_row_losses_keep_the_order_of_rows_under_accumulation():
    losses = []
    for parts in (1, 4):
        with jax.set_mesh(mesh := one_device()):
            state, step = problem.make_step(mesh, model=NO_DROPOUT, accumulation_steps=parts)
            losses.append(np.asarray(step(state, problem.batch(0), problem.vocabulary())[1]["row_loss"]))
    assert losses[0].shape == (problem.BATCH_SIZE,)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_renormalisation_scales_the_gradient_by_replicas_over_targets():
    norms = []
    for replicas in (0, 4):
        with jax.set_mesh(mesh := one_device()):
            objective = ObjectiveConfig(renormalize_replicas=replicas)
            state, step = problem.make_step(mesh, model=NO_DROPOUT, objective=objective)
            norms.append(float(step(state, problem.batch(0), problem.vocabulary())[1]["gradient_norm"]))
    ordinary = ((problem.batch(0).tokens >= 5) & (problem.batch(0).segments > 0)).sum(axis=1)
    targets = sum(-(-int(count) * 15 // 100) for count in ordinary)
    np.testing.assert_allclose(norms[1] / norms[0], 4 / targets, rtol=1e-5)


def test_rows_that_pad_the_vocabulary_stay_zero():
    _, state = problem.train(one_device(), steps=5)
    table = state.params["encoder"]["embeddings"]["word"]["embedding"]
    assert np.any(table[: problem.MODEL.vocab_size])
    assert not np.any(table[problem.MODEL.vocab_size :])


def test_nothing_of_batch_by_length_by_vocabulary_is_made():
    with jax.set_mesh(mesh := one_device()):
        state, step = problem.make_step(mesh)
        text = str(jax.make_jaxpr(step)(state, problem.batch(0), problem.vocabulary()))
    B, L, V = problem.BATCH_SIZE, problem.LENGTH, problem.MODEL.padded_vocab_size
    assert f"[{B},5,{V}]" in text  # K = ceil(0.15 * 30): the logits are there, by gathered target
    assert f"{B},{L},{V}]" not in text
    assert f"[{B * L},{V}]" not in text


def test_heads_may_start_at_the_unigram():
    bias = np.linspace(-9, -1, problem.MODEL.padded_vocab_size).astype(np.float32)
    params = init_state(problem.MODEL, make_optimizer(problem.OPTIMIZER, 10), 0, bias=bias).params
    for head in ("mlm", "sbo"):
        np.testing.assert_array_equal(
            params[head]["bias"][: problem.MODEL.vocab_size], bias[: problem.MODEL.vocab_size]
        )
        assert not np.any(params[head]["bias"][problem.MODEL.vocab_size :])


def test_evaluation_sums_ask_the_same_targets_whatever_the_batch():
    """Rows keep their masks when they are evaluated in other company; rows of padding add nothing."""
    params = init_state(NO_DROPOUT, make_optimizer(problem.OPTIMIZER, 10), 0).params
    log_unigram = np.linspace(-9, -1, problem.MODEL.padded_vocab_size).astype(np.float32)
    evaluate = functools.partial(
        evaluation_step, graph_definition=graph_definition(NO_DROPOUT), masking=MaskingConfig()
    )
    whole, rows = problem.batch(0), np.arange(problem.BATCH_SIZE, dtype=np.int32)
    together = evaluate(params, whole, rows, problem.vocabulary(), log_unigram)
    apart = None
    for half in (slice(0, 3), slice(3, 8)):
        part = Batch(*(np.concatenate([x[half], np.zeros_like(x[:2])]) for x in whole))
        sums = evaluate(params, part, np.concatenate([rows[half], rows[:2]]), problem.vocabulary(), log_unigram)
        apart = sums if apart is None else jax.tree.map(np.add, apart, sums)
    for name, value in together.items():
        np.testing.assert_allclose(apart[name], value, rtol=1e-5, err_msg=name)
    assert together["unigram"] > 0


def test_the_unigram_sums_are_those_of_the_targets():
    masked = mask_batch(
        jax.random.key(1907_10529),
        problem.batch(1).tokens,
        problem.batch(1).segments,
        problem.vocabulary(),
        MaskingConfig(),
    )
    log_unigram = np.linspace(-9, -1, problem.MODEL.padded_vocab_size).astype(np.float32)
    params = init_state(NO_DROPOUT, make_optimizer(problem.OPTIMIZER, 10), 0).params
    sums = evaluation_step(
        params,
        problem.batch(1),
        np.arange(problem.BATCH_SIZE),
        problem.vocabulary(),
        log_unigram,
        graph_definition=graph_definition(NO_DROPOUT),
        masking=MaskingConfig(),
    )
    expected = {"unigram": 0.0, "unigram_sbo": 0.0}
    for target, weight, sbo_weight in zip(
        np.ravel(masked.targets), np.ravel(masked.weights), np.ravel(masked.sbo_weights), strict=True
    ):
        expected["unigram"] -= weight * log_unigram[target]
        expected["unigram_sbo"] -= sbo_weight * log_unigram[target]
    for name, value in expected.items():
        np.testing.assert_allclose(sums[name], value, rtol=1e-5)
