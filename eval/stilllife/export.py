"""Still Life as files: in the layouts of ImageNet with FlexIT's queries, and of COCO with BISON's entries.

The loaders of the real data read from them what `StillLifeClasses` and `StillLifeScenes` ask for at 64 pixels: the same
ids, which seed the noise, texts, pictures and masks. So a run on the files and a run without them are equal to the bit.

An export is an iterable of (path, content), of known length. The tables come last: half an export is no benchmark.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pycocotools import mask as rle
from tqdm.auto import tqdm

from diffedit.io.files import sweep, write
from diffedit.io.images import encode_png
from diffedit.types import EditRequest
from eval.benchmarks.subset import draw
from eval.stilllife.benchmarks import GroundTruth, StillLifeClasses, StillLifeScenes
from eval.stilllife.render import RESOLUTION, render
from eval.stilllife.scene import FRUITS, Scene

File = tuple[str, bytes]

# WordNet's ids of nouns begin with n0 and n1.
WNIDS = {kind: f"n9{i:07d}" for i, kind in enumerate(FRUITS)}
SPLITS = {"dev": "validation", "test": "test"}  # FlexIT's, and those of the seeds
MARK = "export_stilllife.json"  # what a folder is to hold


def write_export(
    folder: Path, per_class: int = 16, train: int = 2400, scenes: int = 256, flat: bool = False
) -> dict[Path, int]:
    """Write both layouts, to `folder`/imagenet and `folder`/coco; called again, it ends with the same files.

    Args:
        folder: new, empty, or of the same export.
        per_class: of `ImageNetFiles`.
        train: of `ImageNetFiles`.
        scenes: how many requests of `StillLifeScenes`.
        flat: of `ImageNetFiles`.

    Returns:
        The number of files in each of the two folders.

    Raises:
        FileExistsError: the folder holds something else.
    """
    exports = {"imagenet": ImageNetFiles(per_class, train, flat), "coco": CocoFiles(StillLifeScenes(scenes))}
    identity = {name: asdict(export) for name, export in exports.items()}
    identity |= {"versions": [StillLifeClasses.version, StillLifeScenes.version]}
    claim_folder(folder, json.dumps(identity, indent=1).encode())
    for name, export in exports.items():
        for path, content in tqdm(export, desc=name, unit="file"):
            write(folder / name / path, content)
    return {folder / name: len(export) for name, export in exports.items()}


def claim_folder(folder: Path, identity: bytes) -> None:
    """Note in a folder what it is to hold."""
    mark = folder / MARK
    if mark.is_file():
        if mark.read_bytes() != identity:
            raise FileExistsError(
                f"{folder} holds another export ({MARK} there has its settings): delete it, or name another folder"
            )
        sweep(folder)
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} holds something else: name another folder")
    write(mark, identity)


@dataclass(frozen=True)
class ImageNetFiles:
    """`StillLifeClasses` as FlexIT's table, a class index, validation pictures and training pictures.

        queries.csv                 a row a request: its id, its picture, the kinds before and after as classes
        val/<wnid>/<picture>.png    the inputs; flat: val/<picture>.png
        train/<wnid>/<picture>.png  the benchmark's reference pictures, for diffedit reference-stats
        imagenet_class_index.json, LOC_synset_mapping.txt, LOC_val_solution.csv

    A class is a kind of fruit and its name the plural, under a made-up wnid. The ids of a split are those of the
    benchmark, so both splits have the same ones.

    Attributes:
        per_class: requests for each of the target kinds, in each split.
        train: reference pictures, all classes together.
        flat: all validation pictures in one folder.
    """

    per_class: int = 16
    train: int = 2400
    flat: bool = False

    def __len__(self) -> int:
        return len(SPLITS) * self.per_class * len(FRUITS) + self.train + 4

    def __iter__(self) -> Iterator[File]:
        rows = list(self.queries())
        for row in rows:
            yield f"val/{row.picture if self.flat else f'{row.wnid}/{row.picture}'}", encode_png(row.request.image())
        for i, (kind, image) in enumerate(StillLifeClasses().reference(self.train, RESOLUTION)):
            yield f"train/{WNIDS[kind]}/{WNIDS[kind]}_{i:06d}.png", encode_png(image)
        classes = list(zip(WNIDS.values(), FRUITS.values(), strict=True))
        yield "imagenet_class_index.json", encode_json({str(i): entry for i, entry in enumerate(classes)})
        yield "LOC_synset_mapping.txt", "".join(f"{wnid} {name}\n" for wnid, name in classes).encode()
        yield "LOC_val_solution.csv", encode_solution(rows)
        yield "queries.csv", encode_queries(rows)

    def queries(self) -> Iterator["Query"]:
        """The requests of both splits, their pictures counted from 1."""
        count = 0
        for split, seeds in SPLITS.items():
            benchmark = StillLifeClasses(self.per_class, seeds)
            for request in benchmark.requests(RESOLUTION):
                count += 1
                yield Query(request, split, f"ILSVRC2012_val_{count:08d}.png")


class Query(NamedTuple):
    """A row of the table."""

    request: EditRequest
    split: str
    picture: str

    @property
    def source(self) -> str:
        """The kind of fruit in the picture."""
        return self.request.ground_truth.before.fruits[0]

    @property
    def wnid(self) -> str:
        """The class of the picture."""
        return WNIDS[self.source]


def encode_queries(rows: list[Query]) -> bytes:
    """queries.csv, by pandas as FlexIT's: the index column of ids has no name."""
    numbers = {kind: i for i, kind in enumerate(FRUITS)}
    columns = {
        "path": [f"{row.wnid}/{row.picture}" for row in rows],
        "source": [FRUITS[row.source] for row in rows],
        "source_id": [numbers[row.source] for row in rows],
        "target": [FRUITS[row.request.label] for row in rows],
        "target_id": [numbers[row.request.label] for row in rows],
        "is_test": [row.split == "test" for row in rows],
    }
    return pd.DataFrame(columns, index=[row.request.id for row in rows]).to_csv(lineterminator="\n").encode()


