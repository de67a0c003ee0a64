"""Save the workspace of a W&B project, or publish the report of a sweep to it.

python -m timemachine.dashboard project=timemachine entity=me
python -m timemachine.dashboard report=sweeps/clipping/<date_time>
"""

import argparse
import os
import sys
from pathlib import Path

from timemachine.errors import SettingError, UserError, one_line
from timemachine.weights_and_biases import PROJECT

TIMEOUT = 10  # seconds to wait for W&B's server
SETTINGS = {
    "project": f"W&B project; WANDB_PROJECT, or {PROJECT}, by default",
    "entity": "user or team that owns it; the API key's by default",
    "report": "folder of a sweep, to publish its report.md instead of saving the workspace",
}


def main() -> None:
    """Run `python -m timemachine.dashboard project=… entity=…`."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m timemachine.dashboard", description=__doc__, formatter_class=as_written)
    help_of_settings = "; ".join(f"{name}=<{what}>" for name, what in SETTINGS.items())
    parser.add_argument("settings", nargs="*", metavar="name=value", help=help_of_settings)
    try:
        settings = dict(argument.partition("=")[::2] for argument in parser.parse_args().settings)
        for name, value in settings.items():
            if name not in SETTINGS or not value:
                raise SettingError(f"{name}={value}: expected a setting and its value; use {'=…, '.join(SETTINGS)}=…")
        print(save_or_publish(settings))
    except UserError as error:
        sys.exit(f"error: {one_line(error)}")


def save_or_publish(settings: dict[str, str]) -> str:
    """Save the workspace or publish the report; return its URL. Raise UserError on failure."""
    try:
        import wandb

        from timemachine.weights_and_biases.wandb_report import publish
        from timemachine.weights_and_biases.workspace import save
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; use pip install -e '.[dashboard]'") from error
    project = settings.get("project") or os.environ.get("WANDB_PROJECT") or PROJECT
    try:
        if not wandb.login(prompt=False):
            raise UserError("no API key is configured; use wandb login")
        if not (entity := settings.get("entity") or wandb.Api(timeout=TIMEOUT).default_entity):
            raise SettingError("entity: the API key has no default; use entity=<a user or a team>")
        return publish(Path(settings["report"]), project, entity) if "report" in settings else save(project, entity)
    except (OSError, wandb.errors.Error) as error:  # from the network, the server or the key
        reason = one_line(error.__cause__ or error, 150)
        advice = "use a project and entity that the API key can write to, or wandb login --relogin for another key"
        raise UserError(f"project={project}: W&B failed ({reason}); {advice}") from error


if __name__ == "__main__":
    main()
