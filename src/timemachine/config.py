"""What a user can say: the only schema of the settings.

`conf/` holds values, this file names, types and rules. Hydra composes the two; `checked` turns the result into plain
dataclasses, so that a rule that spans fields is enforced before anything heavy is imported.
"""

import math
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

REPOSITORY = Path(__file__).parents[2]


class UserError(Exception):
    """Ends the program with its message as one line: a user's mistake, or a result such as divergence."""


class SettingError(UserError):
    """A setting's value that cannot be: names the setting, the value, and what to type instead."""


Activation = Enum("Activation", ["tanh", "relu"])
Backward = Enum("Backward", ["bptt", "autograd"])
Input = Enum("Input", ["one_hot", "embedding"])
Optimizer = Enum("Optimizer", ["sgd", "adamw"])
Schedule = Enum("Schedule", ["constant", "cosine"])
Probe = Enum("Probe", ["stream", "history", "samples", "books", "dynamics", "weights", "reading"])
WandbMode = Enum("WandbMode", ["auto", "online", "offline", "disabled"])


LARGEST = 3e38  # of float32
MOST_CHARACTERS = 10_000_000  # of all continuations
WIDEST = 8_192  # where the states of one batch take a gigabyte


def _require(holds: bool, setting: str, value: object, rule: str, example: object) -> None:
    if not holds:
        raise SettingError(f"{setting}={value}: {rule}; type for example {setting}={example}")


def _between(setting: str, value: int, least: int, most: int, example: int) -> None:
    _require(least <= value <= most, setting, value, f"must lie between {least} and {most}", example)


def _at_least(setting: str, value: int | None, least: int, example: int) -> None:
    _require(value is None or value >= least, setting, value, f"must be at least {least}", example)


def _finite_and(holds: bool, setting: str, value: float, rule: str, example: float) -> None:
    _require(math.isfinite(value) and holds, setting, value, rule, example)


@dataclass(slots=True, kw_only=True)
class Model:
    """The network and its step size. `hiddens` is the book's num_hiddens, `lr` its learning rate η."""

    hiddens: int = 32
    sigma: float = 0.01  # standard deviation of the initial weights
    lr: float = 1.0
    activation: Activation = Activation.tanh
    input: Input = Input.one_hot
    embedding_dim: int = 32  # width of the embedding; unused by one_hot
    embedding_sigma: float = 1.0  # standard deviation of its initial entries
    input_lr_factor: float = 1.0  # the rate of the weights that read the input, in multiples of lr
    backward: Backward = Backward.bptt  # gradients by hand, or PyTorch's of the readable loop

    def __post_init__(self) -> None:
        _between("model.hiddens", self.hiddens, 1, WIDEST, 32)
        _between("model.embedding_dim", self.embedding_dim, 1, WIDEST, 32)
        _finite_and(0 <= self.sigma < LARGEST, "model.sigma", self.sigma, "must be 0 or a positive number", 0.01)
        _finite_and(0 < self.lr < LARGEST, "model.lr", self.lr, "must be a positive number", 1)
        sigma, factor = self.embedding_sigma, self.input_lr_factor
        _finite_and(0 <= sigma < LARGEST, "model.embedding_sigma", sigma, "must be 0 or a positive number", 1)
        _finite_and(0 <= factor < LARGEST, "model.input_lr_factor", factor, "must be 0 or a positive number", 1)


@dataclass(slots=True, kw_only=True)
class Data:
    """The text and how it is cut. `num_train` and `num_val` count windows; both null: 90/5/5 % of the characters."""

    corpus: str = "time_machine"  # a book of the catalogue, `sample`, or the path of a text
    search_dirs: list[str] = field(default_factory=lambda: ["../shared/corpora"])  # seen from the repository's root
    batch_size: int = 1024  # windows a step, over all devices
    num_steps: int = 32  # characters a window
    num_train: int | None = 10_000
    num_val: int | None = 5_000

    def __post_init__(self) -> None:
        _at_least("data.batch_size", self.batch_size, 1, 1024)
        _at_least("data.num_steps", self.num_steps, 1, 32)
        _at_least("data.num_train", self.num_train, 1, 10000)
        _at_least("data.num_val", self.num_val, 1, 5000)
        if (self.num_train is None) != (self.num_val is None):
            raise SettingError(
                f"data.num_train={_typed(self.num_train)}: it and data.num_val={_typed(self.num_val)} must both be "
                "numbers (the book's windows) or both null (the whole text); type for example "
                "data.num_train=10000 data.num_val=5000"
            )


