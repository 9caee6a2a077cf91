"""Order, mixing and resumption of training batches, and the held-out rows."""

import itertools
import json

import numpy as np
import pytest
from absl import flags

from spanbert_jax.data.loader import Loader, heldout_batches
from spanbert_jax.data.shards import read_prepared
from spanbert_jax.errors import UserError
from tests.data.prepared_folder import LENGTH, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("prepared") / "a")  # training rows 10..18, held-out rows 19..21


def loader(folders, **changes):
    folders = folders if isinstance(folders, list) else [folders]
    return Loader(folders, **{"length": LENGTH, "batch_size": 4, "seed": 0} | changes)


def names(batch):
    """The token that tells each row from the others."""
    return batch.tokens[:, 1].tolist()


def flat(batches):
    return list(itertools.chain.from_iterable(batches))


def take(stream, count):
    batches = [names(batch) for batch in itertools.islice(stream, count)]
    stream.close()
    return batches


def test_a_batch_has_int32_arrays_of_the_contract(folder):
    stream = loader(folder)
    batch = next(stream)
    stream.close()
    assert [(array.shape, array.dtype) for array in batch] == [((4, LENGTH), np.dtype("int32"))] * 4
    assert batch._fields == ("tokens", "segments", "positions", "types")
    assert batch.segments.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0]] * 4
    assert batch.positions.tolist() == [[0, 1, 2, 0, 0, 0, 0, 0]] * 4


def test_every_epoch_has_every_row_once_in_a_new_order(folder):
    stream = [row for batch in take(loader(folder), 9) for row in batch]  # 36 rows: four epochs of 9
    epochs = [stream[start : start + 9] for start in range(0, 36, 9)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10, 19))] * 4
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_seed_decides_the_order(folder):
    assert take(loader(folder), 5) == take(loader(folder), 5)
    orders = [flat(take(loader(folder, seed=seed), 9)) for seed in range(4)]
    assert len({tuple(order[:9]) for order in orders}) == 4
    # Neighbouring seeds must not be the same epochs, one later.
    assert orders[0][9:18] != orders[1][:9]


@pytest.mark.parametrize("groups", [2, 4])
def test_groups_share_out_the_very_batches_of_one_group(folder, groups):
    whole = take(loader(folder), 6)
    parts = [take(loader(folder, group=group, groups=groups), 6) for group in range(groups)]
    assert [flat(part[step] for part in parts) for step in range(6)] == whole


def test_resumes_under_another_number_of_groups(folder):
    whole = take(loader(folder), 8)
    stream = loader(folder, group=1, groups=2)
    next(stream), next(stream), next(stream)
    state = json.loads(json.dumps(stream.state()))
    stream.close()
    assert state == {"next_batch": 3}
    resumed = loader(folder)
    resumed.restore(state)
    assert take(resumed, 5) == whole[3:]


def test_restore_rewinds_a_running_loader(folder):
    stream = loader(folder)
    first = [names(next(stream)) for _ in range(3)]
    stream.restore({"next_batch": 1})
    assert take(stream, 2) == first[1:]


def test_folders_without_weights_form_one_epoch(folder, tmp_path):
    other = write_folder(tmp_path / "b", train=(3,), heldout=(), first_token=50)
    stream = flat(take(loader([folder, other]), 6))
    assert sorted(stream[:12]) == sorted(stream[12:]) == [*range(10, 19), 50, 51, 52]


def test_folders_are_mixed_by_weight(folder, tmp_path):
    other = write_folder(tmp_path / "b", train=(3,), heldout=(), first_token=50)
    stream = flat(take(loader([folder, other], weights=(1, 3)), 27))
    assert sum(row >= 50 for row in stream) == 81
    assert sorted(row for row in stream if row < 50) == sorted([*range(10, 19)] * 3)


