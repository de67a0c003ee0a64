"""What runs and sweeps left in their folders -> final numbers, figures, tables, the report of an exercise.

`python -m timemachine.report sweeps/<exercise>/<date_time>` writes an exercise's report anew from what lies in the
folder, half-finished sweeps included.
"""

import argparse
import csv
import importlib
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.table import Table

from timemachine import command_line
from timemachine.exercises import Findings
from timemachine.files import link_or_pipe, read_yaml, write_whole
from timemachine.record import goes_on, is_first_process, is_job, outcome
from timemachine.sweep import (
    Job,
    job_folders,
    load_jobs,
    markdown,
    print_jobs,
    print_table,
    read_rows,
    short,
    sweep_rows,
)

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from timemachine.corpus import Corpus
    from timemachine.evaluation import Comparison, Row, Score


def final_numbers(folder: Path) -> dict[str, float]:
    """The last epoch's row of metrics.csv, the best validation perplexity beside it, and how often clipping acted."""
    epochs, steps = read_rows(folder / "metrics.csv"), read_rows(folder / "steps.csv")
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


def finish_run(folder: Path, summary: dict[str, Any], sample: str, quiet: bool = False) -> None:
    """Leave the figure and the continuation in the run's folder, and print what a reader wants to know.

    `quiet`: in one line, for a job beside others.
    """
    write_whole(folder / "sample.txt", f"{sample}\n".encode())
    hiddens, num_steps = (
        summary["settings"][room][name] for room, name in (("model", "hiddens"), ("data", "num_steps"))
    )
    title = f"{summary['corpus']['title']}, {hiddens} hidden units, {num_steps} time steps"
    _draw_curves(folder, title)
    if quiet:
        val = summary["metrics"].get("val/perplexity", math.nan)
        print(f"job {folder.name:>3}  {summary['status']:9}  val {short(val):>8}", flush=True)
        return
    _print_run(summary)
    print(f"continuation  {sample}")
    print(f"figure        {os.path.relpath(folder / 'perplexity.png')}")
    print(f"folder        {os.path.relpath(folder)}")


def _draw_curves(folder: Path, title: str) -> None:
    """perplexity.png: train and validation perplexity over epochs, as in the book."""
    from matplotlib.figure import Figure

    epochs = read_rows(folder / "metrics.csv")
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


def print_evaluation(rows: "list[Row]", runs: list[str]) -> None:
    """One table for all texts."""
    of_what = runs[0] if len(runs) == 1 else f"{len(runs)} models as one: {', '.join(runs)}"
    table = Table(box=box.SIMPLE_HEAD, title=f"perplexity of {of_what}")
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


def print_comparison(comparison: "Comparison") -> None:
    """The n-grams' table, and the model below it."""
    columns = ("order", *comparison.ngrams)
    table = Table(*columns, box=box.SIMPLE_HEAD, title=f"n-grams on {comparison.text}, {comparison.part}: stream")
    for order, perplexities in enumerate(zip(*comparison.ngrams.values(), strict=True)):
        table.add_row(str(order), *(f"{perplexity:.2f}" for perplexity in perplexities))
    print_table(table)
    model, (mean, error) = comparison.model, comparison.difference
    print(
        f"the model: {model.perplexity:.2f} ±{model.standard_error:.2f} on the same {model.num_targets:,} characters,"
    )
    print(f"{mean:+.3f} ±{error:.3f} nats a character against {comparison.best} (paired over blocks of 100)")


def print_adapting(corpus: "Corpus", scores: "dict[str, Score]", rate: float) -> None:
    """The perplexities of a model that goes on learning, apart from those of the fixed one."""
    for part, found in scores.items():
        print(
            f"{corpus.name}, {part}, learning at a rate of {rate:g} from what it has read: stream "
            f"{found.perplexity:.2f} ±{found.standard_error:.2f}, {found.bits:.3f} bits a character"
        )


