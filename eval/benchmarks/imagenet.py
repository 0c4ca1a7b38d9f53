"""ImageNet: validation pictures to be turned into a look-alike class, by FlexIT's list or by WordNet siblings."""

import logging
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from diffedit.io.checks import settings
from diffedit.io.images import ImageFile, Resize
from diffedit.io.spelling import describe_junk, find_spelling, is_junk
from diffedit.types import ClassName, EditRequest
from eval.benchmarks.base import FileBenchmark
from eval.benchmarks.files import read_csv
from eval.benchmarks.imagenet_classes import Classes, check_columns, read_siblings, read_truth
from eval.benchmarks.subset import draw

log = logging.getLogger("imagenet")

KEY = "benchmark.queries"
Layout = Literal["auto", "flat", "folders"]
# FlexIT wrote its table with pandas, whose index column has no name.
COLUMNS = {"": "'' (the first, unnamed: the query's id)"} | {
    name: repr(name) for name in ("path", "source_id", "target_id", "is_test")
}
SPLITS = {"True": "test", "False": "dev"}
ENDINGS = {".jpeg", ".jpg", ".png"}


@dataclass(frozen=True)
class Query:
    """One edit: a picture of `source` (a wnid), by its file name, to be turned into `target`."""

    id: str
    source: str
    name: str
    target: ClassName


@settings(kw_only=True)
class ImageNetBenchmark(FileBenchmark):
    """What the two benchmarks share: queries, and where their pictures lie.

    Attributes:
        images: folder of the validation pictures.
        classes: imagenet_class_index.json, LOC_synset_mapping.txt or synset_words.txt.
        prompt: template of the target text. `{class}` is the target's first name, `{wnid}` and `{number}` are there,
            too. Class-conditional models are told the class itself.
        layout: `folders` is <wnid>/<picture>, `flat` all pictures in one folder; `auto` looks.
        truth: classes of the validation pictures: the devkit's ILSVRC2012_validation_ground_truth.txt (meta.mat beside
            it) or Kaggle's LOC_val_solution.csv.
        resize: how pictures become square; FlexIT's by default.
    """

    images: str
    classes: str
    prompt: str = "{class}"
    layout: Layout = "auto"
    truth: str | None = None
    resize: Resize = Resize("crop", "bilinear")
    entries: list[Query] = field(init=False, repr=False, compare=False)
    sources: dict[str, ClassName] = field(init=False, repr=False, compare=False)
    named: dict[str, list[str]] = field(init=False, repr=False, compare=False)
    in_folders: bool = field(init=False, repr=False, compare=False)

    path_keys = frozenset({"images", "classes", "truth"})

    def __post_init__(self) -> None:
        self.check_square("FlexIT's protocol on ImageNet")
        check_prompt(self.prompt)
        classes = Classes(Path(self.classes).expanduser())
        object.__setattr__(self, "in_folders", has_class_folders(self.images, self.layout, classes))
        queries = {query.id: query for query in self.read_queries(classes)}
        named: dict[str, list[str]] = {}
        for query in queries.values():
            named.setdefault(query.source, []).append(query.name)
        object.__setattr__(self, "named", {wnid: list(dict.fromkeys(names)) for wnid, names in named.items()})
        object.__setattr__(self, "entries", [queries[name] for name in self.choose(queries)])
        object.__setattr__(self, "sources", {query.source: classes.by_wnid[query.source] for query in self.entries})

    @abstractmethod
    def read_queries(self, classes: Classes) -> list[Query]:
        """All of them, with unique ids."""

    def __len__(self) -> int:
        return len(self.entries)

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """No source text, so that a mask is contrasted against the empty one, as in the paper."""
        for query in self.entries:
            other = self.retrieve(query)
            yield EditRequest(
                id=query.id,
                image=ImageFile(self.find_picture(query.source, query.name), resolution, self.resize),
                retrieved=None if other is None else ImageFile(other, resolution, self.resize),
                target=format_prompt(self.prompt, query.target),
                origin=f"{query.source}/{query.name}",
                label=query.target.wnid,
                target_class=query.target,
                source_class=self.sources[query.source],
            )

    def find_picture(self, wnid: str, name: str) -> Path:
        """Where a picture of a class lies."""
        return Path(self.images).expanduser() / (wnid if self.in_folders else "") / name

    def retrieve(self, query: Query) -> Path | None:
        """A picture of the target class, drawn by seed and the query's id; None where no such picture is there."""
        wnid = query.target.wnid
        names = self.pictures.get(wnid, ())
        name = min(names, key=partial(draw, self.seed, "retrieve", query.id), default=None)
        return None if name is None else self.find_picture(wnid, name)

    @cached_property
    def pictures(self) -> dict[str, list[str]]:
        """The pictures of each class that are there, as far as folders, `truth` or the queries tell their classes."""
        root = Path(self.images).expanduser()
        wanted = {query.target.wnid for query in self.entries}
        if self.in_folders:
            return list_folders(root, wanted)
        if self.truth is not None:
            classes = Classes(Path(self.classes).expanduser())
            return group_by_class(list_pictures(root), read_truth(Path(self.truth).expanduser(), classes))
        pairs = ((wnid, name) for wnid in wanted for name in self.named.get(wnid, ()))
        pictures: dict[str, list[str]] = {}
        for wnid, name in pairs:
            if find_spelling(root / name).is_file():
                pictures.setdefault(wnid, []).append(name)
        return pictures


