"""What --help prints: how to use a program, its groups, and each setting with its meaning and what it may be."""

import re
from collections.abc import Iterator
from dataclasses import Field
from itertools import groupby
from textwrap import fill
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from timemachine.cli.schema import CONF, VERSION, choices, leaves
from timemachine.config import Evaluate, Generate, Train, allowed, example, typed

USAGE = {
    Train: """\
Train the scratch RNN of Dive into Deep Learning on The Time Machine.

  python train.py                              the book's experiment
  python train.py model.hiddens=64             one change
  python train.py -m model.hiddens=16,32       a sweep: a run for each value, or combination of values
  python train.py exercise=clipping            an exercise of the book: a sweep and its report
  python train.py resume=outputs/…             a run that was interrupted goes on
  python train.py -m seed=0,1 resume=sweeps/…  so does a sweep, with the command that began it
""",
    Evaluate: """\
Print the perplexity of a trained model on any text, window by window as in the book and as one stream.

  python evaluate.py run=outputs/… data.corpus=war_of_the_worlds
  python evaluate.py run=outputs/… baselines=true
  python evaluate.py run=outputs/… logger=wandb     the run in W&B has the table, too
""",
    Generate: """\
Continue a text with a trained model.

  python generate.py run=outputs/… prefix="the time traveller" num_preds=50 alpha=1 num_samples=3
""",
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

SWEEPS = """\
== Sweeps ==
  -m                          a run for each value, or combination of values
  hydra/launcher=joblib       the jobs side by side, one a core; slurm: on a cluster
  hydra/sweeper=search        Optuna chooses the values
  hydra.run.dir=FOLDER        where a run leaves its files; hydra.sweep.dir: a sweep
"""

FLAGS = """\
== Flags ==
  --cfg job                   show the settings as YAML
  --info                      show where they come from
  --hydra-help                show the other flags of Hydra"""

COLUMN = 30  # where meanings begin


def print_help(schema: type, overrides: list[str]) -> None:
    """Print how to use the program of a schema, with the values that its settings have after `overrides`."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    single = [str(override.input_line) for override in parsed if not override.is_sweep_override()]
    with initialize_config_dir(str(CONF), **VERSION):
        cfg = compose(schema.__name__.lower(), single, return_hydra_config=True)
    lines = [USAGE[schema], *_settings(schema, cfg), FLAGS]
    if schema is Train:
        lines[1:1], lines[-1:-1] = _groups(cfg), [SWEEPS]
    print("\n".join(lines), flush=True)


def _groups(cfg: DictConfig) -> Iterator[str]:
    yield "== Groups (group=choice) =="
    for group, meaning in GROUPS.items():
        first = f"  {group}={cfg.hydra.runtime.choices[group]}".ljust(COLUMN)
        text = f"{meaning}: {', '.join(choices(group))}"
        yield fill(text, 80, initial_indent=first, subsequent_indent=" " * COLUMN)
    yield ""


def _settings(schema: type, cfg: DictConfig) -> Iterator[str]:
    yield "== Settings (name=value) =="
    explained = [(name, setting) for name, setting in leaves(schema) if "meaning" in setting.metadata]
    for section, settings in groupby(explained, lambda leaf: leaf[0].partition(".")[0] if "." in leaf[0] else ""):
        for name, setting in settings:
            value = OmegaConf.select(cfg, name, default=example(setting))
            shown = typed(list(value) if OmegaConf.is_list(value) else value)
            yield f"  {name}={shown}".ljust(COLUMN - 2) + f"  {described(setting)}"
        if section == "trainer":
            yield "  trainer.…=…".ljust(COLUMN) + f"any argument of Lightning's Trainer but {OURS}"
        yield ""


def described(setting: Field[Any]) -> str:
    """Return the meaning of a setting and, unless any text will do, the values that it may have."""
    values = re.sub("^(one of|a (whole )?number( from|,)) ", "", allowed(setting))
    meaning = str(setting.metadata["meaning"])
    return f"{meaning} ({values})" if values else meaning
