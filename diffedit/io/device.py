"""The device that networks are put on."""

import torch


def pick_device(name: str, mps: bool = False) -> torch.device:
    """The device of a setting; "auto" takes CUDA where there is one, then Apple's MPS where `mps` allows it."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if mps and torch.backends.mps.is_available() else "cpu")


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device had no memory left; on a CPU and on MPS PyTorch only says so in words."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )
