"""Scores of two plain folders of pictures, without any run; and metrics by their names, for notebooks."""

import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor

from diffedit.io.choices import check_choice
from diffedit.io.compose import compose
from diffedit.io.files import hash_file
from diffedit.io.images import Resize, open_image, read_size, resize_to, to_rgb, to_tensor
from diffedit.io.prefetch import prefetch
from diffedit.networks.base import ANYTHING
from diffedit.types import EditRequest, Network, Variant
from eval.scoring.batch import Batch, Role
from eval.scoring.bootstrap import Bootstrap, Estimate
from eval.scoring.features import Encoder, FeatureStore, Item, chunk, make_text_item, to_uint8
from eval.scoring.metric import REQUEST_NEEDS, RUN_NEEDS, Metric, MetricContext
from eval.scoring.per_image import measure, measure_features
from eval.scoring.reference import Reference, ReferenceImage, StoredReferences, find_pictures, summarize_features

log = logging.getLogger("score")

EDITED = Variant(None, "edited")  # what the pictures of a plain folder are, as far as is known
COLUMNS = ["metric", "value", "low", "high", "n", "n_against", "higher_is_better", "network"]
NEEDS = {  # what a metric may need, in the words of this call
    "target": "give texts={file name: text}",
    "label": "put the pictures into sub-folders, one a class",
    "references": "say against=, a folder of pictures to compare with",
    "pictures": "it compares with pictures, and against= has statistics of them: name their folder",
}


def score(
    folder: str | Path,
    against: str | Path | None = None,
    metrics: Sequence[str] | Mapping[str, Metric] = ("lpips", "fid"),
    networks: str = "photographs",
    texts: Mapping[str, str] | None = None,
    resolution: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    batch: int = 64,
    threads: int = 2,
    cache: str | Path | None = None,
) -> pd.DataFrame:
    """Score a plain folder of pictures against another one, by the metrics and networks that runs are scored by.

    Metrics of pairs (lpips, dino_structure) compare pictures of equal names, whatever the ending; those of sets (fid,
    kid, cmmd, sfid) compare with all pictures of the other folder. csfid needs sub-folders, one a class, in both. What
    only a run has (masks, source texts, true edits) is not known here: metrics that need it are refused.

    Args:
        folder: of the pictures to score; with all its sub-folders, the first of which is a picture's class.
        against: of those to compare with: the inputs, or real pictures; metrics of sets take a folder of `diffedit
            reference-stats` too. Not needed by what judges by texts or classes.
        metrics: names, as `diffedit ls metric` lists them; or what `load_metrics` made of them.
        networks: `photographs`, `pie_bench`, or `stilllife` for pictures of that world, which alone it knows.
        texts: what each picture should show, by its file name in the folder, with or without the ending.
        resolution: to which pictures are brought before they are measured, the middle of those that are not square;
            None measures them as they are, and they all need one size.
        resamples: of the bootstrap, over the pictures of `folder`, class by class where there are classes.
        seed: of the bootstrap.
        batch: pictures in a network call.
        threads: that decode.
        cache: folder that keeps features for later calls, and for runs (`runs/.cache`); None keeps none.

    Returns:
        a row a score: metric, value, low and high (95 %), n, n_against (pictures of each side), higher_is_better,
        network and its hash.

    Raises:
        FileNotFoundError: a folder has no pictures, or weights are missing.
        OSError: a picture cannot be read; the message names it.
        ValueError: a name or a text has no counterpart, sizes differ, or a metric is not defined for plain folders.

    Example:
        >>> from pathlib import Path
        >>> import diffedit
        >>> from diffedit.io.images import to_pil
        >>> from eval.stilllife.benchmarks import StillLifeScenes
        >>> for name in ("inputs", "edits"):
        ...     Path(name).mkdir()
        >>> for scene in StillLifeScenes(size=4).requests(64):
        ...     to_pil(scene.image()).save(f"inputs/{scene.id}.png")
        ...     to_pil(scene.true_edit()).save(f"edits/{scene.id}.png")
        >>> table = diffedit.score("edits", against="inputs", metrics=["lpips", "fid"], networks="stilllife")
        >>> table[["metric", "n", "n_against", "higher_is_better"]].values.tolist()
        [['lpips', 4, 4, False], ['fid', 4, 4, False]]
        >>> bool((table.low < table.value).all() and (table.value < table.high).all())
        True
    """
    edits = read_folder(folder, "folder", resolution, threads)
    is_stored = against is not None and has_statistics(against)
    real = None if against is None or is_stored else read_folder(against, "against", resolution, threads)
    made = dict(metrics) if isinstance(metrics, Mapping) else load_metrics(metrics, networks)
    with TemporaryDirectory() as temporary:
        store = FeatureStore(Path(cache or temporary).expanduser() / "features", batch, threads)
        stored = StoredReferences(Path(against).expanduser(), edits.resolution) if is_stored else None
        pair = FolderPair(edits, real, texts, made, store, stored)
        pair.check(made)
        return tabulate(pair, made, Bootstrap.of_labels([picture.label for picture in edits.pictures], resamples, seed))


