"""Train the scratch RNN of Dive into Deep Learning: python train.py model.hiddens=64."""

import math
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from timemachine import command_line, ddp_job
from timemachine.config import Train, UserError, checked, plain
from timemachine.corpus import find_corpus
from timemachine.record import Record, goes_on, is_done, is_first_process, read_summary

PREFIX, NUM_PREDS = "it has", 20  # the book's


@command_line.program(Train)
def main(cfg: DictConfig) -> float:
    """One run, or a job of a sweep. Returns the last epoch's validation perplexity, infinity where there is none."""
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    in_sweep = job.mode == RunMode.MULTIRUN
    if in_sweep and is_done(folder, plain(cfg)):
        return math.inf
    if in_sweep and ddp_job.takes_processes(cfg.trainer):
        return ddp_job.run(folder, job.job.num, job.overrides.task, goes_on(plain(cfg)))
    with Record(folder, plain(cfg), in_sweep=in_sweep) as record:
        train(cfg, record)
    if record.summary["status"] == "diverged" and is_first_process() and not in_sweep:
        raise UserError(f"diverged: {record.summary['message']}")
    return float(record.summary["metrics"].get("val/perplexity", math.inf))


def train(cfg: DictConfig, record: Record) -> None:
    """Settings, text, model, training, test, report."""
    settings = checked(cfg, Train)
    corpus = find_corpus(settings.data.corpus, settings.data.search_dirs)

    # What follows takes seconds to import: mistakes in settings have been found by now.
    from lightning.pytorch import seed_everything

    from timemachine import probes, report, tracking, training
    from timemachine.datamodule import TimeMachine
    from timemachine.language_model import RNNLMScratch

    seed_everything(settings.seed, verbose=False)
    cut = settings.data
    how = settings.training
    data = TimeMachine(
        cut.batch_size, cut.num_steps, cut.num_train, cut.num_val, corpus=corpus, seed=settings.seed, training=how
    )
    model = RNNLMScratch(len(data.vocab), **plain(cfg.model), training=how)
    record.update(corpus=data.describe(), parameters=sum(p.numel() for p in model.parameters()))

    label = tracking.Label.of(HydraConfig.get(), corpus.name)
    with tracking.open_loggers(settings, record, label) as loggers:
        trainer = training.build_trainer(settings, record.folder, loggers, label.quiet)
        keeps: AbstractContextManager[None] = nullcontext()
        if (checkpoint := record.checkpoint_to_resume()) is not None:
            data.refuse_another(record.before)
            model.refuse_another(RNNLMScratch.from_run(os.path.relpath(record.folder), "resume")[0])
            keeps = command_line.keep_overrides(record.folder, HydraConfig.get().overrides.task)
        try:
            with keeps, training.lightning_may_refuse(settings), training.damage_in_one_line(record.folder):
                trainer.fit(model, data, ckpt_path=checkpoint)
                if data.splits["test"].starts:
                    trainer.test(model, data, verbose=False)
        finally:
            record.update(metrics=report.final_numbers(record.folder))

        if trainer.is_global_zero:
            record.update(probes=probes.run(settings.probes, model, data))
        val = record.summary["metrics"].get("val/perplexity", math.nan)
        ended: dict[str, Any] = {"status": "completed", "message": None}
        if val > len(data.vocab):
            message = f"ends with a validation perplexity of {val:.4g}, worse than guessing among {len(data.vocab)}"
            ended = {"status": "diverged", "message": f"{message}; begin anew with a smaller model.lr"}
        if trainer.is_global_zero:
            model.export(record.folder / "model.safetensors", data.vocab, read_summary(record.folder))
            sample = model.predict(PREFIX, NUM_PREDS, data.vocab)
            report.finish_run(record.folder, record.summary | ended, sample, label.quiet)
        record.update(**ended)


if __name__ == "__main__":
    main()
