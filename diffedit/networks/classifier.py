"""A classifier of ImageNet: does the edit show the class that was asked for?"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as V
from transformers import AutoImageProcessor, AutoModelForImageClassification

from diffedit.io.checks import settings
from diffedit.io.device import pick_device
from diffedit.io.files import resolve_path
from diffedit.networks.base import FrozenExtractor, compute_range
from diffedit.networks.weights import CONFIG, TENSORS, find_checkpoint, hash_files, load_pretrained

PREPARATION = "preprocessor_config.json"
VERSION = "1"
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
        size, crop = (" x ".join(map(str, sides or ())) for sides in (self.size, self.crop))
        return f"{self.filter.value} {size}, antialiased, in uint8{crop and f', centre {crop}'}"


class Classifier(NamedTuple):
    """A network of transformers, how pictures come to it, and a name for each of its logits."""

    network: Any
    preparation: Preparation
    labels: tuple[str, ...]


@settings
class ImageNetClassifier(FrozenExtractor):
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

    @property
    def name(self) -> str:
        return f"logits of {self.model}"

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of the class of each logit."""
        return self.network.labels

    @property
    def resize(self) -> str:
        """How a picture comes to the network's size."""
        return str(self.network.preparation)

    @property
    def range(self) -> tuple[float, float]:
        """The lowest value of black pictures and the highest of white ones."""
        return compute_range(self.network.preparation.mean, self.network.preparation.std)

    def prepare(self, picture: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 h w"]:
        """Resized, cut and normalised, on the CPU."""
        size, crop, interpolation, mean, std = self.network.preparation
        picture = V.resize(picture.contiguous(), list(size), interpolation, antialias=True)
        picture = picture if crop is None else V.center_crop(picture, list(crop))
        return V.normalize(picture / 255, list(mean), list(std))

    def forward(self, prepared: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """The logits; of a distilled network the mean of its two heads."""
        return self.network.network(prepared).logits

    def load(self) -> tuple[Classifier, str]:
        """What the files of the checkpoint and of the classes say."""
        path = find_checkpoint(self.model, [CONFIG, TENSORS, PREPARATION], "networks.classifier.model")
        network = load_pretrained(AutoModelForImageClassification.from_pretrained, path)
        preparation = read_preparation(path, self.crop)
        labels = tuple(network.config.id2label[i] for i in range(network.config.num_labels))
        if self.classes is not None:
            labels = read_labels(resolve_path(self.classes), len(labels))
        identity: tuple[Any, ...] = ("logits", str(preparation), preparation.mean, preparation.std, VERSION)
        if self.classes is not None:
            identity += labels  # in another order they are other classes
        digest = hash_files([path / CONFIG, path / TENSORS], identity)
        return Classifier(network.to(pick_device(self.device)), preparation, labels), digest


def read_preparation(path: Path, crop: str) -> Preparation:
    """What preprocessor_config.json says; a ValueError where it wants more than is done here."""
    processor = AutoImageProcessor.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    steps = processor.do_resize and processor.do_normalize and processor.do_rescale
    is_plain = steps and abs(255 * processor.rescale_factor - 1) < 1e-6
    if not is_plain or processor.resample not in FILTERS or getattr(processor, "crop_pct", None) is not None:
        raise ValueError(f"{path / PREPARATION}: more than resize, crop and normalisation")
    size = get_sides(processor.size)
    cut = get_sides(processor.crop_size) if processor.do_center_crop else None
    if crop == "none":
        size, cut = cut or size, None
        size = size * 2 if len(size) == 1 else size
    elif cut is None:
        raise ValueError(f"networks.classifier.crop = center: {path / PREPARATION} cuts nothing: take none")
    return Preparation(size, cut, FILTERS[processor.resample], tuple(processor.image_mean), tuple(processor.image_std))


def get_sides(size: Any) -> tuple[int, ...]:
    """Height and width, or the shorter side alone."""
    return (size.shortest_edge,) if size.shortest_edge else (size.height, size.width)


def read_labels(file: Path, count: int) -> tuple[str, ...]:
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
