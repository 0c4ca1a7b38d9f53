"""Randomness: one generator per (seed, request, purpose), so that no draw depends on what else is computed."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


def make_generator(seed: int, request: str, purpose: str) -> torch.Generator:
    """A CPU generator of its own for this purpose of this request."""
    key = hashlib.sha256(f"{seed}\0{request}\0{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)


@dataclass(frozen=True)
class RequestNoise:
    """The noise of one request. Drawn on the CPU in float32, so that it is the same on every device."""

    seed: int
    request: str

    def randn_like(self, x: Tensor, purpose: str, count: int = 1) -> Tensor:
        """`count` standard normal samples of the shape x[0], on the device and in the dtype of x.

        The first k of n samples are those of a call that asks for k.
        """
        source = make_generator(self.seed, self.request, purpose)
        draws = [torch.randn(x.shape[1:], generator=source) for _ in range(count)]
        return torch.stack(draws).to(x)
