"""A text that is too large for memory: it stays in its files, and its indices are mapped from a file into memory.

At the first start the text is read part by part: hashed, its characters counted, the place of each part noted. That is
written to an index in the user's cache, named by the paths, sizes and times of modification of the files. Later starts
read the index alone: a file that was changed but has its size and its time of before is not noticed. The indices of the
characters, 1, 2 or 4 bytes each, are written into a second file there, once for each vocabulary and `data.start`. All
processes of a machine map that file and share its pages. One process writes, the others wait; files are written whole.
"""

import bisect
import copy
import hashlib
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from timemachine.config import Tokens
from timemachine.errors import SettingError
from timemachine.texts.download import cache
from timemachine.texts.normalisation import END_OF, MARKER, checked, require_text, with_line_feeds

PART = 1 << 22  # bytes that are read at once
FORMAT = 1  # of the index
Ranges: TypeAlias = list[tuple[int, int, bool]]  # of text in a part: begin, stop, and whether a line feed comes before


class Part(NamedTuple):
    """A part of a file: where it lies there, and its text with line feeds."""

    offset: int
    size: int
    text: bytes


class LargeText:
    """The normalised characters of files, in place of a str: it has `len`, slices, which are strings, and iteration.

    `sha256` and `left_out` are those of a `Corpus`. `count_C`: how often each code point occurs. Raises SettingError
    for a file that is not a text, and if the cache cannot be written.
    """

    def __init__(self, paths: tuple[Path, ...], tokens: Tokens) -> None:
        self.paths, self.tokens, self._start = paths, tokens, 0
        files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        name = hashlib.sha256(json.dumps([FORMAT, tokens.name, files]).encode()).hexdigest()[:32]
        path = cache() / "large" / f"{name}.json"
        what = f"{sum(size for _, size, _ in files):,} bytes are read once, to count their characters"
        _write_once(path, lambda: [json.dumps(_scan(paths, tokens)).encode()], what)
        index = json.loads(path.read_bytes())
        self.sha256, self.left_out, self._parts = index["sha256"], index["left_out"], index["parts"]
        self._firsts = [0, *np.cumsum([part[-1] for part in self._parts], dtype=np.int64).tolist()]
        self.count_C = np.zeros(0x110000, np.int64)
        codes, counts = zip(*index["count"], strict=True)
        self.count_C[[*codes]] = counts
        self._cached = (-1, "")  # the part that was read last

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, place: slice) -> str:
        start, stop, _ = place.indices(len(self))
        return "".join(self._between(start, stop))

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._between(0, len(self)))

    def rotated(self, start: int) -> "LargeText":
        """Return the text rotated to start at character `start`."""
        other = copy.copy(self)
        other._start = (self._start + start) % len(self)
        return other

    def encoded(self, index_of_code: NDArray[Any]) -> Any:
        """Return the indices of the characters as a tensor (N,) that is mapped from a file and cannot be written to.

        `index_of_code`: the index of each code point; the last entry is that of all beyond. Raises SettingError if the
        cache cannot be written.
        """
        import torch  # which takes seconds

        settings = hashlib.sha256(f"{self.tokens.name} {self._start} ".encode() + index_of_code.tobytes()).hexdigest()
        path = cache() / "large" / f"{self.sha256[:32]}_{settings[:16]}.{index_of_code.dtype}"
        encoded = (_encode(part, index_of_code) for part in self._between(0, len(self)))
        _write_once(path, lambda: encoded, f"{len(self):,} characters are encoded once")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it cannot be written to
            return torch.from_numpy(np.memmap(path, index_of_code.dtype, "r"))

    def _between(self, start: int, stop: int) -> Iterator[str]:
        """Yield the text from one character to another, part by part."""
        first, last, size = start + self._start, stop + self._start, len(self)
        for begin, end in ((first, min(last, size)), (max(first - size, 0), last - size)):
            number = bisect.bisect_right(self._firsts, begin) - 1
            while begin < end:
                characters, at = self._characters(number), self._firsts[number]
                yield characters[begin - at : end - at]
                number, begin = number + 1, at + len(characters)

    def _characters(self, number: int) -> str:
        if self._cached[0] != number:
            file, offset, size, ranges, skipped, _ = self._parts[number]
            with self.paths[file].open("rb") as opened:
                opened.seek(offset)
                text = with_line_feeds(opened.read(size))
            self._cached = number, checked(self.paths[file], _kept(text, ranges), self.tokens)[skipped:]
        return self._cached[1]


