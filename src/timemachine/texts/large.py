"""Texts that are too large for memory: they stay in their files, and a file with their indices is mapped into memory.

The first start reads the text in parts, hashes it, counts its characters and records the place of each part. This table
is saved in the user's cache under a name made from the paths, sizes and modification times of the files, and later
starts read only the table. The indices of the characters, 1, 2 or 4 bytes each, are written to a second file in the
cache, one for each vocabulary and `data.start`. All processes of a machine map that file; one of them writes it.
"""

import bisect
import copy
import functools
import hashlib
import json
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from timemachine.config import Tokens
from timemachine.errors import SettingError
from timemachine.texts.download import cache_folder
from timemachine.texts.normalisation import MARKER, normalise_file, require_text, with_line_feeds, without_end

if TYPE_CHECKING:  # importing torch takes seconds
    from torch import Generator, Tensor

PART = 1 << 22  # bytes read at a time
FORMAT = 3  # of the files in the cache
ENDS_OF = (b"\nend of project gutenberg", b"\nend of the project gutenberg")  # matches of `END_OF`
# Bytes before which a line may be split: none starts a marker or an "End of", or continues a character.
SAFE = (" " + (ascii_letters + digits).translate({ord(letter): None for letter in "eE"})).encode()


class _Part(NamedTuple):
    file: int
    offset: int
    size: int  # bytes
    context: tuple[bool, bool, bool, bool]  # `inside`, `joins`, `is_last` and `is_new` of `_without_gutenberg`
    skipped: int  # spaces that follow a space of the part before
    length: int  # characters


