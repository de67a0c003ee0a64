import hashlib
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.texts import path_of
from timemachine import corpus
from timemachine.config import Tokens
from timemachine.corpus import Corpus, find_corpus
from timemachine.errors import SettingError
from timemachine.run.progress import lost_letters_warning
from timemachine.texts import CATALOGUE, Book
from timemachine.texts.normalisation import books_in, normalise


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
BOOK = b"It has.\n" * 60
FOOTER = END + b"\nThe licence.\n"


@pytest.mark.parametrize(
    "text",
    [
        HEADER.replace(b" IT", b" A LONG\nTITLE") + BOOK + FOOTER.replace(b" IT", b" A LONG\nTITLE"),
        HEADER + BOOK + b"\nEnd of the Project Gutenberg EBook of It,\nComplete, by H. G. Wells\n\n" + FOOTER,
    ],
)
def test_gutenberg_header_and_footer(tmp_path: Path, text: bytes) -> None:
    (book,) = books_in(text)
    assert book.strip() == BOOK.strip()
    found = read(tmp_path, text.replace(b"\n", b"\r\n"))
    assert found.characters.split() == ["it", "has"] * 60
    assert (found.left_out, found.left_in) == (len(text) - len(book), 0)


@pytest.mark.parametrize(("inside", "outside"), [(60, 60), (20_000, 4_000)], ids=["more", "less"])
def test_other_novels_around_a_book_are_read(tmp_path: Path, inside: int, outside: int) -> None:
    """More or less than the book: too much for a header and a footer."""
    text = b"It was. " * outside + HEADER + b"It has.\n" * inside + FOOTER
    found = read(tmp_path, text)
    assert found.characters == book_normalise(text.decode())
    (book,) = books_in(text)
    assert (found.left_out, found.left_in) == (0, len(text) - len(book))


def test_a_list_of_texts(tmp_path: Path, sample: Corpus) -> None:
    other = tmp_path / "other.txt"
    other.write_bytes(b"Another text, of 1895.")
    found = find_corpus([str(other), "sample"], [])
    assert found.characters == "another text of " + sample.characters.lstrip()
    assert (found.name, found.source) == ("other+sample", [str(other), "sample"])
    assert found.sha256 == hashlib.sha256(other.read_bytes() + b"\0" + sample.paths[0].read_bytes()).hexdigest()
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


def test_lost_characters_are_counted(tmp_path: Path) -> None:
    """In Latin-1; a byte order mark is not counted."""
    for text, characters, letters in ((b"caf\xe9 12.\n", "caf", 1), (b"\xef\xbb\xbfIt has\r\n12.", "it has", 0)):
        found = read(tmp_path, text)
        assert found.characters.strip() == characters
        assert found.lost_letters == letters


ALL = "Zoë said: “It’s 5 o’clock!”\nÜber\tall, Ἀθῆναι.\n"


def test_encodings_as_characters(tmp_path: Path) -> None:
    """A byte order mark, accents by themselves and CRLF."""
    encoded = b"\xef\xbb\xbf" + unicodedata.normalize("NFD", ALL).replace("\n", "\r\n").encode()
    found = read(tmp_path, encoded, Tokens.characters)
    assert found.characters == ALL and found.left_out == 0
    assert not found.lost_letters and lost_letters_warning(found) == ""


@pytest.mark.parametrize("text", [b"line\r\n" * 9 + b"a caf\xe9", b"\n \t\n"], ids=["Latin-1", "empty"])
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


def test_novels_of_the_catalogue(novels: Path) -> None:
    """Each without Gutenberg's header and footer, also if one file contains several books."""
    texts = [path.read_bytes().replace(b"\r\n", b"\n") for path in sorted(novels.glob("*.txt"))]
    texts = [text for text in texts if b"*** END OF" in text]
    books = books_in(b"".join(texts))
    assert books == [book for text in texts for book in books_in(text)] and len(books) == len(texts)
    assert not any(b"Gutenberg" in book for book in books)
    for name in CATALOGUE:
        found = find_corpus(name, [str(novels)])  # it checks the hash
        assert (found.name, found.title, found.source) == (name, CATALOGUE[name].title, name)


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


# --- The recall corpus ---


@pytest.mark.parametrize(("name", "delay"), [("recall", 16), ("recall_2", 2)])
def test_recall_corpus_repeats_each_letter(name: str, delay: int) -> None:
    found = find_corpus(name, [])
    blocks = re.findall("." * (delay + 1), found.characters)
    assert "".join(blocks) == found.characters and len(found.characters) > 499_000
    assert all(re.fullmatch(r"([a-p])[q-z]* \1", block) for block in blocks)
    letters = [found.characters[place :: delay + 1] for place in range(delay)]
    for kinds, drawn in [(16, letters[0]), *((10, column) for column in letters[1:-1])]:
        counts = [drawn.count(letter) for letter in {*drawn}]
        expected = len(drawn) / kinds
        # A sum of squares with kinds - 1 degrees of freedom: its mean plus six standard deviations.
        assert sum((count - expected) ** 2 / expected for count in counts) < kinds + 6 * (2 * kinds) ** 0.5
        assert len(counts) == kinds
    assert found == find_corpus(found.source, []) and found.sha256 != find_corpus("recall_3", []).sha256


@pytest.mark.parametrize("name", ["recall_1", "recall_x", "recall_99999", ["recall", "sample"]])
def test_what_is_no_recall_corpus(name: str | list[str]) -> None:
    with pytest.raises(SettingError, match=r"^data\.corpus=recall[^\n]*: not found; [^\n]*$"):
        find_corpus(name, [])