def load_metrics(names: str | Sequence[str], networks: str = "photographs") -> dict[str, Metric]:
    """Metrics by their names, as `diffedit score "metric=[...]" networks=...` makes them.

    Args:
        names: of conf/metric, as `diffedit ls metric` lists them.
        networks: of conf/networks: `photographs`, `pie_bench`, or `stilllife` for pictures of that world.

    Raises:
        ValueError: there is none of that name.
        FileNotFoundError: weights are missing; the message says where to put them.
    """
    names = [names] if isinstance(names, str) else list(names)
    for group, chosen in (("metric", names), ("networks", [networks])):
        for name in chosen:
            check_choice(group, name)
    config = compose("score", [f"networks={networks}", f"metric=[{','.join(names)}]"])
    try:
        return instantiate(config.metric, _convert_="all")
    except InstantiationException as error:  # what went wrong in the metric or the network itself
        raise error.__cause__ or error from None


# ------------------------------------------------------------------------------------------------------------ pictures


@dataclass(frozen=True)
class Picture:
    """A picture of a plain folder, loaded when called: (3, H, W) in [0, 1].

    Attributes:
        path: of its file.
        label: its class; "" where it lies in no sub-folder.
        resolution: to which it is brought: a square as a run's pictures are, the middle of any other; None: as it is.
    """

    path: Path
    label: str
    resolution: int | None

    def __call__(self) -> Float[Tensor, "3 H W"]:
        with open_image(self.path) as opened:
            picture = to_rgb(opened)
        if self.resolution is None:
            return to_tensor(picture)
        if picture.width == picture.height:
            return resize_to(to_tensor(picture), self.resolution)
        return to_tensor(Resize()(picture, self.resolution))

    @cached_property
    def item(self) -> Item:
        """It as something to take features of, under the name that a run's edits have."""
        hash = hash_file(self.path)
        key = hash if self.resolution is None else f"{hash}-{self.resolution}"
        return Item(key, str(self.path), lambda: to_uint8(self()))


@dataclass(frozen=True)
class Folder:
    """Pictures below a folder.

    Attributes:
        root: the folder.
        key: what it is called in the call, for messages.
        pictures: by file name.
        resolution: their side, in pixels; the width of those that are not square.
        threads: that read files.
    """

    root: Path
    key: str
    pictures: list[Picture]
    resolution: int
    threads: int

    def name(self, picture: Picture) -> str:
        """Of the file inside the folder."""
        return picture.path.relative_to(self.root).as_posix()

    def find_items(self) -> list[Item]:
        """What to take features of."""
        with ThreadPoolExecutor(self.threads, "reader") as pool:
            return list(pool.map(lambda picture: picture.item, self.pictures))

    def by_stem(self) -> dict[str, Picture]:
        """The pictures by their names without endings; a ValueError where two have the same."""
        stems: dict[str, Picture] = {}
        for picture in self.pictures:
            stem = unicodedata.normalize("NFC", cut_ending(self.name(picture)))  # as macOS decomposes names, or not
            other = stems.setdefault(stem, picture)
            if other is not picture:
                raise ValueError(
                    f"{self.key} = {self.root}: {self.name(other)} and {self.name(picture)} have one name, and "
                    "pictures are paired by it: rename one"
                )
        return stems


