"""The frozen networks, with random weights in the files' true formats, against the packages they come from."""

import io
import json
import pickle
import shutil
import tempfile
import warnings
from collections import OrderedDict
from typing import ClassVar

import huggingface_hub.constants
import lpips
import pytest
import torch
import torch.nn.functional as F
import torchvision
from cleanfid.resize import build_resizer
from safetensors.torch import load_file, save_file
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.functional.image.lpips import _LPIPS
from torchmetrics.image.fid import NoTrainInceptionV3
from transformers import (
    AutoImageProcessor,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    DeiTImageProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    ViTModel,
)

from diffedit.io.checks import settings
from diffedit.networks import Extractor, FrozenNetwork, Perceptual, Tokens, out_of_domain, prepare_all
from diffedit.networks.base import load_once
from diffedit.networks.classifier import ImageNetClassifier
from diffedit.networks.dino import DinoKeys
from diffedit.networks.inception import BLOCKS, SCRIPT, STATES, Inception
from diffedit.networks.lpips import BACKBONES, Lpips

POLICIES = ("clean", "legacy_pytorch", "legacy_tensorflow")


@pytest.fixture(autouse=True)
def _without_caches(tmp_path, monkeypatch):
    """Weights that lie on this machine are not taken, and the hub is not called."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def pictures(count=2, side=64, seed=0):
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed)).byte()


class Evil:
    def __reduce__(self):
        return print, ("code of the file has run",)


class Script(nn.Module):
    """As NVIDIA's file: the blocks under `layers`, and more around them."""

    def __init__(self, blocks):
        super().__init__()
        self.layers = blocks

    def forward(self, images):
        return self.layers((images - 128) / 128)


def architecture():
    """torch-fidelity's network with random weights that keep pictures apart."""
    networks = []

    class RandomInception(FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            networks.append(self)  # its constructor would load what it downloaded

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    RandomInception("random", ["2048"], empty)
    for module in networks[0].modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.1)
    return networks[0]


