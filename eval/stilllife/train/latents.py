"""Latents of renders, made once and kept on disk: encoding anew at each step costs more than the step itself."""

import hashlib
import io
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from diffedit.io.files import write
from eval.stilllife.scene import SPLITS, Scene, sample
from eval.stilllife.train.loop import TrainingSchedule, render_scenes, sample_split

SHARD = 2048  # pictures a file


def hash_weights(module: nn.Module, scaling: float) -> str:
    """Names weights and scaling: latents of another autoencoder are never taken for this one's."""
    digest = hashlib.sha256(str(scaling).encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


class Renders(Dataset):
    """The training pictures of some shards, uint8, a shard at a time."""

    def __init__(self, shards: list[range], two_kinds: float) -> None:
        self.shards, self.two_kinds = shards, two_kinds

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, i: int) -> tuple[int, Tensor]:
        shard = self.shards[i]
        return shard.start, render_scenes(sample_split("train", shard.start, len(shard), self.two_kinds))


class Latents:
    """The latents of the first `pictures` training renders, in float16.

    Args:
        folder: where they are kept, by shard; what is there is not made again.
        encode: pictures (b, 3, 64, 64) in [0, 1] to latents (b, 4, 16, 16).
        pictures: how many.
        two_kinds: share of them with two kinds of fruit; other shares want other folders.
    """

    def __init__(self, folder: Path, encode: Callable[[Tensor], Tensor], pictures: int, two_kinds: float = 0.3) -> None:
        self.folder, self.encode, self.pictures, self.two_kinds = folder, encode, pictures, two_kinds

    def path(self, start: int, stop: int) -> Path:
        """The file of one shard."""
        return self.folder / f"{start:07d}_{stop:07d}.npy"

    def load(self) -> Tensor:
        """All of them, (pictures, 4, 16, 16); makes what is missing."""
        shards = [range(i, min(i + SHARD, self.pictures)) for i in range(0, self.pictures, SHARD)]
        missing = [shard for shard in shards if not self.path(shard.start, shard.stop).exists()]
        loader = DataLoader(Renders(missing, self.two_kinds), batch_size=None, num_workers=1, prefetch_factor=2)
        for start, images in tqdm(loader, desc="encoding renders", unit="shard", disable=not missing):
            parts = [self.encode(part.float() / 255).cpu().half() for part in images.split(128)]
            data = io.BytesIO()
            np.save(data, torch.cat(parts).numpy())
            write(self.path(start, start + len(images)), data.getvalue())
        return torch.cat([torch.from_numpy(np.load(self.path(shard.start, shard.stop))) for shard in shards])

    def batches(self, schedule: TrainingSchedule, begin: int) -> Iterator[tuple[Tensor, list[Scene]]]:
        """Batches from step `begin` on: each time through all pictures in another order."""
        latents = self.load()
        for step in range(begin, schedule.steps):
            first = step * schedule.batch
            indices = [pick(schedule.seed, self.pictures, first + k) for k in range(schedule.batch)]
            yield latents[indices].float(), [sample(SPLITS["train"][i], self.two_kinds) for i in indices]


def pick(seed: int, pictures: int, i: int) -> int:
    """Which of the pictures is the i-th that training sees."""
    epoch, k = divmod(i, pictures)
    return int(permute(seed, pictures, epoch)[k])


@lru_cache(2)
def permute(seed: int, pictures: int, epoch: int) -> np.ndarray:
    """The order of the pictures in one epoch."""
    return np.random.default_rng([seed, epoch]).permutation(pictures)