def read_folder(root: str | Path, key: str, resolution: int | None, threads: int) -> Folder:
    """The pictures of a folder; none is decoded yet.

    Raises:
        FileNotFoundError: there are none.
        OSError: a file is no picture.
        ValueError: they are of several sizes, and no resolution is asked for; or it is a run directory.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{key} = {root}: no such folder")
    if (root / "config.yaml").is_file() and any((root / name).is_dir() for name in ("records", "shards")):
        raise ValueError(
            f"{key} = {root} is a run directory: take the pictures of one ratio, {root / 'images'}/..., or score it as "
            "the run that it is (diffedit score runs=...)"
        )
    pictures = [Picture(path, label, resolution) for label, path in find_pictures(root, key)]
    if resolution is None:
        resolution = check_sizes(root, key, pictures, threads)
    return Folder(root, key, pictures, resolution, threads)


def has_statistics(root: str | Path) -> bool:
    """Whether a folder holds what `diffedit reference-stats` writes, rather than pictures."""
    return any(Path(root).expanduser().glob("*.safetensors"))


def check_sizes(root: Path, key: str, pictures: Sequence[Picture], threads: int) -> int:
    """The width of all pictures; a ValueError that names some of another size."""
    with ThreadPoolExecutor(threads, "reader") as pool:
        sizes = list(pool.map(lambda picture: read_size(picture.path), pictures))
    other = [i for i, size in enumerate(sizes) if size != sizes[0]]
    if other:
        named = [0, *other[:4]]
        lines = [f"{pictures[i].path.relative_to(root)} {sizes[i][0]} x {sizes[i][1]}" for i in named]
        more = f" and {len(other) - 4} more" * (len(other) > 4)
        raise ValueError(f"{key} = {root}: pictures of different sizes: {', '.join(lines)}{more}; say resolution=")
    return sizes[0][0]


def cut_ending(name: str) -> str:
    """A file's name without its last ending."""
    stem, dot, ending = name.rpartition(".")
    return stem if dot and "/" not in ending else name


# --------------------------------------------------------------------------------------------------------------- pairs


@dataclass(frozen=True)
class FolderReferences:
    """Statistics of all pictures of a folder, whatever number a metric would ask of a benchmark.

    Attributes:
        folder: the pictures.
        store: keeps their features.
        made: the statistics so far, by network.
    """

    folder: Folder
    store: FeatureStore
    made: dict[str, Reference] = field(default_factory=dict)

    def undefined_reason(self) -> str | None:
        """None: there is a folder."""
        return None

    def __call__(self, extractor: Encoder, size: int) -> Reference:
        """The statistics by this extractor; all features are kept for kernel distances."""
        if extractor.hash not in self.made:
            folder, items = self.folder, self.folder.find_items()
            self.store.fill(extractor, items)
            features = torch.from_numpy(self.store.read(extractor, [item.key for item in items]))
            images = [ReferenceImage(picture.label, str(picture.path), picture) for picture in folder.pictures]
            parts = zip(chunk(images, 1024), features.split(1024), strict=True)
            source = f"{folder.key} = {folder.root}"
            self.made[extractor.hash] = summarize_features(extractor, parts, source, folder.resolution, len(images))
        return self.made[extractor.hash]


