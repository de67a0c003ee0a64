"""Train the scratch RNN of Dive into Deep Learning: python train.py model.hiddens=64."""

from collections.abc import Callable
from functools import partial

from timemachine.cli.program import training_program
from timemachine.config import Backward, Train, Training, to_dict, windows_of
from timemachine.corpus import find_corpus
from timemachine.run.console import print_beginning, print_size, print_text
from timemachine.run.record import Record


@training_program
def main(settings: Train, run: Record) -> None:
    """Train a model, test it, and leave its results in the run's folder."""
    windows = settings.data
    corpus = find_corpus(windows.corpus, windows.search_dirs, windows.tokens)
    if settings.probes:
        from timemachine.exercises import probes

        probes.check(settings.probes, corpus, settings.model.cell)

    if run.role.prints:
        print_beginning(settings.model.cell, settings.model.hiddens, corpus.title)

    # These take seconds to import, so they come after the checks of the settings and the text.
    from lightning.pytorch import seed_everything

    from timemachine.datamodule import TimeMachine
    from timemachine.evaluation.lost_characters import lost_letters_warning
    from timemachine.kernels.language_model import FusedRNNLM
    from timemachine.language_model import RNNLMScratch
    from timemachine.page.epochs import EpochWeights, write_page
    from timemachine.run.checkpoint import checkpoint_to_resume, load_parent_weights
    from timemachine.run.finish import finish
    from timemachine.run.trainer import build_trainer, errors_in_one_line, open_loggers

    seed_everything(settings.seed, verbose=False)
    by_autograd = settings.model.backward is Backward.autograd  # the book's class itself, for a debugger
    make_model: Callable[..., RNNLMScratch] = RNNLMScratch if by_autograd else FusedRNNLM
    make_loader = None
    if settings.training != Training():
        from timemachine.how_low import RNNLMBeyond, train_loader

        make_model = partial(RNNLMBeyond, training=settings.training)
        make_loader = partial(train_loader, training=settings.training)
    data = TimeMachine(**windows_of(to_dict(windows)), corpus=corpus, seed=settings.seed, train_loader=make_loader)
    model = make_model(len(data.vocab), **to_dict(settings.model))
    if settings.init_from is not None:
        load_parent_weights(run, model, data)
    checkpoint = checkpoint_to_resume(run, model, data) if run.is_resumed else None
    run.describe(data, model)
    if run.role.prints:
        print_size(run.summary["parameters"], len(data.vocab))
        if warning := lost_letters_warning(corpus):
            print_text(warning)
        if settings.training.teacher:
            print("teacher       learns and generates text before the first epoch", flush=True)
    probe_modules = probes.load(settings.probes) if settings.probes else {}
    with open_loggers(settings, run) as configured:
        others = [probe.callback() for probe in probe_modules.values() if hasattr(probe, "callback")]
        if run.role.sweep is None and run.role.writes:
            others.append(EpochWeights(run.folder))
        trainer = build_trainer(settings, run, configured, others)
        with errors_in_one_line(trainer):
            trainer.fit(model, data, ckpt_path=checkpoint)
            if data.splits["test"].starts:
                trainer.test(model, data, verbose=False)
        if run.role.writes:
            model.eval()
            run.update(probes={name: probe.measure(model, data) for name, probe in probe_modules.items()})
        finish(run, model, data, partial(write_page, run, model, data) if run.role.sweep is None else None)


if __name__ == "__main__":
    main()
