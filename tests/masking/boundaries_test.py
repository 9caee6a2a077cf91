import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spanbert_jax.masking import MaskingConfig
from spanbert_jax.masking.boundaries import find_boundaries, find_runs
from spanbert_jax.masking.spans import find_words
from tests.masking import rows

VOCABULARY = rows.as_arrays(rows.make_vocabulary())
IDS = {"C": rows.CLS, "S": rows.SEP, "M": rows.MASK, "_": rows.PAD}


@functools.partial(jax.jit, static_argnums=3)
def program(tokens: jax.Array, segments: jax.Array, targets: jax.Array, config: MaskingConfig) -> dict[str, jax.Array]:
    words = find_words(tokens, segments, VOCABULARY, config)
    runs = find_runs(jnp.cumsum(targets), words.breaks, slots=8)
    return {"positions": runs.positions} | find_boundaries(runs, words.breaks, config)._asdict()


def picture(row: str, segments: str, targets: str, **config: object) -> dict[str, jax.Array]:
    """Boundaries of the targets marked x; C, S, M and _ are special tokens, letters ordinary ones."""
    tokens = np.array([IDS.get(letter, rows.FIRST_ORDINARY) for letter in row])
    numbers = np.array([int(digit) for digit in segments])
    marks = np.array([mark == "x" for mark in targets])
    return program(tokens, numbers, marks, MaskingConfig(**config))


def expect(found: dict[str, jax.Array], **expected: list[int]) -> None:
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_external_boundaries_are_the_observed_neighbours():
    found = picture(
        "CabcdefgS___",
        "111111111000",
        "..xx..x.....",
    )
    expect(
        found,
        positions=[2, 3, 6, 0, 0, 0, 0, 0],
        left=[1, 1, 5, 0, 0, 0, 0, 0],
        right=[4, 4, 7, 0, 0, 0, 0, 0],
        offset=[1, 2, 1, 0, 0, 0, 0, 0],
        sbo_weights=[1, 1, 1, 0, 0, 0, 0, 0],
    )


def test_runs_at_the_edges_of_any_block_have_no_external_boundaries():
    found = picture(
        "CabcdSCefghS",
        "111111222222",
        ".x..x..x.xx.",
    )
    expect(found, positions=[1, 4, 7, 9, 10, 0, 0, 0])
    for name in ("left", "right", "offset", "sbo_weights"):
        expect(found, **{name: [0] * 8})


def test_a_special_token_inside_a_block_is_an_edge():
    found = picture(
        "CabMcdefMgS_",
        "111111111110",
        ".xx.x.x..x..",
    )
    expect(found, positions=[1, 2, 4, 6, 9, 0, 0, 0], left=[0, 0, 0, 5, 0, 0, 0, 0], right=[0, 0, 0, 7, 0, 0, 0, 0])


def test_neighbours_of_two_unframed_blocks_do_not_merge():
    found = picture(
        "abcdefCabcdS",
        "111222333333",
        ".xxxx.......",
    )
    expect(found, positions=[1, 2, 3, 4, 0, 0, 0, 0], sbo_weights=[0] * 8)
    found = picture("abcdefCabcdS", "111222333333", ".xxxx.......", endpoints="internal")
    expect(found, left=[1, 1, 3, 3, 0, 0, 0, 0], right=[2, 2, 4, 4, 0, 0, 0, 0], offset=[1, 2, 1, 2, 0, 0, 0, 0])


def test_a_row_without_frame_ends_where_the_row_ends():
    found = picture("abcdefghijkl", "111111111111", "x..x......xx")
    expect(found, positions=[0, 3, 10, 11, 0, 0, 0, 0], sbo_weights=[0, 1, 0, 0, 0, 0, 0, 0])


def test_internal_boundaries_are_the_ends_of_the_run_and_are_never_dropped():
    found = picture(
        "CabcdefgS___",
        "111111111000",
        ".xx..x.x....",
        endpoints="internal",
    )
    expect(
        found,
        positions=[1, 2, 5, 7, 0, 0, 0, 0],
        left=[1, 1, 5, 7, 0, 0, 0, 0],
        right=[2, 2, 5, 7, 0, 0, 0, 0],
        offset=[1, 2, 1, 1, 0, 0, 0, 0],
        sbo_weights=[1, 1, 1, 1, 0, 0, 0, 0],
    )


@pytest.mark.parametrize(("endpoints", "left", "right"), [("external", 1, 7), ("internal", 2, 6)])
def test_targets_far_into_a_run_are_left_to_the_masked_language_model(endpoints: str, left: int, right: int):
    found = picture(
        "CabcdefgS___",
        "111111111000",
        "..xxxxx.....",
        endpoints=endpoints,
        max_span_targets=3,
    )
    expect(
        found,
        positions=[2, 3, 4, 5, 6, 0, 0, 0],
        left=[left, left, left, 0, 0, 0, 0, 0],
        right=[right, right, right, 0, 0, 0, 0, 0],
        offset=[1, 2, 3, 0, 0, 0, 0, 0],
        sbo_weights=[1, 1, 1, 0, 0, 0, 0, 0],
    )
