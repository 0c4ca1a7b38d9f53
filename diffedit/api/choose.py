"""Editors, benchmarks and models by their names in conf/, or as objects; the settings that a call names."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from diffedit.backbones.dit import DiT
from diffedit.backbones.latent_diffusion import LatentDiffusion
from diffedit.backbones.loading import ModelFolder
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.io.choices import check_choice
from diffedit.io.compose import compose
from diffedit.io.files import resolve_path
from diffedit.mask import GivenMask
from diffedit.stages.pipeline import EditPipeline
from diffedit.types import Backbone, Editor


def make_by_name(group: str, name: str) -> Any:
    """What conf/<group>/<name>.yaml describes; a ValueError with the nearest names where there is none."""
    check_choice(group, name)
    return instantiate(compose("run", [f"{group}={name}"])[group], _convert_="all")


@lru_cache
def make_editor(name: str) -> Editor:
    """The editor of this name; frozen, so one is enough."""
    return make_by_name("editor", name)


def make_pipeline(
    editor: str | Editor | EditPipeline, guidance_scale: float | None = None, has_mask: bool = False
) -> EditPipeline:
    """An editor with what a call asks of it.

    Args:
        editor: a name, a method, or a method with its stages.
        guidance_scale: of the editor; None for its own.
        has_mask: a mask is given. An editor by name then works under it; an object has to say so itself.

    Raises:
        ValueError: there is no editor of that name, or it has no guidance, or no use for a mask.
    """
    name = editor if isinstance(editor, str) else type(getattr(editor, "editor", editor)).__name__
    pipeline = editor if isinstance(editor, EditPipeline) else EditPipeline(choose_editor(editor, has_mask))
    if guidance_scale is not None:
        pipeline = replace(pipeline, editor=set_field(pipeline.editor, name, "guidance", guidance_scale))
    if has_mask and "mask" not in pipeline.editor.inputs:
        raise ValueError(
            f"a mask is given and {name} does not use it: take editor='diffedit', 'sdedit' or 'blended_latent', or an "
            "editor with mask=GivenMask()"
        )
    return pipeline


def choose_editor(editor: str | Editor, has_mask: bool) -> Editor:
    """The editor itself, or the one of that name: under the given mask where there is one."""
    if not isinstance(editor, str):
        return editor
    made = make_editor(editor)
    is_set = not has_mask or "mask" in made.inputs or "mask" not in list_fields(made)
    return made if is_set else replace(made, mask=GivenMask())


def set_field(editor: Editor, name: str, field: str, value: Any) -> Editor:
    """The editor with another value of one setting; a ValueError where it has no such setting."""
    if field not in list_fields(editor):
        raise ValueError(f"guidance_scale = {value}: {name} has no setting {field}")
    return replace(editor, **{field: value})


def list_fields(part: Any) -> Sequence[str]:
    """The settings of a method."""
    return [field.name for field in fields(part)] if is_dataclass(part) else ()


def make_backbone(pipe: Any) -> Backbone:
    """The networks behind a call: of a loaded diffusers pipeline, of a folder or hub id, or a backbone as it is.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(pipe, str | Path):
        return load_backbone(str(pipe))
    if isinstance(getattr(pipe, "components", None), dict):  # as every pipeline of diffusers has
        return (DiT if "transformer" in pipe.components else StableDiffusion).from_pipeline(pipe)
    if callable(getattr(pipe, "predict", None)) and callable(getattr(pipe, "schedule", None)):
        return pipe
    raise TypeError(f"a diffusers pipeline, a folder, a hub id or a backbone is wanted, not {type(pipe).__name__}")


@lru_cache(1)
def load_backbone(path: str) -> Backbone:
    """The model of a folder, of whatever family it is, or of a hub id in Stable Diffusion's layout.

    The last one stays loaded.
    """
    index = ModelFolder(str(resolve_path(path))).read_json("model_index.json", optional=True) if is_here(path) else {}
    families = {"LatentDiffusion": LatentDiffusion, "DiTPipeline": DiT}
    return families.get(str(index.get("_class_name")), StableDiffusion).from_pretrained(path)


def is_here(path: str) -> bool:
    """Whether a path is a folder on this machine."""
    return resolve_path(path).is_dir()
