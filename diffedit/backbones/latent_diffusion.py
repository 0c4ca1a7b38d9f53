"""The class-conditional latent diffusion models of CompVis (Rombach et al. 2022), and what is trained like them.

`scripts/convert_ldm.py` makes the folder of their checkpoints.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from diffedit.backbones.classes import ClassBackbone, ClassCond, ClassList
from diffedit.backbones.latent import LatentBackbone
from diffedit.backbones.loading import Compile, Dtype, ModelFolder
from diffedit.io.checks import Count
from diffedit.io.files import resolve_path
from diffedit.sampling.schedule import Spacing

EMBEDDING = "class_embedding.safetensors"
CLASSES = "classes.json"


class LatentDiffusion(ClassBackbone, LatentBackbone):
    """A UNet that attends to one token: the embedding of a class.

    Latents are the autoencoder's times its scaling factor: those of a VQModel are quantised when they are decoded.

    Args:
        unet: the denoiser, a UNet2DConditionModel.
        vqvae: the autoencoder, a VQModel or an AutoencoderKL.
        class_embedding: a row a class.
        scheduler: with DDPM's betas.
        classes: the names of the classes.
        null_class: which row stands for no class, the last one; None for a model that has none.
        resolution: side of the images in pixels; None for the one the UNet was trained at.
        device: where the networks run; None for where the UNet lies.
        name: of the model in messages.
    """

    parts: ClassVar = ("unet", "vqvae", "class_embedding", "scheduler")

    def __init__(
        self,
        unet: nn.Module,
        vqvae: nn.Module,
        class_embedding: nn.Embedding,
        scheduler: Any,
        classes: ClassList,
        null_class: int | None,
        resolution: Count | None = None,
        device: torch.device | None = None,
        name: str = "the model",
    ) -> None:
        width, wanted = class_embedding.embedding_dim, unet.config.cross_attention_dim
        if width != wanted:
            raise ValueError(f"{name}: classes are embedded in {width} numbers, and the UNet takes {wanted}")
        rows = class_embedding.num_embeddings
        if null_class not in (None, rows - 1):
            raise ValueError(f"{name}: null_class = {null_class}: {rows - 1}, the last of {rows} rows, or none (null)")
        self.unet, self.vqvae, self.class_embedding = unet, vqvae, class_embedding
        self.classes, self.null_class = classes, null_class
        self.set_up(unet, vqvae, scheduler, device, name)
        self.resolution = self.check_sizes(name, resolution, 2 ** (len(unet.config.block_out_channels) - 1))

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
        autoencoder: str | None = None,
        timestep_spacing: Spacing | None = None,
    ) -> "LatentDiffusion":
        """A folder or hub id with unet/, vqvae/, class_embedding.safetensors, scheduler/, model_index.json.

        model_index.json says which row is the null class; classes.json, where it is there, what the classes are called.

        Args:
            path: of the folder, or the id.
            revision: as this and what follows of `StableDiffusion.from_pretrained`.
            variant: of the weights.
            dtype: of the UNet and the class embedding.
            vae_dtype: of the autoencoder.
            device: where the networks run.
            resolution: as in the class.
            memory_format: of the UNet.
            compile: a mode of `torch.compile` for the UNet.
            autoencoder: folder of it, where it is not vqvae/: a VQModel or an AutoencoderKL.
            timestep_spacing: of the times that are visited; None for the folder's own.
        """
        settings = (path, revision, variant, dtype, vae_dtype, device, memory_format, compile)
        options = {"resolution": resolution, "timestep_spacing": timestep_spacing}
        return cls.load(*settings, autoencoder=autoencoder, **options)

    @classmethod
    def load_parts(cls, folder: ModelFolder, vae_dtype: torch.dtype, autoencoder: str | None = None) -> dict[str, Any]:
        """What `__init__` takes, by name."""
        scheduler = folder.load_scheduler()

        from diffusers import AutoencoderKL, UNet2DConditionModel, VQModel

        weight = safetensors.torch.load_file(folder.fetch(EMBEDDING))["weight"]
        null = folder.read_index().get("null_class")
        count = len(weight) - (null is not None)
        lies = resolve_path(autoencoder) if autoencoder else None
        place = folder if lies is None else replace(folder, path=str(lies.parent))
        part = "vqvae" if lies is None else lies.name
        kind = {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel}[
            place.read_json(f"{part}/config.json")["_class_name"]
        ]
        return {
            "unet": folder.load(UNet2DConditionModel, "unet"),
            "vqvae": place.load(kind, part, vae_dtype),
            "class_embedding": nn.Embedding.from_pretrained(weight.to(folder.device, folder.dtype)),
            "scheduler": scheduler,
            "classes": ClassList.read(folder.fetch(CLASSES, optional=True), count),
            "null_class": null,
        }

    def condition(self, conds: Sequence[ClassCond]) -> dict[str, Tensor]:
        """One token a class."""
        tokens = self.class_embedding(self.stack_classes(conds, self.device))
        return {"encoder_hidden_states": tokens[:, None].to(self.dtype)}