class SweepReport(Callback):
    """Hydra calls it before it writes anything, and after the jobs of a multirun: table, report; the exit status is 1
    if a job failed. Whatever else is raised here becomes a warning.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a folder in which there is a run, but for one that goes on, or that a sweep has begun."""
        folder = config.hydra.run.dir
        command_line.writes_into(folder)
        if is_first_process() and not (goes_on(config) or is_job()) and os.path.exists(f"{folder}/summary.json"):
            sys.exit(f"error: hydra.run.dir={folder}: there is a run already; type resume={folder}, or another folder")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a folder in use; say where the sweep lives, for the time until its first job ends."""
        folder = Path(config.hydra.sweep.dir)
        command_line.writes_into(folder)
        by_number = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index, call-overload]
        if by_number != "${hydra.job.num}":
            sys.exit(f"error: hydra.sweep.subdir={by_number}: each job has a folder of its number; type it without")
        if not goes_on(config) and (
            any((folder / name).exists() for name in ("multirun.yaml", "summary.json"))
            or (folder.is_dir() and any((job / "summary.json").exists() for job in job_folders(folder)))
        ):
            again = f"resume={folder} with the command that began it, or another folder"
            sys.exit(f"error: hydra.sweep.dir={folder}: there is a run or a sweep already; type {again}")
        print(f"sweep  {config.hydra.sweep.dir}", flush=True)
        command_line.end_in_order()
        if "submitit" in config.hydra.launcher._target_:
            from timemachine import slurm  # an extra

            slurm.mend_launcher()
        if "joblib" in config.hydra.launcher._target_:
            from timemachine import workers  # joblib takes its time

            workers.mend_launcher(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write summary.csv, and report.md for an exercise, into the sweep's folder; exit with 1 if a job failed."""
        folder = Path(config.hydra.sweep.dir)
        exercise = OmegaConf.select(config, "hydra.runtime.choices.exercise", default="none")
        try:
            if not (rows := sweep_rows(folder)):
                sys.exit(1)
            _write_table(rows, folder)
            if exercise == "none":
                print_jobs(rows)
                print(f"table  {folder}/summary.csv")
            else:
                write_report(folder, exercise)
        except Exception as error:  # of which Hydra would make a warning, and exit with 0
            where = error.filename if isinstance(error, OSError) else None
            reason = f"{where or folder}: {outcome(error)[1]}"
            sys.exit(f"error: {reason}; when that has been mended type the same command and resume={folder}")
        if failed := [row["job"] for row in rows if row["status"] not in ("completed", "diverged")]:
            sys.exit(f"error: {len(failed)} of {len(rows)} jobs failed (job {', '.join(failed)})")


def _write_table(rows: list[dict[str, Any]], folder: Path) -> None:
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_report(folder: Path, exercise: str) -> None:
    """report.md and the figures of an exercise's sweep, and its table and answer on the terminal."""
    jobs = load_jobs(folder)
    findings: Findings = importlib.import_module(f"timemachine.exercises.{exercise}").findings(jobs)
    for name, figure in findings.figures.items():
        figure.savefig(folder / f"{name}.png")
    title = f"Exercise {findings.number}: {exercise}"
    answer = findings.answer if findings.rows else "No run has ended yet that could answer."
    parts = [f"# {title}", f"> {findings.question}", "## What was run", findings.setting, _grid(jobs), _effort(jobs)]
    parts += ["## Results", markdown(findings.columns, findings.rows), *findings.notes]
    parts += [f"![{caption}]({name}.png)\n\n*{caption}*" for name, caption in findings.captions.items()]
    parts += ["## Answer", answer]
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")
    table = Table(*findings.columns, box=box.SIMPLE_HEAD, title=title)
    for row in findings.rows:
        table.add_row(*row)
    print_table(table)
    print(answer)
    print(f"report  {os.path.relpath(folder / 'report.md')}")


def _grid(jobs: list[Job]) -> str:
    """Every setting that differs between jobs, with its values."""
    names = dict.fromkeys(name for job in jobs for name in job.settings if name != "resume")
    values = {name: dict.fromkeys(str(job.settings[name]) for job in jobs if name in job.settings) for name in names}
    varied = [f"`{name}`: {', '.join(found)}" for name, found in values.items() if len(found) > 1]
    return f"Varied: {'; '.join(varied)}." if varied else "Nothing was varied."


def _effort(jobs: list[Job]) -> str:
    """How many jobs, how they ended, how long it took, and on what."""
    statuses = [job.status for job in jobs]
    ended = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    spans = [(_seconds(job.started), job.seconds) for job in jobs if job.started and not math.isnan(job.seconds)]
    minutes, until = 0.0, 0.0  # at least one job ran: a sweep that was resumed has gaps
    for began, seconds in sorted(spans):
        minutes += max(0.0, began + seconds - max(began, until)) / 60
        until = max(until, began + seconds)
    cores = f"{os.cpu_count()} cores, {platform.machine()}"
    return (
        f"{len(jobs)} runs ({ended}) in {minutes:.1f} minutes; {sum(b for _, b in spans) / 60:.1f} one by one. {cores}."
    )


def _seconds(stamp: str) -> float:
    return time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))


def main() -> None:
    """`python -m timemachine.report <folder of a sweep>`."""
    parser = argparse.ArgumentParser(prog="python -m timemachine.report", description="Write a sweep's report anew.")
    parser.add_argument(
        "folder", type=Path, help="the folder of an exercise's sweep, such as sweeps/clipping/<date_time>"
    )
    folder = parser.parse_args().folder
    try:
        exercise = read_yaml(folder / "multirun.yaml")["hydra"]["runtime"]["choices"]["exercise"]
    except (OSError, LookupError, TypeError, ValueError):
        sys.exit(f"error: {folder}: is no folder of a sweep; type one that train.py exercise=… printed")
    if (odd := link_or_pipe(folder)) is not None:
        sys.exit(f"error: {folder}: holds {str(odd)!r}, a link or a pipe; type another folder")
    rows = sweep_rows(folder)
    if exercise == "none" or not rows:
        sys.exit(f"error: {folder}: has no jobs of an exercise; type a folder under sweeps/<exercise>/")
    _write_table(rows, folder)
    write_report(folder, exercise)


if __name__ == "__main__":
    main()
