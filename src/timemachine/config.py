"""Schema of the settings: the meaning and bounds of each, and the rules that span several.

The values are in `conf/`. `cli.schema` registers these dataclasses with Hydra; `RNNLMScratch` and `TimeMachine` check
their arguments with them.
"""

import json
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
MISSING = "???"  # Hydra's mark of a required setting
EXAMPLE_RUN = "outputs/…"
PREFIX = "it has"  # to continue, as in the book

Activation = Enum("Activation", ["tanh", "relu"])
Backward = Enum("Backward", ["auto", "fused", "bptt", "autograd"])
Tokens = Enum("Tokens", ["letters", "characters", "bpe"])
LearnOn = Enum("LearnOn", ["text", "train"])
Input = Enum("Input", ["one_hot", "embedding"])
Optimizer = Enum("Optimizer", ["sgd", "adamw"])
Schedule = Enum("Schedule", ["constant", "cosine"])

MAX_FLOAT32 = 3e38  # bound of numbers that are converted to float32
MAX_COUNT = 2**31 - 1  # bound of counts
MAX_CHARACTERS = 10_000_000  # of all continuations together
MAX_HIDDENS = 8_192  # hidden units; the states of one batch then take a gigabyte
POSITIVE = 1e-38, MAX_FLOAT32
NOT_NEGATIVE = 0, MAX_FLOAT32
SEED = 0, 2**32 - 1


def setting(default: Any, meaning: str, *bounds: float, example: Any = None) -> Any:
    """Create a field with its meaning (--help skips the field if "") and the bounds of a number for `check`.

    `example`: value that an error suggests; the default if None.
    """
    made = {"default_factory": default.copy} if isinstance(default, list | dict) else {"default": default}
    explained = {"meaning": meaning} if meaning else {}
    known = explained | dict(zip(("least", "most"), bounds, strict=False))
    return field(**made, metadata=known | {"example": default if example is None else example})


def allowed(entry: Field[Any]) -> str:
    """Describe the valid values of a dataclass field; "" if any text or list of texts is valid."""
    if isinstance(entry.default, Enum):
        return "one of " + ", ".join(type(entry.default).__members__)
    if "least" not in entry.metadata:
        return "true or false" if bool in _types(entry) else ""
    least, most = entry.metadata["least"], entry.metadata["most"]
    if most == MAX_FLOAT32:
        return "a positive number" if least else "a number, 0 or more"
    return f"a {'whole ' if int in _types(entry) else ''}number from {least} to {most:,}"


def example(entry: Field[Any], given: object = None) -> str:
    """Return a valid value of a dataclass field in command-line form; for an Enum, the name nearest to `given`."""
    if isinstance(entry.default, Enum):
        return [*get_close_matches(format_value(given), type(entry.default).__members__), entry.default.name][0]
    return format_value(entry.metadata.get("example", entry.default))


def check(settings: Any, prefix: str = "") -> None:
    """Convert names to Enum members and numbers to Python's types. Raise SettingError for a value out of bounds."""
    for entry in fields(settings):
        setattr(settings, entry.name, check_value(entry, getattr(settings, entry.name), prefix + entry.name))


def check_value(entry: Field[Any], value: Any, name: str) -> Any:
    """Return a field's value, with names converted to Enum members and numbers to Python's types.

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
        if is_number and not isinstance(value, int | float):  # numpy's: a checkpoint must not need numpy
            value = int(value) if int in kinds else float(value)
        # For type Any, Lightning checks the values that are not numbers.
        fits = entry.metadata["least"] <= value <= entry.metadata["most"] if is_number else entry.type is Any
    else:
        fits = bool not in kinds or isinstance(value, bool)
    require(fits, name, given, f"must be {allowed(entry)}", example(entry, given))
    return value


def require(holds: bool, setting: str, value: object, rule: str, example: object) -> None:
    """Raise SettingError unless the rule holds for the setting's value."""
    if not holds:
        raise SettingError(f"{setting}={format_value(value)}: {rule}; try {setting}={example}")