def test_locate_names_the_record_of_every_row(folder):
    stream = loader(folder, group=1, groups=2)
    whole = take(loader(folder), 5)
    for step, rows in enumerate(whole):
        for place, row in zip(stream.locate(step), rows, strict=True):
            index = row - 10
            shard, record = (0, index) if index < 5 else (1, index - 5)
            assert place == f"{folder}/train-0000{shard}-of-00002.array_record record {record}"


@pytest.mark.slow
def test_worker_processes_give_the_same_batches(folder):
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    whole = take(loader(folder), 6)
    assert take(loader(folder, workers=2), 6) == whole
    resumed = loader(folder, workers=2)
    resumed.restore({"next_batch": 2})
    assert take(resumed, 4) == whole[2:]


def damage_record(folder, shard, record):
    """Flips one bit inside a record of a shard; the records' own order in the file tells which."""
    path = folder / f"train-{shard:05d}-of-00002.array_record"
    data = bytearray(path.read_bytes())
    token = np.array([10 + 5 * shard + record, 3], "<u2").tobytes()
    at = data.index(token)
    data[at] ^= 1
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_flipped_bit_found_while_training_names_shard_and_record(tmp_path, workers):
    if workers and not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    prepared = read_prepared(write_folder(tmp_path / "a"))
    path = damage_record(prepared.path, 1, 2)
    stream = loader(prepared, workers=workers)
    with pytest.raises(UserError, match=f"data.sources: shard {path}, record 2 cannot be read .*hash mismatch"):
        take(stream, 9)
    stream.close()


def test_a_truncated_shard_found_at_start_is_named(tmp_path):
    prepared = read_prepared(write_folder(tmp_path / "a"))
    path = prepared.path / "train-00001-of-00002.array_record"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=f"shard {path} holds 0 rows, expected 4"):
        loader(prepared)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6, "groups": 4}, "data.batch_size=6: .* multiple of 4"),
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"weights": (1, 2)}, "data.sources: weights"),
        ({"weights": (0,)}, "data.sources: weights"),
        ({"length": 16}, "data.length=16, but the rows of"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(folder, changes, message):
    with pytest.raises(UserError, match=message):
        loader(folder, **changes)


def test_no_folder_and_no_rows_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.sources: empty"):
        loader([])
    with pytest.raises(UserError, match=r"data\.sources: a folder has no rows in its heldout split"):
        loader(write_folder(tmp_path / "a", heldout=()), split="heldout")


def test_folders_of_different_tokenizers_are_refused(folder, tmp_path):
    other = write_folder(tmp_path / "b", fingerprint="another")
    with pytest.raises(UserError, match="different tokenizers"):
        loader([folder, other])


def test_heldout_rows_come_in_order_and_fill_the_last_batch_with_nothing(folder):
    batches = list(heldout_batches([folder], LENGTH, 2))
    assert [names(batch) for batch in batches] == [[19, 20], [21, 0]]
    assert [batch.segments.sum(axis=1).tolist() for batch in batches] == [[3, 3], [3, 0]]
    assert all(array.shape == (2, LENGTH) and array.dtype == np.int32 for batch in batches for array in batch)


def test_heldout_rows_are_limited_and_folders_take_turns(folder, tmp_path):
    other = write_folder(tmp_path / "b", train=(1,), heldout=(2,), first_token=50)
    assert [names(batch) for batch in heldout_batches([folder, other], LENGTH, 3)] == [[19, 51, 20], [52, 21, 0]]
    assert [names(batch) for batch in heldout_batches([folder, other], LENGTH, 3, 2)] == [[19, 51, 0]]


def test_heldout_batches_are_shared_out_like_training_batches(folder):
    whole = [names(batch) for batch in heldout_batches([folder], LENGTH, 4)]
    parts = [[names(b) for b in heldout_batches([folder], LENGTH, 4, group=g, groups=2)] for g in range(2)]
    assert [left + right for left, right in zip(*parts, strict=True)] == whole == [[19, 20, 21, 0]]


def test_no_heldout_rows_give_no_batch(tmp_path):
    assert list(heldout_batches([write_folder(tmp_path / "a", heldout=())], LENGTH, 2)) == []
