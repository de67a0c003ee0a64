"""The scratch RNN of Dive into Deep Learning, trained on The Time Machine.

The files stand in the order in which data flows; each imports only from those above it:

    config          the schema of all settings
    corpus          a book's name or a path -> normalised characters
    files           written whole or not at all
    record          summary.json: a run's status, settings and numbers, from its first moment on
    command_line    from what a user typed to checked settings, from a mistake to one line
    sweep           the table that a multirun leaves: summary.csv
    ddp_job         a job of a sweep that takes several processes
    workers         a multirun on several cores: Hydra's launcher, made to say how to go on when it is cut short
    slurm           a multirun on a cluster: Hydra's launcher, made to outlive a job that is killed
    vocab           character <-> index
    baselines       character n-grams to compare with
    teacher         what n-grams expect at each place of the training text: soft targets
    datamodule      characters -> windows -> batches
    buffers         large temporary tensors without page faults
    cross_entropy   the output layer and its loss with their gradient by hand
    bptt            the recurrence, likewise, and both as one function
    rnn             the book's RNNScratch: a readable loop, or bptt
    clipping        the norm of all gradients as one vector, and the projection onto a ball
    perplexity      exp(mean negative log-likelihood)
    optimization    the optimiser, and its rates over time
    checkpoint      a model's weights on disk, read as if a stranger had sent them
    language_model  the RNN with its output layer: training, validation, prediction
    decoding        continuing a text, greedily or from P^alpha
    wandb_run       a run in Weights & Biases: how it begins, what it carries, how it ends
    tracking        metrics.csv and steps.csv, W&B or TensorBoard beside them
    training        settings -> Lightning Trainer
    ensemble        several models as one
    evaluation      perplexity of a trained model on any text
    dynamic         a model that goes on learning from the text that it reads
    probes/         what a trained model uses and does
    exercises/      what each exercise of the book found, from what the jobs of its sweep left
    report          what a run or a sweep left in its folder -> table, figure, report
    dashboard       the same in Weights & Biases: the panels of a saved workspace
"""
