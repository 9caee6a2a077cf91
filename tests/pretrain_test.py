"""Pre-training as its users run it: in a work folder, killed, resumed, on a mesh, and with mistakes."""

import dataclasses
import errno
import json
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from spanbert_jax import pretrain
from spanbert_jax.data.tokenizer import load_tokenizer
from spanbert_jax.errors import UserError
from spanbert_jax.training.checkpoint import find_checkpoint, finished_steps, load_params
from spanbert_jax.training.state import init_params
from tests import tiny
from tests.devices import REPOSITORY, environment

COMMAND = [sys.executable, "-m", "spanbert_jax.pretrain", "--config=tests/tiny.py"]


@pytest.fixture(scope="module")
def config(prepared):
    return tiny.pretrain_config(prepared)


def changed(config, **groups):
    """`config` with keys of some groups replaced."""
    parts = {name: dataclasses.replace(getattr(config, name), **keys) for name, keys in groups.items()}
    return dataclasses.replace(config, **parts)


def command(config, workdir, *flags):
    """The command line of a run."""
    data = [f"--config.data.sources={config.data.sources[0]}", f"--config.model.vocab_size={config.model.vocab_size}"]
    return [*COMMAND, f"--workdir={workdir}", *data, *flags]


def run_command(config, workdir, *flags, devices=1):
    return subprocess.run(
        command(config, workdir, *flags),
        cwd=REPOSITORY,
        env=environment(devices),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def metrics(workdir):
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in lines]


def parameters(config, workdir):
    shapes = jax.eval_shape(lambda: init_params(config.model, 0))
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)
    return load_params(find_checkpoint(workdir), shapes)


def assert_same_run(config, one, other):
    assert metrics(one) == metrics(other)
    for a, b in zip(jax.tree.leaves(parameters(config, one)), jax.tree.leaves(parameters(config, other)), strict=True):
        np.testing.assert_array_equal(a, b)


def assert_near(lines, others):
    """The same lines up to the order of sums, which the layout of devices decides."""
    for ours, theirs in zip(lines, others, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-4, err_msg=name)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A work folder of a run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp("finished")
    pretrain.run(config, workdir)
    return workdir


