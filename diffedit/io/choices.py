"""What there is to choose from: the yaml of a group in conf/, by name."""

from difflib import get_close_matches

from diffedit.io.files import find_shipped


def list_choices(group: str) -> list[str]:
    """The names of a group: `editor`, `benchmark`, `editor/mask`, ..."""
    return sorted(path.stem for path in (find_shipped("conf") / group).glob("[!_]*.yaml"))


def check_choice(group: str, name: str) -> None:
    """Refuse a name that is none of a group's: a ValueError with the nearest."""
    known = list_choices(group)
    if name not in known:
        near = get_close_matches(name, known, 3, 0.4) or known
        raise ValueError(f"{group} = {name!r}: there is none of that name; did you mean {', '.join(near)}?")
