"""What a user can say: of each setting the meaning, what it may be, and the rules that span several.

The values are in `conf/`. `cli.schema` registers these dataclasses with Hydra; the lesson checks its arguments by them.
"""

import re
from dataclasses import Field, asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin

from timemachine.errors import SettingError

REPOSITORY = Path(__file__).parents[2]
MISSING = "???"  # what Hydra takes for a setting that has to be typed
RUN = "outputs/…"  # an example
PREFIX = "it has"  # that models continue, the book's

Activation = Enum("Activation", ["tanh", "relu"])
Backward = Enum("Backward", ["auto", "fused", "bptt", "autograd"])
Tokens = Enum("Tokens", ["letters", "characters", "bpe"])
LearnOn = Enum("LearnOn", ["text", "train"])
Input = Enum("Input", ["one_hot", "embedding"])
Optimizer = Enum("Optimizer", ["sgd", "adamw"])
Schedule = Enum("Schedule", ["constant", "cosine"])

LARGEST = 3e38  # of float32
MOST = 2**31 - 1  # of what is counted
MOST_CHARACTERS = 10_000_000  # of all continuations
WIDEST = 8_192  # where the states of one batch take a gigabyte
POSITIVE = 1e-38, LARGEST
NOT_NEGATIVE = 0, LARGEST
SEED = 0, 2**32 - 1


def setting(default: Any, meaning: str, *bounds: float, example: Any = None) -> Any:
    """Make a field with its meaning, left out of --help if "", and the bounds of a number, which `check` keeps.

    `example`: what an error suggests, if not the default.
    """
    made = {"default_factory": default.copy} if isinstance(default, list | dict) else {"default": default}
    explained = {"meaning": meaning} if meaning else {}
    known = explained | dict(zip(("least", "most"), bounds, strict=False))
    return field(**made, metadata=known | {"example": default if example is None else example})


def allowed(entry: Field[Any]) -> str:
    """Return in words what a field of a dataclass may be; "" if any text, or any list of texts, will do."""
    if isinstance(entry.default, Enum):
        return "one of " + ", ".join(type(entry.default).__members__)
    if "least" not in entry.metadata:
        return "true or false" if bool in _types(entry) else ""
    least, most = entry.metadata["least"], entry.metadata["most"]
    if most == LARGEST:
        return "a positive number" if least else "a number, 0 or more"
    return f"a {'whole ' if int in _types(entry) else ''}number from {least} to {most:,}"


def example(entry: Field[Any], given: object = None) -> str:
    """Return, as a user types it, a value that a field of a dataclass may have: of names the nearest to `given`."""
    if isinstance(entry.default, Enum):
        return [*get_close_matches(format_value(given), type(entry.default).__members__), entry.default.name][0]
    return format_value(entry.metadata.get("example", entry.default))


def check(settings: Any, prefix: str = "") -> None:
    """Turn names into members of their Enum, numbers into Python's. Raise SettingError for a value out of bounds."""
    for entry in fields(settings):
        setattr(settings, entry.name, check_value(entry, getattr(settings, entry.name), prefix + entry.name))


def check_value(entry: Field[Any], value: Any, name: str) -> Any:
    """Return the value of a field: of a name the member of its Enum, of a number Python's.

    Raise SettingError, with the setting's full name, for a value out of bounds.
    """
    kinds, given = _types(entry), value
    if isinstance(entry.default, Enum):
        choices = type(entry.default).__members__
        fits = format_value(value) in choices
        value = choices.get(format_value(value), value)
    elif value is None and NoneType in kinds:
        return None
    elif "least" in entry.metadata:
        is_number = isinstance(value, Integral if int in kinds else Real) and not isinstance(value, bool)
        if is_number and not isinstance(value, int | float):  # numpy's: a checkpoint shall not need it
            value = int(value) if int in kinds else float(value)
        # What else than a number a setting of the type Any may be Lightning knows.
        fits = entry.metadata["least"] <= value <= entry.metadata["most"] if is_number else entry.type is Any
    else:
        fits = bool not in kinds or isinstance(value, bool)
    require(fits, name, given, f"must be {allowed(entry)}", example(entry, given))
    return value


def require(holds: bool, setting: str, value: object, rule: str, example: object) -> None:
    """Raise SettingError unless the rule holds for the setting's value."""
    if not holds:
        raise SettingError(f"{setting}={format_value(value)}: {rule}; type for example {setting}={example}")