def test_a_work_folder_holds_all_that_its_reader_needs(config, finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.json", "summary.json", "metrics.jsonl", "checkpoints", "curves.png", "vocab.txt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert json.loads((finished / "config.json").read_text())["model"]["vocab_size"] == config.model.vocab_size
    summary = json.loads((finished / "summary.json").read_text())
    wanted = {"mlm_loss", "mlm_accuracy", "sbo_loss", "sbo_accuracy", "unigram_entropy", "unigram_entropy_sbo"}
    assert wanted <= summary["eval"].keys()
    assert {"tokens_per_second", "real_token_fraction", "seconds", "environment"} <= summary.keys()
    assert 0.5 < summary["real_token_fraction"] <= 1
    steps = [line["step"] for line in metrics(finished) if "train/loss" in line]
    assert steps == list(range(1, 13))
    assert [line["step"] for line in metrics(finished) if "eval/loss" in line] == [6, 12]


def test_the_same_run_gives_the_same_bits(config, finished, tmp_path):
    pretrain.run(config, tmp_path)
    assert_same_run(config, finished, tmp_path)


def test_a_finished_run_is_not_trained_again(config, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    summary = pretrain.run(config, tmp_path / "copy")
    assert summary == json.loads((finished / "summary.json").read_text())
    assert summary == json.loads((tmp_path / "copy" / "summary.json").read_text())
    assert metrics(tmp_path / "copy") == metrics(finished)


def test_a_run_killed_before_its_summary_writes_it_when_run_again(config, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    (tmp_path / "copy" / "summary.json").unlink()
    found, wanted = pretrain.run(config, tmp_path / "copy"), json.loads((finished / "summary.json").read_text())
    assert found["eval"] == wanted["eval"]
    assert (tmp_path / "copy" / "summary.json").exists()


def wait_for_step(process, workdir, step):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        file = workdir / "metrics.jsonl"
        if file.exists() and f'"step": {step},' in file.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"the run never reached step {step}: {process.stderr.read().decode()[-2000:]}")


def test_a_killed_run_goes_on_as_if_nothing_had_happened(config, finished, tmp_path):
    process = subprocess.Popen(
        command(config, tmp_path), cwd=REPOSITORY, env=environment(1), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for_step(process, tmp_path, 6)
    process.kill()
    process.communicate()
    assert not (tmp_path / "summary.json").exists()
    result = run_command(config, tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["steps"] == 12
    assert_same_run(config, finished, tmp_path)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_with_success(config, tmp_path, sent):
    long = changed(config, training={"steps": 100_000, "checkpoint_every": 100_000, "eval_every": 100_000})
    flags = [f"--config.training.{key}=100000" for key in ("steps", "checkpoint_every", "eval_every")]
    process = subprocess.Popen(
        command(long, tmp_path, *flags),
        cwd=REPOSITORY,
        env=environment(1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for_step(process, tmp_path, 5)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"run the same command again" in errors
    saved = int(find_checkpoint(tmp_path).name)
    assert 5 <= saved < 100_000
    assert metrics(tmp_path)[-1]["step"] == saved


def test_a_run_asked_to_stop_goes_on_as_if_nothing_had_happened(config, finished, tmp_path, monkeypatch):
    """Step 6 is one of evaluation and not one of checkpoints."""
    with monkeypatch.context() as patch:
        patch.setattr("spanbert_jax.training.loop.Preemption.requested", lambda self, step: step == 6)
        assert pretrain.run(config, tmp_path) is None
    assert find_checkpoint(tmp_path).name == "6"
    assert pretrain.run(config, tmp_path)["steps"] == 12
    assert_same_run(config, finished, tmp_path)


def test_two_processes_give_the_same_losses(config, finished, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            command(config, tmp_path),
            cwd=REPOSITORY,
            env=environment(1)
            | {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(process)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for process in range(2)
    ]
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs[0][1][-2000:]
    summary = outputs[0][0].decode()
    assert json.loads(summary[summary.index("{") :])["environment"]["processes"] == 2  # gloo greets on stdout
    assert b"{" not in outputs[1][0]
    assert_near(metrics(tmp_path), metrics(finished))


def test_a_mesh_of_eight_devices_gives_the_same_losses(config, finished, tmp_path):
    mesh = [f"--config.mesh.{axis}=2" for axis in ("data", "fsdp", "tensor")]
    result = run_command(config, tmp_path, *mesh, devices=8)
    assert result.returncode == 0, result.stderr
    assert_near(metrics(tmp_path), metrics(finished))


def test_a_longer_run_needs_extend(config, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    longer = changed(config, training={"steps": 14})
    with pytest.raises(UserError, match="training.steps=14, but .* was made for 12; add --extend"):
        pretrain.run(longer, tmp_path / "copy")
    assert pretrain.run(longer, tmp_path / "copy", extend=True)["steps"] == 14


def test_keys_that_change_no_result_may_change(config, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    pretrain.run(changed(config, training={"log_every": 3}, mesh={"data": 1}), tmp_path / "copy")


def test_another_config_is_refused_and_nothing_is_touched(config, finished):
    before = {path: path.read_bytes() for path in finished.glob("*.json*")}
    with pytest.raises(UserError, match="optimizer.learning_rate=0.5, but .* was trained with 0.001; use another"):
        pretrain.run(changed(config, optimizer={"learning_rate": 0.5}), finished)
    assert {path: path.read_bytes() for path in finished.glob("*.json*")} == before


def test_parameters_of_another_run_can_be_the_start(config, finished, tmp_path):
    start = dataclasses.replace(
        changed(config, training={"steps": 1}, optimizer={"learning_rate": 0.0}), init_from=str(finished)
    )
    pretrain.run(start, tmp_path)
    for a, b in zip(
        jax.tree.leaves(parameters(config, tmp_path)), jax.tree.leaves(parameters(config, finished)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(config, tmp_path):
    with pytest.raises(UserError, match=r"step \d+ gave loss=nan .*: \S+/train-\S+ record \d+, \S+ record \d+"):
        pretrain.run(changed(config, optimizer={"learning_rate": 1e38, "warmup_steps": 0}), tmp_path)
    assert not (tmp_path / "summary.json").exists()


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(config, tmp_path, monkeypatch):
    from orbax.checkpoint import v1 as ocp

    save = ocp.training.Checkpointer.save_checkpointables_async

    def full_at_step_8(self, step, *arguments, **keywords):
        if step == 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(self, step, *arguments, **keywords)

    monkeypatch.setattr(ocp.training.Checkpointer, "save_checkpointables_async", full_at_step_8)
    with pytest.raises(UserError, match="--workdir: cannot save a checkpoint .* the disk is full; free some space"):
        pretrain.run(config, tmp_path)
    assert find_checkpoint(tmp_path).name == "4"


def test_the_profiler_leaves_a_trace(config, tmp_path):
    pretrain.run(changed(config, training={"profile_steps": 1}), tmp_path)
    assert list((tmp_path / "plugins" / "profile").glob("*/*.xplane.pb"))


def test_a_disk_that_fills_up_with_metrics_is_told_too(config, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("spanbert_jax.training.reporting.MetricsFile.write", full)
    with pytest.raises(UserError, match="--workdir=.*: the disk is full; free some space"):
        pretrain.run(config, tmp_path)


def test_a_run_that_failed_before_its_first_checkpoint_does_not_bind_the_next(config, tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        pretrain.run(dataclasses.replace(config, init_from="nowhere"), tmp_path)
    pretrain.run(changed(config, training={"steps": 1}), tmp_path)


def test_a_file_is_not_a_work_folder(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir=.*file: cannot be a work folder"):
        pretrain.run(config, tmp_path / "file")


def test_rows_are_not_a_work_folder(config, prepared):
    with pytest.raises(UserError, match="is a prepared folder; give another"):
        pretrain.run(config, prepared)


def test_a_run_may_be_resumed_from_another_directory(config, finished, prepared, tmp_path, monkeypatch):
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(prepared.parent)
    here = changed(config, data={"sources": (prepared.name,)}, training={"steps": 13})
    assert pretrain.run(here, tmp_path / "copy", extend=True)["steps"] == 13


def test_a_replaced_tokenizer_is_noticed(config, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "rows")
    for path in (tmp_path / "rows").glob("*"):
        if path.name in ("tokenizer.json", "vocab.txt"):
            path.write_text(path.read_text().replace("house", "horse"))
    with pytest.raises(UserError, match="the tokenizer in .*rows is not the one its rows were made with"):
        pretrain.run(changed(config, data={"sources": (str(tmp_path / "rows"),)}), tmp_path / "work")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"data": {"length": 64}, "model": {"max_positions": 64}}, "data.length=64, but the rows of .* have 32 slots"),
        ({"model": {"vocab_size": 128}}, "model.vocab_size=128, but .* was prepared with a vocabulary of"),
        ({"data": {"batch_size": 9}, "optimizer": {"accumulation_steps": 2}}, "data.batch_size=9 is not divisible by"),
        ({"mesh": {"fsdp": 2}}, "mesh.fsdp=2 mesh.tensor=1 needs 2 devices, but there are 1; make the mesh smaller"),
        ({"data": {"sources": ("nowhere",)}}, "data.sources: .*/nowhere is not there"),
    ],
)
def test_what_does_not_fit_together_is_refused(config, tmp_path, groups, message):
    with pytest.raises(UserError, match=message):
        pretrain.run(changed(config, **groups), tmp_path)


def test_a_flipped_bit_in_a_shard_is_found_at_start(config, prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "rows")
    shard = next((tmp_path / "rows").glob("train-*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=f"{shard.name} does not match its checksum"):
        pretrain.run(changed(config, data={"sources": (str(tmp_path / "rows"),)}), tmp_path / "work")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.model.num_layer=6"], "num_layer=6: unknown config key num_layer (did you mean num_layers?)"),
        (["--config.modle.num_layers=6"], "error: --config.modle.num_layers=6: unknown config key modle"),
        (["--config.model.num_layers=six"], "error: flag --config.model.num_layers=six: invalid literal"),
        (["--config.model.dtype=float8"], "error: config key model.dtype='float8'"),
        (["--config=nowhere.py"], "error: --config: cannot read the file"),
        (
            ["--config.training.step=9", "--config.training.steps=8"],
            "error: --config.training.step=9: unknown config key",
        ),
        (["--wrkdir=x"], "error: Unknown command line flag 'wrkdir'. Did you mean: workdir"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(config, tmp_path, flags, message):
    result = run_command(config, tmp_path, *flags)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_small_files_of_a_work_folder_may_be_objects(config, prepared, object_store):
    from etils import epath

    workdir = epath.Path(object_store)
    config_json = json.loads(json.dumps(dataclasses.asdict(config)))
    for _ in range(2):
        pretrain.prepare_workdir(workdir, config_json, load_tokenizer(prepared), extend=False)
    assert load_tokenizer(object_store).vocab_size == config.model.vocab_size
    for unfinished_or_whole in ("4/commit_success.txt", "8/params"):
        (workdir / "checkpoints" / unfinished_or_whole).write_text("x")
    assert finished_steps(workdir) == [4]
    other = config_json | {"training": config_json["training"] | {"seed": 1}}
    with pytest.raises(UserError, match="training.seed=1"):
        pretrain.prepare_workdir(workdir, other, load_tokenizer(prepared), extend=False)
