"""Save a workspace in Weights & Biases: python -m timemachine.dashboard project=timemachine entity=me."""

import argparse
import os
import sys

from timemachine.errors import SettingError, UserError, one_line
from timemachine.weights_and_biases import PROJECT

TIMEOUT = 10  # seconds to wait for W&B's server
SETTINGS = {
    "project": f"W&B project; WANDB_PROJECT, or {PROJECT}, by default",
    "entity": "user or team that owns it; the API key's by default",
}


def main() -> None:
    """Run `python -m timemachine.dashboard project=… entity=…`."""
    parser = argparse.ArgumentParser("python -m timemachine.dashboard", description=__doc__)
    help_of_settings = "; ".join(f"{name}=<{what}>" for name, what in SETTINGS.items())
    parser.add_argument("settings", nargs="*", metavar="name=value", help=help_of_settings)
    try:
        settings = dict(argument.partition("=")[::2] for argument in parser.parse_args().settings)
        for name, value in settings.items():
            if name not in SETTINGS or not value:
                rule = "missing value" if name in SETTINGS else "unknown setting"
                raise SettingError(f"{name}={value}: {rule}; use {'=… or '.join(SETTINGS)}=…")
        print(save_workspace(**settings))
    except UserError as error:
        sys.exit(f"error: {one_line(error)}")


def save_workspace(project: str = "", entity: str = "") -> str:
    """Save the workspace and return its URL; "" means the default in `SETTINGS`. Raise UserError on failure."""
    try:
        import wandb

        from timemachine.weights_and_biases.workspace import save
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; use pip install -e '.[dashboard]'") from error
    project = project or os.environ.get("WANDB_PROJECT") or PROJECT
    try:
        if not wandb.login(prompt=False):
            raise UserError("no API key is configured; use wandb login")
        if not (entity := entity or wandb.Api(timeout=TIMEOUT).default_entity or ""):
            raise SettingError("entity: the API key has no default entity; use entity=<a user or a team>")
        return save(project, entity)
    except (OSError, wandb.errors.Error) as error:  # from the network, the server or the key
        reason = one_line(error.__cause__ or error, 150)
        advice = "use a project and entity that the API key can write to, or wandb login --relogin for another key"
        raise UserError(f"project={project}: W&B failed ({reason}); {advice}") from error


if __name__ == "__main__":
    main()
