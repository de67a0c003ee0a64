"""Train the scratch RNN of Dive into Deep Learning: python train.py model.hiddens=64."""

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from timemachine.run.program import check_settings, exit_on_setting_errors, has_several_processes, open_run
from timemachine.run.sweep import run_in_child


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@exit_on_setting_errors
def main(cfg: DictConfig) -> float:
    """Train a model, test it, write its results; return `optimized_metric`, which a search minimises."""
    if has_several_processes(cfg):  # a job of a sweep, on several devices: as a child program
        return run_in_child()
    with open_run(cfg) as run:  # locks the folder; resume= replaces the settings by the recorded ones
        if run.has_ended:  # a job of a sweep that is repeated
            return run.objective
        check_settings(run.settings)
        # These take seconds to import, so they come after the checks of the command line.
        import lightning.pytorch as L
        from lightning.pytorch.utilities.model_helpers import is_overridden

        from timemachine.exercises.probes import load_probes
        from timemachine.run.artifacts import write_artifacts
        from timemachine.run.checkpoints import RunStart, last_checkpoint
        from timemachine.run.console import silence
        from timemachine.run.load import load_initial_weights
        from timemachine.run.progress import print_results
        from timemachine.run.results import measure_results

        silence()
        L.seed_everything(cfg.seed, verbose=False)
        data = instantiate(cfg.data, _convert_="all")
        vocab_size = {"vocab_size": len(data.vocab)} if hasattr(data, "vocab") else {}  # your own data may have none
        model = instantiate(cfg.model, **vocab_size, _convert_="all")
        checkpoint = last_checkpoint(run, data)  # to resume from; None for a new run
        probes = load_probes(cfg.probes, data, model) if cfg.probes else {}  # checked now, measured at the end
        callbacks = [instantiate(entry) for entry in (cfg.get("callbacks") or {}).values() if entry]
        callbacks += [probe.callback() for probe in probes.values() if hasattr(probe, "callback")]
        callbacks += [RunStart(run)]  # writes summary.json when the training starts
        loggers = [instantiate(entry) for entry in (cfg.get("logger") or {}).values() if entry]
        trainer: L.Trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=loggers, default_root_dir=run.folder)
        if cfg.init_from is not None and not checkpoint:
            run.summary["parent"] = load_initial_weights(str(cfg.init_from), model, getattr(data, "vocab", None))
        for logger in trainer.loggers:
            logger.log_hyperparams(run.settings)
        trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
        trained = trainer.callback_metrics | {"epoch": trainer.current_epoch, "step": trainer.global_step}
        if is_overridden("test_step", model):
            trainer.test(model, data, verbose=False)  # resets what `trained` keeps
        measure_results(run, trainer, trainer.callback_metrics | trained, probes)  # summary.json
        lines = write_artifacts(run, trainer)  # perplexity.png, model.safetensors, sample.txt, page.html, W&B's summary
        print_results(run, lines)
    return run.objective  # raises the message of a single run that diverged


if __name__ == "__main__":
    main()
