"""Still Life as files: in the layouts of ImageNet with FlexIT's queries, and of COCO with BISON's entries.

The loaders of the real data read from them what `StillLifeClasses` and `StillLifeScenes` ask for at 64 pixels: the same
ids, which seed the noise, texts, pictures and masks. So a run on the files and a run without them are equal to the bit.

An export is an iterable of (path, content), of known length. The tables come last: half an export is no benchmark.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pycocotools import mask as rle

from diffedit.io.images import png_bytes
from diffedit.types import EditRequest
from eval.benchmarks.subset import draw
from eval.stilllife.benchmarks import GroundTruth, StillLifeClasses, StillLifeScenes
from eval.stilllife.render import SIDE, render
from eval.stilllife.scene import FRUITS, Scene

File = tuple[str, bytes]

# WordNet's ids of nouns begin with n0 and n1.
WNIDS = {kind: f"n9{i:07d}" for i, kind in enumerate(FRUITS)}
SPLITS = {"dev": "validation", "test": "test"}  # FlexIT's, and those of the seeds


@dataclass(frozen=True)
class ImageNetFiles:
    """`StillLifeClasses` as FlexIT's table, a class index, validation pictures and training pictures.

        queries.csv                 a row a request: its id, its picture, the kinds before and after as classes
        val/<wnid>/<picture>.png    the inputs; flat: val/<picture>.png
        train/<wnid>/<picture>.png  the benchmark's reference pictures, for scripts/reference_stats.py
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
            yield f"val/{row.picture if self.flat else f'{row.wnid}/{row.picture}'}", png_bytes(row.request.image())
        for i, (kind, image) in enumerate(StillLifeClasses().reference(self.train, SIDE)):
            yield f"train/{WNIDS[kind]}/{WNIDS[kind]}_{i:06d}.png", png_bytes(image)
        named = list(zip(WNIDS.values(), FRUITS.values(), strict=True))
        yield "imagenet_class_index.json", as_json({str(i): each for i, each in enumerate(named)})
        yield "LOC_synset_mapping.txt", "".join(f"{wnid} {name}\n" for wnid, name in named).encode()
        yield "LOC_val_solution.csv", solution(rows)
        yield "queries.csv", table(rows)

    def queries(self) -> Iterator["Query"]:
        """The requests of both splits, their pictures counted from 1."""
        count = 0
        for split, seeds in SPLITS.items():
            benchmark = StillLifeClasses(self.per_class, seeds)
            for (_, truth), request in zip(benchmark.truths(), benchmark.requests(SIDE), strict=True):
                count += 1
                yield Query(request, truth.before, split, f"ILSVRC2012_val_{count:08d}.png")


class Query(NamedTuple):
    """A row of the table."""

    request: EditRequest
    before: Scene
    split: str
    picture: str

    @property
    def source(self) -> str:
        """The kind of fruit in the picture."""
        return self.before.fruits[0]

    @property
    def wnid(self) -> str:
        """Its class."""
        return WNIDS[self.source]


def table(rows: list[Query]) -> bytes:
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


def solution(rows: list[Query]) -> bytes:
    """LOC_val_solution.csv: each picture's class, and the box of the fruit."""
    told = []
    for row in rows:
        x, y, width, height = box(render(row.before).region(row.source) > 0)
        told.append(f"{row.wnid} {x} {y} {x + width} {y + height} ")
    names = [row.picture.removesuffix(".png") for row in rows]
    return pd.DataFrame({"ImageId": names, "PredictionString": told}).to_csv(index=False, lineterminator="\n").encode()


