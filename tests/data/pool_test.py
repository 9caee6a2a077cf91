"""Worker processes: results, failures, and that none outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from spanbert_jax.data.pool import map_unordered
from spanbert_jax.errors import UserError


def double(number):
    if number == "die":
        os._exit(9)
    if number == "refuse":
        raise UserError("--input: refused")
    return 2 * number


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_gives_its_result(workers):
    assert sorted(map_unordered(double, range(20), workers)) == list(range(0, 40, 2))


def test_items_are_taken_only_as_workers_need_them():
    taken = []
    results = map_unordered(double, (taken.append(i) or i for i in range(100)), 2)
    next(results)
    assert len(taken) <= 4
    results.close()


def test_a_mistake_found_by_a_worker_reaches_the_user():
    with pytest.raises(UserError, match="--input: refused"):
        list(map_unordered(double, ["refuse"], 2))


def test_a_killed_worker_is_one_clear_line():
    with pytest.raises(UserError, match="--workers=2: a worker process was killed"):
        list(map_unordered(double, ["die"], 2))


def linger(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks processes up in /proc")
def test_workers_go_when_their_parent_is_killed(tmp_path):
    note = tmp_path / "pid"
    script = tmp_path / "parent.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "from pool_test import linger\n"
        "from spanbert_jax.data.pool import map_unordered\n"
        f"if __name__ == '__main__':\n    list(map_unordered(linger, [{str(note)!r}], 2))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    parent = subprocess.Popen([sys.executable, str(script)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    worker = int(note.read_text())
    assert alive(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(worker)