def format_value(value: object) -> str:
    """Return a value in command-line form."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list):
        return f"[{','.join(map(format_value, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def to_dict(settings: Any) -> dict[str, Any]:
    """Return a dataclass of settings as nested dicts, Enums by name, as summary.json and W&B show them."""
    return asdict(settings, dict_factory=lambda items: {k: v.name if isinstance(v, Enum) else v for k, v in items})


Settings = TypeVar("Settings")


def from_dict(kind: type[Settings], values: Any, prefix: str = "") -> Settings:
    """Build a dataclass of settings from nested dicts of plain values, the reverse of `to_dict`.

    A missing name gets its default. OmegaConf would do the same, but would also resolve each `${…}` in a run's record.
    Raises SettingError for an unknown name, a value of the wrong type and a violated rule; the message names the
    setting.
    """
    types = {entry.name: entry.type for entry in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise SettingError(f"{prefix.rstrip('.') or 'settings'}={format_value(values)}: expected a group of settings")
    built: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            near = get_close_matches(name, types, 1, cutoff=0)[0]
            raise SettingError(f"{prefix}{name}={format_value(value)}: unknown setting; did you mean {prefix}{near}?")
        if is_dataclass(types[name]):
            built[name] = from_dict(types[name], value, f"{prefix}{name}.")  # type: ignore[arg-type]
        elif _fits(value, types[name]):
            built[name] = value
        else:
            expected = getattr(types[name], "__name__", types[name])
            raise SettingError(f"{prefix}{name}={format_value(value)}: expected {expected}")
    return kind(**built)


def _fits(value: object, kind: Any) -> bool:
    """Return whether a plain value has the type of a field; an Enum member is given by its name."""
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


def _fits_json(value: object) -> bool:
    """Return whether JSON returns a plain value as it was."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except ValueError:  # a number that is not finite
        return False


def _types(entry: Field[Any]) -> tuple[Any, ...]:
    return get_args(entry.type) or (entry.type,)


@dataclass(slots=True, kw_only=True)
class Model:
    """The network, its initial weights and its learning rates."""

    cell: str = setting("rnn", "recurrent cell: rnn, gru, lstm, deep_rnn, or your own (extending.md)")
    hiddens: int = setting(32, "number of hidden units", 1, MAX_HIDDENS)
    layers: int = setting(2, "layers of deep_rnn; other cells have one", 1, 16)
    sigma: float = setting(0.01, "standard deviation of the initial weights", 0, 10)  # above 1, worse than guessing
    sigma_hh: float | None = setting(None, "standard deviation of the initial W_hh; null: sigma", 0, 10, example=0.2)
    lr: float = setting(1.0, "learning rate η", *POSITIVE)
    activation: Activation = setting(Activation.tanh, "φ of the recurrence")
    input: Input = setting(Input.one_hot, "input vectors of the tokens")
    embedding_dim: int = setting(32, "width of the embedding; unused with one_hot", 1, MAX_HIDDENS)
    embedding_sigma: float = setting(1.0, "standard deviation of the initial embedding", *NOT_NEGATIVE)
    tie_weights: bool = setting(False, "use the transposed embedding as output weights; needs embedding_dim = hiddens")
    input_lr_factor: float = setting(1.0, "learning rate of the input weights, as a multiple of lr", *NOT_NEGATIVE)
    backward: Backward = setting(Backward.auto, "code that computes the gradients")

    def __post_init__(self) -> None:
        check(self, "model.")
        rule = f"times model.lr={format_value(self.lr)} exceeds the range of float32"
        require(self.lr * self.input_lr_factor <= MAX_FLOAT32, "model.input_lr_factor", self.input_lr_factor, rule, 1.0)
        if self.tie_weights:
            fits = self.input is Input.embedding and self.embedding_dim == self.hiddens and self.embedding_sigma > 0
            rule = "needs an embedding as wide as model.hiddens and a positive model.embedding_sigma"
            instead = f"true model.input=embedding model.embedding_dim={self.hiddens} model.embedding_sigma=1"
            require(fits, "model.tie_weights", True, rule, instead)