def _typed(value: object) -> object:
    return "null" if value is None else value


@dataclass(slots=True, kw_only=True)
class Training:
    """How the weights are found, beyond the book's plain SGD: shares, chances and weights between 0 and 1.

    `warm_up`: of all steps, those in which the rate rises from 0. `schedule`: constant, or to 0 along half a cosine.
    What else was tried and did not pay is in sweeps/reference/how_low/report.md.
    """

    optimizer: Optimizer = Optimizer.sgd
    schedule: Schedule = Schedule.constant
    warm_up: float = 0.0
    carry_state: bool = False  # windows end to end, each from the state after the one before: truncated BPTT
    input_dropout: float = 0.0  # chance that an input is read as <unk>
    output_dropout: float = 0.0  # chance that the output layer does not see a unit, the same units along a window
    teacher: float = 0.0  # share of the target that is a Kneser-Ney 7-gram's, of the training text outside its place

    def __post_init__(self) -> None:
        for name in ("warm_up", "input_dropout", "output_dropout"):
            share = getattr(self, name)
            _finite_and(0 <= share < 1, f"training.{name}", share, "must be at least 0 and below 1", 0.1)
        share = self.teacher
        _finite_and(0 <= share <= 1, "training.teacher", share, "must lie between 0 and 1", 0)
        if share and not self.carry_state:
            rule = "goes with windows end to end; type training.carry_state=true as well"
            raise SettingError(f"training.teacher={share}: {rule}")


@dataclass(slots=True, kw_only=True)
class Trainer:
    """Every argument of Lightning's Trainer under its own name and default, except logger, callbacks and
    default_root_dir, which are this project's. A test compares the list with Lightning's signature.
    """

    accelerator: str = "auto"
    strategy: str = "auto"
    devices: Any = "auto"
    num_nodes: int = 1
    precision: Any = None
    fast_dev_run: Any = False
    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: Any = None
    limit_train_batches: Any = None
    limit_val_batches: Any = None
    limit_test_batches: Any = None
    limit_predict_batches: Any = None
    overfit_batches: Any = 0.0
    val_check_interval: Any = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int | None = None
    log_every_n_steps: int | None = None
    enable_checkpointing: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str | None = None
    deterministic: Any = None
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = True
    profiler: str | None = None
    detect_anomaly: bool = False
    barebones: bool = False
    plugins: Any = None
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: int = 0
    enable_autolog_hparams: bool = True
    model_registry: str | None = None

    def __post_init__(self) -> None:
        _at_least("trainer.check_val_every_n_epoch", self.check_val_every_n_epoch, 1, 1)
        _require(self.val_check_interval != 0, "trainer.val_check_interval", 0, "must be positive", 1.0)
        _at_least("trainer.accumulate_grad_batches", self.accumulate_grad_batches, 1, 1)
        theta = self.gradient_clip_val
        if theta is not None:
            _finite_and(theta >= 0, "trainer.gradient_clip_val", theta, "must be 0, a positive number or null", 1)


@dataclass(slots=True, kw_only=True)
class Wandb:
    """Weights & Biases. `auto`: online where an API key is configured, offline otherwise. Timeouts in seconds.

    `log_model`: upload the best checkpoint. `sample_every_n_epochs`: how often the table of samples grows.
    """

    project: str = "timemachine"
    entity: str | None = None
    mode: WandbMode = WandbMode.auto
    tags: list[str] = field(default_factory=list)
    log_model: bool = False
    sample_every_n_epochs: int = 10
    init_timeout: float = 15
    finish_timeout: float = 10

    def __post_init__(self) -> None:
        named = re.fullmatch(r"[^/\\#?%:]{1,128}", self.project)
        rule = "must have 1 to 128 characters, none of them of / \\ # ? % :"
        _require(named is not None, "logger.wandb.project", self.project, rule, "timemachine")
        for tag in self.tags:
            _require(1 <= len(tag) <= 64, "logger.wandb.tags", self.tags, "a tag has 1 to 64 characters", "[pilot]")
        _at_least("logger.wandb.sample_every_n_epochs", self.sample_every_n_epochs, 1, 10)
        for name in ("init_timeout", "finish_timeout"):
            seconds = getattr(self, name)
            _finite_and(seconds > 0, f"logger.wandb.{name}", seconds, "must be a positive number of seconds", 10)


