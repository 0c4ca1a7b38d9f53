"""`diffedit.edit` and `diffedit.find_mask`: loaded pictures in, edited pictures out."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from diffedit.api.asked import check_asked, read_ratio
from diffedit.api.choose import make_backbone, make_pipeline
from diffedit.api.result import EditedPicture
from diffedit.diffedit import DiffEdit
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.engine.queries import Outcome
from diffedit.io.device import is_out_of_memory
from diffedit.io.images import Resize
from diffedit.io.pictures import Given, GivenMaskPicture, GivenPicture
from diffedit.mask import describe_mask_flag
from diffedit.runs.shapes import fit_resize
from diffedit.sampling.noise import RequestNoise
from diffedit.sampling.schedule import open_schedule
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Backbone, Editor, EditRequest, EditResult, Embed, Encode, Noise, Program, Schedule

log = logging.getLogger(__name__)

Several = Sequence[Any] | np.ndarray | Tensor


def edit(
    pipe: Any,
    image: Given | Several,
    target: str | Sequence[str],
    source: str | Sequence[str | None] | None = None,
    mask: Given | Several | None = None,
    *,
    ratio: float | Sequence[float] | np.ndarray = 0.5,
    editor: str | Editor | EditPipeline = "diffedit",
    guidance_scale: float | None = None,
    num_inference_steps: int = 50,
    seed: int = 0,
    resize: str | Resize = "crop",
    batch_size: int = 16,
    id: str = "picture",
    progress: bool = False,
) -> EditedPicture | list[EditedPicture]:
    """Edit a picture, or each of a list, so that it shows the target text.

    Pictures come in any size and mode, and are scaled and cut to the square that the model takes; `result.crop` says
    which part that is. With `resize="keep"` they are edited whole, in their own shape. All ratios of a picture share
    its encoding, its mask and its inversion. An edit depends on the picture, the texts and the seed, not on what else
    is in the list: but for the last bits, which may differ where other rows share a network call (runs of benchmarks
    pad theirs to a constant size).

    Args:
        pipe: a loaded diffusers pipeline, whose networks are shared and whose scheduler is left alone; or a folder or
            hub id; or a backbone, as `StableDiffusion.from_pretrained` returns it.
        image: a Pillow picture, an array or tensor (bytes, or floats in [0, 1]), or a path; or a list of these.
        target: what the result shall show; one for all pictures, or a list.
        source: what the picture shows, where known: the mask is then contrasted against it, else against the empty
            text (§3.2). One for all, or a list.
        mask: white where the picture may change, instead of a mask that the method finds. One for all, or a list.
        ratio: encoding ratio r in (0, 1], how far the edit goes; or several, each an edit of its own.
        editor: the name of a method, as `diffedit ls editor` lists them, or an object such as `DiffEdit(...)`.
        guidance_scale: of classifier-free guidance; None for the editor's own, 7.5.
        num_inference_steps: N, DDIM steps of the whole schedule; an edit takes the last round(ratio * N).
        seed: fixes all noise.
        resize: `crop` cuts out the centre square, `squash` keeps everything and changes the aspect ratio; `keep` edits
            the whole picture in its own shape, its shorter side at the model's resolution and both rounded to what the
            model takes. `Resize("keep", side="longer")` puts the longer side there.
        batch_size: rows in a call of the denoiser, at most; calls are not padded.
        id: names the noise beside the seed. The picture of a benchmark with this id has the same noise.
        progress: show a bar.

    Returns:
        what came out, or a list of it in the order of the pictures. What is wrong with one picture or text is its
        `error`, and spoils no other.

    Raises:
        ValueError: a setting is wrong; nothing was computed.

    Example:
        >>> import diffedit
        >>> from eval.stilllife.benchmarks import StillLifeScenes
        >>> scene = next(StillLifeScenes(size=1).requests(64))
        >>> result = diffedit.edit(
        ...     "weights/stilllife", scene.image(), scene.target, scene.source, num_inference_steps=10
        ... )
        >>> result.image.size, result.mask.size, result.contrast_map.shape
        ((64, 64), (64, 64), (16, 16))
    """
    ratios, several = read_ratio(ratio), np.ndim(ratio) > 0
    given = {"guidance_scale": guidance_scale, "num_inference_steps": num_inference_steps}
    check_asked(**given, seed=seed, batch_size=batch_size, id=id)
    pipeline = make_pipeline(editor, guidance_scale, mask is not None)
    backbone = make_backbone(pipe)
    schedule = open_schedule(backbone, num_inference_steps)
    pipeline.check_levels(schedule, ratios)
    pipeline.check(backbone)
    pipeline.warn(schedule)
    requests, is_list = make_requests(backbone, image, target, source, mask, resize, id)
    programs = (pipeline(request, ratios, schedule, RequestNoise(seed, id)) for request in requests)
    results = run_programs(backbone, requests, programs, len(ratios), several, batch_size, progress)
    return results if is_list else results[0]


def find_mask(
    pipe: Any,
    image: Given | Several,
    target: str | Sequence[str],
    source: str | Sequence[str | None] | None = None,
    *,
    editor: str | DiffEdit = "diffedit",
    num_inference_steps: int = 50,
    seed: int = 0,
    resize: str | Resize = "crop",
    batch_size: int = 16,
    id: str = "picture",
    progress: bool = False,
) -> EditedPicture | list[EditedPicture]:
    """Find where a picture would be edited (§3.2, step 1), and edit nothing: `result.mask`, `result.contrast_map`.

    `diffedit.edit(pipe, image, target, mask=result.mask)` edits under it, or under what you made of it.

    Args:
        pipe: as in `edit`, and so are all others.
        image: the picture, or a list.
        target: what the result shall show.
        source: what the picture shows.
        editor: a DiffEdit, or its name: its `mask` and `reference` are used.
        num_inference_steps: of the schedule that the noise of the mask is taken from.
        seed: the mask of `edit` with this seed.
        resize: as in `edit`.
        batch_size: as in `edit`.
        id: as in `edit`.
        progress: show a bar.

    Example:
        >>> import diffedit
        >>> from eval.stilllife.benchmarks import StillLifeScenes
        >>> scene = next(StillLifeScenes(size=1).requests(64))
        >>> found = diffedit.find_mask("weights/stilllife", scene.image(), scene.target, scene.source)
        >>> found.mask.size
        (64, 64)
    """
    check_asked(num_inference_steps=num_inference_steps, seed=seed, batch_size=batch_size, id=id)
    method = make_pipeline(editor).editor
    if not isinstance(method, DiffEdit):
        raise ValueError(f"editor = {editor!r}: masks are found by DiffEdit and its variants")
    backbone = make_backbone(pipe)
    schedule = open_schedule(backbone, num_inference_steps)
    requests, is_list = make_requests(backbone, image, target, source, None, resize, id)
    programs = (look_for_mask(method, request, schedule, RequestNoise(seed, id)) for request in requests)
    results = run_programs(backbone, requests, programs, 1, False, batch_size, progress)
    return results if is_list else results[0]


def look_for_mask(method: DiffEdit, request: EditRequest, schedule: Schedule, noise: Noise) -> Program[EditResult]:
    """The first step of DiffEdit alone: a result without edits."""
    x0 = yield Encode(request.image())
    target, reference = yield Embed((request.target, method.find_reference(request)))
    mask = yield from method.mask.find(request, x0, target, reference, schedule, noise)
    return EditResult([], mask.latent, mask.contrast_map, mask.pixel_mask, mask.metadata())


def make_requests(
    backbone: Backbone, image: Any, target: Any, source: Any, mask: Any, resize: str | Resize, id: str
) -> tuple[list[EditRequest], bool]:
    """A request a picture, and whether a list was given."""
    if not isinstance(resize, str | Resize):
        raise ValueError(f"resize = {resize!r}: it should be 'crop', 'squash', 'keep', or a Resize")
    resize = fit_resize(Resize(resize) if isinstance(resize, str) else resize, backbone)
    is_list = isinstance(image, list | tuple) or getattr(image, "ndim", 0) == 4
    images = list(image) if is_list else [image]
    texts = spread("target", target, len(images), is_list), spread("source", source, len(images), is_list)
    masks = spread("mask", mask, len(images), is_list)
    requests = []
    for picture, goal, before, region in zip(images, *texts, masks, strict=True):
        if not isinstance(goal, str) or not isinstance(before, str | None):
            raise TypeError(f"target = {goal!r}, source = {before!r}: texts are wanted")
        given = GivenPicture(picture, backbone.resolution, resize)
        given_mask = None if region is None else GivenMaskPicture(region, given)
        requests.append(EditRequest(id, given, goal, before, given_mask))
    return requests, is_list


def spread(name: str, value: Any, count: int, is_list: bool) -> list[Any]:
    """One value for each picture: a list as it is, anything else for all; a ValueError where the list does not fit."""
    if not (isinstance(value, list | tuple) or getattr(value, "ndim", 0) == 4):
        return [value] * count
    if not is_list or len(value) != count:
        pictures = f"a list of {count} pictures" if is_list else "one picture"
        raise ValueError(f"{name} is a list of {len(value)}, for {pictures}: give as many pictures, or one {name}")
    return list(value)


def run_programs(
    backbone: Backbone,
    requests: Sequence[EditRequest],
    programs: Iterator[Program[EditResult]],
    edits: int,
    several: bool,
    batch_size: int,
    progress: bool,
) -> list[EditedPicture]:
    """What came of each request, in their order."""
    few = min(batch_size, 4)
    engine = Engine(backbone, BatchSizes(batch_size, few, few, 8, few), progress=progress, pad=False)
    numbered = ((str(i), program) for i, program in enumerate(programs))
    outcomes = {}
    for outcome in engine.run(numbered, len(requests), edits):
        if outcome.error is not None and is_out_of_memory(outcome.error):  # the others would not fit either
            raise outcome.error
        outcomes[int(outcome.id)] = outcome._replace(result=move_to_cpu(outcome.result))
    numbers = range(len(requests)) if len(requests) > 1 else [None]
    return [
        make_result(request, outcomes[i], several, number)
        for i, (request, number) in enumerate(zip(requests, numbers, strict=True))
    ]


def move_to_cpu(result: EditResult | None) -> EditResult | None:
    """The same result off the device, so that a long list does not fill it."""
    if result is None:
        return None
    edits = [replace(edit, image=edit.image.cpu()) for edit in result.edits]
    masks = {name: mask.cpu() for name in ("mask", "pixel_mask") if (mask := getattr(result, name)) is not None}
    return replace(result, edits=edits, samples=[move_to_cpu(sample) for sample in result.samples], **masks)


def make_result(request: EditRequest, outcome: Outcome, several: bool, number: int | None) -> EditedPicture:
    """The outcome of one request as what a notebook looks at; `number` is that of its picture among several."""
    try:
        crop = request.image.crop
    except Exception:  # it could not be read: that is the outcome's own error
        crop = None
    if line := "" if outcome.result is None else describe_mask_flag(outcome.result):
        log.warning("%s%s", f"{request.id}: " if number is None else f"picture {number}: ", line)
    return EditedPicture(request, outcome.result, crop, outcome.error, outcome.evaluations.total(), several)
