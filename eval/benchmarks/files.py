"""Reading the tables of users: UTF-8 text, JSON and CSV; whatever is wrong is said with the setting and the file."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diffedit.io.spelling import find_spelling

ESCAPES = re.compile(r"(?<!\\)(?:\\\\)*((?:\\u[0-9a-fA-F]{4})+)")  # one behind the other: two halves make a whole
LFS = b"version https://git-lfs.github.com/spec"


def read_text(key: str, path: Path) -> str:
    """The text of a file that a setting names, its line ends as newlines.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not UTF-8, or a git-LFS pointer, which is what a bare clone leaves.
    """
    path = find_spelling(path)
    if not path.is_file():
        raise FileNotFoundError(f"{key} = {path}: no such file")
    data = path.read_bytes()
    if data.startswith(LFS):
        raise ValueError(
            f"{key} = {path}: a git-LFS pointer of {len(data)} bytes, not the file itself: run `git lfs pull` in its "
            "repository, or download the file"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{key} = {path}: not UTF-8 ({error}); save it as UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(key: str, path: str | Path) -> Any:
    """A JSON file.

    Args:
        key: the setting that names the file.
        path: of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a git-LFS pointer, or not JSON; the message says what to do.
    """
    path = Path(path).expanduser()
    return parse_json(f"{key} = {path}", read_text(key, path))


def parse_json(where: str, text: str, **numbers: Callable[[str], Any]) -> Any:
    """What a text of JSON holds; a ValueError that says where it stands and what is wrong.

    Refused is also what Python's reader lets pass or ends at with another error: values too deep in each other, whole
    numbers of thousands of digits, and halves of a character (lone surrogates), which no file can be written with.

    Args:
        where: file, and line where there are some, for messages.
        text: the JSON.
        numbers: `parse_int` and so on of `json.loads`.
    """
    try:
        content = json.loads(text, **numbers)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not JSON ({error})") from error
    except RecursionError:
        raise ValueError(f"{where}: values too deep in each other") from None
    except ValueError as error:  # Python's limit of digits
        raise ValueError(f"{where}: a number of too many digits ({error})") from None
    if half := find_half(text):
        raise ValueError(f"{where}: {half} is half of a character (a lone surrogate): write the text as UTF-8")
    return content


def find_half(text: str) -> str:
    """The first escape of a JSON text that is half of a character, or ""."""
    for match in ESCAPES.finditer(text):
        try:
            json.loads(f'"{match[1]}"').encode()
        except UnicodeEncodeError as error:
            return f"\\u{ord(error.object[error.start]):04x}"
    return ""


def read_csv(
    key: str, path: Path, check_columns: Callable[[str, Sequence[str]], None]
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a CSV with a header.

    Args:
        key: the setting that names the file.
        path: of the file.
        check_columns: called with where they stand, for messages, and with the columns; raises if they are wrong.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row is too short or too long, or the text is not CSV.
    """
    reader = csv.DictReader(io.StringIO(read_text(key, path), newline=""), strict=True)
    try:
        columns = reader.fieldnames or []
        if twice := sorted({name for name in columns if columns.count(name) > 1}):
            raise ValueError(f"{key} = {path}, line 1: more than one {', '.join(map(repr, twice))}: keep one of each")
        if len(columns) == 1 and ("\t" in columns[0] or ";" in columns[0]):
            mark = "tabs" if "\t" in columns[0] else "semicolons"
            raise ValueError(f"{key} = {path}, line 1: cells stand between {mark}: save it with commas between them")
        check_columns(f"{key} = {path}, line 1", columns)
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{key} = {path}, line {reader.line_num}: not as many cells as the header has columns")
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{key} = {path}, line {reader.reader.line_num}: not CSV ({error})") from error
