"""Exercise 6, war_of_the_worlds: the numbers of its texts, from each job's bits a character of each book."""

from collections.abc import Iterator

from tests.support.kept import table
from timemachine.exercises.comparison import compare, estimate, holm

GIVEN = ("8 excerpts", "90 %", "10,032 characters")
OWN, ASKED = "time_machine", "war_of_the_worlds"


def numbers() -> Iterator[str]:
    """Yield the passages with numbers."""
    jobs = table("war_of_the_worlds")
    sizes = sorted({int(job["books/train_characters"]) for job in jobs})
    books = [column.split("/")[2] for column in jobs[0] if column.endswith("/stream/bits")]

    def bits(size: int, book: str, model: str = "stream") -> dict[float, float]:
        ours = [job for job in jobs if job["books/train_characters"] == size]
        return {job["data.start"]: job[f"books/books/{book}/{model}/bits"] for job in ours}

    differences = {(size, book): compare(bits(size, book), bits(size, ASKED))
                   for size in sizes for book in books if book != ASKED}  # fmt: skip
    differences |= {(size, "n-gram"): compare(bits(size, ASKED, "witten_bell"), bits(size, ASKED)) for size in sizes}
    claimed = holm(differences)
    for size in sizes:
        asked = estimate(bits(size, ASKED).values())
        apart = [differences[size, book].mean for book in books if book not in (OWN, ASKED) and claimed[size, book]]
        more = differences[size, OWN]
        yield f"After {size:,} characters"
        yield f"after {size:,} characters"
        yield f"a perplexity of {2**asked.mean:.2f}"
        yield f"({asked:.2f} bits a character"
        harder, easier = sum(mean > 0 for mean in apart), sum(mean < 0 for mean in apart)
        yield f"of {len(books) - 2} books by others {harder} are harder and {easier} easier"
        yield f"{harder} are harder, {easier} easier and {len(books) - 2 - len(apart)} cannot be told apart"
        yield f"of {len(books) - 2} books by others"
        yield f"({more:+.2f} bits)"
        fewer = differences[size, "n-gram"]
        assert fewer.mean + fewer.half < 0
        yield f"by {-fewer.mean:.2f} ± {fewer.half:.2f} bits after {size:,} characters"
        undecided = {book for book in books if book not in (OWN, ASKED) and not claimed[size, book]}
        assert undecided == {"hound_of_the_baskervilles", "alices_adventures_in_wonderland"}
        assert claimed[size, OWN] and more.mean < 0
    few, many = (f"{2 ** estimate(bits(size, ASKED).values()).mean:.2f}" for size in sizes)
    yield f"a perplexity of {many} instead of {few}"
    assert all(max(bits(sizes[1], book).values()) < min(bits(sizes[0], book).values()) for book in books)
    others = [book for book in books if book not in (OWN, ASKED)]
    asked_of = bits(sizes[0], ASKED)
    lower = {start: sum(bits(sizes[0], book)[start] < asked_of[start] for book in others) for start in asked_of}
    yield f"After the novel's opening {lower[0]} of {len(others)} books by others"
    yield f"after {list(lower.values()).count(0)} of {len(lower)} excerpts none"
