"""What a run left in its folder -> final numbers, figure, tables."""

import csv
import math
import os
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from timemachine.evaluation import Row
from timemachine.sweep import print_table
from timemachine.tracking import short


def final_numbers(folder: Path) -> dict[str, float]:
    """The last epoch's row of metrics.csv, the best validation perplexity beside it, and how often clipping acted."""
    epochs, steps = _rows(folder / "metrics.csv"), _rows(folder / "steps.csv")
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


def finish_run(folder: Path, summary: dict[str, Any], sample: str) -> None:
    """Leave the figure and the continuation in the run's folder, and print what a reader wants to know."""
    (folder / "sample.txt").write_text(sample + "\n")
    hiddens, num_steps = (
        summary["settings"][room][name] for room, name in (("model", "hiddens"), ("data", "num_steps"))
    )
    title = f"{summary['corpus']['title']}, {hiddens} hidden units, {num_steps} time steps"
    _draw_curves(folder, title)
    _print_run(summary)
    print(f"continuation  {sample}")
    print(f"figure        {os.path.relpath(folder / 'perplexity.png')}")
    print(f"folder        {os.path.relpath(folder)}")


def _draw_curves(folder: Path, title: str) -> None:
    """perplexity.png: train and validation perplexity over epochs, as in the book."""
    from matplotlib.figure import Figure

    epochs = _rows(folder / "metrics.csv")
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name, style, colour in (("train", "-", "#0072B2"), ("val", "--", "#D55E00")):
        x, y = ([row[column] for row in epochs] for column in ("epoch", f"{name}/perplexity"))
        axes.plot(x, y, style, color=colour, label=name, marker="." if len(epochs) < 3 else None)
    axes.set(xlabel="epoch", ylabel="perplexity", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "perplexity.png")


def _print_run(summary: dict[str, Any]) -> None:
    metrics, corpus = summary["metrics"], summary["corpus"]
    table = Table(box=box.SIMPLE_HEAD, show_header=False, title=f"{summary['status']}: {corpus['title']}")
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        if name in metrics:
            table.add_row(name, short(metrics[name]), f"epoch {metrics['epoch']}")
    if "best_val/perplexity" in metrics:
        table.add_row("best val/perplexity", f"{metrics['best_val/perplexity']:.3f}", f"epoch {metrics['best_epoch']}")
    if "clipped_steps" in metrics:
        theta = summary["settings"]["trainer"]["gradient_clip_val"]
        by_value = summary["settings"]["trainer"].get("gradient_clip_algorithm") == "value"
        radius = f"{'values within ±' if by_value else 'radius '}{theta:g}" if theta else "no radius set"
        acted = f"{metrics['clipped_steps']} of {metrics['num_steps_done']} steps"
        table.add_row("clipping acted in", acted, f"{radius}, largest norm {metrics['largest_grad_norm']:.3g}")
    if "chars_per_second" in metrics:
        table.add_row("characters a second", f"{metrics['chars_per_second']:,.0f}", "training, last epoch")
    table.add_row("parameters", f"{summary['parameters']:,}", f"vocabulary of {corpus['vocabulary']}")
    table.add_row("text", f"{corpus['characters']:,} characters", corpus["name"])
    print_table(table)
    if summary["message"]:
        print(f"{summary['status']}: {summary['message']}")


def print_evaluation(rows: list[Row], run: str) -> None:
    """One table for all texts."""
    table = Table(box=box.SIMPLE_HEAD, title=f"perplexity of {run}")
    for name in ("text", "part", "characters", "window", "stream", "bits/char"):
        table.add_column(name, justify="left" if name in ("text", "part") else "right", no_wrap=True)
    previous = None
    for row in rows:
        first = row.source != previous
        previous = row.source
        table.add_row(
            row.text if first else "",
            row.part,
            f"{row.stream.num_targets:,}",
            f"{row.window.perplexity:.2f} ±{row.window.standard_error:.2f}",
            f"{row.stream.perplexity:.2f} ±{row.stream.standard_error:.2f}",
            f"{row.stream.bits:.3f}",
        )
    print_table(table)
    print("± standard error; window: every window from a zero state, as in the book; stream: one pass, state carried,")
    print("which is what to compare models on; bits a character are the stream's.")
    for text, replaced in {row.source: (row.text, row.replaced) for row in rows}.values():
        counts = f"{replaced['digits']:,} digits, {replaced['accents']:,} accented letters, {replaced['other']:,} other"
        print(f"{text}: normalisation made spaces of {counts} characters")


def _rows(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {name: float(value) if value else math.nan for name, value in row.items()} for row in csv.DictReader(file)
        ]
