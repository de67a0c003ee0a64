"""What --help prints: how to use a program, its groups, and each setting with its meaning and what it may be."""

import dataclasses
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import Field
from itertools import groupby
from textwrap import fill
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from timemachine.cli.schema import CONF, VERSION, choices, leaves
from timemachine.config import MISSING, Evaluate, Generate, Train, allowed, example, typed

USAGE: dict[type, tuple[str, dict[str, str]]] = {
    Train: (
        "Train the scratch RNN of Dive into Deep Learning on The Time Machine.",
        {
            "python train.py": "the book's experiment",
            "python train.py model.hiddens=64": "one change",
            "python train.py -m model.hiddens=16,32": "a sweep: a run for each value, or combination of values",
            "python train.py exercise=clipping": "an exercise of the book: a sweep and its report",
            "python train.py resume=outputs/…": "a run that was interrupted goes on",
            "python train.py -m seed=0,1 resume=sweeps/…": "so does a sweep, with the command that began it",
        },
    ),
    Evaluate: (
        "Print the perplexity of a trained model on any text, window by window as in the book and as one stream.",
        {
            "python evaluate.py run=outputs/…": "on its own text",
            "python evaluate.py run=outputs/… data.corpus=war_of_the_worlds": "on another",
            "python evaluate.py run=outputs/… baselines=true": "beside n-grams",
            "python evaluate.py run=outputs/… logger=wandb": "the run in W&B has the table, too",
        },
    ),
    Generate: (
        "Continue a text with a trained model.",
        {
            "python generate.py run=outputs/…": "its likeliest continuation",
            'python generate.py run=outputs/… prefix="the time traveller" alpha=1 num_samples=3': "samples",
        },
    ),
}

GROUPS = {
    "trainer": "what it runs on",
    "data": "the text and its windows",
    "logger": "where metrics go beside the CSV files",
    "recipe": "training beyond the book's; low_* lead to novel",
    "exercise": "an exercise of the book",
    "scale": "an exercise in full, or in seconds",
}

OURS = "logger, callbacks and default_root_dir"

SWEEPS = {
    "-m": "a run for each value, or combination of values",
    "hydra/launcher=joblib": "the jobs side by side, one a core; submitit_slurm: on a cluster",
    "hydra/sweeper=search": "Optuna chooses the values",
    "hydra.run.dir=FOLDER": "where a run leaves its files; hydra.sweep.dir: a sweep",
}

FLAGS = {
    "--cfg job": "show the settings as YAML",
    "--info": "show where they come from",
    "--hydra-help": "show the other flags of Hydra",
}

COLUMN = 30  # where meanings begin
WIDE = 110  # columns in which each setting has room for a line, as in a file or a pipe


def print_help(schema: type, overrides: list[str]) -> None:
    """Print how to use the program of a schema, with the values that its settings have after `overrides`."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    single = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    with initialize_config_dir(str(CONF), **VERSION):
        cfg = compose(schema.__name__.lower(), single, return_hydra_config=True)
    purpose, usage = USAGE[schema]
    print(_filled(purpose), "", *_lines(usage), sep="\n")
    if schema is Train:
        meanings = {f"{group}={cfg.hydra.runtime.choices[group]}": group for group in GROUPS}
        meanings = {typed: f"{GROUPS[group]}: {', '.join(choices(group))}" for typed, group in meanings.items()}
        print("", "== Groups (group=choice) ==", *_lines(meanings), sep="\n")
    print("", "== Settings (name=value) ==", *_settings(schema, cfg), sep="\n")
    if schema is Train:
        print("== Sweeps ==", *_lines(SWEEPS), "", sep="\n")
    print("== Flags ==", *_lines(FLAGS), sep="\n", flush=True)


def _settings(schema: type, cfg: DictConfig) -> Iterator[str]:
    explained = [(name, setting) for name, setting in leaves(schema) if "meaning" in setting.metadata]
    for section, settings in groupby(explained, lambda leaf: leaf[0].partition(".")[0] if "." in leaf[0] else ""):
        meanings = {}
        for name, setting in settings:
            default = example(setting) if setting.default in (MISSING, dataclasses.MISSING) else setting.default
            value = OmegaConf.select(cfg, name, default=default)
            meanings[f"{name}={typed(list(value) if OmegaConf.is_list(value) else value)}"] = described(setting)
        if section == "trainer":
            meanings["trainer.…=…"] = f"any argument of Lightning's Trainer but {OURS}"
        yield from _lines(meanings)
        yield ""


def _lines(meanings: dict[str, str]) -> Iterator[str]:
    """Give each text with its meaning beside it, or below where a terminal has no room for that."""
    for text, meaning in meanings.items():
        if _width() >= WIDE or (len(text) < COLUMN - 3 and _width() >= 2 * COLUMN):
            yield _filled(meaning, f"  {text}".ljust(COLUMN - 2) + "  ", " " * COLUMN)
        else:
            yield f"{_filled(text, '  ', '    ')}\n{_filled(meaning, 6 * ' ', 6 * ' ')}"


def _filled(text: str, first: str = "", others: str = "") -> str:
    whole = {"break_long_words": False, "break_on_hyphens": False}
    return fill(text, _width(), initial_indent=first, subsequent_indent=others, **whole)  # type: ignore[arg-type]


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE


def described(setting: Field[Any]) -> str:
    """Return the meaning of a setting and, unless any text will do, the values that it may have."""
    values = re.sub("^(one of|a (whole )?number( from|,)) ", "", allowed(setting))
    meaning = str(setting.metadata["meaning"])
    return f"{meaning} ({values})" if values else meaning
