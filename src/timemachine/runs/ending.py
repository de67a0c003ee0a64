"""The end of a run: its final numbers, its figure, its continuation, exported weights and page, and what is printed."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timemachine.config import Trainer, plain, typed
from timemachine.errors import SettingError
from timemachine.exercises import probes
from timemachine.page import make_page
from timemachine.runs.files import shown, write_figure, write_whole
from timemachine.runs.models import export_model
from timemachine.runs.record import Record
from timemachine.runs.rows import read_numbers
from timemachine.runs.summaries import read_summary
from timemachine.runs.tables import print_table, print_text, short

if TYPE_CHECKING:
    import lightning.pytorch as pl

    from timemachine.datamodule import TimeMachine
    from timemachine.language_model import RNNLMScratch

PREFIX, NUM_PREDS = "it has", 20  # the book's


def finish(run: Record, trainer: "pl.Trainer", model: "RNNLMScratch", data: "TimeMachine") -> None:
    """Measure what was asked for, leave weights, figure and continuation in the run's folder, and say how it ended."""
    run.update(metrics=final_numbers(run.folder))
    status, message = "completed", _what_is_missing(run.summary)
    val = run.summary["metrics"].get("val/perplexity", math.nan)
    if val > len(data.vocab):
        status = "diverged"
        cause = "sigma" if run.summary["settings"]["model"]["sigma"] >= 1 else "lr"
        guessing = f"worse than guessing among {len(data.vocab)}; begin anew with a smaller model.{cause}"
        message = f"ends with a validation perplexity of {val:.4g}, {guessing}"
    if trainer.is_global_zero:
        run.update(probes=probes.measure(run.summary["settings"]["probes"], model, data))
        export_model(run.folder / "model.safetensors", model, data.vocab, read_summary(run.folder))
        sample = model.predict(PREFIX, NUM_PREDS, data.vocab)
        write_whole(run.folder / "sample.txt", f"{sample}\n".encode())
        figure = _draw_curves(run.folder, run.summary)
        page = _write_page(run, model, data)
        if not run.quiet:
            report = sorted(run.folder.glob("*-profile*")) if run.summary["settings"]["trainer"]["profiler"] else []
            lines = [figure, page, *(f"profile       {shown(path)}" for path in report)]
            _print(run.folder, run.summary | {"status": status, "message": message}, sample, lines)
    run.update(status=status, message=message)


def final_numbers(folder: Path) -> dict[str, float]:
    """Return the last epoch's numbers in metrics.csv, the best validation perplexity, and how often clipping acted."""
    epochs, steps = read_numbers(folder / "metrics.csv"), read_numbers(folder / "steps.csv")
    last = [row for row in epochs if row["epoch"] == epochs[-1]["epoch"]]  # several, with validations in mid-epoch
    numbers = {name: value for row in last for name, value in row.items() if not math.isnan(value)}
    if not numbers:
        return {}
    numbers |= {"epoch": int(numbers["epoch"]), "step": int(numbers["step"])}
    if (vals := [row for row in last if not math.isnan(row["val/perplexity"])]) and vals[-1]["step"] != numbers["step"]:
        numbers["val_step"] = int(vals[-1]["step"])  # the last validation was not at the epoch's end
    validated = [row for row in epochs if not math.isnan(row["val/perplexity"])]
    if validated:
        best = min(validated, key=lambda row: row["val/perplexity"])
        numbers |= {"best_val/perplexity": best["val/perplexity"], "best_epoch": int(best["epoch"])}
    acted = sum(row["grad_norm"] > row["grad_norm_clipped"] for row in steps)
    largest = max((row["grad_norm"] for row in steps), default=math.nan)
    return numbers | {"clipped_steps": acted, "num_steps_done": len(steps), "largest_grad_norm": largest}


KEEP_NOTHING = ("barebones", "fast_dev_run")
SKIP_IF_ZERO = ("max_epochs", "limit_train_batches", "limit_val_batches")
END_BEFORE = ("max_steps", "max_time", "check_val_every_n_epoch", "val_check_interval")


def _what_is_missing(summary: dict[str, Any]) -> str | None:
    """Say in a line which of the two perplexities the last epoch lacks, and by which settings; None if it has both."""
    missing = [name for name in ("train/perplexity", "val/perplexity") if name not in summary["metrics"]]
    if not missing:
        return None
    settings, default = summary["settings"]["trainer"], plain(Trainer())
    names = [name for name in KEEP_NOTHING if settings[name]]
    names = names or [name for name in SKIP_IF_ZERO if settings[name] == 0]
    names = names or [name for name in END_BEFORE if settings[name] != default[name]]
    by = ", ".join(f"trainer.{name}={typed(settings[name])}" for name in names)
    return f"the last epoch has no {' and no '.join(missing)}{': the run had ' if by else ''}{by}"


