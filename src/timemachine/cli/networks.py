"""Whether each network of a sweep can be built, before the first job runs."""

from omegaconf import DictConfig, OmegaConf

from timemachine.cli.resuming import composed_job, is_search, jobs_of
from timemachine.cli.schema import check_network
from timemachine.config import Model
from timemachine.errors import SettingError

OF_NO_NETWORK = ("seed=", "data.", "trainer.", "training.", "logger.")  # how settings begin that do not tell


def refuse_networks(config: DictConfig, exercise: str) -> None:
    """Raise SettingError if a job of a sweep has a network that cannot be built, or lacks what shall be measured.

    Only jobs that name another cell than the RNN are composed, which takes a while, and those that differ in nothing
    else than data or training once. What a search will choose is not known.
    """
    seen = set()
    for overrides in [[]] if is_search(config) else jobs_of(config):
        telling = tuple(override for override in overrides if not override.startswith(OF_NO_NETWORK))
        names_a_cell = config.model.cell != "rnn" or any("cell" in override for override in telling)
        if telling in seen or not names_a_cell:
            continue
        seen.add(telling)
        settings = composed_job(config, overrides)
        network = OmegaConf.to_object(settings.model)
        assert isinstance(network, Model)
        try:
            check_network(network, list(settings.probes))
        except SettingError as error:
            if exercise == "none":
                raise
            reason = str(error).partition(";")[0]
            raise SettingError(f"exercise={exercise}: {reason}; type it with model.cell=rnn") from error
