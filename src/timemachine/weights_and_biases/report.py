"""A sweep's report.md as a report of Weights & Biases: its text, table and figures, and live panels of its runs.

Tested with wandb-workspaces 0.4.13: its `reports.v2`, public calls alone.
"""

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timemachine.errors import SettingError
from timemachine.runs.sweep import job_folders, summary_or_failure
from timemachine.weights_and_biases.workspace import CHANGES, PROJECT, SECTIONS, asked, drawn

LIVE = ("Perplexity", "Perplexity at the end", "Gradient")  # sections of the workspace that a report shows, too
SHOWN = 70  # characters of a block that a dry run prints


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a report. `kind`: heading, quote, text, table, code, figure or panels.

    `content`: Markdown; of a figure the name of its PNG, of panels the group of runs that they draw.
    """

    kind: str
    content: str

    def __str__(self) -> str:
        line = " ".join(self.content.split())
        if self.kind == "panels":
            return f"panels   of the runs of group {line}: {', '.join(LIVE)}"
        return f"{self.kind:8} {line if len(line) <= SHOWN else line[: SHOWN - 1] + '…'}"


def blocks(folder: Path) -> tuple[str, list[Block]]:
    """Return title and blocks of the report in a sweep's folder; the last one is panels if its runs are in W&B.

    Raises SettingError if there is no report, or something that may lead to other folders.
    """
    try:
        text = (folder / "report.md").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SettingError(f"report={folder}: has no report.md; type the folder of a sweep with a report") from error
    title, _, rest = text.partition("\n")
    found = []
    for number, part in enumerate(rest.split("```")):
        if number % 2:
            found.append(Block("code", f"```{part}```"))
        else:
            found += [_block(paragraph.strip()) for paragraph in part.split("\n\n") if paragraph.strip()]
    groups = [summary_or_failure(job).get("wandb_group") for job in job_folders(folder)]
    return title.removeprefix("# "), found + [Block("panels", group) for group in filter(None, groups[:1])]


def _block(paragraph: str) -> Block:
    if figure := re.fullmatch(r"!\[.*\]\(([\w-]+\.png)\)", paragraph, re.DOTALL):  # no file of another folder
        return Block("figure", figure[1])
    kinds = {"##": "heading", "> ": "quote", "| ": "table"}
    return Block(kinds.get(paragraph[:2], "text"), paragraph)


def publish(folder: Path, project: str = PROJECT, entity: str | None = None) -> str:
    """Publish the report in W&B, or replace the one of the same title; return its address.

    The figures are logged as a run of job type `report` in the group of the sweep's runs. Raises SettingError if there
    is no report, otherwise as `workspace.asked` does.
    """
    title, parts = blocks(folder)
    title = f"{title} ({folder.resolve().name})"
    with asked(project, entity) as (api, owner, _):
        import wandb_workspaces.reports.v2 as wr

        group = next((part.content for part in parts if part.kind == "panels"), "/".join(folder.resolve().parts[-2:]))
        run_id = _log_figures(folder, [part.content for part in parts if part.kind == "figure"], project, owner, group)
        report = wr.Report(project=project, entity=owner, title=title[:128], width="fluid")
        report.blocks = [_drawn(part, project, owner, run_id) for part in parts]
        titles = {found.display_name: found.id for found in api.reports(f"{owner}/{project}")}
        report.id = titles.get(report.title, "")
        report.save()
        return str(report.url)


def _log_figures(folder: Path, figures: list[str], project: str, entity: str, group: str) -> str:
    """Log the PNGs under their names; return the run's id, the same for the same sweep."""
    import wandb

    run_id = re.sub(r"\W+", "-", f"report-{folder.resolve().parent.name}-{folder.resolve().name}")
    with tempfile.TemporaryDirectory() as local, wandb.init(
        dir=local, project=project, entity=entity, id=run_id, name=f"report of {group}", group=group,
        job_type="report", config={CHANGES: "report"}, reinit="create_new", mode="online",
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, save_code=False),
    ) as run:  # fmt: skip
        run.log({Path(name).stem: wandb.Image(str(folder / name)) for name in figures if (folder / name).is_file()})
    return run_id


def _drawn(block: Block, project: str, entity: str, run_id: str) -> Any:
    """The block as wandb-workspaces has it."""
    import wandb_workspaces.reports.v2 as wr

    match block.kind:
        case "heading":
            return wr.H2(text=block.content.lstrip("# "))
        case "figure":
            of_figures = wr.Runset(
                entity=entity, project=project, name="figures", filters=f"Metric('ID') == {json.dumps(run_id)}"
            )
            panel = wr.MediaBrowser(media_keys=[Path(block.content).stem], num_columns=1, layout=wr.Layout(w=24, h=14))
            return wr.PanelGrid(runsets=[of_figures], panels=[panel], hide_run_sets=True)
        case "panels":
            of_sweep = wr.Runset(
                entity=entity,
                project=project,
                name="the sweep's runs",
                filters=f"Metric('Group') == {json.dumps(block.content)} and Metric('JobType') != 'report'",
                groupby=[f"config.{CHANGES}"],
            )
            panels = [drawn(panel) for name in LIVE for panel in SECTIONS[name]]
            return wr.PanelGrid(runsets=[of_sweep], panels=panels)
    return wr.MarkdownBlock(text=block.content)
