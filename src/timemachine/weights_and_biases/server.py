"""W&B's server, as the dashboard asks it: with an API key, and a failure in one line."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import wandb

from timemachine.errors import SettingError, UserError, one_line

TIMEOUT = 10  # seconds that W&B's server has for an answer


@contextmanager
def signed_in(project: str, entity: str | None) -> Iterator[tuple[wandb.Api, str]]:
    """Give W&B's public API and the entity, the API key's own if None.

    Raise UserError if the key is missing, and if W&B's server does not answer, or refuses.
    """
    try:
        wandb.setup(wandb.Settings(silent=True, mode="online"))  # whatever WANDB_MODE says of runs
        if not wandb.login(prompt=False, verify=False):  # wandb.Api would ask for a key on a terminal
            raise UserError("W&B has no API key configured; type wandb login")
        api = wandb.Api(timeout=TIMEOUT)
        if not (owner := entity or api.default_entity):
            raise SettingError("entity=: the API key has no default entity; type entity=<your user name or team>")
        yield api, owner
    except UserError:
        raise
    except Exception as error:  # the network's, the server's, the key's: wandb raises what it likes
        reason = one_line(error.__cause__ or error, 150)
        advice = "type a project and entity that the API key may write to, or wandb login --relogin for another key"
        raise UserError(f"project={project}: W&B failed ({reason}); {advice}") from error


@contextmanager
def online_run(run_id: str, **named: Any) -> Iterator[wandb.Run]:
    """Give a run of that id that leaves nothing here. `named`: other arguments of `wandb.init`."""
    quiet = wandb.Settings(silent=True, console="off", x_disable_stats=True, save_code=False)
    with (
        tempfile.TemporaryDirectory() as folder,
        wandb.init(id=run_id, dir=folder, reinit="create_new", mode="online", settings=quiet, **named) as run,
    ):
        yield run