def _write_once(path: Path, content: Any, what: str) -> None:
    """Write a file, whole, unless it is there; say `what` it is. `content` returns its bytes, in parts.

    Raises SettingError if it cannot be written.
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if path.exists():  # another process has written it
                return
            print(f"text          {what}: {path}", file=sys.stderr, flush=True)
            try:
                with beside.open("wb") as file:
                    for part in content():
                        file.write(part)
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
    except OSError as error:
        rule = f"{path} cannot be written ({error.strerror}); set XDG_CACHE_HOME to a folder with room for the text"
        raise SettingError(f"data.corpus: {rule}") from error


def _encode(characters: str, index_of_code: NDArray[Any]) -> bytes:
    """Return the indices of characters, as bytes."""
    if index_of_code.itemsize == 1 and characters.isascii():
        return characters.encode().translate(index_of_code[np.arange(256).clip(max=len(index_of_code) - 1)].tobytes())
    return index_of_code[_codes(characters).clip(max=len(index_of_code) - 1)].tobytes()


def _codes(characters: str) -> NDArray[Any]:
    encoding, dtype = ("ascii", np.uint8) if characters.isascii() else ("utf-32-le", np.uint32)
    return np.frombuffer(characters.encode(encoding, "surrogatepass"), dtype)


def _scan(paths: tuple[Path, ...], tokens: Tokens) -> dict[str, Any]:
    """Return the text's SHA-256, its parts, how often each character occurs, and the bytes that were left out."""
    sha256, rows, count, left_out, after_space = hashlib.sha256(), list[Any](), Counter[int](), 0, False
    for number, path in enumerate(paths):
        sha256.update(b"\0"[:number])
        before = after_space
        num_bytes, num_kept, of_file, count_in_file, has_text = 0, 0, list[Any](), Counter[int](), False
        for part, ranges, restarts in _books(_parts(path, sha256), number > 0):
            if restarts:
                num_kept, of_file, count_in_file, has_text, after_space = 0, [], Counter(), False, before
            kept = _kept(part.text, ranges)
            characters = checked(path, kept, tokens)
            skipped = int(tokens is Tokens.letters and after_space and characters.startswith(" "))
            if characters := characters[skipped:]:
                count_C = np.bincount(_codes(characters))
                codes = np.flatnonzero(count_C)
                count_in_file.update(dict(zip(codes.tolist(), count_C[codes].tolist(), strict=True)))
                after_space, has_text = characters.endswith(" "), has_text or not characters.isspace()
            of_file.append([number, part.offset, part.size, ranges, skipped, len(characters)])
            num_bytes, num_kept = num_bytes + len(part.text), num_kept + len(kept)
        require_text(has_text, path, tokens)
        rows += of_file
        count.update(count_in_file)
        left_out += num_bytes - num_kept + (number > 0)  # a line feed stands between two files
    return {"sha256": sha256.hexdigest(), "left_out": left_out, "parts": rows, "count": sorted(count.items())}


def _parts(path: Path, sha256: Any) -> Iterator[Part]:
    """Yield a file in parts that can be normalised one by one, and hash it."""
    offset, raw = 0, b""
    with path.open("rb") as file, ThreadPoolExecutor(1) as threads:
        while read := file.read(PART):
            hashed = threads.submit(sha256.update, read)
            raw += read
            if size := _safe_end(raw):
                yield Part(offset, size, with_line_feeds(raw[:size]))
                offset, raw = offset + size, raw[size:]
            hashed.result()
    if raw:
        yield Part(offset, len(raw), with_line_feeds(raw))


def _safe_end(raw: bytes) -> int:
    """Return where a part may end: after a line, but for one that may be wrapped onto the next as a marker of Project
    Gutenberg's; in a text without lines before a space; 0 if nowhere. No byte order mark, CR LF, character in UTF-8,
    sequence of combining characters or line "End of … Project Gutenberg" is cut.
    """
    for line_end, unsafe in ((b"\n", ()), (b"\r", (b"\n", b"\xef", b""))):
        end = raw.rfind(line_end) + 1
        while end:
            start = raw.rfind(line_end, 0, end - 1) + 1
            lines = with_line_feeds(raw[start:end]).split(b"\n")
            if raw[end : end + 1] not in unsafe and not lines[-2].startswith(b"***"):
                return end
            if raw.startswith(b"***", start) and start:  # which is no second line of a marker
                return start
            end = start
    is_one_line = not (b"\n" in raw or b"\r" in raw or with_line_feeds(raw[:100]).startswith(b"***"))
    return max(raw.rfind(b" "), 0) if is_one_line and raw.rfind(b" ") > 100 else 0