class LargeText:
    """The normalised characters of files, with `len`, slicing (a slice is a str) and iteration as for a str.

    `sha256`, `left_out`: as in `Corpus`. `count_C`: number of occurrences of each code point. Raises
    SettingError for a file that is not a text, and if the cache cannot be written.
    """

    def __init__(self, paths: tuple[Path, ...], tokens: Tokens) -> None:
        if tokens is Tokens.bpe:
            rule = "data.tokens=bpe needs the whole text in memory, and this text is too large"
            raise SettingError(f"data.corpus={paths[0]}: {rule}; use data.tokens=characters")
        self.paths, self.tokens, self._start = paths, tokens, 0
        self._files = _files(paths)
        name = hashlib.sha256(json.dumps([FORMAT, tokens.name, self._files]).encode()).hexdigest()[:32]
        path = cache_folder() / "large" / f"{name}.json"
        what = f"counting the characters of {sum(size for _, size, _ in self._files):,} bytes"
        _write_once(path, self._unchanged(self._scanned()), what)
        try:
            index = json.loads(path.read_bytes())
        except ValueError as error:
            raise SettingError(f"data.corpus: {path} is damaged; delete it to read the text again") from error
        self.sha256, self.left_out = index["sha256"], index["left_out"]
        self._parts = [_Part(*fields) for fields in index["parts"]]
        self._firsts = [0, *np.cumsum([part.length for part in self._parts], dtype=np.int64).tolist()]
        self.count_C = np.zeros(0x110000, np.int64)
        codes, counts = zip(*index["count"], strict=True)
        self.count_C[[*codes]] = counts
        self._cached = (-1, "")  # number and characters of the part read last

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

    def encoded(self, index_of_code: NDArray[Any]) -> "Tensor":
        """Return the indices of the characters as a read-only tensor (N,) that is mapped from a file.

        `index_of_code`: the index of each code point; the last entry is for all other code points. Raises SettingError
        if the cache cannot be written.
        """
        import torch  # deferred: takes seconds

        settings = f"{FORMAT} {self.tokens.name} {self._start} ".encode() + index_of_code.tobytes()
        name = f"{self.sha256[:32]}_{hashlib.sha256(settings).hexdigest()[:16]}.{index_of_code.dtype}"
        path, size = cache_folder() / "large" / name, len(self) * index_of_code.itemsize
        encoded = (_encode(part, index_of_code) for part in self._between(0, len(self)))
        _write_once(path, self._unchanged(encoded), f"encoding {len(self):,} characters", size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a read-only tensor
            return torch.from_numpy(np.memmap(path, index_of_code.dtype, "r"))

    def _between(self, start: int, stop: int) -> Iterator[str]:
        """Yield the text from `start` to `stop`, in parts."""
        first, last, size = start + self._start, stop + self._start, len(self)
        for begin, end in ((first, min(last, size)), (max(first - size, 0), last - size)):
            number = bisect.bisect_right(self._firsts, begin) - 1
            while begin < end:
                characters, at = self._characters(number), self._firsts[number]
                yield characters[begin - at : end - at]
                number, begin = number + 1, at + len(characters)

    def _characters(self, number: int) -> str:
        if self._cached[0] != number:
            part = self._parts[number]
            path = self.paths[part.file]
            with path.open("rb") as file:
                file.seek(part.offset)
                text = with_line_feeds(file.read(part.size))
            kept, *_ = _without_gutenberg(text, *part.context)
            self._cached = number, normalise_file(path, kept, self.tokens)[part.skipped :]
            if len(self._cached[1]) != part.length:
                raise _changed(path)
        return self._cached[1]

    def _scanned(self) -> Iterator[bytes]:
        """Scan the files when iterated over, so only if the table is not in the cache."""
        yield json.dumps(_scan(self.paths, self.tokens)).encode()

    def _unchanged(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the parts. Raises SettingError at the end if a file has changed meanwhile, which would mix two texts.

        Files in the cache are named after their text, so they must not contain a mixture.
        """
        yield from parts
        for path, before, after in zip(self.paths, self._files, _files(self.paths), strict=True):
            if before != after:
                raise _changed(path)


class Draws:
    """The order of an epoch with too many windows to permute: as many are drawn with replacement.

    `draws[start:stop]` draws the windows (B,) of one batch of all processes; ask for each batch once, in order. The
    generator gives the epoch's seed, so all processes draw the same windows, and so does a resumed run.
    """

    def __init__(self, num_windows: int, generator: "Generator", rank: int) -> None:
        import torch

        self._num_windows = num_windows
        self._generator = torch.Generator().manual_seed(int(torch.randint(1 << 62, (), generator=generator)))
        if rank == 0:
            _announce(num_windows)

    def __getitem__(self, batch: slice) -> "Tensor":
        import torch

        drawn_B = torch.randint(self._num_windows, (batch.stop - batch.start,), generator=self._generator)
        return drawn_B[: self._num_windows - batch.start]


@functools.cache  # once, not every epoch
def _announce(num_windows: int) -> None:
    print(f"windows       {num_windows:,}, too many to permute: each epoch draws as many with replacement")


def _files(paths: tuple[Path, ...]) -> list[tuple[str, int, int]]:
    """Return path, size in bytes and modification time in ns of each file."""
    return [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


def _changed(path: Path) -> SettingError:
    return SettingError(f"data.corpus={path}: changed while it was read; start again when the file is complete")


def _write_once(path: Path, content: Iterator[bytes], what: str, size: int | None = None) -> None:
    """Print `what` and write a file atomically, unless it exists with `size` bytes. Raises SettingError on failure."""
    beside = path.with_name(f"{path.name}.part")

    def is_there() -> bool:
        return path.exists() and size in (None, path.stat().st_size)  # a copied file may be truncated

    try:
        if is_there():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if is_there():  # another process has written it
                return
            print(f"text          {what} (once; saved in {path})", file=sys.stderr, flush=True)
            try:
                with beside.open("wb") as file:
                    for part in content:
                        file.write(part)
                    file.flush()
                    os.fsync(file.fileno())  # otherwise a crash may leave the name without the content
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
    except (OSError, NotImplementedError) as error:  # NotImplementedError: no file locks
        reason = getattr(error, "strerror", None) or error
        rule = f"{path} cannot be written ({reason}); set XDG_CACHE_HOME to a folder with enough space"
        raise SettingError(f"data.corpus: {rule}") from error


def _encode(characters: str, index_of_code: NDArray[Any]) -> bytes:
    """Return the indices of characters, as bytes."""
    if index_of_code.itemsize == 1 and characters.isascii():
        return characters.encode().translate(index_of_code[np.arange(256).clip(max=len(index_of_code) - 1)].tobytes())
    code_N = _codes(characters).astype(np.int64)  # numpy 2.0 cannot clip uint8 at more than 255
    encoded: bytes = index_of_code[code_N.clip(max=len(index_of_code) - 1)].tobytes()
    return encoded


def _codes(characters: str) -> NDArray[Any]:
    encoding, dtype = ("ascii", np.uint8) if characters.isascii() else ("utf-32-le", np.uint32)
    return np.frombuffer(characters.encode(encoding, "surrogatepass"), dtype)


def _scan(paths: tuple[Path, ...], tokens: Tokens) -> dict[str, Any]:
    """Return the text's SHA-256, its parts, the counts of its characters, and the number of removed bytes."""
    sha256 = hashlib.sha256()
    parts, count, left_out = list[_Part](), Counter[int](), 0
    after_space = False
    for number, path in enumerate(paths):
        if number:  # between files, so that other files with the same bytes are another text
            sha256.update(b"\0")
        in_file, count_in_file, num_kept = list[_Part](), Counter[int](), 0
        num_bytes, before = 0, after_space
        inside, joins, is_first = True, False, True
        for offset, size, text, is_last in _parts(path, sha256):
            marker = next(iter(_markers(text)), None) if is_first else None
            if marker and marker[1] == b"START":  # as the first marker: everything before it is a header
                in_file, count_in_file, num_kept = [], Counter(), 0
                after_space, inside, joins = before, False, False
            is_first = is_first and marker is None
            context = inside, joins, is_last, bool(number and not in_file)
            kept, inside, joins = _without_gutenberg(text, *context)
            characters = normalise_file(path, kept, tokens)
            skipped = int(tokens is Tokens.letters and after_space and characters.startswith(" "))
            if characters := characters[skipped:]:
                count_C = np.bincount(_codes(characters))
                codes = np.flatnonzero(count_C)
                count_in_file.update(dict(zip(codes.tolist(), count_C[codes].tolist(), strict=True)))
                after_space = characters.endswith(" ")
            in_file.append(_Part(number, offset, size, context, skipped, len(characters)))
            num_bytes += len(text)
            num_kept += len(kept) - int(context[-1])  # without the line feed before the file
        require_text(not "".join(map(chr, count_in_file)).isspace() and bool(count_in_file), path, tokens)
        parts += in_file
        count.update(count_in_file)
        left_out += num_bytes - num_kept
    return {"sha256": sha256.hexdigest(), "left_out": left_out, "parts": parts, "count": sorted(count.items())}


def _parts(path: Path, sha256: Any) -> Iterator[tuple[int, int, bytes, bool]]:
    """Hash a file and yield its parts: offset, size, text with line feeds, and whether the part is the last."""
    offset, raw, num_bytes = 0, b"", path.stat().st_size
    with path.open("rb") as file, ThreadPoolExecutor(1) as threads:  # hashing releases the GIL
        while read := file.read(PART):
            hashed = threads.submit(sha256.update, read)
            raw += read
            is_last = offset + len(raw) == num_bytes
            size = len(raw) if is_last else _safe_end(raw)
            text = with_line_feeds(raw[:size])
            mark = max(map((b"\n" + text.lower()).rfind, ENDS_OF))
            # The paragraph of an "End of … Project Gutenberg" may be the last of a book, so it is not split.
            if is_last or (size and (mark < 0 or re.search(rb"\n\s*\n", text[mark:].strip()))):
                yield offset, size, text, is_last
                offset, raw = offset + size, raw[size:]
            hashed.result()
    if raw or offset != num_bytes:
        raise _changed(path)


def _without_gutenberg(text: bytes, inside: bool, joins: bool, is_last: bool, is_new: bool) -> tuple[bytes, bool, bool]:
    """Return the bytes that `without_gutenberg` keeps of a part, and `inside` and `joins` for the next one.

    `inside`: a book continues from the part before. `joins`: the file has an earlier book, so a line feed separates the
    next. `is_new`: a line feed precedes the file. `is_last`: the part ends the file, and with it a book.
    """
    markers = _markers(text)
    are_books = [inside, *(it[1] == b"START" for it in markers)]
    begins = [0, *(it.end() for it in markers)]
    ends = [*(it.start() for it in markers), len(text)]
    kept = [b"\n"] if is_new else []
    for number, piece in enumerate(text[begin:end] for begin, end in zip(begins, ends, strict=True)):
        if are_books[number]:
            if joins and number:
                kept.append(b"\n")
            kept.append(without_end(piece) if is_last or number < len(are_books) - 1 else piece)
            joins = True
    return b"".join(kept), are_books[-1], joins


def _safe_end(raw: bytes) -> int:
    """Return where a part may end, or 0 if nowhere.

    That is after a line, unless it may be a Project Gutenberg marker that continues on the next line. In a text without
    line ends, it is before a byte of `SAFE`, and after the 100 bytes that show whether the text starts with a marker.
    No byte order mark, CR LF, UTF-8 character, combining sequence or line "End of … Project Gutenberg" is split.
    """
    for line_end, unsafe in ((b"\n", ()), (b"\r", (b"\n", b"\xef", b""))):
        end = raw.rfind(line_end) + 1
        while end:
            start = raw.rfind(line_end, 0, end - 1) + 1
            lines = with_line_feeds(raw[start:end]).split(b"\n")
            if raw[end : end + 1] not in unsafe and not lines[-2].startswith(b"***"):
                return end
            if raw.startswith(b"***", start) and start:  # not the second line of a marker
                return start
            end = start
    is_one_line = not (b"\n" in raw or b"\r" in raw or with_line_feeds(raw[:100]).startswith(b"***"))
    end = len(raw) - 1
    while end > 100 and raw[end] not in SAFE:
        end -= 1
    return end if is_one_line and end > 100 else 0


def _markers(text: bytes) -> list[re.Match[bytes]]:
    """Return the matches of `MARKER`, twenty times as fast as a search with `MARKER`, which tries each character."""
    hits = re.finditer(rb"\*\*\* ?(?:START|END) OF", text)
    return [found for hit in hits if (found := MARKER.match(text, hit.start()))]
