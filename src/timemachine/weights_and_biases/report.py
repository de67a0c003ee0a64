"""A sweep's report.md as a report of Weights & Biases: its text and figures, and live panels of its runs.

By the public interface of wandb-workspaces, tested with 0.4.13.
"""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr

from timemachine.errors import SettingError
from timemachine.run.jobs import job_folders, read_job
from timemachine.weights_and_biases import CHANGES
from timemachine.weights_and_biases.workspace import sections, signed_in

# Sections of the workspace that a report shows, too.
LIVE = ("Perplexity", "Perplexity at the end", "Loss and gradient")
FIGURE = re.compile(r"^!\[.*\]\(([\w-]+\.png)\)$", re.MULTILINE)  # in the sweep's own folder


def read_report(folder: Path) -> str:
    """Return a sweep's report.md. Raise SettingError if there is none."""
    try:
        return (folder / "report.md").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SettingError(f"report={folder}: has no report.md; type the folder of a sweep with a report") from error


def blocks(folder: Path, project: str = "", entity: str = "") -> tuple[str, list[Any]]:
    """Return title and blocks of a sweep's report: Markdown, a grid for each figure, live panels of runs in W&B."""
    title, _, rest = read_report(folder).partition("\n")
    place = {"project": project, "entity": entity}
    found: list[Any] = []
    for number, part in enumerate(FIGURE.split(rest)):  # text and the names of figures take turns
        if number % 2:
            runs = wr.Runset(**place, name="figures", filters=f"Metric('ID') == {json.dumps(_run_id(folder))}")
            panel = wr.MediaBrowser(media_keys=[Path(part).stem], num_columns=1, layout=wr.Layout(w=24, h=14))
            found.append(wr.PanelGrid(runsets=[runs], panels=[panel], hide_run_sets=True))
        elif part.strip():
            found.append(wr.MarkdownBlock(text=part.strip()))
    if group := _group(folder):
        filters = f"Metric('Group') == {json.dumps(group)} and Metric('JobType') != 'report'"
        runs = wr.Runset(**place, name="the sweep's runs", filters=filters, groupby=[f"config.{CHANGES}"])
        found.append(wr.PanelGrid(runsets=[runs], panels=[panel for name in LIVE for panel in sections()[name]]))
    return f"{title.removeprefix('# ')} ({folder.resolve().name})"[:128], found


def publish(folder: Path, project: str, entity: str | None) -> str:
    """Publish the report in W&B, or replace the one of the same title; return its address.

    The figures are logged as a run of job type `report` in the group of the sweep's runs. Raise SettingError if there
    is no report, otherwise as `signed_in` does.
    """
    figures = [folder / name for name in FIGURE.findall(read_report(folder))]
    group = _group(folder) or "/".join(folder.resolve().parts[-2:])
    quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True, save_code=False)
    with signed_in(project, entity) as (api, owner), tempfile.TemporaryDirectory() as of_run:
        title, parts = blocks(folder, project, owner)
        with wandb.init(
            entity=owner, project=project, dir=of_run, id=_run_id(folder), name=f"report of {group}", group=group,
            job_type="report", config={CHANGES: "report"}, mode="online", reinit="create_new", settings=quiet,
        ) as run:  # fmt: skip
            run.log({figure.stem: wandb.Image(str(figure)) for figure in figures if figure.is_file()})
        report = wr.Report(project=project, entity=owner, title=title, width="fluid", blocks=parts)
        report.id = next((old.id for old in api.reports(f"{owner}/{project}") if old.display_name == title), "")
        report.save()
        return str(report.url)


def _group(folder: Path) -> str | None:
    """Return W&B's group of the sweep's runs, or None if they are not in W&B."""
    return next((read_job(job).wandb_group for job in job_folders(folder)), None)


def _run_id(folder: Path) -> str:
    """Return the id of the run that has the figures, the same for the same sweep."""
    return re.sub(r"\W+", "-", f"report-{folder.resolve().parent.name}-{folder.resolve().name}")
