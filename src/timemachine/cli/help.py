"""Print --help: the usage of a program, its groups, and each setting with its meaning and allowed values."""

import dataclasses
import re
import shutil
import textwrap
from dataclasses import Field
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from timemachine.cli.schema import CONF, VERSION, choices, leaves
from timemachine.config import (
    MAX_COUNT,
    MAX_FLOAT32,
    MISSING,
    SEED,
    Evaluate,
    Generate,
    Train,
    allowed,
    example,
    format_value,
)
from timemachine.exercises.probes import PROBES

USAGE: dict[type, dict[str, str]] = {
    Train: {
        "python train.py": "the book's experiment",
        "python train.py model.hiddens=64": "one change",
        "python train.py -m model.hiddens=16,32": "a sweep: a run for each value",
        "python train.py exercise=clipping": "an exercise, with its report",
        "python train.py init_from=outputs/… model.lr=0.1": "start with a run's weights",
        "python train.py resume=outputs/…": "resume an interrupted run",
        "python train.py -m seed=0,1 resume=sweeps/…": "resume a sweep",
    },
    Evaluate: {"python evaluate.py run=outputs/… data.corpus=war_of_the_worlds baselines=true": "compare with n-grams"},
    Generate: {'python generate.py run=outputs/… prefix="the time" alpha=1 num_samples=3': "samples"},
}
BOOK = {
    "model.hiddens", "model.sigma", "model.lr", "data.corpus", "data.batch_size", "data.num_steps", "data.num_train",
    "data.num_val", "trainer.max_epochs", "trainer.gradient_clip_val",
}  # fmt: skip
GROUPS = {
    "trainer": "the hardware",
    "data": "the text and its windows",
    "callbacks": "Lightning's callbacks, [a,b] for several, or callbacks.NAME._target_=CLASS",
    "logger": "where metrics go besides the CSV files, [a,b] for several, or logger.NAME._target_=CLASS",
    "recipe": "training beyond the book's; recipe=low_* are the steps towards recipe=novel",
    "exercise": "an exercise of the book, by its name or number",
    "scale": "an exercise in full, or in seconds",
}
SWEEPS = {
    "-m": "a run for each value, or combination of values",
    "hydra/launcher=joblib": "one job per core; submitit_slurm: on a cluster",
    "hydra/sweeper=optuna": "Optuna chooses the values",
    "hydra.run.dir=FOLDER": "where a run leaves its files; hydra.sweep.dir: a sweep",
}
FLAGS = {
    "--cfg job": "the settings as YAML, with the other arguments applied",
    "--info": "the files that these settings come from",
    "--hydra-help": "Hydra's other flags",
}


def print_help(schema: type, everything: bool = False) -> None:
    """Print the usage of a program and its settings with their defaults.

    For train.py, only the book's settings are printed unless `everything`, so that --help fits on one screen.
    """
    everything = everything or schema is not Train
    with initialize_config_dir(str(CONF), **VERSION):
        cfg = compose(schema.__name__.lower(), return_hydra_config=True)
    _print_section(str(schema.__doc__), USAGE[schema])
    if schema is Train and everything:
        chosen = cfg.hydra.runtime.choices
        of_groups = {f"{name}={chosen[name]}": f"{what}: {', '.join(choices(name))}" for name, what in GROUPS.items()}
        _print_section("== Groups (group=choice) ==", of_groups)
    explained = [it for it in leaves(schema) if "meaning" in it[1].metadata and (everything or it[0] in BOOK)]
    settings = {f"{name}={_value(cfg, name, setting)}": described(setting) for name, setting in explained}
    if not everything:
        _print_section("== The book's settings (name=value); --help all lists the others ==", settings)
        return
    if schema is Train:
        settings["trainer.…=…"] = "other arguments of Lightning's Trainer"
    if schema is not Generate:
        settings["logger.wandb.…=…"] = "arguments of Lightning's WandbLogger and wandb.init: conf/logger/wandb.yaml"
    _print_section("== Settings (name=value) ==", settings)
    if schema is Train:
        _print_section("== Sweeps ==", SWEEPS)
    _print_section("== Flags ==", FLAGS)


def _print_section(title: str, meanings: dict[str, str]) -> None:
    """Print a title, and each text with its meaning next to it, wrapped to the width of the terminal."""
    width, indent = shutil.get_terminal_size((120, 24)).columns, max(map(len, meanings)) + 2
    print(textwrap.fill(title, width))
    for text, meaning in meanings.items():
        first, others = text.ljust(indent), " " * indent
        print(textwrap.fill(meaning, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False))
    print()


def _value(cfg: DictConfig, name: str, setting: Field[Any]) -> str:
    """Return the value of a setting in command-line form, or an example if it has no default."""
    default = example(setting) if setting.default in (MISSING, dataclasses.MISSING) else setting.default
    value = OmegaConf.select(cfg, name, default=default)
    return format_value(list(value) if OmegaConf.is_list(value) else value)


def described(setting: Field[Any]) -> str:
    """Return the meaning of a setting and its valid values, unless any text is valid."""
    values = re.sub("^(one of|a (whole )?number( from|,)) ", "", allowed(setting))
    if setting.name == "probes":
        values = ", ".join(PROBES)
    elif setting.metadata.get("most") in (MAX_COUNT, MAX_FLOAT32, SEED[1]):  # bounds of types tell the user nothing
        values = ""
    meaning = str(setting.metadata["meaning"])
    return f"{meaning} ({values})" if values else meaning