@pytest.fixture(scope="module")
def inception_files(tmp_path_factory):
    """The same random weights as NVIDIA and as pytorch-fid would publish them."""
    torch.manual_seed(0)
    network, folder = architecture(), tmp_path_factory.mktemp("inception")
    torch.save(network.state_dict(), folder / STATES[1])
    blocks = nn.Sequential(OrderedDict((name, getattr(network, name)) for name in BLOCKS))
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        torch.jit.script(Script(blocks)).save(folder / SCRIPT)
    return folder


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Random networks of torchvision in its files."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("backbones")
    for net, maker in (("alex", "alexnet"), ("vgg", "vgg16"), ("squeeze", "squeezenet1_1")):
        with torch.device("meta"):
            network = getattr(torchvision.models, maker)(weights=None)
        shapes = {name: value.shape for name, value in network.state_dict().items() if name.startswith("features")}
        state = {name: torch.randn(shape) / max(1, shape[1:].numel()) ** 0.5 for name, shape in shapes.items()}
        torch.save(state, folder / BACKBONES[net])
    return folder


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Tiny checkpoints of transformers: `deit` cuts, `vit` does not, `dino` has no head."""
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("checkpoints")
    ids = {i: f"class {i}" for i in range(5)}
    deit = DeiTConfig(**TINY, image_size=48, patch_size=8, id2label=ids, initializer_range=0.5)
    DeiTForImageClassificationWithTeacher(deit).save_pretrained(folder / "deit")
    DeiTImageProcessor(size=54, crop_size=48, resample=3, image_mean=[0.4, 0.5, 0.6]).save_pretrained(folder / "deit")
    vit = ViTConfig(**TINY, image_size=48, patch_size=8, id2label=ids, initializer_range=0.5)
    ViTForImageClassification(vit).save_pretrained(folder / "vit")
    ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(folder / "vit")
    ViTModel(vit).save_pretrained(folder / "dino")
    return folder


# FID-Inception


@pytest.mark.parametrize(("side", "count", "calls"), [(64, 2, 3), (299, 1, 1)])
def test_inception_equals_torchmetrics_from_either_file(inception_files, side, count, calls):
    images = pictures(count, side)
    expected = NoTrainInceptionV3("reference", ["2048"], str(inception_files / STATES[1]), antialias=False)(images)
    state = Inception(str(inception_files / STATES[1]), "legacy_tensorflow", "cpu")
    script = Inception(str(inception_files / SCRIPT), "legacy_tensorflow", "cpu")
    assert torch.equal(state(images), expected)
    for _ in range(calls):  # TorchScript is compiled anew in the first ones
        assert torch.equal(script(images), expected)
    if count > 1:
        assert (expected[0] - expected[1]).norm() > 0.01 * expected.norm()


def test_inception_prepares_as_the_packages_do(inception_files):
    images = pictures(2, 40)
    clean, legacy = (Inception(str(inception_files / SCRIPT), name, "cpu") for name in ("clean", "legacy_pytorch"))
    resize = build_resizer("clean")
    resized = torch.stack([torch.from_numpy(resize(image.permute(1, 2, 0).numpy())) for image in images])
    expected = ((resized - 128) / 128).permute(0, 3, 1, 2)
    assert torch.equal(prepare_all(clean, images), expected)
    by_hand = 2 * F.interpolate(images / 255, (299, 299), mode="bilinear", align_corners=False) - 1
    assert torch.equal(prepare_all(legacy, images), by_hand)
    blocks = FeatureExtractorInceptionV3("reference", ["2048"], str(inception_files / STATES[1]))
    for network, ready in ((clean, expected), (legacy, by_hand)):
        x = ready.contiguous()
        for name in BLOCKS:
            x = getattr(blocks, name)(x)
        assert torch.equal(network(images), x.flatten(1))


def test_inception_policies_differ(inception_files):
    image = pictures(1)[0]
    networks = [Inception(str(inception_files / SCRIPT), name, "cpu") for name in POLICIES]
    assert len({network.hash for network in networks}) == 3
    assert Inception(str(inception_files / STATES[1]), device="cpu").hash != networks[0].hash
    ready = [network.prepare(image) for network in networks]
    assert all(not torch.allclose(ready[i], ready[j], atol=0.01) for i, j in ((0, 1), (0, 2), (1, 2)))
    for network in networks:
        ends = [network.prepare(torch.full((3, 9, 9), value, dtype=torch.uint8)) for value in (0, 255)]
        assert tuple(end.mean().item() for end in ends) == pytest.approx(network.range)


def test_inception_finds_its_file_and_says_where_it_looked(inception_files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"networks\.fid\.weights") as error:
        Inception(device="cpu")
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    assert all(str(folder / name) in str(error.value) for name in (SCRIPT, *STATES))
    assert f" {tmp_path / SCRIPT}" in str(error.value)
    (tmp_path / SCRIPT).symlink_to(inception_files / SCRIPT)
    script = Inception(device="cpu").hash
    folder.mkdir(parents=True)
    (folder / STATES[0]).symlink_to(inception_files / STATES[1])
    load_once.cache_clear()
    assert Inception(device="cpu").hash != script  # torch.hub's folder comes first
    with pytest.raises(FileNotFoundError, match=r"elsewhere\.pt"):
        Inception("elsewhere.pt")


def test_inception_takes_no_file_that_somebody_else_put_there(inception_files, tmp_path, monkeypatch):
    """Into the folder of temporary files, where everybody may write; TorchScript runs what it holds."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr("diffedit.networks.inception.get_hub_folder", lambda: tmp_path / "hub")
    shutil.copy(inception_files / SCRIPT, tmp_path / SCRIPT)
    assert Inception(device="cpu").hash
    monkeypatch.setattr("os.getuid", lambda: 4321)
    with pytest.raises(FileNotFoundError, match="no such file"):
        Inception(resize="legacy_pytorch", device="cpu")


def test_inception_refuses_other_files(inception_files, tmp_path, capsys):
    state, file = torch.load(inception_files / STATES[1], weights_only=True), tmp_path / "other.pth"
    torch.save(Evil(), file)
    with pytest.raises(ValueError, match=r"other\.pth: not a file of tensors"):
        Inception(str(file))
    file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=r"other\.pth: not a file of tensors"):
        Inception(str(file))
    assert "code" not in capsys.readouterr().out
    torch.save({"state": state}, file)
    with pytest.raises(ValueError, match=r"other\.pth: holds something else"):
        Inception(str(file))
    del state["Mixed_7c.branch_pool.conv.weight"]
    torch.save(state, file)
    with pytest.raises(ValueError, match=r"(?s)other\.pth.*Mixed_7c"):
        Inception(str(file))
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        torch.jit.script(nn.ReLU()).save(file)
    with pytest.raises(ValueError, match=r"other\.pth: not NVIDIA's"):
        Inception(str(file))


