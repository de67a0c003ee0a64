import hashlib
import re
import signal
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.texts import path_of
from timemachine import corpus
from timemachine.config import Tokens
from timemachine.corpus import Corpus, find_corpus, normalise, without_gutenberg
from timemachine.errors import SettingError
from timemachine.evaluation.normalisation import lost_letters, replaced
from timemachine.texts import CATALOGUE, Book


def book_normalise(text: str) -> str:
    return re.sub("[^A-Za-z]+", " ", text).lower()  # section 9.2.1 of the book


def read(folder: Path, text: bytes, tokens: Tokens = Tokens.letters) -> Corpus:
    path = folder / "text.txt"
    path.write_bytes(text)
    return find_corpus(str(path), [], tokens)


# --- Normalisation ---


@settings(max_examples=30)
@given(st.text())
@example("ÀÉ ß ſ K İ ﬁ Ⅷ a\u0301 Ａ")  # letters outside A-Z, some of which lower case would turn into a-z
@example("@[`{")  # the neighbours of A, Z, a and z
@example("")
def test_normalise_is_the_books(text: str) -> None:
    assert normalise(text.encode("utf-8", "surrogatepass")) == book_normalise(text)


# --- Reading ---

HEADER = b"Title: It\nProduced by somebody\n\n*** START OF THIS PROJECT GUTENBERG EBOOK IT ***\n"
FOOTER = b"*** END OF THIS PROJECT GUTENBERG EBOOK IT ***\n\nThe licence.\n"


