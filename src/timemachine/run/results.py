"""The results of a run: its final numbers, the measurements of its probes, and whether it has diverged."""

import math
from collections.abc import Mapping
from typing import Any

from timemachine.errors import REMEDY
from timemachine.run.record import Record, metric_of
from timemachine.run.rows import final_numbers


def measure_results(run: Record, trainer: Any, logged: Mapping[str, Any], probes: Mapping[str, Any]) -> None:
    """Add the final numbers and the measurements of the probes to summary.json.

    The numbers are those of metrics.csv, or `logged` by the Trainer if this table does not end at its last step.
    `trainer.fast_dev_run` has none, and writes no files: it completes here.
    """
    if not run.writes:
        return
    if trainer.fast_dev_run:
        run.update(status="completed", message="trainer.fast_dev_run: completed, without results")
        return
    model, data = trainer.lightning_module, trainer.datamodule
    if not run.has_begun:  # a resumed run that had nothing left to train
        run.begin(model, data)
    metrics = final_numbers(run.folder, metric_of(run.summary))
    # A user's run may lack the callback `tables`, or have ended within an epoch.
    if metrics.get("step") != logged["step"]:
        metrics = {name: value if name in ("epoch", "step") else float(value) for name, value in logged.items()}
    kernel = getattr(model, "trained_with", run.before.get("kernel", "autograd"))  # nothing may have been left to train
    run.update(metrics=metrics, kernel=kernel)  # before the probes, which may take minutes or fail
    run.update(probes={name: probe.measure(model, data) for name, probe in probes.items()})


def outcome(summary: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the status and the message of a run that trained to its end, from its `metrics`."""
    metrics, metric = summary["metrics"], metric_of(summary)
    guessing = summary["corpus"].get("vocabulary", math.inf)  # the perplexity of guessing
    if (val := metrics.get("val/perplexity", 0.0)) > guessing:
        rule = f"worse than guessing among {guessing}; {REMEDY}, or fewer epochs"
        return "diverged", f"diverged: ends with a validation perplexity of {val:.4g}, {rule}"
    if not math.isfinite(metrics.get("train/perplexity", 0.0)):
        return "diverged", f"diverged: the training perplexity is not finite; {REMEDY}"
    if not math.isfinite(metrics.get(metric, 0.0)):  # of a custom model; ours end with `Diverged`
        return "diverged", f"diverged: {metric} is not finite"
    # Such as a run with `limit_val_batches=0`: completed, but a search cannot use it.
    names = ("train/perplexity", metric) if metric == "val/perplexity" else (metric,)  # a custom model has others
    missing = [name for name in names if name not in metrics]
    return "completed", f"the last epoch has no {' and no '.join(missing)}" if missing else None