# LPIPS


def distance(network, one, other):
    units = [[F.normalize(layer, eps=1e-10) for layer in network.layers(images)] for images in (one, other)]
    squares = [(a - b) ** 2 for a, b in zip(*units, strict=True)]
    return sum(torch.einsum("bchw,c->b", s, w) / s[0, 0].numel() for s, w in zip(squares, network.heads, strict=True))


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_lpips_equals_both_packages(backbones, net):
    network = Lpips(net, str(backbones / BACKBONES[net]), "cpu")
    state = {name.removeprefix("features."): value for name, value in torch.load(backbones / BACKBONES[net]).items()}
    with torch.random.fork_rng(), warnings.catch_warnings(action="ignore"):
        packages = [
            lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval(),
            _LPIPS(net=net, pnet_rand=True),
        ]
    one, other = pictures(3, 40) / 255, pictures(3, 40, seed=1) / 255
    value = distance(network, one, other)
    assert value.min() > 0.01
    for package in packages:
        names = {name: name.split(".", 2 if name.startswith("slices.") else 1)[-1] for name in package.net.state_dict()}
        package.net.load_state_dict({name: state[key] for name, key in names.items()})
        with torch.no_grad():
            expected = package(one, other, normalize=True).flatten()
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_lpips_knows_the_smallest_picture(backbones, net):
    network = Lpips(net, str(backbones / BACKBONES[net]), "cpu")
    assert all(layer.numel() for layer in network.layers(torch.rand(1, 3, network.smallest, network.smallest)))
    with pytest.raises(RuntimeError):
        network.layers(torch.rand(1, 3, network.smallest - 1, network.smallest - 1))


def test_lpips_takes_only_its_own_files(backbones, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match=r"networks\.lpips\.weights.*vgg16-397923af\.pth"):
        Lpips("vgg")
    file = tmp_path / "other.pth"
    state = torch.load(backbones / BACKBONES["alex"])
    torch.save({name: value for name, value in state.items() if name != "features.8.bias"}, file)
    with pytest.raises(ValueError, match=r"other\.pth: lacks features\.8\.bias"):
        Lpips("alex", str(file))
    torch.save(state | {"features.8.bias": torch.zeros(7)}, file)
    with pytest.raises(ValueError, match=r"(?s)other\.pth: not these weights.*8\.bias"):
        Lpips("alex", str(file))
    torch.save(Evil(), file)
    with pytest.raises(ValueError, match=r"other\.pth: not a file of tensors"):
        Lpips("alex", str(file))
    assert not capsys.readouterr().out