class FolderPair:
    """Two folders as metrics take them: a request a picture, its input from the other folder.

    Args:
        edits: the pictures to score.
        real: the others; None where no metric compares with any, or there are only statistics of them.
        texts: what the pictures should show.
        metrics: that will be asked: if any is given pictures, names have to be equal.
        store: keeps features.
        stored: statistics of the others, in place of pictures.

    Raises:
        ValueError: a name or a text has no counterpart.
    """

    def __init__(
        self,
        edits: Folder,
        real: Folder | None,
        texts: Mapping[str, str] | None,
        metrics: Mapping[str, Metric],
        store: FeatureStore,
        stored: StoredReferences | None = None,
    ) -> None:
        self.root, self.edits, self.real, self.store = edits.root, edits, real, store
        self.pairing = [name for name, metric in metrics.items() if metric.input_kind == "pictures"]
        inputs = self.pair_up() if self.pairing and real is not None else edits.pictures
        targets = find_texts(edits, texts)
        self.requests = [
            EditRequest(edits.name(picture), image, target, label=picture.label)
            for picture, image, target in zip(edits.pictures, inputs, targets, strict=True)
        ]
        self.pictures = dict(zip((request.id for request in self.requests), edits.pictures, strict=True))
        domains = {network.domain for metric in metrics.values() for network in metric.networks}
        # Nobody knows what the pictures are of but who chose the networks.
        self.domain = min(domains - {ANYTHING}, default=None)
        self.references = stored if real is None else FolderReferences(real, store)
        self.context = MetricContext(self.requests, self.references)

    def pair_up(self) -> list[Picture]:
        """The other folder's picture of each name; a ValueError that names some that have none."""
        ours, theirs = self.edits.by_stem(), self.real.by_stem()
        faults = []
        for one, other, folder in ((ours, theirs, self.real), (theirs, ours, self.edits)):
            if lacking := [name for name in one if name not in other]:
                more = f" and {len(lacking) - 5} more" * (len(lacking) > 5)
                faults.append(f"{folder.key} = {folder.root} has no {', '.join(lacking[:5])}{more}")
        if faults:
            raise ValueError(
                f"{', '.join(self.pairing)}: pictures of equal names are compared, and {'; '.join(faults)}: rename or "
                "remove them, or take metrics of sets alone (fid, kid, cmmd)"
            )
        if self.edits.resolution != self.real.resolution:
            raise ValueError(
                f"{', '.join(self.pairing)}: {self.edits.root} has pictures of {self.edits.resolution} pixels and "
                f"{self.real.root} of {self.real.resolution}; say resolution="
            )
        return [theirs[name] for name in ours]

    def check(self, metrics: Mapping[str, Metric]) -> None:
        """Refuse metrics that are not defined for such folders, before any work; the message names all of them."""
        whole, faults = self.make_batch(), []
        for name, metric in metrics.items():
            reason = explain_lack(metric, whole)
            if reason is None and name in self.pairing and self.real is None:
                reason = NEEDS["references"] if self.references is None else NEEDS["pictures"]
            if reason is None and metric.uses_reference:
                reason = self.find_lacking_classes(metric)
            if reason is not None:
                faults.append(f"{name}: {reason}")
        if faults:
            raise ValueError("leave these out, they are not defined for these folders:\n  " + "\n  ".join(faults))

    def find_lacking_classes(self, metric: Metric) -> str | None:
        """Which classes the other side lacks, if the metric is class by class; stored statistics are opened for it."""
        if self.real is not None:
            there, what = {picture.label for picture in self.real.pictures}, f"{self.real.root} has no sub-folder"
        else:
            reference = metric.reference(self.context)
            there, what = set(reference.class_n), f"{self.references.folder} has no statistics of class"
        lacking = sorted({request.label for request in self.requests} - there)
        return f"against = {what} {', '.join(lacking[:5])}" if lacking and "label" in metric.needs else None

    def make_batch(self) -> Batch:
        """All of them, for metrics that read features alone."""
        return Batch(
            self.requests, None, None, None, self.domain, variant=EDITED, kept=self.read, references=self.references
        )

    def count_shared(self) -> int:
        """How many of the pictures to score are among the others, byte for byte."""
        if self.real is None:
            return 0
        return len({item.key for item in self.edits.find_items()} & {item.key for item in self.real.find_items()})

    def batches(self, size: int, unedited: bool = False) -> Iterator[dict[Variant, Batch]]:
        """All of them in order, `size` pairs at a time; nothing is said of inputs that are not edited."""
        threads = self.edits.threads
        with ThreadPoolExecutor(threads, "decoder") as decoders, ThreadPoolExecutor(1, "batches") as ahead:

            def load(requests: list[EditRequest]) -> dict[Variant, Batch]:
                inputs = torch.stack(list(decoders.map(lambda request: request.image(), requests)))
                edits = torch.stack(list(decoders.map(lambda request: self.pictures[request.id](), requests)))
                return {EDITED: Batch(requests, inputs, edits, None, self.domain, variant=EDITED)}

            yield from prefetch(chunk(self.requests, size), load, 1, ahead)

    def read(self, encoder: Encoder, role: Role) -> Float[Tensor, "n d"]:
        """Features of all pictures, or of their texts."""
        if role == "edits":
            items = self.edits.find_items()
        elif role == "targets":
            items = [make_text_item(request.target, f"text of {request.id}") for request in self.requests]
        else:
            raise ValueError(f"a metric asks for the {role} of plain folders, which metrics of features are not given")
        self.store.fill(encoder, items)
        return torch.from_numpy(self.store.read(encoder, [item.key for item in items]))