@settings(kw_only=True)
class ImageNet(ImageNetBenchmark):
    """FlexIT's queries: every one of 273 classes is the target of 4 pictures in each split.

    The label of a request is the wnid of its target. All files but the pictures are checked at once; a picture that is
    not there fails its own request. Where `truth` is given, the table's classes are checked against it.

    Attributes:
        queries: FlexIT's queries.csv: an unnamed column of ids, path (<wnid>/<picture>), source_id and target_id
            (numbers of the class index, or wnids), is_test. Its names of classes are not read: they are not unique.
        split: `test` or `dev` queries.
    """

    queries: str
    split: Literal["test", "dev"] = "test"

    path_keys = ImageNetBenchmark.path_keys | {"queries"}

    def read_queries(self, classes: Classes) -> list[Query]:
        """Those of the table."""
        truth = read_truth(Path(self.truth).expanduser(), classes) if self.truth else {}
        return read_table(Path(self.queries).expanduser(), classes, self.split, truth)


@settings(kw_only=True)
class ImageNetPairs(ImageNetBenchmark):
    """Queries like FlexIT's, without its table: every class with a WordNet sibling is the target `per_class` times.

    The siblings take turns as the source, in an order that a hash of the seed and the names gives; so do the pictures
    of each. Only pictures that are there are asked for, and one may be asked to become several classes. A class whose
    siblings have too few pictures is a target less often; a warning counts such classes. A flat folder needs `truth`,
    to know the classes of its pictures; folders may be of other pictures than the validation set's.

    Attributes:
        hierarchy: lines "parent child" of wnids: WordNet's is-a relation (ImageNet's wordnet.is_a.txt, or
            class_hierarchy.txt of BREEDS).
        per_class: requests for each target class.
    """

    hierarchy: str
    size_keys: ClassVar = frozenset({"limit", "per_class"})

    per_class: Annotated[int, Ge(1)] = 4

    path_keys = ImageNetBenchmark.path_keys | {"hierarchy"}

    def read_queries(self, classes: Classes) -> list[Query]:
        """Those of the pictures that are there."""
        siblings = read_siblings(Path(self.hierarchy).expanduser(), classes)
        root = Path(self.images).expanduser()
        if self.in_folders:
            pictures = list_folders(root, classes.by_wnid)
        elif self.truth is not None:
            note_junk(root, root.iterdir())
            pictures = group_by_class(list_pictures(root), read_truth(Path(self.truth).expanduser(), classes))
        else:
            raise ValueError(
                f"benchmark.images = {root}: no folders named by wnid there, so the classes of the pictures have to be "
                "given: benchmark.truth=ILSVRC2012_validation_ground_truth.txt or LOC_val_solution.csv"
            )
        queries = draw_pairs(siblings, pictures, classes, self.per_class, self.seed)
        if not queries:
            raise FileNotFoundError(f"benchmark.images = {root}: no pictures of a class with a sibling there")
        return queries


def read_table(path: Path, classes: Classes, split: str, truth: Mapping[str, str]) -> list[Query]:
    """The queries of a split, in the order of the table; both splits are checked.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: a column is missing, a cell is none of what it may be, an id occurs twice in a split, the split is
            empty.
    """
    queries, first = [], {}
    for line, row in read_csv(KEY, path, partial(check_columns, COLUMNS)):
        where = f"{KEY} = {path}, line {line}"
        query = read_query(where, row, classes)
        if (row["is_test"], query.id) in first:
            raise ValueError(f"{where}: the id {query.id!r} is on line {first[row['is_test'], query.id]} already")
        first[row["is_test"], query.id] = line
        source = truth.get(Path(query.name).stem, query.source)
        if source != query.source:
            raise ValueError(f"{where}: {query.name} is of {query.source} here, of {source} in benchmark.truth")
        if row["is_test"] not in SPLITS:
            raise ValueError(f"{where}: is_test = {row['is_test']!r} is neither True nor False")
        if SPLITS[row["is_test"]] == split:
            queries.append(query)
    if not queries:
        raise ValueError(f"{KEY} = {path}: no queries of benchmark.split = {split} there")
    return queries


