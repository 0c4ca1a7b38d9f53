"""A classifier of ImageNet: does the edit show the class that was asked for?"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as V
from transformers import AutoImageProcessor, AutoModelForImageClassification

from diffedit.io.checks import check_choices
from diffedit.io.files import resolve_path
from diffedit.networks import Domain, pick_device, prepare_all
from diffedit.networks.weights import CONFIG, TENSORS, digest, folder, pretrained

PREPARATION, VERSION = "preprocessor_config.json", "1"
FILTERS = {2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC}  # PIL's numbers


class Preparation(NamedTuple):
    """How a picture comes to the network.

    Attributes:
        size: height and width that it is resized to; one number is the shorter side.
        crop: height and width that are cut out of its middle.
        filter: of the resize.
        mean: of the channels, in [0, 1].
        std: likewise.
    """

    size: tuple[int, ...]
    crop: tuple[int, ...] | None
    filter: InterpolationMode
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        size, crop = (" x ".join(map(str, each or ())) for each in (self.size, self.crop))
        return f"{self.filter.value} {size}, antialiased, in uint8{crop and f', centre {crop}'}"


@dataclass(frozen=True)
class ImageNetClassifier:
    """Pictures to logits, by any image classifier of transformers.

    Attributes:
        model: a folder, or a name of the Hugging Face hub.
        classes: file that names the logits: ImageNet's synset_words.txt (a line a class, its first word the name), or
            imagenet_class_index.json; None takes the names of the checkpoint.
        crop: `center` prepares pictures as the checkpoint says, `none` resizes the whole picture to what would be cut
            out, as FlexIT does.
        device: "auto" takes CUDA where there is one.
    """

    model: str = "facebook/deit-base-distilled-patch16-384"
    classes: str | None = None
    crop: Literal["none", "center"] = "none"
    device: str = "auto"
    domain: ClassVar[Domain] = "anything"

    def __post_init__(self) -> None:
        check_choices(self)
        loaded(self)  # a missing file stops before any work

    @property
    def name(self) -> str:
        """For people."""
        return f"logits of {self.model}"

    @property
    def hash(self) -> str:
        """Names weights and preparation."""
        return loaded(self).hash

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of the class of each logit."""
        return loaded(self).labels

    @property
    def resize(self) -> str:
        """How a picture comes to the network's size."""
        return str(loaded(self).preparation)

    @property
    def range(self) -> tuple[float, float]:
        """The lowest value of black pictures and the highest of white ones."""
        _, _, _, mean, std = loaded(self).preparation
        pairs = list(zip(mean, std, strict=True))
        return min(-m / s for m, s in pairs), max((1 - m) / s for m, s in pairs)

    def prepare(self, picture: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 h w"]:
        """Resized, cut and normalised, on the CPU."""
        size, crop, interpolation, mean, std = loaded(self).preparation
        picture = V.resize(picture.contiguous(), list(size), interpolation, antialias=True)
        picture = picture if crop is None else V.center_crop(picture, list(crop))
        return V.normalize(picture / 255, list(mean), list(std))

    @torch.no_grad()
    def features(self, prepared: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """The logits, on the CPU again; of a distilled network the mean of its two heads."""
        return loaded(self).network(prepared.to(pick_device(self.device))).logits.float().cpu()

    def __call__(self, pictures: UInt8[Tensor, "b 3 H W"]) -> Float[Tensor, "b classes"]:
        """Logits of pictures."""
        return self.features(prepare_all(self, pictures))


class Loaded(NamedTuple):
    """What the files of a classifier say.

    Attributes:
        network: on its device.
        preparation: of pictures.
        labels: a name for each logit.
        hash: of network and preparation.
    """

    network: Any
    preparation: Preparation
    labels: tuple[str, ...]
    hash: str


@lru_cache(2)
def loaded(classifier: ImageNetClassifier) -> Loaded:
    """All that its files say; a FileNotFoundError where one is missing."""
    files = [CONFIG, TENSORS, PREPARATION]
    path = folder(classifier.model, files, "networks.classifier.model")
    network = pretrained(AutoModelForImageClassification.from_pretrained, path).to(pick_device(classifier.device))
    preparation = preparation_of(path, classifier.crop)
    labels = tuple(network.config.id2label[i] for i in range(network.config.num_labels))
    if classifier.classes is not None:
        labels = named(resolve_path(classifier.classes), len(labels))
    told = "logits", str(preparation), preparation.mean, preparation.std, VERSION
    return Loaded(network, preparation, labels, digest([path / CONFIG, path / TENSORS], told))


def preparation_of(path: Path, crop: str) -> Preparation:
    """What preprocessor_config.json says; a ValueError where it says something that is not known here."""
    said = AutoImageProcessor.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    plain = said.do_resize and said.do_normalize and said.do_rescale and abs(255 * said.rescale_factor - 1) < 1e-6
    if not plain or said.resample not in FILTERS or getattr(said, "crop_pct", None) is not None:
        raise ValueError(f"{path / PREPARATION}: more than resize, crop and normalisation")
    size, cut = sides(said.size), sides(said.crop_size) if said.do_center_crop else None
    if crop == "none":
        size, cut = cut or size, None
        size = size * 2 if len(size) == 1 else size
    elif cut is None:
        raise ValueError(f"networks.classifier.crop = center: {path / PREPARATION} cuts nothing: take none")
    return Preparation(size, cut, FILTERS[said.resample], tuple(said.image_mean), tuple(said.image_std))


def sides(size: Any) -> tuple[int, ...]:
    """Height and width, or the shorter side alone."""
    return (size.shortest_edge,) if size.shortest_edge else (size.height, size.width)


def named(file: Path, count: int) -> tuple[str, ...]:
    """The names of classes that a file lists; a ValueError where they are not so many, or one comes twice."""
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; put it there, or name another in networks.classifier.classes")
    text = file.read_text(encoding="utf-8")
    if text.lstrip().startswith("{"):
        entries = json.loads(text)
        names = tuple(entries[str(i)][0] for i in range(len(entries)))
    else:
        names = tuple(line.split()[0] for line in text.strip().splitlines())
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"{file}: {len(set(names))} names in {len(names)} entries; the network has {count} classes")
    return names