def encode_solution(rows: list[Query]) -> bytes:
    """LOC_val_solution.csv: each picture's class, and the box of the fruit."""
    boxes = []
    for row in rows:
        x, y, width, height = find_box(render(row.request.ground_truth.before).region(row.source) > 0)
        boxes.append(f"{row.wnid} {x} {y} {x + width} {y + height} ")
    names = [row.picture.removesuffix(".png") for row in rows]
    return pd.DataFrame({"ImageId": names, "PredictionString": boxes}).to_csv(index=False, lineterminator="\n").encode()


@dataclass(frozen=True)
class CocoFiles:
    """`StillLifeScenes` as an annotation of BISON with captions, instances and pictures of COCO.

        bison_annotations.cocoval2014.json  an entry a request; the true image is the true edit
        captions_val2014.json               the scene's sentence, and two that say less of it
        instances_val2014.json              where the picture to edit differs from the true one, exactly
        val2014/COCO_val2014_*.png

    The source text is the caption `closest` to the query. The category of an instance is what the caption calls the
    thing that changes, so benchmark.mask_from=changed_words gives the exact masks.

    Attributes:
        scenes: the benchmark.
    """

    scenes: StillLifeScenes = StillLifeScenes()

    def __len__(self) -> int:
        return 2 * len(self.scenes) + 3

    def __iter__(self) -> Iterator[File]:
        pairs = list(self.pairs())
        for pair in pairs:
            yield f"val2014/{name_picture(pair.input)}", encode_png(pair.request.image())
            yield f"val2014/{name_picture(pair.true)}", encode_png(pair.request.true_edit())
        info = {"description": "Still Life, rendered", "version": self.scenes.version}
        images = [
            {"id": image, "file_name": name_picture(image), "height": RESOLUTION, "width": RESOLUTION}
            for image in range(1, 2 * len(pairs) + 1)
        ]
        head = {"info": info, "images": images, "licenses": []}
        captions = list(make_captions(pairs))
        yield "captions_val2014.json", encode_json(head | {"annotations": captions})
        yield "instances_val2014.json", encode_json(head | make_instances(pairs))
        yield "bison_annotations.cocoval2014.json", encode_json({"info": info, "data": make_entries(pairs, captions)})

    def pairs(self) -> Iterator["Pair"]:
        """The requests, each with the numbers of its pictures, in an order that says nothing of which is which."""
        for i, request in enumerate(self.scenes.requests(RESOLUTION)):
            last = int(draw(0, "order", request.id), 16) % 2  # whether the image to edit comes second
            yield Pair(request, 2 * i + 1 + last, 2 * i + 2 - last)


