"""The end of a run: its final numbers, probes, weights, continuation, figure and page, and the printed table."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timemachine.datamodule import TimeMachine
from timemachine.errors import REMEDY, UserError
from timemachine.language_model import RNNLMScratch
from timemachine.run.console import print_table, print_text, short
from timemachine.run.files import relative_path, write_figure, write_whole
from timemachine.run.load import export_model
from timemachine.run.progress import continuation
from timemachine.run.record import EXPORT, Record, metric_of, with_arguments
from timemachine.run.rows import final_numbers, read_numbers
from timemachine.weights_and_biases import upload_line

WORSE = 1.05  # by how much the last epoch may be worse than the best one without a word
COUNTED = ("epoch", "step", "val_step", "best_epoch", "num_steps_done", "chars_per_second", "lr")  # no scores


def write_results(run: Record, trainer: Any, logged: Mapping[str, Any], probes: Mapping[str, Any]) -> None:
    """Write the results into the run's folder and print them; the status comes last, as a kill may come before.

    The numbers are those of metrics.csv, or `logged` by the Trainer if this table does not end at its last step. Only
    an `RNNLMScratch` with a `TimeMachine` has an export, a continuation and a page.
    """
    if not run.writes:
        return
    if trainer.fast_dev_run:
        run.update(status="completed", message="trainer.fast_dev_run: completed, without results")
        if run.prints:
            print_text(run.summary["message"])
        return
    model, data = trainer.lightning_module, trainer.datamodule
    if not run.has_begun:  # a resumed run that had nothing left to train
        run.begin(model, data)
    metrics = final_numbers(run.folder, metric_of(run.summary))
    if metrics.get("step") != logged["step"]:
        metrics = {name: value if name in ("epoch", "step") else float(value) for name, value in logged.items()}
    guessing = run.summary["corpus"].get("vocabulary", math.inf)
    status, message = outcome(metrics, guessing, metric_of(run.summary))
    kernel = getattr(model, "trained_with", run.before.get("kernel", "autograd"))  # nothing may have been left to train
    run.update(metrics=metrics, kernel=kernel)  # before the probes, which may take minutes or fail
    measured = {name: probe.measure(model, data) for name, probe in probes.items()}
    run.update(probes=measured)
    write_curves(run.folder, run.summary)
    lines = [f"folder        {relative_path(run.folder)}"]
    if isinstance(model, RNNLMScratch) and isinstance(data, TimeMachine):
        sample = continuation(model.eval(), data)
        summary = with_arguments(run.summary) | {"status": status}
        export_model(run.folder / EXPORT, model, data.vocab, summary)
        write_whole(run.folder / "sample.txt", f"{sample}\n".encode())
        # In quotes, since it may end in spaces.
        lines.insert(0, 'continuation  "{}"'.format(sample.replace("\n", "↵")))
        if run.prints:  # not a job of a sweep
            from timemachine.page.epochs import write_page

            lines.insert(1, write_page(run.folder, model, data, summary))
    run.update(status=status, message=message)
    for logger in trainer.loggers:
        if hasattr(logger, "log_results"):  # our WandbLogger
            logger.log_results(run.summary, run.folder)
    if (run.folder / "wandb").exists():
        lines += filter(None, [upload_line(run.folder / "wandb")])
    if run.prints:
        print_results(run.summary)
        print_text("\n".join(lines))
    if status == "diverged" and not run.is_job:
        raise UserError(message)  # after the results: exit status 1


def outcome(metrics: Mapping[str, float], guessing: int, metric: str) -> tuple[str, str | None]:
    """Return the status and the message of a run that trained to its end.

    `guessing`: the perplexity of guessing. `metric`: the run's `optimized_metric`.
    """
    if (val := metrics.get("val/perplexity", 0.0)) > guessing:
        rule = f"worse than guessing among {guessing}; {REMEDY}, or fewer epochs"
        return "diverged", f"diverged: ends with a validation perplexity of {val:.4g}, {rule}"
    if not math.isfinite(metrics.get("train/perplexity", 0.0)):
        return "diverged", f"diverged: the training perplexity is not finite; {REMEDY}"
    names = ("train/perplexity", metric) if metric == "val/perplexity" else (metric,)  # a custom model has others
    missing = [name for name in names if name not in metrics]
    return "completed", f"the last epoch has no {' and no '.join(missing)}" if missing else None


def write_curves(folder: Path, summary: Mapping[str, Any], form: str = "png", width: float | None = None) -> None:
    """Write perplexity.png, or svg or pdf: both perplexities over epochs, as in the book.

    `width`: in inches. No file if no perplexity was measured.
    """
    from timemachine.run.curves import draw_curves, panels

    rows = read_numbers(folder / "metrics.csv")
    ends = {row["epoch"]: row["step"] for row in rows}
    curves: dict[str, list[tuple[float, float]]] = {"train": [], "val": []}
    for row in rows:
        first, last = ends.get(row["epoch"] - 1, 0), ends[row["epoch"]]
        epoch = row["epoch"] - 1 + (row["step"] - first) / max(last - first, 1)  # a fraction for a validation within it
        for name, curve in curves.items():
            if not math.isnan(row[f"{name}/perplexity"]):
                curve.append((epoch, row[f"{name}/perplexity"]))
    if not any(curves.values()):
        return
    figure, ((axes,),) = panels()
    draw_curves(axes, curves)
    guessing = summary["corpus"].get("vocabulary", math.inf)
    if guessing < 2 * axes.get_ylim()[1]:  # a line far above the curves would flatten them
        axes.axhline(guessing, color="grey", linestyle=":", label=f"guessing: {guessing:,}")
    axes.set_title(summary["corpus"].get("title"))
    # Free space on a linear axis, since no perplexity is below 1.
    axes.legend(loc="lower left" if axes.get_yscale() == "linear" else "best")
    write_figure(folder / f"perplexity.{form}", figure, width)


def print_results(summary: Mapping[str, Any]) -> None:
    """Print the table of a run's results, and its message."""
    metrics, epoch = summary["metrics"], f"epoch {summary['metrics'].get('epoch', 0)}"
    metric, names = metric_of(summary), ("train/perplexity", "val/perplexity", "val/bits_per_byte", "test/perplexity")
    others = [name for name in metrics if name not in COUNTED and not name.startswith("best_")]  # of a custom model
    rows = [(name, short(metrics[name]), epoch) for name in [name for name in names if name in metrics] or others]
    if f"best_{metric}" in metrics:
        rows.append((f"best {metric}", short(metrics[f"best_{metric}"]), f"epoch {metrics['best_epoch']}"))
        if metrics.get(metric, 0) > WORSE * metrics[f"best_{metric}"]:
            better = "end earlier with callbacks=early_stopping, or use run=<folder>/checkpoints/best.ckpt"
            rows.append(("", "", f"the last epoch is worse: {better}"))
    if "clipped_steps" in metrics:
        clipped = f"{metrics['clipped_steps']} of {metrics['num_steps_done']}"
        rows.append(("clipped steps", clipped, f"largest norm {metrics['largest_grad_norm']:.3g}"))
    if "chars_per_second" in metrics:
        unit = "characters" if "characters" in summary["corpus"] else "targets"
        rows.append((f"{unit}/s", f"{metrics['chars_per_second']:,.0f}", "training, last epoch"))
    rows.append(("parameters", f"{summary['parameters']:,}", f"kernel: {summary['kernel']}"))
    print_table(f"{summary['status']}: {summary['corpus']['title']}", (), rows)
    if summary["status"] == "completed" and summary["message"]:
        print_text(summary["message"])
