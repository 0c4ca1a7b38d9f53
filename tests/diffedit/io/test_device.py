"""The device of a process among several on one machine."""

import pytest
import torch

from diffedit.io.device import pick_device, read_local_rank

RANKS = {
    "nothing": ({}, None),
    "torchrun": ({"LOCAL_RANK": "3"}, 3),
    "srun": ({"SLURM_STEP_ID": "0", "SLURM_LOCALID": "2"}, 2),
    "a batch script beside its steps": ({"SLURM_LOCALID": "2"}, None),
    "torchrun in srun": ({"LOCAL_RANK": "1", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "0"}, 1),
    "a word": ({"LOCAL_RANK": "x"}, None),
}


@pytest.mark.parametrize("name", RANKS)
def test_which_of_this_machine(name):
    environ, expected = RANKS[name]
    assert read_local_rank(environ) == expected


@pytest.mark.parametrize(("rank", "count", "expected"), [(None, 4, "cuda"), (3, 4, "cuda:3"), (3, 1, "cuda:0")])
def test_each_takes_its_own(monkeypatch, rank, count, expected):
    """srun may show each of its tasks one device alone."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr("diffedit.io.device.read_local_rank", lambda: rank)
    assert pick_device("auto") == torch.device(expected)
    assert pick_device("cpu") == torch.device("cpu")
