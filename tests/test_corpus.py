import hashlib
import re
import unicodedata
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.texts import path_of
from timemachine import corpus
from timemachine.config import Tokens
from timemachine.corpus import Corpus, find_corpus
from timemachine.errors import SettingError
from timemachine.evaluation.lost_characters import count_replaced, lost_letters_warning
from timemachine.texts import CATALOGUE, Book, normalisation
from timemachine.texts.normalisation import normalise, without_gutenberg


def book_normalise(text: str) -> str:
    return re.sub("[^A-Za-z]+", " ", text).lower()  # section 9.2.1 of the book


def read(folder: Path, text: bytes, tokens: Tokens = Tokens.letters) -> Corpus:
    path = folder / "text.txt"
    path.write_bytes(text)
    return find_corpus(str(path), [], tokens)


# --- Normalisation ---


@settings(max_examples=30)
@given(st.text())
@example("ÀÉ ß ſ K İ ﬁ Ⅷ a\u0301 Ａ")  # letters outside A-Z; some become a-z in lower case
@example("@[`{")  # the neighbours of A, Z, a and z
@example("")
def test_normalise_like_the_book(text: str) -> None:
    assert normalise(text.encode("utf-8", "surrogatepass")) == book_normalise(text)


# --- Reading ---

START, END = (b"*** %s OF THIS PROJECT GUTENBERG EBOOK IT ***\n" % kind for kind in (b"START", b"END"))
HEADER = b"Title: It\nProduced by somebody\n\n" + START
FOOTER = END + b"\nThe licence.\n"


def stripped(text: bytes) -> bytes:
    return b"".join(without_gutenberg(text))


@pytest.mark.parametrize(
    "text",
    [
        b"It has.\n",
        HEADER + b"It has.\n" + FOOTER,
        HEADER.replace(b" IT", b" A LONG\nTITLE") + b"It has.\n" + FOOTER.replace(b" IT", b" A LONG\nTITLE"),
        HEADER + b"It has.\n\n\nEnd of Project Gutenberg's It, by H. G. Wells\n" + FOOTER,
        HEADER + b"It has.\n\nEnd of the Project Gutenberg EBook of It,\nComplete, by H. G. Wells\n\n" + FOOTER,
    ],
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_gutenberg_header_and_footer(tmp_path: Path, text: bytes, line_end: bytes) -> None:
    assert stripped(text).strip() == b"It has."
    text = text.replace(b"\n", line_end)
    assert read(tmp_path, text).characters.strip() == "it has"


BOOK = b"Title\n*** START OF THE PROJECT GUTENBERG EBOOK %s ***\n%s\n*** END OF IT ***\nLicence of a book\n"


def test_two_books_in_a_file(tmp_path: Path) -> None:
    both = BOOK % (b"ONE", b"The first.") + BOOK % (b"TWO", b"A second.")
    found = read(tmp_path, both)
    assert found.characters.split() == ["the", "first", "a", "second"]
    assert found.left_out == len(both) - len(b"\nThe first.\n\n\nA second.\n")
    assert read(tmp_path, b"No header.").left_out == 0


NOVEL = b"Chapter 1.\n\n" + b"It was a dark and stormy night. " * 2000 + b"The end."
BOOK_HEADER = b"The Project Gutenberg EBook of It\n\nTitle: It\n\n" + START
LICENCE = (
    END + b"Project Gutenberg-tm works are free.\n" * 500 + b"To hear about it,\nsubscribe to our email newsletter"
)
LICENCE += b" to\nhear about new eBooks."  # without a line end, as in one of the novels


@pytest.mark.parametrize("between", [b"", b"\n\n"])
def test_novels_around_a_book(between: bytes) -> None:
    """Novels without markers are kept; the header and the licence between them are removed."""
    book = BOOK_HEADER + b"It has.\n" + LICENCE
    text = between.join([NOVEL, book, book, NOVEL])
    assert stripped(text).split() == (NOVEL + b" It has. It has. " + NOVEL).split()


def test_orders_of_novels(novels: Path) -> None:
    texts = [path.read_bytes().replace(b"\r\n", b"\n") for path in sorted(novels.glob("*.txt"))]
    for first, second, third in permutations(texts, 3):
        joined = stripped(first + second + third)
        assert b"Gutenberg" not in joined
        places = [joined.index(stripped(text).strip()) for text in (first, second, third)]
        assert places == sorted(places)


@pytest.mark.parametrize(
    "text",
    [
        HEADER + b"It has.",
        b"It has.\n" + FOOTER,
        END + b"It has.\n" + START,
        b"It has.\n\nEnd of the Project Gutenberg EBook\n",
        b"He said *** START OF it.\nThe end of the Project Gutenberg was near.\n** END OF it **\nIt has.",
    ],
)
def test_text_without_both_markers(text: bytes) -> None:
    assert stripped(text) == text


def test_end_of_in_the_middle() -> None:
    """Only in a book's last paragraph the line is a footer."""
    for blank in (b"\n", b" \n"):
        text = b"The first.\n\nEnd of Project Gutenberg's One\n" + blank + b"\nA second.\n"
        assert stripped(START + text + b"End of the Project Gutenberg EBook\n" + END) == b"\n" + text


@pytest.mark.parametrize("tokens", Tokens)
def test_pieces_of_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: Tokens) -> None:
    """A text read in pieces is the same as a text read at once."""
    text = HEADER + "It —  has\u0301 a\n\n\u0301Zoe\u0308, of course.\n".encode() * 9 + FOOTER
    whole = read(tmp_path, text, tokens)
    for size in range(1, 40):
        monkeypatch.setattr(normalisation, "PIECE", size)
        assert read(tmp_path, text, tokens) == whole


