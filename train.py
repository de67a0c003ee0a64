"""Train the scratch RNN of Dive into Deep Learning: python train.py model.hiddens=64."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from timemachine.config import require
from timemachine.run.checks import check_settings
from timemachine.run.program import HYDRA, exit_on_setting_errors, has_several_processes, open_run
from timemachine.study.sweep import run_in_child


@hydra.main(**HYDRA, config_path="conf", config_name="train")
@exit_on_setting_errors
def main(cfg: DictConfig) -> float:
    """Train a model, test it, write its results; return `optimized_metric`, which a search minimises."""
    if has_several_processes(cfg):  # a job of a sweep, on several devices: as a child program
        return run_in_child()
    with open_run(cfg) as run:  # locks the folder
        if run.has_ended:  # a job of a sweep that is repeated
            return run.objective()
        check_settings(run.settings)
        # These take seconds to import, so they come after the checks of the command line.
        import lightning.pytorch as L
        from lightning.pytorch.utilities.model_helpers import is_overridden

        from timemachine.datamodule import TimeMachine
        from timemachine.run.checkpoints import last_checkpoint, load_initial_weights
        from timemachine.run.progress import print_results, silence
        from timemachine.run.recorder import Recorder
        from timemachine.study.probes import load_probes

        silence()
        L.seed_everything(cfg.seed, verbose=False)
        data = instantiate(cfg.data, _convert_="all")
        require(isinstance(data, TimeMachine), "data._target_", cfg.data._target_, "must be a subclass of TimeMachine")
        model = instantiate(cfg.model, vocab_size=len(data.vocab), _convert_="all")
        checkpoint = last_checkpoint(run, data)  # to resume from; None for a new run
        if cfg.init_from is not None and not checkpoint:
            run.summary["parent"] = load_initial_weights(str(cfg.init_from), model, data.vocab)
        probes = load_probes(cfg.probes, data, model)  # checked now, measured at the end
        recorder = Recorder(run, probes)  # metrics.csv, steps.csv, summary.json
        callbacks = [instantiate(entry) for entry in (cfg.get("callbacks") or {}).values() if entry]
        callbacks += [*(probe.callback() for probe in probes.values() if hasattr(probe, "callback")), recorder]
        loggers = [instantiate(entry) for entry in (cfg.get("logger") or {}).values() if entry]
        trainer: L.Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers, default_root_dir=run.folder)
        for logger in trainer.loggers:
            logger.log_hyperparams(run.settings)
        trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
        if is_overridden("test_step", model):
            trainer.test(model, data, verbose=False)
        recorder.finish(trainer)  # the final numbers and the probes
        hooks = [part.log_results for part in (*callbacks, *loggers) if hasattr(part, "log_results")]
        # The model, the figure, the page, W&B's summary.
        lines = [hook(run, trainer) for hook in hooks if run.writes and run.metrics]
        print_results(run, lines)
    return run.objective()  # raises the message of a single run that diverged


if __name__ == "__main__":
    main()