def _draw_curves(folder: Path, summary: dict[str, Any]) -> str:
    """Leave perplexity.png: train and validation perplexity over epochs, as in the book.

    Return the line that says so; "" where there is nothing to draw.
    """
    from matplotlib.figure import Figure

    hiddens, num_steps = summary["settings"]["model"]["hiddens"], summary["settings"]["data"]["num_steps"]
    title = f"{summary['corpus']['title']}, {hiddens} hidden units, {num_steps} time steps"

    rows = read_numbers(folder / "metrics.csv")
    ends = {row["epoch"]: row["step"] for row in rows}
    points = dict[str, list[tuple[float, float]]]()
    for name in ("train", "val"):
        found = [(row, row[f"{name}/perplexity"]) for row in rows if not math.isnan(row[f"{name}/perplexity"])]
        points[name] = [(_place(row, ends), perplexity) for row, perplexity in found]
    path = folder / "perplexity.png"
    if not any(points.values()):
        path.unlink(missing_ok=True)
        return ""
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, style, colour in (("train", "-", "#0072B2"), ("val", "--", "#D55E00")):
        x, y = zip(*points[name], strict=True) if points[name] else ((), ())
        axes.plot(x, y, style, color=colour, label=name, marker="." if len(x) < 3 else None)
    axes.set(xlabel="epoch", ylabel="perplexity", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    write_figure(path, figure)
    return f"figure        {shown(path)}"


def _place(row: dict[str, float], ends: dict[float, float]) -> float:
    """Return where a row lies on the axis of epochs; one in mid-epoch by its step. `ends`: epoch -> its last step."""
    epoch = row["epoch"]
    first = ends.get(epoch - 1, 0)
    return epoch - 1 + (row["step"] - first) / max(ends[epoch] - first, 1)


def _write_page(run: Record, model: "RNNLMScratch", data: "TimeMachine") -> str:
    """Leave page.html in the folder of a single run. Return the line that says so, or why there is none."""
    if run.in_sweep or run.group is not None or run.exercise != "none":
        return ""
    path = run.folder / "page.html"
    try:
        page = make_page(model, data.vocab, run.summary)
    except SettingError as error:
        path.unlink(missing_ok=True)  # of a model that the folder no longer has
        return f"page          none: {error}"
    write_whole(path, page)
    return f"page          {shown(path)}"


def _print(folder: Path, summary: dict[str, Any], sample: str, lines: list[str]) -> None:
    """Print what a reader wants to know. `lines`: what else there is to open; an empty one is left out."""
    metrics, corpus = summary["metrics"], summary["corpus"]
    rows: list[tuple[str, str, str]] = []
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        if name in metrics:
            early = (
                f", step {metrics['val_step']} of {metrics['step']}" if name[0] == "v" and "val_step" in metrics else ""
            )
            rows.append((name, short(metrics[name]), f"epoch {metrics['epoch']}{early}"))
    if "best_val/perplexity" in metrics:
        rows.append(("best val/perplexity", short(metrics["best_val/perplexity"]), f"epoch {metrics['best_epoch']}"))
    if metrics.get("num_steps_done"):
        theta = summary["settings"]["trainer"]["gradient_clip_val"]
        by_value = summary["settings"]["trainer"].get("gradient_clip_algorithm") == "value"
        radius = f"{'values within ±' if by_value else 'radius '}{theta:g}" if theta else "no radius set"
        acted = f"{metrics['clipped_steps']} of {metrics['num_steps_done']} steps"
        changed = [
            it["from_epoch"] for it in summary.get("changes", []) if "trainer.gradient_clip_val" in it["settings"]
        ]
        radius += f" from epoch {changed[-1]} on" if changed else ""
        rows.append(("clipping acted in", acted, f"{radius}, largest norm {metrics['largest_grad_norm']:.3g}"))
    if "chars_per_second" in metrics:
        rows.append(("characters a second", f"{metrics['chars_per_second']:,.0f}", "training, last epoch"))
    rows.append(("parameters", f"{summary['parameters']:,}", f"vocabulary of {corpus['vocabulary']}"))
    rows.append(("text", f"{corpus['characters']:,} characters", corpus["name"]))
    if corpus.get("left_out"):
        rows.append(("left out", f"{corpus['left_out']:,} characters", "headers and footers of Project Gutenberg's"))
    print_table(f"{summary['status']}: {corpus['title']}", (), rows, left=3)
    if summary["message"]:
        print_text(f"{summary['status']}: {summary['message']}")
    print(f'continuation  "{sample}"')  # which may end in spaces
    print(*filter(None, lines), sep="\n")
    print(f"folder        {shown(folder)}")