class Pair(NamedTuple):
    """A request: the image to edit and the true one, by number."""

    request: EditRequest
    input: int
    true: int

    @property
    def truth(self) -> GroundTruth:
        return self.request.ground_truth


def make_captions(pairs: list[Pair]) -> Iterator[dict[str, Any]]:
    """Three captions an image; the order of their ids says nothing.

    The shorter ones leave out words that both sentences of a pair have, so the whole one is the closest to the query.
    """
    count = 0
    for pair in pairs:
        for image, scene in ((pair.input, pair.truth.before), (pair.true, pair.truth.after)):
            things = name_things(scene)
            texts = (scene.caption(), f"{things['fruits']} on {things['table']}", things["fruits"])
            for text in sorted(texts, key=partial(draw, 0, "caption", image)):
                count += 1
                yield {"image_id": image, "id": count, "caption": text}


def make_entries(pairs: list[Pair], captions: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """BISON's: the caption that is the query, the image that it describes, and both in the order of their numbers."""
    ids = {(caption["image_id"], caption["caption"]): caption["id"] for caption in captions}
    return [
        {
            "bison_id": pair.request.id,
            "caption_id": ids[pair.true, pair.request.target],
            "true_image_id": pair.true,
            "image_candidates": [
                {"image_id": image, "image_filename": name_picture(image)} for image in sorted((pair.true, pair.input))
            ],
        }
        for pair in pairs
    ]


def make_instances(pairs: list[Pair]) -> dict[str, Any]:
    """An annotation for each image to edit: the exact mask; categories are all that captions name, without articles."""
    scenes = [scene for pair in pairs for scene in (pair.truth.before, pair.truth.after)]
    names = sorted({(strip_article(name), group) for scene in scenes for group, name in name_things(scene).items()})
    numbers = {name: i for i, (name, _) in enumerate(names, 1)}
    rows = []
    for i, pair in enumerate(pairs, 1):
        mask = pair.request.mask()[0].numpy() == 1
        group = "fruits" if pair.truth.attribute == "vessel" else pair.truth.attribute
        rows.append(
            {
                "id": i,
                "image_id": pair.input,
                "category_id": numbers[strip_article(name_things(pair.truth.before)[group])],
                "segmentation": encode_runs(mask),
                "area": int(mask.sum()),
                "bbox": find_box(mask),
                "iscrowd": 0,
            }
        )
    categories = [{"id": numbers[name], "name": name, "supercategory": group} for name, group in names]
    return {"annotations": rows, "categories": categories}


def name_things(scene: Scene) -> dict[str, str]:
    """What the sentence calls each thing. Fruit and vessel are one: no words would be left to name an absent vessel."""
    phrases = scene.phrases()
    return {
        "fruits": f"{phrases['vessel']} {phrases['fruits']}".strip(),
        "table": phrases["table"],
        "wall": phrases["wall"],
    }


def strip_article(name: str) -> str:
    """A thing's name as a category."""
    return name.removeprefix("a ")


def encode_runs(mask: np.ndarray) -> dict[str, Any]:
    """A bool mask (h, w) as COCO's compressed run lengths."""
    code = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": code["size"], "counts": code["counts"].decode("ascii")}


def find_box(mask: np.ndarray) -> list[int]:
    """What a bool mask (h, w) spans: x, y, width, height."""
    return [int(length) for length in rle.toBbox(rle.encode(np.asfortranarray(mask, dtype=np.uint8)))]


def name_picture(image: int) -> str:
    """The file name of a picture of COCO."""
    return f"COCO_val2014_{image:012d}.png"


def encode_json(content: Any) -> bytes:
    """A table as it is written."""
    return json.dumps(content).encode()
