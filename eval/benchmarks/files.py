"""Reading the tables of users: UTF-8 text, JSON and CSV; whatever is wrong is said with the setting and the file."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

LFS = b"version https://git-lfs.github.com/spec"


def read_text(key: str, path: Path) -> str:
    """The text of a file that a setting names, its line ends as newlines.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not UTF-8, or a git-LFS pointer, which is what a bare clone leaves.
    """
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
    try:
        return json.loads(read_text(key, path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{key} = {path}: not JSON ({error})") from error


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
        check_columns(f"{key} = {path}, line 1", reader.fieldnames or [])
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{key} = {path}, line {reader.line_num}: not as many cells as the header has columns")
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{key} = {path}, line {reader.reader.line_num}: not CSV ({error})") from error