def format_value(value: object) -> str:
    """Return a value as a user types it."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list):
        return f"[{','.join(map(format_value, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def to_dict(settings: Any) -> dict[str, Any]:
    """Return a dataclass of settings as nested dicts, Enums by name: what summary.json and W&B show."""
    return asdict(settings, dict_factory=lambda items: {k: v.name if isinstance(v, Enum) else v for k, v in items})


Settings = TypeVar("Settings")


def from_dict(kind: type[Settings], values: Any, prefix: str = "") -> Settings:
    """Build a dataclass of settings from nested dicts of plain values, the reverse of `to_dict`.

    A name that is missing gets its default. OmegaConf would do the same, but resolve each `${…}` in the record of a
    run. Raises SettingError for an unknown name, a value of another type and a broken rule; the message names the
    setting.
    """
    types = {entry.name: entry.type for entry in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise SettingError(f"{prefix.rstrip('.') or 'settings'}={format_value(values)}: is a group of settings")
    built: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            raise SettingError(f"{prefix}{name}: there is no setting of that name")
        if is_dataclass(types[name]):
            built[name] = from_dict(types[name], value, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif _fits(value, types[name]):
            built[name] = value
        else:
            expected = getattr(types[name], "__name__", types[name])
            raise SettingError(f"{prefix}{name}={format_value(value)}: expected {expected}")
    return kind(**built)


def _fits(value: object, kind: Any) -> bool:
    """Return whether a plain value is of the type of a field; a member of an Enum goes by its name."""
    if kind is Any:
        return True
    if get_origin(kind) is UnionType:
        return any(_fits(value, each) for each in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(each, *get_args(kind)) for each in value)
    if isinstance(value, bool) or kind is bool:  # to Python, True is an int
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, int | float)
    return isinstance(value, str if isinstance(kind, type) and issubclass(kind, Enum) else get_origin(kind) or kind)


def _types(entry: Field[Any]) -> tuple[Any, ...]:
    return get_args(entry.type) or (entry.type,)


@dataclass(slots=True, kw_only=True)
class Model:
    """The network and its step size."""

    cell: str = setting("rnn", "the recurrent cell: rnn, gru, lstm, deep_rnn, or another in CELLS")
    hiddens: int = setting(32, "hidden units, the book's num_hiddens", 1, WIDEST)
    layers: int = setting(2, "layers of deep_rnn; other cells have one", 1, 16)
    sigma: float = setting(0.01, "standard deviation of the initial weights", 0, 10)  # above 1 worse than guessing
    sigma_hh: float | None = setting(None, "that of W_hh alone; null: sigma", 0, 10, example=0.2)
    lr: float = setting(1.0, "learning rate η", *POSITIVE)
    activation: Activation = setting(Activation.tanh, "φ of the recurrence")
    input: Input = setting(Input.one_hot, "how the network reads a token")
    embedding_dim: int = setting(32, "width of the embedding; one_hot has none", 1, WIDEST)
    embedding_sigma: float = setting(1.0, "standard deviation of its initial entries", *NOT_NEGATIVE)
    tie_weights: bool = setting(False, "output weights are the transposed embedding; embedding_dim = hiddens")
    input_lr_factor: float = setting(1.0, "rate of the weights that read the input, in multiples of lr", *NOT_NEGATIVE)
    backward: Backward = setting(Backward.auto, "which code computes the gradients")

    def __post_init__(self) -> None:
        check(self, "model.")
        rule = f"times model.lr={format_value(self.lr)} is more than a float32 holds"
        require(self.lr * self.input_lr_factor <= LARGEST, "model.input_lr_factor", self.input_lr_factor, rule, 1.0)
        if self.tie_weights:
            instead = f"true model.input=embedding model.embedding_dim={self.hiddens}"
            fits = self.input is Input.embedding and self.embedding_dim == self.hiddens
            require(fits, "model.tie_weights", True, "needs an embedding as wide as model.hiddens", instead)
            rule = "tied weights are divided by it where they are inputs"
            require(self.embedding_sigma > 0, "model.embedding_sigma", self.embedding_sigma, rule, 1.0)


# Of `model.` what the language model reads itself, whatever the cell.
OF_ANY_CELL = {
    "cell", "hiddens", "sigma", "lr", "input", "embedding_dim", "embedding_sigma", "tie_weights", "input_lr_factor",
    "backward",
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Data:
    """The text and its windows. `num_train` and `num_val` both null: 90/5/5 % of the characters."""

    corpus: Any = setting("time_machine", "a book of the catalogue, sample, a text, a folder of texts; or a list")
    search_dirs: list[str] = setting(["../shared/corpora"], "folders with books, seen from the repository")
    tokens: Tokens = setting(
        Tokens.letters, "letters: a to z and spaces; characters: all that the text has; bpe: byte-pair encoding"
    )
    vocab_size: int = setting(1024, "tokens of data.tokens=bpe", 256, 65_535)
    learn_on: LearnOn = setting(LearnOn.text, "where bpe learns its tokens: the whole text, or its training part")
    min_count: int = setting(1, "characters that the text has fewer times are read as <unk>", 1, MOST)
    batch_size: int = setting(1024, "windows a step, over all devices", 1, MOST)
    num_steps: int = setting(32, "tokens a window, the book's characters", 1, MOST)
    num_train: int | None = setting(10_000, "windows that train; null: 90 % of the tokens", 1, MOST)
    num_val: int | None = setting(5_000, "windows that validate; null: 5 % of the tokens", 1, MOST)
    start: int = setting(0, "character with which the text begins; those before follow its end, across a seam", 0, MOST)

    def __post_init__(self) -> None:
        check(self, "data.")
        names = self.corpus if isinstance(self.corpus, list) else [self.corpus]
        are_names = names and all(isinstance(name, str | int | float) for name in names)
        require(bool(are_names), "data.corpus", self.corpus, "must be a text or a list of them", "time_machine")
        self.corpus = [str(name) for name in names] if isinstance(self.corpus, list) else str(self.corpus)
        fits, rule = self.min_count == 1 or self.tokens is Tokens.characters, "letters and byte pairs are all kept"
        require(fits, "data.min_count", self.min_count, rule, f"{self.min_count} data.tokens=characters")
        for name, default in (("vocab_size", 1024), ("learn_on", LearnOn.text)):
            value, rule = getattr(self, name), f"data.tokens={self.tokens.name} does not read it"
            fits = value == default or self.tokens is Tokens.bpe
            require(fits, f"data.{name}", value, rule, f"{format_value(value)} data.tokens=bpe")
        rule = f"it and data.num_val={format_value(self.num_val)} must both be numbers, or both null for the whole text"
        fits = (self.num_train is None) == (self.num_val is None)
        require(fits, "data.num_train", self.num_train, rule, "10000 data.num_val=5000")


def windows_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return those settings of `data.` that shape the windows: all but where the text is found."""
    return {name: value for name, value in data.items() if name not in ("corpus", "search_dirs")}