# Settings of `model.` that the language model itself reads, with any cell.
OF_ANY_CELL = {
    "cell", "hiddens", "sigma", "lr", "input", "embedding_dim", "embedding_sigma", "tie_weights", "input_lr_factor",
    "backward",
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Data:
    """The text and its windows. `num_train` and `num_val` both null: 90/5/5% of the tokens."""

    corpus: Any = setting("time_machine", "book of the catalogue, sample, path of a text or folder, or a list of them")
    search_dirs: list[str] = setting(["../shared/corpora"], "folders with books, relative to the repository")
    tokens: Tokens = setting(Tokens.letters, "letters: a to z and space; characters: all; bpe: byte-pair encoding")
    vocab_size: int = setting(1024, "number of tokens with data.tokens=bpe", 256, 65_535)
    learn_on: LearnOn = setting(LearnOn.text, "what bpe learns its tokens from: the whole text, or its training part")
    min_count: int = setting(1, "read characters with fewer occurrences in the text as <unk>", 1, MAX_COUNT)
    batch_size: int = setting(1024, "windows per batch, over all devices", 1, MAX_COUNT)
    num_steps: int = setting(32, "tokens per window (characters in the book)", 1, MAX_COUNT)
    num_train: int | None = setting(10_000, "training windows; null: 90% of the tokens", 1, MAX_COUNT)
    num_val: int | None = setting(5_000, "validation windows; null: 5% of the tokens", 1, MAX_COUNT)
    start: int = setting(0, "rotate the text to start at this character", 0, MAX_COUNT)

    def __post_init__(self) -> None:
        check(self, "data.")
        names = self.corpus if isinstance(self.corpus, list) else [self.corpus]
        are_names = names and all(isinstance(name, str | int | float) for name in names)
        require(bool(are_names), "data.corpus", self.corpus, "must be a text or a list of texts", "time_machine")
        self.corpus = [str(name) for name in names] if isinstance(self.corpus, list) else str(self.corpus)
        fits, rule = self.min_count == 1 or self.tokens is Tokens.characters, "only data.tokens=characters supports it"
        require(fits, "data.min_count", self.min_count, rule, f"{self.min_count} data.tokens=characters")
        for name, default in (("vocab_size", 1024), ("learn_on", LearnOn.text)):
            value, rule = getattr(self, name), f"not supported with data.tokens={self.tokens.name}"
            fits = value == default or self.tokens is Tokens.bpe
            require(fits, f"data.{name}", value, rule, f"{format_value(value)} data.tokens=bpe")
        rule = f"must be null if data.num_val is, and a number if not (got data.num_val={format_value(self.num_val)})"
        fits = (self.num_train is None) == (self.num_val is None)
        require(fits, "data.num_train", self.num_train, rule, "10000 data.num_val=5000")


def windows_of(data: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of `data.` that define the windows: all but the location of the text."""
    return {name: value for name, value in data.items() if name not in ("corpus", "search_dirs")}


@dataclass(slots=True, kw_only=True)
class Training:
    """Training methods beyond the book's plain SGD (sweeps/reference/how_low/report.md)."""

    optimizer: Optimizer = setting(Optimizer.sgd, "update rule")
    schedule: Schedule = setting(Schedule.constant, "learning rate over time; cosine: to 0 along half a cosine")
    warm_up: float = setting(0.0, "fraction of all steps in which the learning rate rises from 0", 0, 0.999)
    carry_state: bool = setting(False, "consecutive windows, each starting from the state after the previous one")
    input_dropout: float = setting(0.0, "probability that an input is replaced by <unk>", 0, 0.999)
    output_dropout: float = setting(0.0, "dropout on the hidden units before the output layer", 0, 0.999)
    teacher: float = setting(0.0, "text from an n-gram teacher, as a multiple of the training text", 0, 100)
    teacher_networks: int = setting(0, "networks to train first, as teachers alongside the n-grams", 0, 100)

    def __post_init__(self) -> None:
        check(self, "training.")
        if self.teacher and not self.carry_state:
            rule = "needs consecutive windows; use training.carry_state=true as well"
            raise SettingError(f"training.teacher={self.teacher}: {rule}")
        fits, rule = not self.teacher_networks or self.teacher > 0, "needs training.teacher above 0"
        require(fits, "training.teacher_networks", self.teacher_networks, rule, 0)


@dataclass(slots=True, kw_only=True)
class Trainer:
    """All arguments of Lightning's Trainer except logger, callbacks and default_root_dir; a test compares them."""

    accelerator: str = setting("auto", "auto, cpu, gpu, or another of Lightning's accelerators")
    strategy: str = setting("auto", "auto, ddp, or another of Lightning's strategies")
    devices: Any = setting("auto", "number or indices of devices: auto, 2, [0,1]", -1, 1_024, example=2)
    num_nodes: int = setting(1, "machines", 1, 65_536)
    precision: Any = setting(None, "32-true, 64-true, bf16-mixed, 16-mixed, …; null: 32-true")
    fast_dev_run: Any = setting(False, "", 0, MAX_COUNT, example=1)
    max_epochs: int | None = setting(None, "maximum number of epochs; -1: unlimited", -1, MAX_COUNT, example=100)
    min_epochs: int | None = setting(None, "minimum number of epochs", 0, MAX_COUNT, example=1)
    max_steps: int = setting(-1, "maximum number of steps; -1: unlimited", -1, MAX_COUNT, example=1000)
    min_steps: int | None = setting(None, "minimum number of steps", 0, MAX_COUNT, example=1)
    max_time: Any = setting(None, "maximum time as days:hours:minutes:seconds, such as 00:01:30:00")
    limit_train_batches: Any = setting(None, "batches per epoch, or a fraction such as 0.5", 0, MAX_COUNT, example=0.5)
    limit_val_batches: Any = setting(None, "", 0, MAX_COUNT, example=0.5)
    limit_test_batches: Any = setting(None, "", 0, MAX_COUNT, example=0.5)
    limit_predict_batches: Any = setting(None, "", 0, MAX_COUNT, example=0.5)
    overfit_batches: Any = setting(0.0, "number or fraction of batches to reuse every epoch", 0, MAX_COUNT, example=1)
    val_check_interval: Any = setting(None, "", 0, MAX_COUNT, example=1)
    check_val_every_n_epoch: int | None = setting(1, "epochs between validations", 1, MAX_COUNT)
    num_sanity_val_steps: int | None = setting(None, "validation batches before training", -1, MAX_COUNT, example=0)
    log_every_n_steps: int | None = setting(
        None, "steps between the metrics of loggers; steps.csv has every step", 0, MAX_COUNT, example=50
    )
    enable_checkpointing: bool | None = setting(None, "save checkpoints; null: true", example=False)
    enable_progress_bar: bool | None = setting(None, "show a progress bar; null: on a terminal", example=False)
    enable_model_summary: bool | None = setting(None, "print Lightning's model summary", example=False)
    accumulate_grad_batches: int = setting(1, "batches per step", 1, MAX_COUNT)
    gradient_clip_val: float | None = setting(None, "clip the gradient to norm θ; 0: off", *NOT_NEGATIVE, example=1)
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
    reload_dataloaders_every_n_epochs: int = setting(0, "no effect: the loader shuffles itself", 0, MAX_COUNT)
    enable_autolog_hparams: bool = True
    model_registry: str | None = None

    def __post_init__(self) -> None:
        check(self, "trainer.")
        require(self.accelerator != "mps", "trainer.accelerator", "mps", "Apple's GPU has no float64 for sums", "cpu")
        is_forked = re.search(r"_(fork|spawn|notebook)", self.strategy) is not None
        rule = "not supported, since it starts processes from inside this one"
        require(not is_forked, "trainer.strategy", self.strategy, rule, "ddp")
        require(self.val_check_interval != 0, "trainer.val_check_interval", 0, "must be positive", 1.0)
        for what in ("epochs", "steps"):
            least, most = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            fits = least is None or most in (None, -1) or least <= most
            require(fits, f"trainer.min_{what}", least, f"exceeds trainer.max_{what}={most}", most)


@dataclass(slots=True, kw_only=True)
class Train:
    """The settings of train.py, which trains the scratch RNN of Dive into Deep Learning on The Time Machine."""

    seed: int = setting(0, "seed of the initial weights and of the order of the windows", *SEED)
    resume: str | None = setting(None, "folder of an interrupted run or sweep to resume, or latest")
    init_from: str | None = setting(None, "run whose weights are the initial ones, as run= of generate.py")
    probes: list[str] = setting([], "measurements of the trained model", example=["stream"])
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    training: Training = field(default_factory=Training)
    trainer: Trainer = field(default_factory=Trainer)
    callbacks: dict[str, Any] = setting({}, "")  # name -> `_target_`, a Lightning callback, and its arguments
    logger: dict[str, Any] = setting({}, "")

    def __post_init__(self) -> None:
        check(self)
        training, trainer = self.training, self.trainer
        for group in ("callbacks", "logger"):
            for name, entry in getattr(self, group).items():
                if not _fits_json(entry):
                    rule = "summary.json can keep only finite numbers, and only texts as keys"
                    raise SettingError(f"{group}.{name}={format_value(entry)}: {rule}; use other arguments")
        if training.warm_up or training.schedule is not Schedule.constant:
            epochs, rule = trainer.max_epochs, "a warm-up or a schedule needs a number of steps"
            is_endless = epochs == -1 or (epochs is None and trainer.max_time is not None)
            require(not is_endless or trainer.max_steps != -1, "trainer.max_epochs", epochs, rule, 30)
        if training.teacher:
            reloads, rule = trainer.reload_dataloaders_every_n_epochs, "would generate the teacher's text each time"
            require(reloads == 0, "trainer.reload_dataloaders_every_n_epochs", reloads, rule, 0)
        for name in ("barebones", "fast_dev_run"):
            value, rule = getattr(trainer, name), "saves no checkpoint, which a resumed run needs"
            require(self.resume is None or not value, f"trainer.{name}", value, rule, "false")
        if re.fullmatch(r"(16|bf16)(-mixed)?", str(trainer.precision)):
            fits = self.model.backward in (Backward.auto, Backward.autograd)
            rule = f"does not support trainer.precision={trainer.precision}"
            require(fits, "model.backward", self.model.backward, rule, "autograd")


@dataclass(slots=True, kw_only=True)
class EvaluateData:
    """Texts to evaluate on."""

    corpus: Any = setting(None, "book, text, folder, or a list of these; null: the run's own text")
    search_dirs: list[str] = setting(["../shared/corpora"], "folders with books, relative to the repository")


@dataclass(slots=True, kw_only=True)
class Evaluate:
    """The settings of evaluate.py, which prints the perplexity of a trained model on any text."""

    run: Any = setting(
        MISSING, "a run's folder, checkpoint or export, or latest; a list is an ensemble", example=EXAMPLE_RUN
    )
    baselines: bool = setting(False, "compare with n-grams, their mixture and PPMd: 26 s for the novel")
    adapt: float | None = setting(None, "learning rate of dynamic evaluation, with kNN cache", *POSITIVE, example=0.012)
    data: EvaluateData = field(default_factory=EvaluateData)
    logger: dict[str, Any] = setting({}, "")

    def __post_init__(self) -> None:
        check(self)
        for name in self.logger.keys() - {"wandb"}:
            raise SettingError(f"logger={name}: not supported by evaluate.py; use logger=wandb")
        require(bool(self.runs), "run", self.run, "must name a run", EXAMPLE_RUN)
        require(self.data.corpus != [], "data.corpus", [], "must name a text", "time_machine")

    @property
    def runs(self) -> list[str]:
        """Return the runs as a list."""
        return [str(run) for run in (self.run if isinstance(self.run, list) else [self.run])]


@dataclass(slots=True, kw_only=True)
class Generate:
    """The settings of generate.py, which continues a text with a trained model: greedily, or sampling from P^alpha."""

    run: str = setting(MISSING, "a run's folder, checkpoint or export, or latest", example=EXAMPLE_RUN)
    prefix: str = setting(PREFIX, "text to continue, normalised as for the run; may be empty", example=f"'{PREFIX}'")
    num_preds: int = setting(20, "number of characters, or bpe tokens, to add", 0, 1_000_000)
    alpha: float | None = setting(None, "null: greedy; a number: sample from P^alpha", *POSITIVE, example=1)
    temperature: float | None = setting(None, "1/alpha; an alternative to alpha", *POSITIVE, example=0.8)
    top_k: int | None = setting(None, "sample from the k likeliest characters", 1, MAX_COUNT, example=5)
    top_p: float | None = setting(
        None, "sample from the likeliest characters with a total probability of at least p", 1e-6, 1, example=0.9
    )
    min_p: float | None = setting(
        None, "sample from characters at least p times as probable as the likeliest", 0, 1, example=0.1
    )
    num_samples: int = setting(1, "number of continuations", 1, 10_000)
    seed: int = setting(0, "seed of the samples", *SEED)

    def __post_init__(self) -> None:
        check(self)
        fits, rule = None in (self.alpha, self.temperature), f"is 1/alpha, and alpha={self.alpha} is set"
        require(fits, "temperature", self.temperature, rule, "0.8 without alpha")
        rule = f"exceeds {MAX_CHARACTERS:,} characters in total with num_samples={self.num_samples}"
        require(self.num_preds * self.num_samples <= MAX_CHARACTERS, "num_preds", self.num_preds, rule, 20)

    @property
    def power(self) -> float | None:
        """Return alpha: 1/temperature if given, 1 with a truncation alone, None for greedy decoding."""
        if self.temperature is not None:
            return 1 / self.temperature
        is_truncated = (self.top_k, self.top_p, self.min_p) != (None, None, None)
        return 1.0 if self.alpha is None and is_truncated else self.alpha
