"""Exercise 7, other_authors: the numbers of its texts, from each job's bits a character of each book."""

from collections.abc import Iterator
from statistics import fmean

from tests.support.kept import table
from timemachine.exercises.comparison import compare, estimate, holm

GIVEN = ("8 excerpts", "8 books", "64 runs")
AUTHORS = {
    "wells": ("time_machine", "war_of_the_worlds"),
    "doyle": ("hound_of_the_baskervilles", "the_lost_world"),
}


def numbers() -> Iterator[str]:
    """Yield the passages with numbers."""
    jobs = table("other_authors")
    books = list(dict.fromkeys(job["data.corpus"] for job in jobs))

    def bits(trained_on: str, read: str, model: str = "stream") -> dict[float, float]:
        ours = [job for job in jobs if job["data.corpus"] == trained_on]
        return {job["data.start"]: job[f"books/books/{read}/{model}/bits"] for job in ours}

    own = [(read, read, other) for read in books for other in books if other != read]
    kin = [(read, one, other) for pair in AUTHORS.values() for read, one in (pair, pair[::-1]) for other in books
           if other not in pair]  # fmt: skip
    leads = {pair: compare(bits(pair[2], pair[0]), bits(pair[1], pair[0])) for pair in (*own, *kin)}
    claimed = holm(leads)
    ahead = [pair for pair in leads if claimed[pair] and leads[pair].mean > 0]
    behind = [pair for pair in leads if claimed[pair] and leads[pair].mean < 0]

    def mean_lead(pairs: list[tuple[str, str, str]], model: str = "stream") -> str:
        """Return the mean over pairs by excerpt, with its interval."""
        starts = bits(books[0], books[0])
        found = (fmean(bits(other, read, model)[start] - bits(one, read, model)[start] for read, one, other in pairs)
                 for start in starts)  # fmt: skip
        return f"{estimate(found):.2f}"

    best = sum(all(pair in ahead for pair in own if pair[0] == read) for read in books)
    yield f"{best} of {len(books)} books"
    yield f"needs {mean_lead(own)} bits a character more"
    yield f"in {sum(pair in ahead for pair in kin)} of {len(kin)} comparisons"
    yield f"behind in {sum(pair in behind for pair in kin)}"
    yield f"{len(AUTHORS)} pairs of books"
    for read, one in (pair for two in AUTHORS.values() for pair in (two, two[::-1])):
        ours = [pair for pair in kin if pair[:2] == (read, one)]
        counts = sum(pair in ahead for pair in ours), sum(pair in behind for pair in ours)
        yield f"ahead of {counts[0]} and behind {counts[1]} of {len(ours)} foreign ones"
    gaps = [compare(bits(one, read), bits(one, read, "witten_bell")) for one in books for read in books]
    yield f"the n-gram is lower in {sum(gap.mean > 0 for gap in gaps)} of {len(gaps)} cells"
    yield f"its own lead is {mean_lead(own, 'witten_bell')} bits"
