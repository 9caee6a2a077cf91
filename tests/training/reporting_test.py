import json

import pytest

from spanbert_jax.training.reporting import MetricsFile, Reporter, draw_curves, format_duration, write_text

EVALUATION = {
    "loss": 9.0,
    "mlm_loss": 5.0,
    "sbo_loss": 4.0,
    "mlm_accuracy": 0.1,
    "sbo_accuracy": 0.2,
    "unigram_entropy": 6.0,
    "unigram_entropy_sbo": 6.1,
}


def test_lines_keep_full_precision_and_are_there_at_once(tmp_path):
    file = MetricsFile(tmp_path, restored_step=0)
    file.write({"step": 1, "train/loss": 0.1 + 0.2})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "train/loss": 0.30000000000000004}


def test_resuming_cuts_back_to_the_restored_step(tmp_path):
    file = MetricsFile(tmp_path, restored_step=0)
    for step in (1, 2, 3):
        file.write({"step": step})
    with (tmp_path / "metrics.jsonl").open("a") as killed:
        killed.write('{"step": 4, "train/lo')
    resumed = MetricsFile(tmp_path, restored_step=2)
    resumed.write({"step": 3, "again": 1})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1}, {"step": 2}, {"step": 3, "again": 1}]


def test_a_small_file_is_replaced_whole(tmp_path):
    from etils import epath

    path = epath.Path(tmp_path) / "config.json"
    write_text(path, "old")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(("seconds", "text"), [(12.4, "12s"), (200, "3m20s"), (7500, "2h05m"), (59.7, "1m00s")])
def test_durations_read_well(seconds, text):
    assert format_duration(seconds) == text


def test_curves_are_a_picture_even_of_a_run_just_begun(tmp_path):
    for lines in ([], [{"step": 1, "train/mlm_loss": 7.0, "train/sbo_loss": 7.0}]):
        draw_curves(lines, tmp_path / "curves.png")
        assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_work_folder_may_be_in_an_object_store(object_store):
    from etils import epath

    for restored, steps in ((0, (1, 2)), (1, (2, 3))):
        reporter = Reporter(object_store, steps=3, restored_step=restored)
        for step in steps:
            reporter.write(step, {"train/mlm_loss": 6.0, "train/sbo_loss": 6.0})
        reporter.evaluation(steps[-1], EVALUATION)
        reporter.close()
    folder = epath.Path(object_store)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 3]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any(path.name.startswith("events.out.tfevents") for path in folder.iterdir())