def test_a_list_of_texts(tmp_path: Path, sample: Corpus) -> None:
    other = tmp_path / "other.txt"
    other.write_bytes(b"Another text, of 1895.")
    found = find_corpus([str(other), "sample"], [])
    assert found.characters == "another text of " + sample.characters.lstrip()
    assert (found.name, found.source) == ("other+sample", [str(other), "sample"])
    assert found.sha256 == hashlib.sha256(other.read_bytes() + b"\0" + sample.paths[0].read_bytes()).hexdigest()
    assert count_replaced(found)["digits"] == 4 + count_replaced(sample)["digits"]
    assert find_corpus(["sample"], []) == sample


def test_a_path_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are found by their source from any folder. A folder is read as its texts, by name."""
    Path("my texts").mkdir()
    for name in ("b.txt", "a.txt", "notes.md", ".hidden.txt"):
        Path("my texts", name).write_text(f"It is {name[0]}.")
    folder, text = find_corpus("my texts/", []), find_corpus("my texts/b.txt", [])
    assert (folder.characters, text.characters) == ("it is a it is b ", "it is b ")
    assert (folder.name, folder.title, folder.source) == ("my texts", "my texts", str(tmp_path / "my texts"))
    assert (text.name, text.source) == ("b", str(tmp_path / "my texts/b.txt"))
    assert text.sha256 == hashlib.sha256(b"It is b.").hexdigest()
    monkeypatch.chdir("/")
    assert find_corpus(folder.source, []) == folder and find_corpus(text.source, []).sha256 == text.sha256
    assert find_corpus(["sample", str(folder.source)], []).paths[1:] == folder.paths
    (tmp_path / "my texts/b.txt").write_text("It was b.")
    assert find_corpus(folder.source, []).sha256 != folder.sha256


@pytest.mark.parametrize(
    "encoded",
    [
        b"It has\r\na caf\xc3\xa9 12.",
        b"\xef\xbb\xbf" + HEADER + b"It has\na caf\xc3\xa9 12.\n" + FOOTER,
        b"It has\na caf\xe9 12.",
    ],
    ids=["UTF-8", "UTF-8 with a byte order mark", "Latin-1"],
)
def test_encodings(tmp_path: Path, encoded: bytes) -> None:
    text = read(tmp_path, encoded)
    assert text.characters.strip() == "it has a caf"
    assert count_replaced(text) == {"digits": 2, "letters": 1, "other": 1}


ALL = "Zoë said: “It’s 5 o’clock!”\nÜber\tall, Ἀθῆναι.\n"
ENCODED = {
    "as it is": ALL.encode(),
    "CRLF": ALL.replace("\n", "\r\n").encode(),
    "CR": ALL.replace("\n", "\r").encode(),
    "accents by themselves": unicodedata.normalize("NFD", ALL).encode(),
    "byte order mark": b"\xef\xbb\xbf" + ALL.encode(),
    "Project Gutenberg": HEADER + ALL.encode() + FOOTER,
}


@pytest.mark.parametrize("encoded", ENCODED.values(), ids=ENCODED)
def test_encodings_as_characters(tmp_path: Path, encoded: bytes) -> None:
    found = read(tmp_path, encoded, Tokens.characters)
    assert found.characters.strip("\n") + "\n" == ALL
    assert found.left_out in (0, len(HEADER + FOOTER) - 1)  # one line end remains; byte order marks do not count
    assert count_replaced(found) == {"digits": 0, "letters": 0, "other": 0} and lost_letters_warning(found) == ""


@pytest.mark.parametrize(
    "text", [b"line\r\n" * 9 + b"a caf\xe9", ALL.encode("utf-16"), b"\n \t\n"], ids=["Latin-1", "UTF-16", "empty"]
)
def test_unreadable_as_characters(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(SettingError, match=r"^data\.corpus=[^\n]*text\.txt: [^\n]*$"):
        read(tmp_path, text, Tokens.characters)


def test_texts_that_lose_letters() -> None:
    assert "data.tokens=characters" in lost_letters_warning(find_corpus(str(path_of("german")), []))
    assert lost_letters_warning(find_corpus(str(path_of("english")), [])) == ""
    with pytest.raises(SettingError, match=r"data\.tokens=characters"):
        find_corpus(str(path_of("greek")), [])


# --- Books; tests/texts/test_download.py has the downloads ---

TEXT = b"The Time Traveller was expounding a recondite matter to us.\n"


@pytest.mark.parametrize("name", CATALOGUE)
def test_novels_of_the_catalogue(novels: Path, name: str) -> None:
    found = find_corpus(name, [str(novels)])  # it checks the hash
    assert (found.name, found.title, found.source) == (name, CATALOGUE[name].title, name)
    assert "gutenberg" not in found.characters


def test_search_dirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first folder with the book is used, relative to the repository. Other editions are rejected."""
    book = Book("A Book", "An Author", f"sha256:{hashlib.sha256(TEXT).hexdigest()}", ())
    monkeypatch.setitem(CATALOGUE, "a_book", book)
    monkeypatch.setattr(corpus, "REPOSITORY", tmp_path / "clone")
    for folder in ("clone", "second", "third"):
        (tmp_path / folder).mkdir()
    (tmp_path / "second/a_book.txt").write_bytes(TEXT)
    (tmp_path / "third/a_book.txt").write_bytes(TEXT.replace(b"us", b"US"))
    found = find_corpus("a_book", ["../first", "../second", str(tmp_path / "third")])
    assert (found.name, found.title, found.source) == ("a_book", "A Book", "a_book")
    assert found.characters == book_normalise(TEXT.decode())
    with pytest.raises(SettingError, match=r"^data\.corpus=a_book: [^\n]*$"):
        find_corpus("a_book", [str(tmp_path / "third")])


def test_without_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str], sample: Corpus) -> None:
    assert find_corpus("time_machine", [str(tmp_path)]) == sample
    warning = capsys.readouterr().err
    assert f"{tmp_path}/time_machine.txt" in warning  # where to save the book
    with pytest.raises(SettingError, match=r"^data\.corpus=war_of_the_worlds: [^\n]*$"):
        find_corpus("war_of_the_worlds", ["/nowhere"])
