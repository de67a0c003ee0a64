"""Exercise 4, continued: the numbers of its texts, from the sums over blocks in arrays.npz and the table of runs."""

from collections.abc import Iterator
from math import exp
from statistics import fmean

from tests.support.kept import arrays, table
from timemachine.exercises.comparison import Estimate, estimate

KEPT = arrays("how_low")
TEXTS = {  # in arrays.npz -> in the report
    "time_machine/novel/val": "The Time Machine, next 5 %",
    "time_machine/novel/test": "The Time Machine, last 5 %",
    "time_machine/book/val": "The Time Machine, the book's validation text",
    "time_machine/book/test": "The Time Machine, the rest after that",
    "war_of_the_worlds/novel/test": "The War of the Worlds, last 5 %",
    "alices_adventures_in_wonderland/novel/test": "Alice's Adventures in Wonderland, last 5 %",
}
NEXT, LAST, BOOK, REST, WAR, ALICE = TEXTS
GIVEN = (
    "next 5 %", "last 5 %", "first 90 %", "book's 10,032 characters", "own 10,032 characters", "orders 1 to 8",
    "30 times as fast", "last 1,000 of the book's", "best of exercise 4's",
    "Exercise 4 asks", "one row a change",
)  # fmt: skip


def nats(text: str, reader: str, other: str = "") -> Estimate:
    """Return a reader's mean negative log-likelihood, or what it has more than another's, over blocks of text."""
    count_K = KEPT[f"{text}/characters"]
    sum_K = KEPT[f"{text}/{reader}"].mean(0) - (KEPT[f"{text}/{other}"].mean(0) if other else 0)
    mean = float(sum_K.sum() / count_K.sum())
    return estimate(mean + (sum_K - mean * count_K) / count_K.mean())


def perplexity(text: str, reader: str) -> float:
    """Return a reader's perplexity."""
    return exp(nats(text, reader).mean)


def path() -> list[list[dict[str, float]]]:
    """Return the seeds' rows of each recipe on the way to the one for the novel, in their order."""
    novel = [job for job in table("how_low") if job["data.corpus"] == "time_machine" and job["data.num_train"] is None]
    runs = [[job for job in novel if job["job"] in (f, f + 1, f + 2)] for f in range(0, len(novel), 3)]
    assert all([job["seed"] for job in seeds] == [0, 1, 2] for seeds in runs)
    return runs


def numbers() -> Iterator[str]:
    """Yield the passages with numbers."""

    def of(text: str, reader: str) -> str:
        return f"{perplexity(text, reader):.2f}"

    for text, name in TEXTS.items():
        found = " | ".join(of(text, reader) for reader in ("kneser_ney", "mixture", "teacher", "model"))
        yield f"| {name} | {found} | {nats(text, 'model', 'mixture'):+.3f} | {nats(text, 'model', 'teacher'):+.3f} |"
    steps = [f"{fmean(job['reading/val/model'] for job in seeds):.2f}" for seeds in path()]
    yield f"the way led from {steps[0]} to {steps[-1]} on the novel's next 5 %"
    yield f"on the next 5 % the changes lead from {steps[0]} to {', '.join(steps[1:-1])} and {steps[-1]}"

    more, ahead = nats(LAST, "model", "teacher"), nats(LAST, "model", "mixture")
    reached = [f"{of(text, 'model')} on {TEXTS[text]}" for text in (LAST, WAR, ALICE)]
    yield f"reaches {', '.join(reached)}"
    yield (
        f"has {of(LAST, 'teacher')} on The Time Machine, last 5 %: the model stays above it "
        f"({more:+.3f} nats a character)"
    )
    leading = [job for job in table("hyperparameters/leading")
               if (job["model.hiddens"], job["data.num_steps"], job["model.lr"]) == (64, 8, 0.5)]  # fmt: skip
    best = fmean(exp(job["hyperparameters/4000/val"]) for job in leading)
    yield f"{of(BOOK, 'model')} where the best of exercise 4's grid has {best:.2f}"
    yield (
        f"{of(LAST, 'model')} on the novel's last 5 %; its teacher, n-grams mixed with small networks, has "
        f"{of(LAST, 'teacher')}, one order of n-grams {of(LAST, 'kneser_ney')}"
    )

    yield f"{of(LAST, 'teacher')} on the last 5 %, one model {of(LAST, 'model')} ({more:+.3f} nats)"
    as_one = nats(LAST, "models", "teachers")
    yield f"three models as one have {of(LAST, 'models')}, their three teachers as one {of(LAST, 'teachers')}"
    yield f"({as_one:+.3f} nats)"
    ahead_there = nats(REST, "models", "teachers")
    assert ahead_there.mean + ahead_there.half < 0
    yield f"three teachers as one, by {-ahead_there.mean:.3f} ± {ahead_there.half:.3f} nats"
    yield f"below the mixture's {of(LAST, 'mixture')} by, {-ahead.mean:.3f} nats"
    yield f"networks alone have {of(NEXT, 'networks')} and {of(LAST, 'networks')} on the two parts"
    unseen = nats(f"{LAST}/in a word never seen", "teacher", "mixture")
    assert unseen.mean + unseen.half < 0
    yield f"by {-unseen.mean:.3f} nats in words never seen"
    yield f"({nats(WAR, 'model', 'teacher'):+.3f} nats)"
    yield f"({nats(ALICE, 'model', 'teacher'):+.3f} nats)"

    ppmd = [job["reading/test/ppmd"] for job in table("how_low") if job["reading/test/ppmd"]]
    after = nats(LAST, "model_adapting", "mixture_adapting")
    yield f"one model has {of(LAST, 'model_adapting')} on the last 5 % and the mixture {of(LAST, 'mixture_adapting')}"
    yield f"({after:+.3f} nats), PPMd {ppmd[0]:.2f}"
    behind = nats(REST, "model_adapting", "mixture_adapting")
    assert behind.mean - behind.half > 0
    yield f"it has {of(REST, 'model_adapting')} and the mixture {of(REST, 'mixture_adapting')} on the rest"
    yield f"({behind:+.3f} nats)"