@dataclass(slots=True, kw_only=True)
class Training:
    """How the weights are found, beyond the book's plain SGD (sweeps/reference/how_low/report.md)."""

    optimizer: Optimizer = setting(Optimizer.sgd, "how a gradient becomes an update")
    schedule: Schedule = setting(Schedule.constant, "the rate over time; cosine: to 0 along half a cosine")
    warm_up: float = setting(0.0, "share of all steps in which the rate rises from 0", 0, 0.999)
    carry_state: bool = setting(False, "windows end to end, each from the state after the one before")
    input_dropout: float = setting(0.0, "probability that an input is replaced by <unk>", 0, 0.999)
    output_dropout: float = setting(0.0, "dropout on the hidden units before the output layer", 0, 0.999)
    teacher: float = setting(0.0, "text from an n-gram teacher, in multiples of the real one", 0, 100)
    teacher_networks: int = setting(0, "networks that are trained first, as teachers beside the n-grams", 0, 100)

    def __post_init__(self) -> None:
        check(self, "training.")
        if self.teacher and not self.carry_state:
            rule = "goes with windows end to end; type training.carry_state=true as well"
            raise SettingError(f"training.teacher={self.teacher}: {rule}")
        fits, rule = not self.teacher_networks or self.teacher > 0, "nothing is written without a training.teacher"
        require(fits, "training.teacher_networks", self.teacher_networks, rule, 0)


