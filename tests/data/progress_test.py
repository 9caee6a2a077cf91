"""Progress where stderr is no terminal."""

from spanbert_jax.data import progress as module
from spanbert_jax.data.progress import progress


def test_prints_a_line_now_and_then_and_one_at_the_end(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 11.0, 11.0, 11.0, 12.0, 30.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("building", 3, "shards") as advance:
        advance(1)
        advance(1)
        advance(1)
    assert capsys.readouterr() == ("", "building: 2 of 3 shards, 11 s\nbuilding: 3 of 3 shards, 30 s\n")


def test_an_unknown_total_is_left_out(capsys):
    with progress("reading", None, "documents") as advance:
        advance(7)
    assert capsys.readouterr().err == "reading: 7 documents, 0 s\n"
