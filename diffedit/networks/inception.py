"""FID-Inception: the InceptionV3 of 2015 that the Frechet Inception Distance is defined by."""

import io
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from diffedit.io.checks import settings
from diffedit.io.device import pick_device
from diffedit.networks.base import FrozenExtractor
from diffedit.networks.weights import find_file, get_hub_folder, hash_files, read_tensors

SIDE = 299
WIDTH = 2048
VERSION = "1"
SCRIPT = "inception-2015-12-05.pt"  # as clean-fid downloads it, from NVIDIA
STATES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
BLOCKS = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)

Picture = UInt8[Tensor, "3 H W"]
Prepared = Float[Tensor, "3 299 299"]


def resize_clean(picture: Picture) -> Prepared:
    """PIL's bicubic filter in float32, a channel at a time, as clean-fid resizes."""
    from cleanfid.resize import build_resizer  # needed for this policy alone

    resized = torch.from_numpy(build_resizer("clean")(picture.permute(1, 2, 0).numpy()))
    return ((resized - 128) / 128).permute(2, 0, 1).contiguous()


def resize_pytorch(picture: Picture) -> Prepared:
    """Bilinear without antialiasing between centres of pixels, as pytorch-fid and FlexIT resize."""
    resized = F.interpolate(picture[None].contiguous() / 255, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * resized[0] - 1


def resize_tensorflow(picture: Picture) -> Prepared:
    """Bilinear without antialiasing between corners of pixels, as TensorFlow 1 and torch-fidelity resize."""
    resized = interpolate_bilinear_2d_like_tensorflow1x(picture[None].float(), (SIDE, SIDE), align_corners=False)
    return (resized[0] - 128) / 128


PREPARE: dict[str, Callable[[Picture], Prepared]] = {
    "clean": resize_clean,
    "legacy_pytorch": resize_pytorch,
    "legacy_tensorflow": resize_tensorflow,
}


@settings
class Inception(FrozenExtractor):
    """Pictures to the 2048 pooled activations (pool3) of FID-Inception.

    Attributes:
        weights: a file: NVIDIA's TorchScript or pytorch-fid's state dict, which hold the same network; None looks for
            them where torch.hub downloads to, then where clean-fid does.
        resize: `clean` is clean-fid's; `legacy_pytorch` is that of pytorch-fid, by which CSFID of FlexIT is measured
            (clean-fid has another one of this name, which ends in the values of `clean`); `legacy_tensorflow` is that
            of torch-fidelity and of the first FID. Numbers of one do not compare to numbers of another.
        device: "auto" takes CUDA where there is one.
    """

    weights: str | None = None
    resize: Literal["clean", "legacy_pytorch", "legacy_tensorflow"] = "clean"
    device: str = "auto"
    name: ClassVar[str] = "inception-pool3"

    @property
    def range(self) -> tuple[float, float]:
        """Values of black and of white pictures."""
        return (-1.0, 1.0) if self.resize == "legacy_pytorch" else (-1.0, 127 / 128)

    def prepare(self, picture: UInt8[Tensor, "3 H W"]) -> Float[Tensor, "3 299 299"]:
        """Resized and normalised, on the CPU."""
        return PREPARE[self.resize](picture)

    def forward(self, prepared: Float[Tensor, "b 3 299 299"]) -> Float[Tensor, "b 2048"]:
        return self.network(prepared).reshape(len(prepared), WIDTH)

    def load(self) -> tuple[nn.Module, str]:
        """The blocks up to pool3, one network for all policies of resizing."""
        candidates = [get_hub_folder() / name for name in (SCRIPT, *STATES)]
        if not is_somebody_elses(temporary := Path(tempfile.gettempdir()) / SCRIPT):
            candidates.append(temporary)
        file = find_file(self.weights, candidates, "networks.fid.weights (csfid, kid)")
        return load_blocks(file, self.device), hash_files([file], (self.name, self.resize, VERSION))


def is_somebody_elses(file: Path) -> bool:
    """Whether another user put a file there: anybody may, into the folder of temporary files, and TorchScript runs."""
    return file.is_file() and file.stat().st_uid != os.getuid()


@lru_cache(2)
def load_blocks(file: Path, device: str) -> nn.Module:
    """The network up to pool3, on its device; a ValueError for other files."""
    network = (read_script(file) if is_script(file) else read_state(file)).to(pick_device(device)).eval()
    for parameter in network.parameters():  # TorchScript has no requires_grad_ of its own
        parameter.requires_grad_(False)
    return network


def is_script(file: Path) -> bool:
    """Whether it is TorchScript: torch.save writes no code beside its tensors, or no zip at all."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())


def read_script(file: Path) -> nn.Module:
    """The blocks of NVIDIA's file, without the resize before them and the classifier after them."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
            return torch.jit.load(file, map_location="cpu").layers
    except (RuntimeError, AttributeError) as error:
        raise ValueError(f"{file}: not NVIDIA's FID-Inception: {error}") from error


def read_state(file: Path) -> nn.Module:
    """The blocks of pytorch-fid's file, in torch-fidelity's network."""
    copy = io.BytesIO()  # torch-fidelity would run code of the file; there is none in this
    torch.save(read_tensors(file), copy)
    copy.seek(0)
    try:
        with torch.random.fork_rng([]):  # its weights are drawn before they are read
            network = FeatureExtractorInceptionV3("inception", [str(WIDTH)], copy)
    except RuntimeError as error:
        raise ValueError(f"{file}: not pytorch-fid's FID-Inception: {error}") from error
    return nn.Sequential(*(getattr(network, name) for name in BLOCKS))