@dataclass(frozen=True)
class CocoFiles:
    """`StillLifeScenes` as an annotation of BISON with captions, instances and pictures of COCO.

        bison_annotations.cocoval2014.json  an entry a request; the true image is the true_edit
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
            yield f"val2014/{file_name(pair.other)}", png_bytes(pair.request.image())
            yield f"val2014/{file_name(pair.true)}", png_bytes(pair.request.true_edit())
        info = {"description": "Still Life, rendered", "version": self.scenes.version}
        images = [
            {"id": image, "file_name": file_name(image), "height": SIDE, "width": SIDE}
            for image in range(1, 2 * len(pairs) + 1)
        ]
        head = {"info": info, "images": images, "licenses": []}
        captions = list(captions_of(pairs))
        yield "captions_val2014.json", as_json(head | {"annotations": captions})
        yield "instances_val2014.json", as_json(head | instances(pairs))
        yield "bison_annotations.cocoval2014.json", as_json({"info": info, "data": entries(pairs, captions)})

    def pairs(self) -> Iterator["Pair"]:
        """The requests, each with the numbers of its pictures, in an order that says nothing of which is which."""
        asked = zip(self.scenes.truths(), self.scenes.requests(SIDE), strict=True)
        for i, ((name, truth), request) in enumerate(asked):
            other = int(draw(0, "order", name), 16) % 2
            yield Pair(request, truth, 2 * i + 1 + other, 2 * i + 2 - other)


class Pair(NamedTuple):
    """A request: the image to edit and the true one, by number."""

    request: EditRequest
    truth: GroundTruth
    other: int
    true: int


def captions_of(pairs: list[Pair]) -> Iterator[dict[str, Any]]:
    """Three captions an image; the order of their ids says nothing.

    The shorter ones leave out words that both sentences of a pair have, so the whole one is the closest to the query.
    """
    count = 0
    for pair in pairs:
        for image, scene in ((pair.other, pair.truth.before), (pair.true, pair.truth.after)):
            things = named(scene)
            texts = (scene.caption(), f"{things['fruits']} on {things['table']}", things["fruits"])
            for text in sorted(texts, key=partial(draw, 0, "caption", image)):
                count += 1
                yield {"image_id": image, "id": count, "caption": text}


def entries(pairs: list[Pair], captions: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """BISON's: the caption that is the query, the image that it describes, and both in the order of their numbers."""
    known = {(each["image_id"], each["caption"]): each["id"] for each in captions}
    return [
        {
            "bison_id": pair.request.id,
            "caption_id": known[pair.true, pair.request.target],
            "true_image_id": pair.true,
            "image_candidates": [
                {"image_id": image, "image_filename": file_name(image)} for image in sorted((pair.true, pair.other))
            ],
        }
        for pair in pairs
    ]


def instances(pairs: list[Pair]) -> dict[str, Any]:
    """An annotation for each image to edit: the exact mask; categories are all that captions name, without articles."""
    things = [named(scene) for pair in pairs for scene in (pair.truth.before, pair.truth.after)]
    names = sorted({(without_article(name), group) for each in things for group, name in each.items()})
    numbers = {name: i for i, (name, _) in enumerate(names, 1)}
    rows = []
    for i, pair in enumerate(pairs, 1):
        mask = pair.request.mask()[0].numpy() == 1
        group = "fruits" if pair.truth.attribute == "vessel" else pair.truth.attribute
        rows.append(
            {
                "id": i,
                "image_id": pair.other,
                "category_id": numbers[without_article(named(pair.truth.before)[group])],
                "segmentation": runs(mask),
                "area": int(mask.sum()),
                "bbox": box(mask),
                "iscrowd": 0,
            }
        )
    known = [{"id": numbers[name], "name": name, "supercategory": group} for name, group in names]
    return {"annotations": rows, "categories": known}


def named(scene: Scene) -> dict[str, str]:
    """What the sentence calls each thing. Fruit and vessel are one: no words would be left to name an absent vessel."""
    phrases = scene.phrases()
    return {
        "fruits": f"{phrases['vessel']} {phrases['fruits']}".strip(),
        "table": phrases["table"],
        "wall": phrases["wall"],
    }


def without_article(name: str) -> str:
    """As categories are called."""
    return name.removeprefix("a ")


def runs(mask: np.ndarray) -> dict[str, Any]:
    """A bool mask (h, w) as COCO's compressed run lengths."""
    code = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": code["size"], "counts": code["counts"].decode("ascii")}


def box(mask: np.ndarray) -> list[int]:
    """What a bool mask (h, w) spans: x, y, width, height."""
    return [int(each) for each in rle.toBbox(rle.encode(np.asfortranarray(mask, dtype=np.uint8)))]


def file_name(image: int) -> str:
    """A picture of COCO."""
    return f"COCO_val2014_{image:012d}.png"


def as_json(content: Any) -> bytes:
    """Of a table."""
    return json.dumps(content).encode()