@pytest.mark.parametrize(
    "text",
    [
        b"It has.\n",
        HEADER + b"It has.\n" + FOOTER,
        HEADER + b"It has.\n",
        HEADER.replace(b" IT", b" A LONG\nTITLE") + b"It has.\n" + FOOTER.replace(b" IT", b" A LONG\nTITLE"),
        b"It has.\n" + FOOTER,
        HEADER + b"It has.\n\n\nEnd of Project Gutenberg's It, by H. G. Wells\n" + FOOTER,
        HEADER + b"It has.\n\nEnd of the Project Gutenberg EBook of It,\nComplete, by H. G. Wells\n\n" + FOOTER,
    ],
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_gutenbergs_header_and_footer_are_cut(tmp_path: Path, text: bytes, line_end: bytes) -> None:
    assert without_gutenberg(text).strip() == b"It has."
    text = text.replace(b"\n", line_end)
    assert read(tmp_path, text).characters.strip() == "it has"


BOOK = b"Title\n*** START OF THE PROJECT GUTENBERG EBOOK %s ***\n%s\n*** END OF IT ***\nLicence of a book\n"


def test_every_book_of_a_file_is_kept_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    both = BOOK % (b"ONE", b"The first.") + BOOK % (b"TWO", b"A second.")
    found = read(tmp_path, both)
    assert found.characters.split() == ["the", "first", "a", "second"]
    assert found.left_out == len(both) - len(b"\nThe first.\n\n\nA second.\n")
    assert read(tmp_path, b"No header.").left_out == 0


@pytest.mark.parametrize("blank", [b"\n", b" \n"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_text_after_end_of_gutenberg_stays(tmp_path: Path, line_end: bytes, blank: bytes) -> None:
    text = b"The first.\n\nEnd of Project Gutenberg's One\n" + blank + b"\nA second.\n"
    assert without_gutenberg(text) == text
    assert without_gutenberg(text + b"End of the Project Gutenberg EBook\n") == text
    assert read(tmp_path, text.replace(b"\n", line_end)).characters.endswith(" one a second ")


SIZE = 20_000_000
START, END_OF = b"*** START OF", b"End of Project Gutenberg\r\n"
HOSTILE = {  # how a text begins, and what is repeated in it
    "START lines": (START, b"*** START OF IT\n"),
    "END lines": (END_OF, b"*** END OF IT ***\n"),
    "wrapped START lines": (START, b"*** START OF" + b" " * 500 + b"\n" + b"* " * 250 + b"\n"),
    "End of Project Gutenberg": (START, b"End of Project Gutenberg\n"),
    "paragraphs": (START, b"End of Project Gutenberg\r\n\r\n"),
    "asterisks": (START, b"*"),
    "asterisks and spaces": (START, b"*** "),
    "spaces": (START, b" "),
    "white space": (END_OF, b"\n \r"),
    "carriage returns": (START, b"\r"),
    "CRLF": (END_OF, b"x\r\n"),
}


@pytest.fixture
def _deadline() -> Iterator[None]:
    """Raise TimeoutError after 20 seconds, in a regular expression as well."""

    def stop(*_: object) -> NoReturn:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("_deadline")
@pytest.mark.parametrize(("first", "unit"), HOSTILE.values(), ids=HOSTILE)
def test_no_text_takes_long(first: bytes, unit: bytes) -> None:
    text = first + unit * (SIZE // len(unit)) + b"\n\nx"
    assert len(without_gutenberg(text)) <= len(text)


def test_a_list_of_texts_is_joined_in_its_order(tmp_path: Path, sample: Corpus) -> None:
    other = tmp_path / "other.txt"
    other.write_bytes(b"Another text, of 1895.")
    found = find_corpus([str(other), "sample"], [])
    assert found.characters == "another text of " + sample.characters.lstrip()
    assert (found.name, found.source) == ("other+sample", [str(other), "sample"])
    assert found.sha256 == hashlib.sha256(other.read_bytes() + b"\0" + sample.paths[0].read_bytes()).hexdigest()
    assert replaced(found)["digits"] == 4 + replaced(sample)["digits"]
    assert find_corpus(["sample"], []) == sample


def test_a_folder_is_its_texts_by_name_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my texts").mkdir()
    for name in ("b.txt", "a.txt", "notes.md", ".hidden.txt"):
        Path("my texts", name).write_text(f"It is {name[0]}.")
    found = find_corpus("my texts/", [])
    assert found.characters == "it is a it is b "
    assert (found.name, found.title, found.source) == ("my texts", "my texts", str(tmp_path / "my texts"))
    monkeypatch.chdir("/")
    assert find_corpus(found.source, []) == found
    assert find_corpus(["sample", str(found.source)], []).paths[1:] == found.paths
    (tmp_path / "my texts/b.txt").write_text("It was b.")
    assert find_corpus(found.source, []).sha256 != found.sha256


def test_what_only_resembles_gutenbergs_lines_stays() -> None:
    text = b"He said *** START OF it.\nThe end of the Project Gutenberg was near.\n** END OF it **\nIt has."
    assert without_gutenberg(text) == text


@pytest.mark.parametrize(
    "encoded",
    [b"It has\r\na caf\xc3\xa9 12.", b"\xef\xbb\xbf" + HEADER + b"It has\na caf\xc3\xa9 12.", b"It has\na caf\xe9 12."],
    ids=["UTF-8", "UTF-8 with a byte order mark", "Latin-1"],
)
def test_encodings_do_not_show_and_what_became_spaces_is_counted(tmp_path: Path, encoded: bytes) -> None:
    text = read(tmp_path, encoded)
    assert text.characters.strip() == "it has a caf"
    assert replaced(text) == {"digits": 2, "accents": 1, "other": 1}


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
def test_as_characters_a_text_is_kept_whole_however_it_is_encoded(tmp_path: Path, encoded: bytes) -> None:
    found = read(tmp_path, encoded, Tokens.characters)
    assert found.characters.strip("\n") + "\n" == ALL
    assert found.left_out in (0, len(HEADER + FOOTER) - 1)  # a line end is left of each; a byte order mark is none's
    assert replaced(found) == {"digits": 0, "accents": 0, "other": 0} and lost_letters(found) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"line\r\n" * 9 + b"a caf\xe9", "[^\n]*iconv -f <its encoding"),
        (ALL.encode("utf-16"), "[^\n]*NUL"),
        (b"\n \t\n", ""),
    ],
    ids=["Latin-1", "UTF-16", "empty"],
)
def test_what_cannot_be_read_as_characters_is_refused_in_one_line(tmp_path: Path, text: bytes, says: str) -> None:
    with pytest.raises(SettingError, match=rf"^data\.corpus=[^\n]*text\.txt: {says}[^\n]*$"):
        read(tmp_path, text, Tokens.characters)


def test_who_loses_letters_is_told_how_to_keep_them() -> None:
    assert lost_letters(find_corpus(str(path_of("german")), [])).endswith("; data.tokens=characters keeps them")
    assert lost_letters(find_corpus(str(path_of("english")), [])) == ""
    with pytest.raises(SettingError, match=r"data\.tokens=characters$"):
        find_corpus(str(path_of("greek")), [])


def test_texts_are_joined_by_a_line_end_as_characters(tmp_path: Path) -> None:
    names = [str(path_of(language)) for language in ("greek", "chinese")]
    found = find_corpus(names, [], Tokens.characters)
    assert found.characters == "\n".join(path_of(language).read_text("utf-8") for language in ("greek", "chinese"))
    assert found.tokens is Tokens.characters


def test_a_path_gives_its_name_its_hash_and_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my text.txt").write_bytes(b"It has")
    text = find_corpus("my text.txt", [])
    assert (text.name, text.source) == ("my text", str(tmp_path / "my text.txt"))
    assert text.sha256 == hashlib.sha256(b"It has").hexdigest()
    monkeypatch.chdir("/")
    assert find_corpus(text.source, []).sha256 == text.sha256


# --- Books; tests/texts/test_download.py has the downloads ---

TEXT = b"The Time Traveller was expounding a recondite matter to us.\n"


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_describes_the_novels(novels: Path, name: str) -> None:
    found = find_corpus(name, [str(novels)])  # which compares the hash
    assert (found.name, found.title, found.source) == (name, CATALOGUE[name].title, name)
    assert "gutenberg" not in found.characters


@pytest.fixture
def _a_book(monkeypatch: pytest.MonkeyPatch) -> None:
    """A book of the catalogue that nobody sends."""
    book = Book("A Book", "An Author", f"sha256:{hashlib.sha256(TEXT).hexdigest()}", ())
    monkeypatch.setitem(CATALOGUE, "a_book", book)


@pytest.mark.usefixtures("_a_book")
def test_the_first_folder_that_has_the_book_is_taken_seen_from_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "REPOSITORY", tmp_path / "clone")
    for folder in ("clone", "second", "third"):
        (tmp_path / folder).mkdir()
    (tmp_path / "second/a_book.txt").write_bytes(TEXT)
    (tmp_path / "third/a_book.txt").write_bytes(b"never read")
    found = find_corpus("a_book", ["../first", "../second", str(tmp_path / "third")])
    assert (found.name, found.title, found.source) == ("a_book", "A Book", "a_book")
    assert found.characters == book_normalise(TEXT.decode())


@pytest.mark.usefixtures("_a_book")
def test_another_edition_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a_book.txt").write_bytes(TEXT.replace(b"us", b"US"))
    with pytest.raises(SettingError, match=r"^data\.corpus=a_book: .* another edition .*; type data\.corpus=") as error:
        find_corpus("a_book", [str(tmp_path)])
    advice = re.search(r"type data\.corpus=(\S+)", str(error.value))
    assert advice and find_corpus(advice[1], []).paths == (tmp_path / "a_book.txt",)


def test_without_a_network_the_default_book_is_the_sample_and_another_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sample: Corpus
) -> None:
    assert find_corpus("time_machine", [str(tmp_path)]) == sample
    warning = capsys.readouterr().err
    assert "SAMPLE" in warning and f"{tmp_path}/time_machine.txt" in warning  # where to put the book
    with pytest.raises(SettingError, match=r"^data\.corpus=war_of_the_worlds: .* /nowhere/war_of_the_worlds\.txt"):
        find_corpus("war_of_the_worlds", ["/nowhere"])