def test_lpips_is_quiet_and_draws_no_numbers(backbones, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(backbones))
    (backbones / "hub").mkdir()
    (backbones / "hub" / "checkpoints").symlink_to(backbones)
    load_once.cache_clear()
    state = torch.get_rng_state()
    with warnings.catch_warnings(action="error"):
        network = Lpips(device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert network.hash == Lpips("alex", str(backbones / BACKBONES["alex"])).hash
    assert [tuple(head.shape) for head in network.heads] == [(64,), (192,), (384,), (256,), (256,)]


# The classifier


@pytest.mark.parametrize("name", ["deit", "vit"])
def test_classifier_equals_transformers(checkpoints, name):
    network = ImageNetClassifier(str(checkpoints / name), device="cpu")
    kind = {"deit": DeiTForImageClassificationWithTeacher, "vit": ViTForImageClassification}[name]
    images = pictures(3, 70)
    ready = prepare_all(network, images)
    with torch.no_grad():
        expected = kind.from_pretrained(checkpoints / name).eval()(ready).logits
    assert ready.shape == (3, 3, 48, 48)
    assert torch.equal(network(images), expected)
    assert network.labels == tuple(f"class {i}" for i in range(5))
    assert expected.std(0).min() > 1e-3


def test_classifier_prepares_as_the_checkpoint_says(checkpoints):
    whole, cut = (ImageNetClassifier(str(checkpoints / "deit"), crop=crop, device="cpu") for crop in ("none", "center"))
    processor = AutoImageProcessor.from_pretrained(checkpoints / "deit")
    image = pictures(1, 70)[0, :, :60]
    expected = processor(image, return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(cut.prepare(image), expected, atol=1e-6, rtol=0)
    expected = processor(image, size={"height": 48, "width": 48}, do_center_crop=False, return_tensors="pt")
    torch.testing.assert_close(whole.prepare(image), expected.pixel_values[0], atol=1e-6, rtol=0)
    assert (whole.resize, cut.resize) == (
        "bicubic 48 x 48, antialiased, in uint8",
        "bicubic 54 x 54, antialiased, in uint8, centre 48 x 48",
    )
    assert whole.hash != cut.hash
    white = torch.full((3, 48, 48), 255, dtype=torch.uint8)
    assert (whole.prepare(0 * white).amin(), whole.prepare(white).amax()) == pytest.approx(whole.range)
    with pytest.raises(ValueError, match=r"classifier\.crop = center"):
        ImageNetClassifier(str(checkpoints / "vit"), crop="center")


def test_classifier_names_its_logits(checkpoints, tmp_path):
    model, file = str(checkpoints / "vit"), tmp_path / "classes"
    wnids = tuple(f"n0{i}" for i in range(5))
    file.write_text("".join(f"{wnid} a class, of things\n" for wnid in wnids))
    assert ImageNetClassifier(model, str(file)).labels == wnids
    index = tmp_path / "index.json"
    index.write_text(json.dumps({str(i): [wnid, "thing"] for i, wnid in enumerate(wnids)}))
    assert ImageNetClassifier(model, str(index)).labels == wnids
    other = tmp_path / "other"
    for lines in (wnids[:4], (*wnids[:4], wnids[0])):
        other.write_text("\n".join(lines))
        with pytest.raises(ValueError, match=r"other: 4 names in \d entries; the network has 5 classes"):
            ImageNetClassifier(model, str(other))
    with pytest.raises(FileNotFoundError, match=r"nowhere.*networks\.classifier\.classes"):
        ImageNetClassifier(model, "nowhere")


def test_classifier_says_what_is_missing(checkpoints, tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        ImageNetClassifier()
    for text in ("networks.classifier.model", "config.json", "model.safetensors", "facebook/deit-base-distilled"):
        assert text in str(error.value)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_bytes((checkpoints / "vit" / "config.json").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"networks\.classifier\.model.*half/model\.safetensors"):
        ImageNetClassifier(str(tmp_path / "half"))
    with pytest.raises(FileNotFoundError, match=r"none/config\.json.*save_pretrained"):
        ImageNetClassifier(str(tmp_path / "none"))


def test_classifier_is_found_in_the_cache_of_the_hub(checkpoints, tmp_path):
    snapshot = tmp_path / "hub" / "models--tiny--deit" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(checkpoints / "deit")
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    assert ImageNetClassifier("tiny/deit").hash == ImageNetClassifier(str(checkpoints / "deit")).hash
    with pytest.raises(FileNotFoundError, match="tiny/vit"):
        ImageNetClassifier("tiny/vit")


@pytest.mark.parametrize("change", ["missing", "shape", "bytes"])
def test_classifier_refuses_broken_checkpoints(checkpoints, tmp_path, change):
    for file in (checkpoints / "deit").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    if change == "bytes":
        weights.write_bytes(b"no tensors")
    else:
        state = load_file(weights)
        state.pop("cls_classifier.bias")
        save_file(state | ({"cls_classifier.bias": torch.zeros(7)} if change == "shape" else {}), weights)
    with pytest.raises(ValueError, match="cannot be loaded" if change == "bytes" else r"lacks .*cls_classifier\.bias"):
        ImageNetClassifier(str(tmp_path))


# DINO


@pytest.mark.parametrize(("layer", "side"), [(0, 48), (1, 48), (1, 32)])
def test_dino_gives_the_keys(checkpoints, layer, side):
    network = DinoKeys(str(checkpoints / "dino"), layer, side, "cpu")
    images = 255 * torch.rand(2, 3, 60, 70, generator=torch.Generator().manual_seed(0))
    model = ViTModel.from_pretrained(checkpoints / "dino").eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    ready = (F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False) - mean) / std
    with torch.no_grad():
        states = model(ready, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states[layer]
        block = model.layers[layer]
        expected = block.attention.k_proj(block.layernorm_before(states))
    tokens = network.tokens(images)
    assert tokens.shape == (2, 1 + (side // 8) ** 2, 32)
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)
    assert network.domain == "anything"


def test_dino_reads_the_layout_of_the_hub(checkpoints, tmp_path):
    """The published file has the names of older versions of transformers."""
    (tmp_path / "config.json").write_bytes((checkpoints / "dino" / "config.json").read_bytes())
    renamed = {}
    for name, value in ViTModel.from_pretrained(checkpoints / "dino").state_dict().items():
        if name.startswith("layers."):
            name = "encoder.layer." + name.removeprefix("layers.")
            for letter, word in (("q", "query"), ("k", "key"), ("v", "value")):
                name = name.replace(f"attention.{letter}_proj", f"attention.attention.{word}")
            name = name.replace("o_proj", "output.dense")
            name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        renamed[name] = value
    save_file(renamed, tmp_path / "model.safetensors")
    images = torch.rand(1, 3, 48, 48)
    one, other = (DinoKeys(str(path), 1, 48, "cpu") for path in (tmp_path, checkpoints / "dino"))
    assert torch.equal(one.tokens(images), other.tokens(images))


def test_dino_refuses_what_it_cannot_do(checkpoints):
    model = str(checkpoints / "dino")
    with pytest.raises(ValueError, match="2 blocks and patches of 8"):
        DinoKeys(model, 2, 48)
    with pytest.raises(ValueError, match="2 blocks and patches of 8"):
        DinoKeys(model, 1, 50)
    with pytest.raises(FileNotFoundError, match=r"networks\.structure\.model.*facebook/dino-vitb8"):
        DinoKeys()
    hashes = {DinoKeys(model, layer, side).hash for layer, side in ((0, 48), (1, 48), (1, 32))}
    assert len(hashes) == 3


# What they share


def test_networks_keep_their_protocols(inception_files, backbones, checkpoints):
    networks = (
        (Inception(str(inception_files / SCRIPT), device="cpu"), Extractor),
        (ImageNetClassifier(str(checkpoints / "deit"), device="cpu"), Extractor),
        (Lpips(weights=str(backbones / BACKBONES["alex"]), device="cpu"), Perceptual),
        (DinoKeys(str(checkpoints / "dino"), 1, 48, "cpu"), Tokens),
    )
    for network, protocol in networks:
        assert [kind for kind in (Extractor, Perceptual, Tokens) if isinstance(network, kind)] == [protocol]
        assert len(network.hash) == 16


def test_misspelt_choices_are_refused():
    for make, field in ((Inception, "resize"), (Lpips, "net"), (ImageNetClassifier, "crop")):
        with pytest.raises(ValueError, match=f"{make.__name__}: {field} = 'lanczos': it should be"):
            make(**{field: "lanczos"})


@settings
class Counted(FrozenNetwork):
    """Notes how often it is loaded."""

    size: int
    device: str = "cpu"
    domain: str = "cats"
    loads: ClassVar = []

    def load(self):
        self.loads.append(self.size)
        return nn.Linear(self.size, 1), f"linear-{self.size}"


def test_equal_settings_share_one_network():
    one, other = Counted(1), Counted(1)
    assert one.network is other.network
    assert (one.hash, Counted(2).hash) == ("linear-1", "linear-2")
    assert Counted.loads == [1, 2]


def test_a_network_is_asked_about_its_domain_alone(checkpoints):
    assert out_of_domain(Counted(1), "cats") is None
    for domain in (None, "dogs"):
        assert out_of_domain(Counted(1), domain) == "the network knows only cats; networks=photographs takes others"
    for domain in (None, "cats"):
        assert out_of_domain(DinoKeys(str(checkpoints / "dino"), 1, 48, "cpu"), domain) is None
