import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spanbert_jax.errors import UserError
from spanbert_jax.training.checkpoint import Checkpoints, find_checkpoint, load_params
from spanbert_jax.training.state import TrainState


def state(step):
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params={"kernel": jnp.arange(6.0).reshape(2, 3) + step},
        opt_state=({"mu": jnp.full(3, float(step))}, jnp.asarray(step, jnp.int32)),
    )


def save(folder, losses, keep=2):
    checkpoints = Checkpoints(folder, keep=keep)
    for step, loss in losses.items():
        checkpoints.save(state(step), {"next_batch": step}, {"seed": 0}, loss=loss)
        checkpoints.wait()
    return checkpoints


def steps(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_what_is_saved_comes_back(tmp_path):
    save(tmp_path, {5: 1.0}).close()
    checkpoints = Checkpoints(tmp_path, keep=2)
    restored, data = checkpoints.restore(state(0))
    checkpoints.close()
    assert data == {"next_batch": 5}
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(state(5)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_work_folder_may_be_named_from_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save("run", {5: 1.0}).close()
    found = load_params(find_checkpoint("run"), state(0).params)
    np.testing.assert_array_equal(found["kernel"], state(5).params["kernel"])


def test_the_newest_and_the_best_are_kept(tmp_path):
    save(tmp_path, {1: 5.0, 2: 1.0, 3: 4.0, 4: None, 5: 3.0, 6: None}).close()
    assert steps(tmp_path) == [2, 5, 6]


def test_a_save_cut_short_is_never_taken_for_a_checkpoint(tmp_path):
    save(tmp_path, {1: None}).close()
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir()
    assert find_checkpoint(tmp_path).name == "1"
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.latest_step == 1
    checkpoints.close()


def test_no_save_is_skipped_because_another_is_under_way(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=5)
    for step in range(1, 6):
        checkpoints.save(state(step), {"next_batch": step}, {}, loss=None)
    checkpoints.wait()
    checkpoints.close()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


def test_saving_a_step_twice_is_saving_it_once(tmp_path):
    checkpoints = save(tmp_path, {3: None})
    checkpoints.save(state(3), {"next_batch": 3}, {}, loss=1.0)
    checkpoints.close()
    assert steps(tmp_path) == [3]


def test_parameters_load_without_the_rest(tmp_path):
    save(tmp_path, {7: None}).close()
    found = load_params(find_checkpoint(tmp_path), state(0).params)
    np.testing.assert_array_equal(found["kernel"], state(7).params["kernel"])


def test_a_damaged_checkpoint_is_told_in_one_line(tmp_path):
    save(tmp_path, {1: None}).close()
    for path in (tmp_path / "checkpoints" / "1" / "params").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.unlink()
    with pytest.raises(UserError, match="cannot restore this checkpoint") as found:
        load_params(find_checkpoint(tmp_path), state(0).params)
    assert "\n" not in str(found.value)
