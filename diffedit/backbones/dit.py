"""DiT (Peebles & Xie 2023): a class-conditional transformer over the latents of Stable Diffusion's autoencoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from diffedit.backbones.classes import ClassBackbone, ClassCond, ClassList
from diffedit.backbones.latent import LatentBackbone
from diffedit.backbones.loading import Compile, Dtype, ModelFolder
from diffedit.io.checks import Count
from diffedit.sampling.schedule import Spacing


class DiT(ClassBackbone, LatentBackbone):
    """A DiT in diffusers' layout. The variance that it has learned is dropped, as DDIM has no use for it.

    Guidance is of all channels of the noise, as in diffusers; the authors' code guides the first three of four.

    Args:
        transformer: the denoiser, a DiTTransformer2DModel.
        vae: the autoencoder, an AutoencoderKL.
        scheduler: with DDPM's betas.
        id2label: names of the classes by number, with commas between them.
        resolution: side of the images in pixels; None for the one the transformer was trained at, its only one.
        device: where the networks run; None for where the transformer lies.
        name: of the model in messages.
    """

    parts: ClassVar = ("transformer", "vae", "scheduler")
    denoiser_part: ClassVar = "transformer"
    takes_shapes: ClassVar = False  # it knows the places of a square

    def __init__(
        self,
        transformer: nn.Module,
        vae: nn.Module,
        scheduler: Any,
        id2label: Mapping[int | str, str] | None = None,
        resolution: Count | None = None,
        device: torch.device | None = None,
        name: str = "the model",
    ) -> None:
        self.transformer = transformer
        self.set_up(transformer, vae, scheduler, device, name)
        self.resolution = self.check_sizes(name, resolution, transformer.config.patch_size)
        if self.resolution != (own := self.check_sizes(name, None, transformer.config.patch_size)):
            raise ValueError(f"backbone.resolution = {self.resolution}: {name} knows the places of {own} alone")
        self.null_class = count = transformer.config.num_embeds_ada_norm
        names = {int(number): text for number, text in (id2label or {}).items()}
        self.classes = ClassList(count, names, {}, f"id2label of {name}")

    @classmethod
    def from_pipeline(cls, pipe: Any) -> "DiT":
        """The networks of a loaded DiTPipeline: shared, not copied, on its device and in its dtypes.

        A pipeline keeps one number a name, though some are those of two classes; so the names are read where it was
        loaded from, as long as that is a folder here.
        """
        labels: dict[int | str, str] = {}
        for name, number in pipe.labels.items():
            labels[number] = f"{labels[number]}, {name}" if number in labels else name
        place = ModelFolder(str(pipe.config.get("_name_or_path")))
        labels = (place.read_index() if Path(place.path).is_dir() else {}).get("id2label", labels)
        networks = {part: getattr(pipe, part) for part in cls.parts}
        return cls(**networks, id2label=labels, device=pipe.device, name=type(pipe).__name__)

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        revision: str | None = None,
        variant: str | None = None,
        dtype: Dtype = "float32",
        vae_dtype: Dtype = "float32",
        device: str = "auto",
        resolution: Count | None = None,
        memory_format: Literal["contiguous", "channels_last"] = "contiguous",
        compile: Compile | None = None,
        timestep_spacing: Spacing | None = None,
    ) -> "DiT":
        """A folder or hub id with transformer/, vae/, scheduler/, and model_index.json, whose id2label has the names.

        The arguments are those of `StableDiffusion.from_pretrained`.
        """
        options = {"resolution": resolution, "timestep_spacing": timestep_spacing}
        return cls.load(path, revision, variant, dtype, vae_dtype, device, memory_format, compile, **options)

    @classmethod
    def load_parts(cls, folder: ModelFolder, vae_dtype: torch.dtype) -> dict[str, Any]:
        """What `__init__` takes, by name."""
        scheduler = folder.load_scheduler()

        from diffusers import AutoencoderKL, DiTTransformer2DModel

        return {
            "transformer": folder.load(DiTTransformer2DModel, "transformer"),
            "vae": folder.load(AutoencoderKL, "vae", vae_dtype),
            "scheduler": scheduler,
            "id2label": folder.read_index().get("id2label"),
        }

    def condition(self, conds: Sequence[ClassCond]) -> dict[str, Tensor]:
        """The class numbers."""
        return {"class_labels": self.stack_classes(conds, self.device)}
