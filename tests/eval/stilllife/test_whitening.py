"""The whitening beside Still Life's feature network: what it does, and that it belongs to its network."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffedit.io.files import resolve_path
from eval.stilllife.network import StillLifeExtractor, load
from eval.stilllife.train.loop import render_scenes, sample_split
from eval.stilllife.whitening import FILE, FLOOR, Whitening, fit_whitening, load_whitening

WEIGHTS = "weights/stilllife_features"


def test_features_are_white_but_for_directions_of_hardly_any_variance():
    draw = torch.Generator().manual_seed(0)
    spread = torch.tensor([30.0, 5, 1, 1e-3])
    turn = torch.linalg.qr(torch.randn(4, 4, generator=draw))[0]
    features = (torch.randn(4000, 4, generator=draw) * spread) @ turn + 7
    white = fit_whitening(features)(features)
    values = torch.linalg.eigvalsh(torch.cov(white.T.double()))
    least = FLOOR * (spread**2).mean()
    expected = (spread**2 / torch.maximum(spread**2, least)).sort().values.double()
    assert torch.allclose(values, expected, rtol=0.1, atol=1e-6)
    assert white.mean(0).abs().max() < 1e-3


def test_the_stored_whitening_makes_features_of_other_pictures_as_large_as_their_number():
    """In half precision, by pictures that it was not made of."""
    pictures = render_scenes(sample_split("validation", 0, 256))
    extractor = StillLifeExtractor(WEIGHTS, "whitened", "cpu")
    white = extractor(pictures)
    plain = StillLifeExtractor(WEIGHTS, "features", "cpu")(pictures)
    assert torch.allclose(white, extractor.whitening(plain))
    assert white.shape == plain.shape == (256, 256)
    assert 0.2 < white.square().sum(1).mean() / 256 < 1.2  # plain ones: the network's own scale
    assert extractor.hash.startswith(load(WEIGHTS, "cpu").hash)
    assert extractor.hash not in {StillLifeExtractor(WEIGHTS, output, "cpu").hash for output in ("features", "logits")}


@pytest.fixture
def copied(tmp_path):
    """The network's folder, to be spoilt."""
    return shutil.copytree(resolve_path(WEIGHTS), tmp_path / "features")


def test_a_whitening_of_another_network_is_refused(copied):
    weights = load_file(copied / "features.safetensors")
    weights["stem.bias"] += 1
    save_file(weights, copied / "features.safetensors")
    assert StillLifeExtractor(str(copied), device="cpu").hash  # what needs no whitening works
    with pytest.raises(ValueError, match=r"safetensors: whitens the features of network .*train the network again"):
        StillLifeExtractor(str(copied), "whitened", "cpu")


def test_a_whitening_that_is_absent_or_something_else_is_named(copied):
    network = load(WEIGHTS, "cpu").hash
    (copied / FILE).write_bytes(Whitening(torch.zeros(3), torch.eye(3)).to_bytes(network))
    with pytest.raises(ValueError, match=r"\(3,\) and \(3, 3\), not \(256,\)"):
        load_whitening(str(copied), network, 256)
    (copied / FILE).write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"whitening\.safetensors: no whitening"):
        load_whitening(str(copied), network, 255)
    (copied / FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"whitening\.safetensors: no such file; train the network again"):
        StillLifeExtractor(str(copied), "whitened", "cpu")
