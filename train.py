"""Train the scratch RNN of Dive into Deep Learning: python train.py model.hiddens=64."""

import math
import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from timemachine import command_line
from timemachine.config import SettingError, Train, checked, plain
from timemachine.corpus import find_corpus
from timemachine.record import Record, is_done

PREFIX, NUM_PREDS = "it has", 20  # the book's


@command_line.program(Train)
def main(cfg: DictConfig) -> float:
    """One run: settings, text, model, training, test, report. Returns the validation perplexity of the last epoch."""
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    sweep = os.path.relpath(folder.parent) if job.mode == RunMode.MULTIRUN else None
    exercise = job.runtime.choices["exercise"]
    quiet = exercise != "none"  # its jobs run side by side: a line each, and the report
    if sweep is not None and is_done(folder, plain(cfg)):
        return math.nan
    with Record(folder, plain(cfg), goes_on=sweep is not None) as record:
        settings = checked(cfg, Train)
        corpus = find_corpus(settings.data.corpus, settings.data.search_dirs)

        # What follows takes seconds to import: mistakes in settings have been found by now.
        from lightning.pytorch import seed_everything

        from timemachine import probes, report, tracking, training
        from timemachine.datamodule import TimeMachine
        from timemachine.language_model import RNNLMScratch

        seed_everything(settings.seed, verbose=False)
        cut = settings.data
        data = TimeMachine(cut.batch_size, cut.num_steps, cut.num_train, cut.num_val, corpus=corpus, seed=settings.seed)
        model = RNNLMScratch(len(data.vocab), **plain(cfg.model))
        record.update(corpus=data.describe(), parameters=sum(p.numel() for p in model.parameters()))

        changes = [change for change in job.overrides.task if not change.startswith(("exercise=", "logger", "resume="))]
        name = " ".join([corpus.name, *changes])
        job_type = exercise if quiet else "train"
        with tracking.open_loggers(settings, record, name, sweep, job_type, quiet) as loggers:
            trainer = training.build_trainer(settings, folder, loggers, quiet)
            if sweep is not None and trainer.world_size > 1:  # each process would start the whole sweep again
                devices = f"trainer.devices={settings.trainer.devices}"
                raise SettingError(f"{devices}: a job of a sweep is one process; type trainer=auto")
            try:
                trainer.fit(model, data)
                if data.splits["test"].starts:
                    trainer.test(model, data, verbose=False)
            finally:
                record.update(metrics=report.final_numbers(folder))

            val = record.summary["metrics"].get("val/perplexity", math.nan)
            if val > len(data.vocab):
                message = f"ends with a validation perplexity of {val:.4g}, worse than guessing among {len(data.vocab)}"
                record.update(status="diverged", message=message)
            else:
                record.update(status="completed")
            if trainer.is_global_zero:
                record.update(probes=probes.run(settings.probes, model, data))
                report.finish_run(folder, record.summary, model.predict(PREFIX, NUM_PREDS, data.vocab), quiet)
    return float(record.summary["metrics"].get("val/perplexity", math.nan))  # NaN: a sweep's job that failed


if __name__ == "__main__":
    main()
