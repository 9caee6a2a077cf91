"""What a run leaves to be read and looked at: metrics.jsonl, TensorBoard events, a progress line, curves."""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

METRICS_FILE = "metrics.jsonl"
_OBJECTIVES = (("mlm", "MLM"), ("sbo", "SBO"))


def is_remote(folder: epath.PathLike) -> bool:
    """Whether a folder is an object store's, where files can be written whole but not appended to."""
    return "://" in str(epath.Path(folder))


def write_text(path: epath.Path, text: str) -> None:
    """Writes a small file whole: readers see the old one or the new one."""
    if is_remote(path):
        path.write_text(text)
        return
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


class MetricsFile:
    """metrics.jsonl: one flat JSON object a line, flushed each line, cut back to the restored step on resume."""

    def __init__(self, workdir: epath.PathLike, *, restored_step: int):
        self._path = epath.Path(workdir) / METRICS_FILE
        # A line half written when a run was killed belongs to a step after the last checkpoint.
        kept = [line for line in _whole_lines(self._path) if json.loads(line)["step"] <= restored_step]
        self._lines = kept
        write_text(self._path, "".join(kept))

    def write(self, metrics: Mapping[str, float | int]) -> None:
        """Appends a line; floats keep their full precision."""
        self._lines.append(json.dumps(metrics) + "\n")
        if is_remote(self._path):
            self._path.write_text("".join(self._lines))
            return
        with self._path.open("a") as file:
            file.write(self._lines[-1])

    def read(self) -> list[dict[str, Any]]:
        """Every line so far."""
        return [json.loads(line) for line in self._lines]


def _whole_lines(path: epath.Path) -> list[str]:
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class Reporter:
    """Takes metrics as they come and shows them in every form; silent on all processes but the first."""

    def __init__(self, workdir: epath.PathLike, *, steps: int, restored_step: int):
        self._workdir = epath.Path(workdir)
        self._steps = steps
        self._writer = None
        if jax.process_index() == 0:
            from tensorboardX import SummaryWriter

            self._metrics = MetricsFile(workdir, restored_step=restored_step)
            self._staging = tempfile.TemporaryDirectory() if is_remote(workdir) else None
            folder = self._staging.name if self._staging else str(workdir)
            self._writer = SummaryWriter(folder, purge_step=restored_step + 1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records the metrics of a step under their full names ("train/mlm_loss")."""
        if self._writer is None:
            return
        self._metrics.write({"step": step, **metrics})
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def progress(self, step: int, metrics: Mapping[str, float], *, seconds_left: float) -> None:
        """Logs one line: losses, speed, utilisation and the time left."""
        if self._writer is None:
            return
        width = len(str(self._steps))
        utilisation = metrics.get("time/utilisation")
        logging.info(
            "step %*d/%d  mlm %.3f  sbo %.3f  %s tokens/s  %.3f TFLOP/s%s  %s left",
            width,
            step,
            self._steps,
            metrics["train/mlm_loss"],
            metrics["train/sbo_loss"],
            f"{metrics['time/tokens_per_second']:,.0f}",
            metrics["time/teraflops_per_second"],
            "" if utilisation is None else f" ({utilisation:.0%} of peak)",
            format_duration(seconds_left),
        )

    def evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Records and logs an evaluation."""
        self.write(step, {f"eval/{name}": value for name, value in metrics.items()})
        if self._writer is None:
            return
        logging.info(
            "step %*d/%d  eval: mlm %.3f (unigram %.3f, accuracy %.1f%%)  sbo %.3f (unigram %.3f, accuracy %.1f%%)",
            len(str(self._steps)),
            step,
            self._steps,
            metrics["mlm_loss"],
            metrics["unigram_entropy"],
            100 * metrics["mlm_accuracy"],
            metrics["sbo_loss"],
            metrics["unigram_entropy_sbo"],
            100 * metrics["sbo_accuracy"],
        )
        self.flush()

    def flush(self) -> None:
        """Puts TensorBoard's events where they can be seen."""
        if self._writer is None:
            return
        self._writer.flush()
        if self._staging:
            for path in Path(self._staging.name).iterdir():
                (self._workdir / path.name).write_bytes(path.read_bytes())

    def close(self) -> None:
        """Flushes, and draws the curves of the whole run as curves.png."""
        if self._writer is None:
            return
        self.flush()
        self._writer.close()
        draw_curves(self._metrics.read(), self._workdir / "curves.png")
        if self._staging:
            self._staging.cleanup()


def format_duration(seconds: float) -> str:
    """Hours, minutes and seconds, the smallest two that matter: "2h05m", "3m20s", "12s"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


def draw_curves(lines: Sequence[Mapping[str, float]], path: epath.PathLike) -> None:
    """Draws the losses of both objectives in training and evaluation, with the unigram entropy as the line to beat.

    Args:
      lines: the objects of metrics.jsonl.
      path: the PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (objective, title) in zip(figure.subplots(1, 2, sharey=True), _OBJECTIVES, strict=True):
        train = [(line["step"], line[f"train/{objective}_loss"]) for line in lines if f"train/{objective}_loss" in line]
        evaluated = [line for line in lines if f"eval/{objective}_loss" in line]
        if train:
            axes.plot(*zip(*train, strict=True), color="#9ecae1", linewidth=1, label="training batch")
        if evaluated:
            steps = [line["step"] for line in evaluated]
            losses = [line[f"eval/{objective}_loss"] for line in evaluated]
            unigram = evaluated[-1]["eval/unigram_entropy" + ("_sbo" if objective == "sbo" else "")]
            axes.plot(steps, losses, color="#08519c", linewidth=2, marker="o", markersize=3, label="held out")
            axes.axhline(unigram, color="#d94801", linestyle="--", label=f"unigram entropy {unigram:.2f}")
            axes.annotate(
                f"{losses[-1]:.2f}",
                (steps[-1], losses[-1]),
                textcoords="offset points",
                xytext=(-4, -14),
                ha="right",
                color="#08519c",
            )
        axes.set(title=title, xlabel="step", ylabel="loss (nats)" if objective == "mlm" else "")
        axes.grid(alpha=0.3)
        if train or evaluated:
            axes.legend()
    with epath.Path(path).open("wb") as file:
        figure.savefig(file, format="png", dpi=120)