@dataclass(slots=True, kw_only=True)
class Logger:
    """Where metrics go beside metrics.csv and steps.csv, which are always written."""

    wandb: Wandb | None = None
    tensorboard: bool = False


@dataclass(slots=True, kw_only=True)
class Train:
    """The settings of train.py. `resume`: the folder of a run, or of a sweep, that was interrupted and shall go on.

    `probes`: what to measure of the model beside its perplexity, in `src/timemachine/probes`.
    """

    seed: int = 0
    resume: str | None = None
    probes: list[Probe] = field(default_factory=list)
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    training: Training = field(default_factory=Training)
    trainer: Trainer = field(default_factory=Trainer)
    logger: Logger = field(default_factory=Logger)

    def __post_init__(self) -> None:
        _seed(self.seed)
        endless = self.trainer.max_epochs == -1 and self.trainer.max_steps == -1
        if endless and (self.training.warm_up or self.training.schedule is Schedule.cosine):
            raise SettingError(
                "trainer.max_epochs=-1: rates over time need an end; type for example trainer.max_epochs=30"
            )
        if self.logger.wandb is not None and self.logger.wandb.log_model:
            without = {"enable_checkpointing": False, "barebones": True, "fast_dev_run": True}
            for name, value in without.items():
                rule = f"there is no checkpoint with trainer.{name}={str(value).lower()}"
                _require(getattr(self.trainer, name) is not value, "logger.wandb.log_model", "true", rule, "false")


def _seed(seed: int) -> None:
    _between("seed", seed, 0, 2**32 - 1, 0)


@dataclass(slots=True, kw_only=True)
class EvaluateData:
    """Which texts to read. `corpus`: null (the run's own), one, or a list."""

    corpus: Any = None
    search_dirs: list[str] = field(default_factory=lambda: ["../shared/corpora"])


@dataclass(slots=True, kw_only=True)
class Evaluate:
    """The settings of evaluate.py. `run`: one, or a list of them to read as one model, the mean of their probabilities.

    `baselines`: compare with character n-grams of the run's training characters. `adapt`: null, or the rate at which a
    copy of the model goes on learning from what it has read.
    """

    run: Any = MISSING
    baselines: bool = False
    adapt: float | None = None
    data: EvaluateData = field(default_factory=EvaluateData)

    def __post_init__(self) -> None:
        if not self.runs:
            raise SettingError("run=[]: names no run; type run=<folder of a run>, as train.py printed it at its end")
        if self.adapt is not None:
            rule = "must be a positive number, or null for a model that stays as it is"
            _finite_and(self.adapt > 0, "adapt", self.adapt, rule, 0.005)

    @property
    def runs(self) -> list[str]:
        """The runs as a list."""
        return [str(run) for run in (self.run if isinstance(self.run, list) else [self.run])]


@dataclass(slots=True, kw_only=True)
class Generate:
    """The settings of generate.py. `alpha`: null is greedy, a number samples from P^alpha."""

    run: str = MISSING
    prefix: str = "it has"
    num_preds: int = 20
    alpha: float | None = None
    num_samples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _between("num_preds", self.num_preds, 0, 1_000_000, 20)
        _between("num_samples", self.num_samples, 1, 10_000, 1)
        rule = f"makes more than {MOST_CHARACTERS:,} characters with num_samples={self.num_samples}"
        _require(self.num_preds * self.num_samples <= MOST_CHARACTERS, "num_preds", self.num_preds, rule, 20)
        _seed(self.seed)
        if self.alpha is not None:
            _finite_and(self.alpha > 0, "alpha", self.alpha, "must be a positive number, or null for greedy", 1)


for _name, _schema in {"train": Train, "evaluate": Evaluate, "generate": Generate}.items():
    ConfigStore.instance().store(name=f"{_name}_schema", node=_schema)

Settings = TypeVar("Settings", Train, Evaluate, Generate)


def checked(cfg: DictConfig, schema: type[Settings]) -> Settings:
    """The composed configuration as an instance of `schema`. Raises SettingError where a rule is broken."""
    for key in OmegaConf.missing_keys(cfg):
        raise SettingError(f"{key}: is missing; type {key}=<folder of a run>, as train.py printed it at its end")
    settings = OmegaConf.to_object(cfg)
    assert isinstance(settings, schema)
    return settings


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as nested dicts of plain values, enums by name: what summary.json and W&B show."""
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)  # type: ignore[return-value]