@dataclass(slots=True, kw_only=True)
class Trainer:
    """Every argument of Lightning's Trainer but logger, callbacks and default_root_dir; a test compares the two."""

    accelerator: str = setting("auto", "auto, cpu, gpu, or another of Lightning's")
    strategy: str = setting("auto", "auto, ddp, or another of Lightning's")
    devices: Any = setting("auto", "how many, or which: auto, 2, [0,1]", -1, 1_024, example=2)
    num_nodes: int = setting(1, "machines", 1, 65_536)
    precision: Any = setting(None, "32-true, 64-true, bf16-mixed, 16-mixed and the like; null: 32-true")
    fast_dev_run: Any = setting(False, "", 0, MOST, example=1)
    max_epochs: int | None = setting(None, "epochs; -1: without end", -1, MOST, example=100)
    min_epochs: int | None = setting(None, "epochs at least", 0, MOST, example=1)
    max_steps: int = setting(-1, "steps at most; -1: no bound", -1, MOST, example=1000)
    min_steps: int | None = setting(None, "steps at least", 0, MOST, example=1)
    max_time: Any = setting(None, "time at most, as 00:01:30:00: days, hours, minutes, seconds")
    limit_train_batches: Any = setting(None, "batches an epoch at most, or a share, such as 0.5", 0, MOST, example=0.5)
    limit_val_batches: Any = setting(None, "", 0, MOST, example=0.5)
    limit_test_batches: Any = setting(None, "", 0, MOST, example=0.5)
    limit_predict_batches: Any = setting(None, "", 0, MOST, example=0.5)
    overfit_batches: Any = setting(0.0, "the same batches in each epoch: how many, or a share", 0, MOST, example=1)
    val_check_interval: Any = setting(None, "", 0, MOST, example=1)
    check_val_every_n_epoch: int | None = setting(1, "epochs from one validation to the next", 1, MOST)
    num_sanity_val_steps: int | None = setting(None, "batches of validation before training", -1, MOST, example=0)
    log_every_n_steps: int | None = setting(
        None, "steps between the metrics that loggers get; steps.csv has each", 0, MOST, example=50
    )
    enable_checkpointing: bool | None = setting(None, "keep checkpoints; null: true", example=False)
    enable_progress_bar: bool | None = setting(None, "draw a progress bar; null: on a terminal", example=False)
    enable_model_summary: bool | None = setting(None, "print Lightning's table of the model's parts", example=False)
    accumulate_grad_batches: int = setting(1, "batches a step", 1, MOST)
    gradient_clip_val: float | None = setting(None, "largest norm θ of the gradient; 0: any", *NOT_NEGATIVE, example=1)
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
    reload_dataloaders_every_n_epochs: int = setting(0, "no effect: a loader draws its own order", 0, MOST)
    enable_autolog_hparams: bool = True
    model_registry: str | None = None

    def __post_init__(self) -> None:
        check(self, "trainer.")
        require(self.accelerator != "mps", "trainer.accelerator", "mps", "Apple's GPU has no float64, for sums", "cpu")
        require(self.val_check_interval != 0, "trainer.val_check_interval", 0, "must be positive", 1.0)
        for what in ("epochs", "steps"):
            least, most = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            fits = least is None or most in (None, -1) or least <= most
            require(fits, f"trainer.min_{what}", least, f"is more than trainer.max_{what}={most}", most)


@dataclass(slots=True, kw_only=True)
class Train:
    """The settings of train.py, which trains the scratch RNN of Dive into Deep Learning on The Time Machine."""

    seed: int = setting(0, "seed of the weights and of the order of the windows", *SEED)
    resume: str | None = setting(None, "folder of an interrupted run or sweep to resume, or latest")
    init_from: str | None = setting(None, "a new run begins with the weights of this one: as run= of generate.py")
    probes: list[str] = setting([], "measured of the model at its end", example=["stream"])
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    training: Training = field(default_factory=Training)
    trainer: Trainer = field(default_factory=Trainer)
    callbacks: dict[str, Any] = setting({}, "")  # name -> `_target_`, a class of Lightning's kind, and its arguments
    logger: dict[str, Any] = setting({}, "")

    def __post_init__(self) -> None:
        check(self)
        training, trainer = self.training, self.trainer
        if training.warm_up or training.schedule is not Schedule.constant:
            epochs, rule = trainer.max_epochs, "rates over time need a number of steps"
            is_endless = epochs == -1 or (epochs is None and trainer.max_time is not None)
            require(not is_endless or trainer.max_steps != -1, "trainer.max_epochs", epochs, rule, 30)
        if training.teacher:
            reloads, rule = trainer.reload_dataloaders_every_n_epochs, "would write the teacher's text anew each time"
            require(reloads == 0, "trainer.reload_dataloaders_every_n_epochs", reloads, rule, 0)
        for name in ("barebones", "fast_dev_run"):
            value, rule = getattr(trainer, name), "keeps no checkpoint, and would leave a resumed run in two parts"
            require(self.resume is None or not value, f"trainer.{name}", value, rule, "false")
        if re.fullmatch(r"(16|bf16)(-mixed)?", str(trainer.precision)):
            fits, rule = self.model.backward in (Backward.auto, Backward.autograd), "knows no mixed precision"
            require(fits, "model.backward", self.model.backward, rule, "autograd")


