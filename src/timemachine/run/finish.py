"""The end of a run: final numbers, figure, continuation, exported weights, and the printed table."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.run.checkpoint import export_model
from timemachine.run.console import print_table, print_text, short
from timemachine.run.files import link, write_figure, write_whole
from timemachine.run.record import EXPORT, Record
from timemachine.run.rows import final_numbers, read_numbers
from timemachine.run.tables import continuation

WritePage = Callable[[dict[str, Any]], list[str]]  # takes a run's summary, returns lines to print


def finish(run: Record, model: RNNLMScratch, data: TimeMachine, write_page: WritePage | None = None) -> None:
    """Write final numbers, weights, continuation and figure into the run's folder, and print the results.

    `write_page`: writes the page of the run; None for a job of a sweep.
    """
    run.update(metrics=final_numbers(run.folder))
    status, message = _outcome(run.summary["metrics"], model.hparams)
    if run.role.writes:
        summary = run.summary | {"status": status, "message": message}
        export_model(run.folder / EXPORT, model, data.vocab, summary)
        sample = continuation(model, data)
        write_whole(run.folder / "sample.txt", f"{sample}\n".encode())
        lines = _draw_curves(run.folder, summary) + (write_page(summary) if write_page else [])
        if summary["settings"]["trainer"]["profiler"]:
            lines += [f"profile       {link(path)}" for path in sorted(run.folder.glob("*-profile*"))]
        if run.role.prints:
            _print(summary, _batches(model))
            line = sample.replace("\n", "↵")
            print(f'continuation  "{line}"')  # in quotes, since it may end in spaces
            print(*lines, f"folder        {link(run.folder)}", sep="\n")
    run.update(status=status, message=message)  # last, so that a run killed above is not `completed`


def _outcome(metrics: dict[str, float], network: Any) -> tuple[str, str | None]:
    """Return the status and the message of a run that trained to its end. `network`: the model's hyperparameters."""
    guessing = network["vocab_size"]  # the perplexity of guessing
    if metrics.get("val/perplexity", 0) > guessing:
        if metrics.get("train/perplexity", math.inf) < guessing:
            instead = "train for fewer epochs or on more text"
        else:
            sigma = "sigma_hh" if network.get("sigma_hh") else "sigma"
            if network.get("tie_weights"):
                sigma = "embedding_sigma"  # it scales the logits of tied weights
            instead = f"use a smaller model.lr or model.{sigma}"
        rule = f"worse than guessing among {guessing}; {instead}"
        return "diverged", f"ends with a validation perplexity of {metrics['val/perplexity']:.4g}, {rule}"
    if missing := [name for name in ("train/perplexity", "val/perplexity") if name not in metrics]:
        return "completed", f"the last epoch has no {' and no '.join(missing)}"
    return "completed", None


def _draw_curves(folder: Path, summary: dict[str, Any]) -> list[str]:
    """Write perplexity.png: both perplexities over epochs, as in the book. Return a line with its path, if any."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = read_numbers(folder / "metrics.csv")
    if all(math.isnan(row["train/perplexity"]) and math.isnan(row["val/perplexity"]) for row in rows):
        return []
    ends = {row["epoch"]: row["step"] for row in rows}

    def place(row: dict[str, float]) -> float:
        """Return the position of a row on the axis of epochs: a fraction for a validation within an epoch."""
        first, last = ends.get(row["epoch"] - 1, 0), ends[row["epoch"]]
        return row["epoch"] - 1 + (row["step"] - first) / max(last - first, 1)

    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, label, style, colour in (("train", "training", "-", "#0072B2"), ("val", "validation", "--", "#D55E00")):
        points = [(place(row), row[f"{name}/perplexity"]) for row in rows]
        points = [(x, y) for x, y in points if not math.isnan(y)]
        marker = "." if len(points) < 3 else None
        axes.plot([x for x, _ in points], [y for _, y in points], style, color=colour, label=label, marker=marker)
    hiddens, num_steps = summary["settings"]["model"]["hiddens"], summary["settings"]["data"]["num_steps"]
    title = f"{summary['corpus']['title']}, {hiddens} hidden units, {num_steps} time steps"
    if summary["status"] == "diverged":
        title += ": diverged"
    guessing = summary["corpus"]["vocabulary"]
    if guessing < 2 * axes.get_ylim()[1]:  # a line far above the curves would flatten them
        axes.axhline(guessing, color="grey", linestyle=":", label=f"guessing: {guessing:,}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="perplexity", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")  # free space, since no perplexity is below 1
    write_figure(folder / "perplexity.png", figure)
    return [f"figure        {link(folder / 'perplexity.png')}"]


def _batches(model: RNNLMScratch) -> str:
    """Return how many batches the run trained on in its last epoch, or "" if it ended with the epoch."""
    done = model.trainer.fit_loop.epoch_loop.batch_progress.current.completed
    batches = model.trainer.num_training_batches
    return f", {done} of {batches} batches" if done < batches else ""


def _print(summary: dict[str, Any], batches: str) -> None:
    """Print the table of a run's results, and its message. `batches`: from `_batches`."""
    metrics, corpus, trainer = summary["metrics"], summary["corpus"], summary["settings"]["trainer"]
    rows: list[tuple[str, str, str]] = []
    for name in ("train/perplexity", "val/perplexity", "val/bits_per_byte", "test/perplexity"):
        if name in metrics:
            is_early = name.startswith("val/") and "val_step" in metrics
            step = f", step {metrics['val_step']} of {metrics['step']}" if is_early else ""
            rows.append((name, short(metrics[name]), f"epoch {metrics['epoch']}{batches}{step}"))
    if "best_val/perplexity" in metrics:
        rows.append(("best val/perplexity", short(metrics["best_val/perplexity"]), f"epoch {metrics['best_epoch']}"))
    if metrics.get("num_steps_done"):
        acted = f"{metrics['clipped_steps']} of {metrics['num_steps_done']} steps"
        theta = trainer["gradient_clip_val"]
        radius = f"trainer.gradient_clip_val={theta:g}" if theta else "no clipping"
        rows.append(("clipping acted in", acted, f"{radius}, largest norm {metrics['largest_grad_norm']:.3g}"))
    if "chars_per_second" in metrics:
        rows.append(("characters a second", f"{metrics['chars_per_second']:,.0f}", "training, last epoch"))
    rows.append(("parameters", f"{summary['parameters']:,}", f"vocabulary of {corpus['vocabulary']}"))
    tokens = f", {corpus['tokens']:,} tokens" if corpus["tokens"] != corpus["characters"] else ""
    rows.append(("text", f"{corpus['characters']:,} characters{tokens}", corpus["name"]))
    if corpus.get("unknown"):
        unknown, size = (f"{corpus[name]:,}" for name in ("unknown", "unknown_bytes"))
        rare = f"rarer than data.min_count; {size} bytes in UTF-8, counted as {unknown}"
        rows.append(("read as <unk>", f"{unknown} characters", rare))
    if corpus.get("left_out"):
        rows.append(("left out", f"{corpus['left_out']:,} bytes", "headers and footers of Project Gutenberg"))
    print_table(f"{summary['status']}: {corpus['title']}", (), rows)
    if summary["message"] and summary["status"] != "diverged":  # otherwise the program's last line gives the reason
        print_text(f"{summary['status']}: {summary['message']}")
