"""A sweep's report.md as a report in Weights & Biases, with the public interface of wandb-workspaces 0.4.13."""

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
from timemachine.weights_and_biases.workspace import sections

LIVE = ("Perplexity", "Training")  # sections of the workspace that a report also shows
FIGURE = re.compile(r"^!\[.*\]\(([\w-]+\.png)\)$", re.MULTILINE)  # in the sweep's own folder


def blocks(folder: Path, project: str, entity: str) -> tuple[str, list[Any]]:
    """Return title and blocks of a sweep's report: its text, its figures, and live panels of its runs in W&B.

    Raise SettingError for a folder without a report.
    """
    try:
        title, _, text = (folder / "report.md").read_text(encoding="utf-8").partition("\n")
    except (OSError, ValueError) as error:
        raise SettingError(f"report={folder}: has no report.md; use the folder of a sweep with a report") from error
    group, place = _group(folder), {"project": project, "entity": entity}
    filters = f"Metric('Group') == {json.dumps(group)} and Metric('JobType')"
    keys = [Path(name).stem for name in FIGURE.findall(text)]
    pictures = wr.MediaBrowser(media_keys=keys, num_columns=1, layout=wr.Layout(w=24, h=14))
    panels = [panel for name in LIVE for panel in sections()[name]]
    found: list[Any] = [wr.MarkdownBlock(text=FIGURE.sub("", text).strip())]
    for name, kind, drawn in (("figures", "== 'report'", [pictures]), ("the sweep's runs", "!= 'report'", panels)):
        runs = wr.Runset(**place, name=name, filters=f"{filters} {kind}", groupby=[f"config.{CHANGES}"])
        found.append(wr.PanelGrid(runsets=[runs], panels=drawn))
    return f"{title.removeprefix('# ')} ({folder.resolve().name})"[:128], found


def publish(folder: Path, project: str, entity: str) -> str:
    """Publish the report in W&B; return its URL. Exceptions of W&B propagate.

    The figures are logged as a run of job type `report` in the group of the sweep's runs, the same run each time.
    """
    (title, parts), group = blocks(folder, project, entity), _group(folder)
    about: dict[str, Any] = {"id": re.sub(r"\W+", "-", f"report-{group}"), "group": group, "job_type": "report"}
    about |= {"entity": entity, "project": project, "mode": "online", "settings": wandb.Settings(silent=True)}
    with tempfile.TemporaryDirectory() as place, wandb.init(dir=place, **about) as run:
        run.log({figure.stem: wandb.Image(str(figure)) for figure in folder.glob("*.png")})
    report = wr.Report(project=project, entity=entity, title=title, width="fluid", blocks=parts)
    report.save()
    return str(report.url)


def _group(folder: Path) -> str:
    """Return W&B's group of the sweep's runs, or one for its figures alone if the runs are not in W&B."""
    groups = (read_job(job).wandb_group for job in job_folders(folder))
    return next(filter(None, groups), folder.resolve().name)
