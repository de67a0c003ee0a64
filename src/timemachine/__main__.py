"""Reports, pages and workspaces: python -m timemachine report|page|dashboard.

python -m timemachine report sweeps/<date_time>            # summary.csv, report.md and figure.png of a sweep
python -m timemachine report outputs/… outputs/… to=mine   # of any runs, together
python -m timemachine report sweeps/… format=svg width=5   # also the figure as svg or pdf, in inches
python -m timemachine page outputs/…                       # page.html of a run or a model.safetensors
python -m timemachine dashboard project=mine entity=me     # a workspace in Weights & Biases
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from timemachine.errors import SettingError, UserError
from timemachine.run.console import error_line, print_text
from timemachine.run.files import relative_path, write_whole
from timemachine.run.signals import exit_if_pipe_closed


def main(words: list[str]) -> None:
    """Call the command with its paths and its settings, `name=value`."""
    command, *arguments = words or ["--help"]
    if command not in COMMANDS:
        print(__doc__)
        sys.exit(int(command not in ("-h", "--help")))
    paths = [Path(word) for word in arguments if "=" not in word]
    settings = dict(word.split("=", 1) for word in arguments if "=" in word)
    function, names = COMMANDS[command]
    try:
        for name in settings.keys() - {*names}:
            raise SettingError(
                f"{name}={settings[name]}: no such setting of {command}; {command} has {', '.join(names)}"
            )
        for path in paths:
            if not path.exists():
                raise SettingError(f"{path}: not found; use the folder that train.py printed")
        with exit_if_pipe_closed():
            function(paths, **settings)
    except UserError as error:
        sys.exit(error_line(error))


def report(paths: list[Path], to: str = "", format: str = "", width: str = "") -> None:
    """Write summary.csv, report.md and figure.png for a run, the runs below a folder, or several of these together."""
    from timemachine.run.run import Run
    from timemachine.study.figures import image_of, perplexity_figure
    from timemachine.study.jobs import exercise_of, load_job, load_jobs
    from timemachine.study.report import write_report

    if not paths:
        raise SettingError("report: no folder; use a sweep's, a run's or outputs/<date>")
    if format not in ("", "svg", "pdf"):
        raise SettingError(f"format={format}: must be svg or pdf")
    if width and not (width.replace(".", "", 1).isdecimal() and 1 <= float(width) <= 100):
        raise SettingError(f"width={width}: must be a number of inches from 1 to 100")
    jobs = dict[str, Run]()
    for path in paths:
        is_run = (path / "summary.json").exists()
        jobs |= {str(path): load_job(path)} if is_run else load_jobs(path, "" if len(paths) == 1 else f"{path}/")
        figure = perplexity_figure(jobs[str(path)].curves, jobs[str(path)].summary["corpus"]) if is_run else None
        if figure and format:
            write_whole(path / f"perplexity.{format}", image_of(figure, format, float(width) if width else None))
    target, exercise = Path(to or paths[0]), exercise_of(jobs)
    if len(paths) > 1:
        target, exercise = Path(to or f"outputs/comparison/{time.strftime('%Y-%m-%d_%H-%M-%S')}"), "runs"
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}") from error
    write_report(target, exercise, jobs, format or None, float(width) if width else None)
    for name, run in jobs.items():
        if run.summary["message"]:
            print_text(f"job {name}: {run.summary['message']}")


def page(paths: list[Path]) -> None:
    """Write page.html into a run's folder, or next to a `.safetensors` file, and print its path."""
    from timemachine.page.epochs import page_of

    for path in paths:
        print(relative_path(page_of(path)))


def dashboard(paths: list[Path], project: str = "", entity: str = "") -> None:
    """Save a workspace in Weights & Biases and print its URL.

    `project`: WANDB_PROJECT, or timemachine, by default. `entity`: the user or team that owns it; by default that of
    the API key.
    """
    try:
        from timemachine.weights_and_biases.workspace import save_workspace
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; use pip install -e '.[dashboard]'") from error
    print(save_workspace(project, entity))


COMMANDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "report": (report, ("to", "format", "width")),
    "page": (page, ()),
    "dashboard": (dashboard, ("project", "entity")),
}

if __name__ == "__main__":
    main(sys.argv[1:])
