"""The end of a run: its final numbers, its figure, its continuation, exported weights and page, and what is printed."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timemachine.errors import SettingError
from timemachine.evaluation import probes
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
    status, message = "completed", None
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
        _draw_curves(run.folder, run.summary)
        page = _write_page(run, model, data)
        if not run.quiet:
            _print(run.folder, run.summary | {"status": status, "message": message}, sample, page)
    run.update(status=status, message=message)


def final_numbers(folder: Path) -> dict[str, float]:
    """The last epoch's row of metrics.csv, the best validation perplexity beside it, and how often clipping acted."""
    epochs, steps = read_numbers(folder / "metrics.csv"), read_numbers(folder / "steps.csv")
    if not epochs or math.isnan(epochs[-1]["epoch"]):  # a run of no epoch has a test at most
        return {}
    numbers = {name: value for name, value in epochs[-1].items() if not math.isnan(value)}
    numbers |= {"epoch": int(numbers["epoch"]), "step": int(numbers["step"])}
    validated = [row for row in epochs if not math.isnan(row["val/perplexity"])]
    if validated:
        best = min(validated, key=lambda row: row["val/perplexity"])
        numbers |= {"best_val/perplexity": best["val/perplexity"], "best_epoch": int(best["epoch"])}
    acted = sum(row["grad_norm"] > row["grad_norm_clipped"] for row in steps)
    largest = max((row["grad_norm"] for row in steps), default=math.nan)
    return numbers | {"clipped_steps": acted, "num_steps_done": len(steps), "largest_grad_norm": largest}


def _draw_curves(folder: Path, summary: dict[str, Any]) -> None:
    """Leave perplexity.png: train and validation perplexity over epochs, as in the book."""
    from matplotlib.figure import Figure

    hiddens, num_steps = summary["settings"]["model"]["hiddens"], summary["settings"]["data"]["num_steps"]
    title = f"{summary['corpus']['title']}, {hiddens} hidden units, {num_steps} time steps"

    epochs = read_numbers(folder / "metrics.csv")
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, style, colour in (("train", "-", "#0072B2"), ("val", "--", "#D55E00")):
        x, y = ([row[column] for row in epochs] for column in ("epoch", f"{name}/perplexity"))
        axes.plot(x, y, style, color=colour, label=name, marker="." if len(epochs) < 3 else None)
    axes.set(xlabel="epoch", ylabel="perplexity", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    write_figure(folder / "perplexity.png", figure)


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


def _print(folder: Path, summary: dict[str, Any], sample: str, page: str) -> None:
    """Print what a reader wants to know. `page`: a line about the page, or ""."""
    metrics, corpus = summary["metrics"], summary["corpus"]
    rows: list[tuple[str, str, str]] = []
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        if name in metrics:
            rows.append((name, short(metrics[name]), f"epoch {metrics['epoch']}"))
    if "best_val/perplexity" in metrics:
        rows.append(("best val/perplexity", short(metrics["best_val/perplexity"]), f"epoch {metrics['best_epoch']}"))
    if "clipped_steps" in metrics:
        theta = summary["settings"]["trainer"]["gradient_clip_val"]
        by_value = summary["settings"]["trainer"].get("gradient_clip_algorithm") == "value"
        radius = f"{'values within ±' if by_value else 'radius '}{theta:g}" if theta else "no radius set"
        acted = f"{metrics['clipped_steps']} of {metrics['num_steps_done']} steps"
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
    print(f"figure        {shown(folder / 'perplexity.png')}")
    if page:
        print(page)
    print(f"folder        {shown(folder)}")
