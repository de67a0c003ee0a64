"""Exercise 8, sampling: the numbers of its texts, from the models' measurements and the pieces of real text."""

import math
from collections import Counter
from collections.abc import Iterator

from scipy import stats

from tests.support.kept import arrays, table
from timemachine.exercises.comparison import estimate

GIVEN = (
    "P^8",
    "8-grams",
    "after each of 4 prefixes",
    "of 2,000 characters",
    "from P^1.5",
    "repetition P^1.5",
    "from P^2",
)
PREFIXES = ("it has", "time traveller", "the", "i")


def numbers() -> Iterator[str]:
    """Yield the passages with numbers."""
    jobs, kept = table("sampling"), arrays("sampling")

    def percent(name: str, what: str) -> list[float]:
        return [100 * job[f"samples/{name}/{what}"] for job in jobs]

    def loops(what: str) -> list[float]:
        return [job[f"samples/loops/{prefix}/{what}"] for job in jobs for prefix in PREFIXES]

    known = {name: estimate(percent(name, "known_words")) for name in ("P", "P^8")}
    again = {name: estimate(percent(name, "repeated")).mean for name in ("P", "P^8")}
    real, real_again = estimate(kept["known_words"]), kept["repeated"].mean()
    yield f"{known['P']:.0f} % of the words that are drawn from P"
    yield f"{known['P']:.0f} % of the words drawn from P"
    yield f"{known['P'].mean:.0f} % of the words drawn from P occur in the training text"
    yield f"{known['P^8'].mean:.0f} % of those from P^8"
    yield f"{known['P^8']:.0f} % of those from P^8"
    yield f"{real:.0f} % of a real text's"
    yield f"{real.mean:.0f} % of a real text's"
    yield f"{real:.0f} % of the words stand in the training text"
    yield f"{again['P']:.1f}, {again['P^8']:.0f} and {real_again:.1f} % of their 8-grams"
    yield f"P^1.5 ({estimate(percent('P^1.5', 'known_words')):.0f} %)"
    fewer = stats.ttest_ind(kept["known_words"], percent("P^2", "known_words"), equal_var=False)
    low, high = fewer.confidence_interval()
    yield f"a little fewer from P^2, by {(low + high) / 2:.1f} ± {(high - low) / 2:.1f} points"
    repeated = {name: percent(name, "repeated") for name in ("P^1.5", "P^2")}
    p = [stats.ttest_ind(ours, kept["repeated"], equal_var=False).pvalue for ours in repeated.values()]
    assert low > 0 and p[0] > 0.05 > p[1]
    yield f"{estimate(repeated['P^1.5']):.1f} % of the 8-grams"
    yield f"the novel's {estimate(kept['repeated']):.1f} %"
    yield f"P^2, with {estimate(repeated['P^2']):.1f} %, already"

    loop_of_each = [all(job[f"samples/loops/{prefix}/period"] for prefix in PREFIXES) for job in jobs]
    yield f"in {sum(loop_of_each)} of {len(jobs)} models"
    yield f"Each of the {sum(loop_of_each)} models"
    cycles = Counter(len(set(ours)) for ours in kept["cycles"])
    assert cycles.keys() == {1, 2}
    yield f"in {cycles[1]} of them it is the same one after all four, in {cycles[2]} one of two"
    yield f"{min(loops('period')):.0f} to {max(loops('period')):.0f} characters long"
    yield f"from its character {max(loops('start')) + 1:.0f} on"
    yield f"to {max(loops('difference')):.0e}, the rounding"
    yield f"within {max(loops('difference')):.0e}"
    yield f"likelier than any other by {math.floor(1000 * min(loops('margin'))) / 1000} nats"
    yield f"once they are {min(loops('needed')):.0f} to {max(loops('needed')):.0f}, by the model"
    yield f"its last {max(loops('needed')):.0f} characters at most"
    yield f"at most its last {max(loops('needed')):.0f} characters"

    more = estimate(job["samples/P/log_likelihood"] - job["samples/real text/log_likelihood"] for job in jobs)
    yield f"than what it draws from P, by {more:.2f} nats a character"
    apart = estimate(job["samples/sharpening/distances/4"] for job in jobs)
    yield f"a total variation of {apart:.2f}"