def find_texts(folder: Folder, texts: Mapping[str, str] | None) -> list[str]:
    """The text of each picture, "" where none are given; a ValueError that names some that lack one."""
    if texts is None:
        return [""] * len(folder.pictures)
    names = [folder.name(picture) for picture in folder.pictures]
    found = [texts.get(name, texts.get(cut_ending(name))) for name in names]
    if lacking := [name for name, text in zip(names, found, strict=True) if not text]:
        more = f" and {len(lacking) - 5} more" * (len(lacking) > 5)
        there = ", ".join(list(texts)[:3]) or "none"
        raise ValueError(f"texts: none for {', '.join(lacking[:5])}{more} of {folder.root}; there are {there}")
    return found


def explain_lack(metric: Metric, batch: Batch) -> str | None:
    """Why a metric is not defined, in the words of this call; None where it is."""
    reason = metric.undefined_reason(batch)
    need = next((need for need, (*_, sentence) in (REQUEST_NEEDS | RUN_NEEDS).items() if sentence == reason), None)
    return reason if need is None else NEEDS.get(need, f"it needs what runs alone have ({need}): diffedit score runs=")


# -------------------------------------------------------------------------------------------------------------- scores


def tabulate(pair: FolderPair, metrics: Mapping[str, Metric], bootstrap: Bootstrap) -> pd.DataFrame:
    """Measure, and a row a score."""
    of_pictures = {name: metrics[name] for name in pair.pairing}
    _, values = measure(pair, of_pictures, pair.store.batch)
    rows = []
    for name, metric in metrics.items():
        for score_name, note in metric.notes(pair.context).items():
            log.warning("%s: %s", score_name, note)
        if metric.uses_reference and (count := pair.count_shared()):
            log.warning("%s: %d of the pictures are among those of against=, byte for byte", name, count)
        if name in of_pictures:
            measured, n_against = values[name][EDITED], len(pair.requests)
        else:
            ((_, measured),) = measure_features(pair, metric, {EDITED: pair.make_batch()})
            n_against = metric.reference(pair.context).n if metric.uses_reference else None
        for score_name, estimate in metric.aggregate(measured, pair.context).items():
            rows.append(make_row(score_name, metric, estimate, bootstrap) | {"n_against": n_against})
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"n_against": "Int64", **dict.fromkeys(("value", "low", "high"), float)})


def make_row(name: str, metric: Metric, estimate: Estimate, bootstrap: Bootstrap) -> dict[str, object]:
    """One score with its interval."""
    shared = {"metric": name, "n": bootstrap.n, "higher_is_better": metric.higher_is_better[name]}
    return shared | bootstrap.interval(estimate)._asdict() | {"network": ", ".join(map(describe, metric.networks))}


def describe(network: Network) -> str:
    """A network by its name and hash."""
    return f"{getattr(network, 'name', type(network).__name__)} {network.hash}"