def read_query(where: str, row: Mapping[str, str], classes: Classes) -> Query:
    """One line of the table."""
    source, target = (classes.find(row[name]) for name in ("source_id", "target_id"))
    if source is None or target is None:
        name = "target_id" if source else "source_id"
        raise ValueError(f"{where}: {name} = {row[name]!r} is no class of {classes.path}, by wnid or number")
    *parents, name = row["path"].split("/")
    if not row[""] or not name:
        raise ValueError(f"{where}: the query's id or its path is empty")
    # The folder in the path says the class once more: a class index in another order is noticed here.
    if parents and parents[-1] != source.wnid:
        raise ValueError(
            f"{where}: path = {row['path']!r}, but source_id = {row['source_id']} is {source.wnid} in {classes.path}; "
            "is that the class index in the order of the wnids?"
        )
    return Query(row[""], source.wnid, name, target)


def check_prompt(prompt: str) -> None:
    """Refuse a template that does not work, or that does not name the class."""
    one, other = ClassName("a", 0, "n00000000"), ClassName("b", 1, "n00000001")
    try:
        works = format_prompt(prompt, one) != format_prompt(prompt, other)
    except (LookupError, ValueError, AttributeError):
        works = False
    if not works:
        raise ValueError(f"benchmark.prompt = {prompt!r}: a text with {{class}}, {{wnid}} or {{number}} is wanted")


def format_prompt(prompt: str, target: ClassName) -> str:
    """The target text."""
    return prompt.format(**{"class": target.name, "wnid": target.wnid, "number": target.number})


def has_class_folders(images: str, layout: Layout, classes: Classes) -> bool:
    """Whether pictures lie in folders named by wnid."""
    root = Path(images).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"benchmark.images = {root}: no such folder")
    return layout == "folders" or (layout == "auto" and any((root / wnid).is_dir() for wnid in classes.by_wnid))


def list_pictures(folder: Path) -> list[str]:
    """The pictures in a folder, by name; none where there is no folder."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if Path(name).suffix.lower() in ENDINGS and not is_junk(Path(name))]


def list_folders(root: Path, wnids: Iterable[str]) -> dict[str, list[str]]:
    """The pictures in the folder of each class, and in a line what else was passed over there."""
    folders = {wnid: root / wnid for wnid in wnids}
    note_junk(root, [path for folder in folders.values() if folder.is_dir() for path in folder.iterdir()])
    return {wnid: list_pictures(folder) for wnid, folder in folders.items()}


def note_junk(root: Path, paths: Iterable[Path]) -> None:
    """Say in a line what was passed over of the files below the pictures' folder."""
    if junk := [path for path in paths if is_junk(path.relative_to(root))]:
        log.info("%s", describe_junk(f"benchmark.images = {root}", junk))


def group_by_class(names: Sequence[str], truth: Mapping[str, str]) -> dict[str, list[str]]:
    """The pictures of each class; those of which the truth says nothing are passed over."""
    pictures: dict[str, list[str]] = {}
    for name in names:
        if wnid := truth.get(Path(name).stem):
            pictures.setdefault(wnid, []).append(name)
    return pictures


def draw_pairs(
    siblings: Mapping[str, list[str]], pictures: Mapping[str, list[str]], classes: Classes, per_class: int, seed: int
) -> list[Query]:
    """`per_class` queries for each class that has siblings, in the order of the classes."""
    queries, few = [], 0
    for target, sources in siblings.items():
        order = sorted(sources, key=partial(draw, seed, target))
        piles = (sorted(pictures.get(source, []), key=partial(draw, seed, target, source)) for source in order)
        pairs = (
            (source, name) for turn in zip_longest(*piles) for source, name in zip(order, turn, strict=True) if name
        )
        taken = list(islice(pairs, per_class))
        few += len(taken) < per_class
        # The name's ending stays: two pictures of a class may differ in it alone.
        queries += [Query(f"{target}-{source}-{name}", source, name, classes.by_wnid[target]) for source, name in taken]
    if few:
        log.warning("%d classes have too few pictures of siblings for per_class = %d", few, per_class)
    return queries
