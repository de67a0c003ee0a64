"""Exercise 7, other_authors: the numbers of its texts, from each job's bits a character of each book."""

from collections.abc import Iterator
from statistics import fmean

from tests.support.kept import table
from timemachine.exercises.comparison import Estimate, compare, estimate, holm

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

    def leads_by_excerpt(pairs: list[tuple[str, str, str]], model: str = "stream") -> Estimate:
        """Return the mean over pairs, with its interval over excerpts."""
        starts = bits(books[0], books[0])
        return estimate(fmean(bits(other, read, model)[start] - bits(one, read, model)[start]
                              for read, one, other in pairs) for start in starts)  # fmt: skip

    every, of_kin = leads_by_excerpt(own), leads_by_excerpt(kin)
    yield f"needs {every:.2f} bits a character more"
    yield f"{every.mean:.2f} bits a character"
    yield f"these {len(books)} books"
    yield f"a perplexity {100 * (2**every.mean - 1):.0f} % higher"
    yield f"{sum(pair in ahead for pair in own)} of {len(own)} comparisons"
    yield f"behind in {sum(pair in behind for pair in own)}"
    yield f"another author's in {sum(pair in ahead for pair in kin)} of {len(kin)}"
    yield f"behind in {sum(pair in behind for pair in kin)}"
    yield f"by {of_kin:.2f} bits on average"
    yield f"{len(AUTHORS)} pairs of books"
    wins = {read: sum(pair in ahead for pair in own if pair[0] == read) for read in books}
    most = len(books) - 1
    assert [read for read in books if wins[read] == most] == [
        "alices_adventures_in_wonderland", "pride_and_prejudice", "adventures_of_huckleberry_finn"
    ]  # fmt: skip
    yield f"all {most} others"
    assert wins["time_machine"] == wins["a_tale_of_two_cities"] == min(wins.values())
    yield f"of {min(wins.values())} of {most}"
    nearest = {read: min((other for other in books if other != read), key=lambda other: leads[read, read, other].mean)
               for read in books}  # fmt: skip
    assert all(nearest[read] == one for two in AUTHORS.values() for read, one in (two, two[::-1]))
    for read, one in (pair for two in AUTHORS.values() for pair in (two, two[::-1])):
        yield f"{leads[read, read, one]:.2f}"
    yield f"{leads['a_tale_of_two_cities', 'a_tale_of_two_cities', 'the_lost_world']:.2f} bits more"
    seconds = {}
    for read in nearest.keys() & sum(AUTHORS.values(), ()):
        rest = [other for other in books if other not in (read, nearest[read])]
        second = min(rest, key=lambda other: leads[read, read, other].mean)
        seconds[read] = compare(bits(second, read), bits(nearest[read], read))
    assert len(seconds) == 4 and not any(holm(seconds).values())
    gaps = [bits(one, read, "witten_bell")[start] - found for one in books for read in books
            for start, found in bits(one, read).items()]  # fmt: skip
    yield f"{-fmean(gaps):.2f} bits fewer"
    yield f"its lead is {leads_by_excerpt(own, 'witten_bell'):.2f} bits"
