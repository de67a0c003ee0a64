"""`hydra/sweeper=optuna`, and `search` on top of it: Optuna chooses the settings of each job from what came before.

A search is kept in its sweep's folder, in `study.log`, Optuna's journal. The number of a trial is that of its job.

Tested with Optuna 4.0 and 5.0, of which it uses no private name.
"""

import logging
import random
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins._timemachine_names import take_name
from timemachine.config import REPOSITORY
from timemachine.errors import SettingError, one_line
from timemachine.runs.summaries import read_summary

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

STUDY, NAME = "study.log", "search"
RANGES = REPOSITORY / "conf" / "hydra" / "sweeper" / "search.yaml"  # what a search varies that is told nothing


@dataclass
class SearchSettings:
    """What a search is asked for: the settings with the lowest validation perplexity."""

    _target_: str = "hydra_plugins.timemachine_search_sweeper.SearchSweeper"
    n_trials: int = 30  # jobs in all
    n_jobs: int = 2  # jobs at a time, with a launcher that runs several
    seed: int = 0  # of what is tried
    params: dict[str, str] | None = None  # setting -> interval(…), tag(log, …) or some values


class SearchName(SearchPathPlugin):
    """The name `optuna`, also where hydra-optuna-sweeper is installed: the last registration wins.

    Hydra calls this once it has imported all plugins, in whatever order.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Register the settings; leave the search path alone."""
        take_name("hydra/sweeper", "optuna", SearchSettings)


class SearchSweeper(Sweeper):
    """Asks Optuna's tree of Parzen estimators for settings, and tells it the validation perplexity of each job."""

    def __init__(self, n_trials: int, n_jobs: int, seed: int, params: DictConfig | None) -> None:
        self.n_trials, self.n_jobs, self.seed = n_trials, n_jobs, seed
        self.params = {str(name): values for name, values in (params or {}).items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives. Raise SettingError where Optuna is missing."""
        if find_spec("optuna") is None:
            raise SettingError("hydra/sweeper: Optuna is not installed; type pip install -e '.[search]'")
        self.hydra_context, self.config, self.folder = hydra_context, config, Path(config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs that the study lacks, `n_jobs` at a time, first those that were cut short.

        A resumed search goes on with the trials that it would have had. Raises SettingError if it had other settings.
        """
        import optuna

        assert self.hydra_context is not None and self.launcher is not None
        parser = OverridesParser.create(self.hydra_context.config_loader)
        parsed = parser.parse_overrides(arguments)
        is_told = self.params or any(override.is_sweep_override() for override in parsed)
        ranges = self.params if is_told else OmegaConf.load(RANGES).params
        parsed = [*parser.parse_overrides([f"{name}={values}" for name, values in ranges.items()]), *parsed]
        overrides = {override.get_key_element(): override for override in parsed}  # what was typed last counts
        space = {name: _distribution(override) for name, override in overrides.items() if override.is_sweep_override()}
        fixed = {name: override.get_value_element_as_str() for name, override in overrides.items() if name not in space}
        study = self._study(space, fixed)
        cut_short = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.RUNNING]
        batch = {trial.number: trial.params for trial in cut_short}
        while batch or len(study.trials) < self.n_trials:
            while len(batch) < self.n_jobs and len(study.trials) < self.n_trials:
                # Each trial has a seed of its own, so that it is the same after the search was resumed.
                number = len(study.trials)
                seed = random.Random(f"{self.seed} {number}").getrandbits(32)
                batch[number] = _ask(study, space, seed)
            jobs = [[f"{name}={value}" for name, value in (params | fixed).items()] for params in batch.values()]
            self.launcher.launch(jobs, initial_job_idx=min(batch))
            for number in batch:
                value = _validation_perplexity(self.folder / str(number))
                state = None if value is not None else optuna.trial.TrialState.FAIL
                study.tell(number, value, state)
            batch = {}
        if any(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials):
            best = study.best_trial
            found = {"best_job": best.number, "best_value": best.value, "best_params": best.params}
            OmegaConf.save(OmegaConf.create(found), self.folder / "optimization_results.yaml")
            log.info(f"Best: job {best.number}, validation perplexity {best.value:.3f}")

    def _study(self, space: dict[str, Any], fixed: dict[str, str]) -> "optuna.Study":
        """Return the study in the sweep's folder, or a new one. Raise SettingError if it is one of other settings."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        settings = {name: value for name, value in fixed.items() if name != "resume"}
        settings |= {name: str(values) for name, values in space.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        backend = JournalFileBackend(str(self.folder / STUDY))
        if not (self.folder / "multirun.yaml").exists():
            OmegaConf.save(self.config, self.folder / "multirun.yaml")
        try:
            storage = JournalStorage(backend)
            begins = NAME not in optuna.get_all_study_names(storage)
            study = (optuna.create_study if begins else optuna.load_study)(study_name=NAME, storage=storage)
            if "settings" not in study.user_attrs:
                study.set_user_attr("settings", settings)
            tried, before = [trial.distributions for trial in study.trials], study.user_attrs["settings"]
        except Exception as error:  # what a stranger wrote raises anything
            reason = one_line(f"{type(error).__name__}: {error}", 100)
            raise SettingError(
                f"resume={self.folder}: its {STUDY} is damaged ({reason}); type another sweep"
            ) from error
        if before != settings or any(distributions != space for distributions in tried):  # they become arguments
            raise SettingError(f"resume={self.folder}: is a search of other settings; type what began it")
        return study


def _ask(study: "optuna.Study", space: dict[str, Any], seed: int) -> dict[str, Any]:
    """Add a trial to the study, under way, in one piece wherever the search is interrupted; return its settings."""
    import optuna

    asked = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))  # in memory: a question has many writes
    asked.add_trials(study.trials)
    params = asked.ask(space).params
    running = optuna.trial.TrialState.RUNNING
    study.add_trial(optuna.trial.create_trial(state=running, params=params, distributions=space))
    return params


def _distribution(override: Override) -> "optuna.distributions.BaseDistribution":
    """Return the values that a setting may take: of an interval all in it, otherwise those that a sweep would run."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    interval = override.value()
    if not isinstance(interval, IntervalSweep) or interval.start is None or interval.end is None:
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    is_log = "log" in interval.tags
    if isinstance(interval.start, int) and isinstance(interval.end, int):  # cast by int(interval(…))
        return IntDistribution(interval.start, interval.end, log=is_log)
    return FloatDistribution(interval.start, interval.end, log=is_log)


def _validation_perplexity(job: Path) -> float | None:
    """Return that of the last epoch, inf if the job diverged before it had one, None if it failed."""
    try:
        summary = read_summary(job)
    except (OSError, ValueError):
        return None
    if summary["status"] not in ("completed", "diverged"):
        return None
    return float(summary["metrics"].get("val/perplexity", "inf"))