@dataclass(slots=True, kw_only=True)
class EvaluateData:
    """Which texts to read."""

    corpus: Any = setting(None, "a book, a text, a folder, or a list; null: the run's own text")
    search_dirs: list[str] = setting(["../shared/corpora"], "folders with books, seen from the repository")


@dataclass(slots=True, kw_only=True)
class Evaluate:
    """The settings of evaluate.py, which prints the perplexity of a trained model on any text."""

    run: Any = setting(MISSING, "a run's folder, checkpoint or export, or latest; a list is one model", example=RUN)
    baselines: bool = setting(False, "compare with n-grams, their mixture, PPMd: 26 s for the novel")
    adapt: float | None = setting(None, "rate of dynamic evaluation with a kNN cache", *POSITIVE, example=0.012)
    data: EvaluateData = field(default_factory=EvaluateData)
    logger: dict[str, Any] = setting({}, "")

    def __post_init__(self) -> None:
        check(self)
        for name in self.logger.keys() - {"wandb"}:
            raise SettingError(f"logger={name}: evaluate.py logs to W&B or not at all; use logger=wandb")
        require(bool(self.runs), "run", self.run, "names no run", RUN)
        require(self.data.corpus != [], "data.corpus", [], "names no text", "time_machine")

    @property
    def runs(self) -> list[str]:
        """Return the runs as a list."""
        return [str(run) for run in (self.run if isinstance(self.run, list) else [self.run])]


@dataclass(slots=True, kw_only=True)
class Generate:
    """The settings of generate.py, which continues a text with a trained model: greedily, or sampling from P^alpha."""

    run: str = setting(MISSING, "a run's folder, checkpoint or export, or latest", example=RUN)
    prefix: str = setting(PREFIX, "any text, or none; read as the run reads its own", example=f"'{PREFIX}'")
    num_preds: int = setting(20, "characters, or tokens of bpe, to add", 0, 1_000_000)
    alpha: float | None = setting(None, "null: greedy; a number: sample from P^alpha", *POSITIVE, example=1)
    temperature: float | None = setting(None, "1/alpha, in place of it", *POSITIVE, example=0.8)
    top_k: int | None = setting(None, "sample from the k likeliest characters", 1, MOST, example=5)
    top_p: float | None = setting(
        None, "sample from the fewest likeliest characters whose probabilities sum to at least p", 1e-6, 1, example=0.9
    )
    min_p: float | None = setting(
        None, "sample from characters at least p times as probable as the likeliest", 0, 1, example=0.1
    )
    num_samples: int = setting(1, "continuations, a blank line between those with line breaks", 1, 10_000)
    seed: int = setting(0, "seed of the samples", *SEED)

    def __post_init__(self) -> None:
        check(self)
        fits, rule = None in (self.alpha, self.temperature), f"is 1/alpha, and alpha={self.alpha} is given too"
        require(fits, "temperature", self.temperature, rule, "0.8 without alpha")
        rule = f"makes more than {MOST_CHARACTERS:,} characters with num_samples={self.num_samples}"
        require(self.num_preds * self.num_samples <= MOST_CHARACTERS, "num_preds", self.num_preds, rule, 20)

    @property
    def power(self) -> float | None:
        """Return the alpha to sample with: that of the temperature, 1 if only a truncation is given; None is greedy."""
        if self.temperature is not None:
            return 1 / self.temperature
        is_truncated = (self.top_k, self.top_p, self.min_p) != (None, None, None)
        return 1.0 if self.alpha is None and is_truncated else self.alpha
