"""The pictures of a run as a table of wandb: a row for each request and strength, so that both can be filtered by."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from diffedit.io.images import to_pil
from diffedit.types import EditRequest, Variant
from eval.reporting.contact_sheet import draw_contrast_map
from eval.reporting.loggers.logger import hash_plain
from eval.reporting.report.sets import choose_places
from eval.scoring.files import get_values_path, iterate_scores, read_table
from eval.scoring.finished_run import FinishedRun, list_written, read_map, stamp_files
from eval.scoring.per_image import list_measured

TEXTS = ("id", "source", "target")
PICTURES = ("input", "contrast map", "mask", "edit", "true edit")


class PictureTable:
    """Some requests of a run, evenly chosen; a picture is opened when its row is made, and none is kept.

    Args:
        run: the run.
        count: requests, at most.
    """

    def __init__(self, run: FinishedRun, count: int) -> None:
        self.run = run
        done = [request for request in run.requests if run.records[request.id]["status"] == "done"]
        self.requests = [done[place] for place in choose_places(len(done), count)] if count else []

    @cached_property
    def values(self) -> dict[tuple[str, str], dict[str, float]]:
        """What was measured on each picture, by request and variant; a metric's table at a time is in memory."""
        return read_values_of(self.run.root, [request.id for request in self.requests])

    @property
    def axis(self) -> str:
        """What the method calls its strengths."""
        return self.run.config["strength_name"]

    @property
    def columns(self) -> list[str]:
        fixed = [*TEXTS, self.axis, *PICTURES]
        measured = dict.fromkeys(name for values in self.values.values() for name in values)
        return [*fixed, *(name for name in measured if name not in fixed)]

    @cached_property
    def stamp(self) -> str:
        """Tells what it shows."""
        rows = [
            [
                *(request.id, request.source, request.target_text, stamp_files(request)),
                *sorted(list_written(self.run.records[request.id])),
            ]
            for request in self.requests
        ]
        return hash_plain([rows, self.columns, [[*key, values] for key, values in self.values.items()]])

    def build(self, wandb: Any) -> Any:
        """It as wandb's."""
        table = wandb.Table(columns=self.columns)
        for request in self.requests:
            pictures = RequestPictures(wandb, self.run, request)
            for variant in self.run.variants:
                measured = self.values.get((request.id, str(variant)), {})
                numbers = [measured.get(name) for name in self.columns[len(TEXTS) + 1 + len(PICTURES) :]]
                texts = request.id, request.source, request.target_text
                table.add_data(*texts, variant.strength, *pictures.of(variant), *numbers)
        return table


class RequestPictures:
    """The pictures of one request as wandb's; what several rows show is one object, which is sent once."""

    def __init__(self, wandb: Any, run: FinishedRun, request: EditRequest) -> None:
        self.wandb, self.run, self.request = wandb, run, request
        self.record = run.records[request.id]
        self.made: dict[str, Any] = {}

    def of(self, variant: Variant) -> list[Any]:
        """Those of a row, in the order of `PICTURES`; None where there is none."""
        edit = self.run.edit(self.request.id, variant)
        return [
            self.make("input", lambda: to_pil(self.request.image())),
            self.make("map", self.draw_map),
            self.make_file(edit.get("mask", self.record["mask"])),
            self.make_file(edit["file"]),
            self.make("true", lambda: None if self.request.true_edit is None else to_pil(self.request.true_edit())),
        ]

    def draw_map(self) -> Any:
        """The contrast map in grey, as large as the edits; None where none was kept."""
        if not self.record["map"]:
            return None
        values = read_map(self.run.find_written(self.record["map"]))
        with Image.open(self.run.find_written(self.record["edits"][0]["file"])) as edit:
            return draw_contrast_map(torch.from_numpy(values), edit.size)

    def make_file(self, file: str | None) -> Any:
        """A picture that the run wrote."""
        return None if file is None else self.make(file, lambda: str(self.run.find_written(file)))

    def make(self, name: str, load: Any) -> Any:
        """A picture by its name among those of this request."""
        if name not in self.made:
            content = load()
            image = None if content is None else self.wandb.Image(content)
            # wandb keeps the pixels beside its file of them, for who compares pictures: a table would hold all of them
            getattr(image, "_free_ram", lambda: None)()
            self.made[name] = image
        return self.made[name]


def read_values_of(root: Path, ids: Sequence[str]) -> dict[tuple[str, str], dict[str, float]]:
    """What was measured on the pictures of some requests: numbers by name, by (request, variant)."""
    values: dict[tuple[str, str], dict[str, float]] = {}
    for metric, scores in iterate_scores(root):
        if not get_values_path(root, metric).exists():
            continue
        table = read_table(get_values_path(root, metric), scores)
        table = table[table.id.isin(set(ids))]
        for name in list_measured(table):
            if table[name].dtype != object:
                for request, variant, value in zip(table.id, table.variant, table[name], strict=True):
                    if value == value:
                        values.setdefault((request, variant), {})[name] = float(value)
    return values