def _books(parts: Iterable[Part], joins: bool) -> Iterator[tuple[Part, Ranges, bool]]:
    """Yield for each part the ranges that `without_gutenberg` keeps of the whole file, and whether it is the first one
    with text, all before it being a header.

    `joins`: whether a line feed comes before the first book, as before each other one.
    """
    waiting, restarts, is_first = list[tuple[Part, Ranges]](), False, True
    begin, is_new = 0, joins  # of the book, in this part; -1 between books
    end, newlines = (
        (-1, 0),
        0,
    )  # place, if the paragraph has a line "End of …"; line feeds since it had other than space
    for part in parts:
        text, ranges, place = part.text, Ranges(), 0
        waiting.append((part, ranges))
        for start, stop, kind in [*_marks(text), (len(text), len(text), b"part")]:
            if start < place:  # in the second line of a marker
                continue
            if end[0] >= 0:
                is_over, newlines = _is_over(text[place:start], newlines)
                end = (-1, 0) if is_over or (kind == b"line" and newlines > 1) else end
            place = start
            if kind == b"line":
                if begin >= 0 and end[0] < 0:
                    end, newlines = (len(waiting) - 1, start), 0
                continue
            if begin >= 0:
                ranges.append((begin, start, is_new))
                begin, is_new = 0, False
            if kind == b"part":
                continue
            if kind == b"START" and is_first:
                waiting, restarts = [(part, ranges)], True
                ranges.clear()
            else:
                joins |= begin >= 0
                _cut(waiting, end)
            begin, is_new, is_first = stop if kind == b"START" else -1, joins, False
            end, place = (-1, 0), stop
        if end[0] < 0:
            yield from ((*it, restarts and not number) for number, it in enumerate(waiting))
            waiting, restarts = [], False
    _cut(waiting, end)
    yield from ((*it, restarts and not number) for number, it in enumerate(waiting))


def _marks(text: bytes) -> list[tuple[int, int, bytes]]:
    """Return begin, end and kind of the START and END lines of a part, and of lines "End of … Project Gutenberg"."""
    hits = re.finditer(rb"\*\*\* ?(?:START|END) OF", text)
    marks = [(*found.span(), found[1]) for hit in hits if (found := MARKER.match(text, hit.start()))]
    lower, place = text.lower(), -1
    while (place := lower.find(b"project gutenberg", place + 1)) >= 0:
        line = text.rfind(b"\n", 0, place) + 1
        if END_OF.match(text, line):
            marks.append((line, line, b"line"))
        place = text.find(b"\n", place) % (len(text) + 1)  # -1: the text ends
    return sorted(marks)


def _is_over(text: bytes, newlines: int) -> tuple[bool, int]:
    """Return whether a paragraph ends in a text before the next one begins, and with how many line feeds it ends.

    `newlines`: with how many the text before ended.
    """
    rest, body = text.lstrip(), text.strip()
    newlines += text.count(b"\n", 0, len(text) - len(rest))
    if not body:
        return False, newlines
    return newlines > 1 or re.search(rb"\n\s*\n", body) is not None, rest.count(b"\n", len(body))


def _cut(waiting: list[tuple[Part, Ranges]], end: tuple[int, int]) -> None:
    """Let the book that is open end at a place: the number of a part that waits, -1 for none, and the place in it."""
    number, stop = end
    if number >= 0:
        begin, _, is_new = waiting[number][1][-1]
        waiting[number][1][-1] = begin, stop, is_new
        for _, ranges in waiting[number + 1 :]:
            ranges.clear()


def _kept(text: bytes, ranges: Ranges) -> bytes:
    """Return what is no header or footer in a part."""
    return b"".join(b"\n"[:is_new] + text[begin:stop] for begin, stop, is_new in ranges)
