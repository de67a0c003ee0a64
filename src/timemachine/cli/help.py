"""What --help prints: how to use a program, its groups, and each setting with its meaning and allowed values."""

import dataclasses
import re
import sys
from dataclasses import Field
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from timemachine.cli.schema import CONF, VERSION, choices, leaves
from timemachine.config import MISSING, Evaluate, Generate, Train, allowed, example, format_value

USAGE: dict[type, dict[str, str]] = {
    Train: {
        "python train.py": "the book's experiment",
        "python train.py model.hiddens=64": "one change",
        "python train.py -m model.hiddens=16,32": "a sweep: a run for each value, or combination of values",
        "python train.py exercise=clipping": "an exercise of the book: a sweep and its report",
        "python train.py init_from=outputs/… model.lr=0.1": "a new run, from the weights of another",
        "python train.py resume=outputs/…": "a run that was interrupted goes on",
        "python train.py -m seed=0,1 resume=sweeps/…": "so does a sweep, with the command that began it",
    },
    Evaluate: {"python evaluate.py run=outputs/… data.corpus=war_of_the_worlds baselines=true": "beside n-grams"},
    Generate: {'python generate.py run=outputs/… prefix="the time" alpha=1 num_samples=3': "samples"},
}
GROUPS = {
    "trainer": "what it runs on",
    "data": "the text and its windows",
    "callbacks": "Lightning's callbacks, [a,b] for several, or callbacks.NAME._target_=CLASS",
    "logger": "where metrics go beside the CSV files, [a,b] for several, or logger.NAME._target_=CLASS",
    "recipe": "training beyond the book's; low_* lead to novel",
    "exercise": "an exercise of the book",
    "scale": "an exercise in full, or in seconds",
}
SWEEPS = {
    "-m": "a run for each value, or combination of values",
    "hydra/launcher=joblib": "the jobs side by side, one a core; submitit_slurm: on a cluster",
    "hydra/sweeper=optuna": "Optuna chooses the values",
    "hydra.run.dir=FOLDER": "where a run leaves its files; hydra.sweep.dir: a sweep",
}
FLAGS = {
    "--cfg job": "the settings as YAML, with what else is typed",
    "--info": "where they come from",
    "--hydra-help": "Hydra's other flags",
}


def print_help(schema: type) -> None:
    """Print how to use the program of a schema, with the values that its settings have where nothing is typed."""
    with initialize_config_dir(str(CONF), **VERSION):
        cfg = compose(schema.__name__.lower(), return_hydra_config=True)
    _print_section(str(schema.__doc__), USAGE[schema])
    if schema is Train:
        chosen = cfg.hydra.runtime.choices
        of_groups = {f"{name}={chosen[name]}": f"{what}: {', '.join(choices(name))}" for name, what in GROUPS.items()}
        _print_section("== Groups (group=choice) ==", of_groups)
    explained = [(name, setting) for name, setting in leaves(schema) if "meaning" in setting.metadata]
    settings = {f"{name}={_value(cfg, name, setting)}": described(setting) for name, setting in explained}
    if schema is Train:
        settings["trainer.…=…"] = "other arguments of Lightning's Trainer"
    if schema is not Generate:
        settings["logger.wandb.…=…"] = "arguments of Lightning's WandbLogger and wandb.init: conf/logger/wandb.yaml"
    _print_section("== Settings (name=value) ==", settings)
    if schema is Train:
        _print_section("== Sweeps ==", SWEEPS)
    _print_section("== Flags ==", FLAGS)


def _print_section(title: str, meanings: dict[str, str]) -> None:
    """Print a title and a line for each text with its meaning beside it; the lines fit a terminal."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=26, overflow="fold")
    table.add_column()
    for text, meaning in meanings.items():
        table.add_row(Text(text), Text(meaning))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(Text(title), table, "", sep="\n")


def _value(cfg: DictConfig, name: str, setting: Field[Any]) -> str:
    """Return the value of a setting as a user types it, or an example of one that has no default."""
    default = example(setting) if setting.default in (MISSING, dataclasses.MISSING) else setting.default
    value = OmegaConf.select(cfg, name, default=default)
    return format_value(list(value) if OmegaConf.is_list(value) else value)


def described(setting: Field[Any]) -> str:
    """Return the meaning of a setting and, unless any text will do, the values that it may have."""
    values = re.sub("^(one of|a (whole )?number( from|,)) ", "", allowed(setting))
    meaning = str(setting.metadata["meaning"])
    return f"{meaning} ({values})" if values else meaning
