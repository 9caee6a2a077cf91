"""The order of rows within a shard."""

from scipy import stats

from spanbert_jax.data.building import shuffled


def test_the_order_never_changes():
    assert shuffled(8, "0/train") == [1, 2, 3, 6, 5, 4, 7, 0]


def test_it_is_a_permutation_that_the_seed_decides():
    orders = [tuple(shuffled(50, f"{seed}/train")) for seed in range(20)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len(set(orders)) == 20


def test_every_row_is_as_likely_to_come_first():
    first = [shuffled(10, str(seed))[0] for seed in range(3000)]
    assert stats.chisquare([first.count(row) for row in range(10)]).pvalue > 1e-3
