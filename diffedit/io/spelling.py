"""Names of files as a table and a disk may differ in them: composed or decomposed accents; and what is no picture."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

JUNK = {".ds_store", "thumbs.db", "desktop.ini", "__macosx"}  # what systems leave in folders of pictures


def find_spelling(path: Path) -> Path:
    """The file of a name, where the disk has it in another Unicode form: the path itself where it is there, or nothing.

    macOS writes decomposed names (NFD) into archives, tables mostly have composed ones (NFC): é is one letter, or e and
    an accent. A folder of the path may be in another form than the file. A name that is there as it is written wins.
    """
    if str(path).isascii() or path.exists():
        return path
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        folder, found = found, next((found / form for form in forms if (found / form).exists()), None)
        found = found or find_mixed(folder, forms[1])
        if found is None:
            return path
    return found


def find_mixed(folder: Path, name: str) -> Path | None:
    """What a folder holds under a composed name, of whose letters some may be decomposed there."""
    if name.isascii() or not folder.is_dir():
        return None
    return next((path for path in folder.iterdir() if unicodedata.normalize("NFC", path.name) == name), None)


def is_junk(path: Path) -> bool:
    """Whether a file, or a folder that it lies in, is one that systems leave among pictures: `._a.jpg`, `Thumbs.db`."""
    return any(part.startswith("._") or part.lower() in JUNK for part in path.parts)


def describe_junk(where: str, paths: Sequence[Path]) -> str:
    """A line on what was passed over, and how much of it."""
    names = sorted({path.name for path in paths})
    more = ", ..." if len(names) > 3 else ""
    return f"{where}: {len(paths)} passed over, which macOS or Windows left there: {', '.join(names[:3])}{more}"
