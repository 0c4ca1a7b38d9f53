"""Hashes that name what decides an answer: weights as they are loaded, settings, vocabularies.

xxHash (XXH3, 128 bits) reads memory about as fast as it comes, so that all weights are read, and not a few. It tells
apart what differs by chance or by training; it is no defence against somebody who wants two to look alike.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import xxhash
from torch import Tensor, nn

LETTERS = 16  # of a hash that is shown: 64 bits


def hash_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Of names, dtypes, shapes and every value, in their order; on whatever device they lie."""
    digest = xxhash.xxh3_128()
    for name, value in tensors:
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:LETTERS]


def hash_module(module: nn.Module) -> str:
    """Of all its weights and buffers, adapters among them, and of which adapters are switched on, how strongly."""
    state = sorted((name.replace("_orig_mod.", ""), value) for name, value in module.state_dict().items())
    weights = hash_tensors((name, value) for name, value in state if isinstance(value, Tensor))
    layers = {name: describe_adapter(layer) for name, layer in module.named_modules() if is_adapter(layer)}
    return hash_text(weights + json.dumps(layers)) if layers else weights


def is_adapter(layer: nn.Module) -> bool:
    """Whether a layer carries LoRAs as peft adds them."""
    return hasattr(layer, "disable_adapters") and hasattr(layer, "scaling")


def describe_adapter(layer: Any) -> list[Any]:
    """Which adapters act in a layer, and how strongly; nothing where they are off."""
    if layer.disable_adapters:
        return []
    active = {name: layer.scaling[name] for name in layer.active_adapters if name in layer.scaling}
    return [active, sorted(layer.merged_adapters)]


def hash_tokenizer(tokenizer: Any) -> str:
    """Of vocabulary, merges and special tokens of a tokenizer of transformers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        rules = json.loads(backend.to_str())
        rules |= {"truncation": None, "padding": None}  # of the last call
    else:  # one in Python keeps them in dictionaries
        merges = getattr(tokenizer, "bpe_ranks", {})
        rules = [sorted(tokenizer.get_vocab().items()), sorted(map(str, merges.items()))]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return hash_text(json.dumps([rules, special, tokenizer.model_max_length], sort_keys=True))


def hash_config(config: Mapping[str, Any]) -> str:
    """Of settings, but for what only says who wrote them: keys that begin with an underscore."""
    values = {key: value for key, value in config.items() if not key.startswith("_")}
    return hash_text(json.dumps(values, sort_keys=True, default=str))


HOW_IT_WAS_SAVED = ("transformers_version", "torch_dtype", "dtype", "architectures", "model_type")


def hash_network_config(network: nn.Module) -> str:
    """Of what a network of diffusers or transformers computes with its weights: activations, heads, scales.

    By whom and in what dtype it was saved is left out: the weights say how they are loaded.
    """
    config = getattr(network, "config", {})
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return hash_config({key: value for key, value in values.items() if key not in HOW_IT_WAS_SAVED})


def hash_text(text: str) -> str:
    """Of a text."""
    return xxhash.xxh3_128(text.encode()).hexdigest()[:LETTERS]


def hash_parts(parts: Any) -> str:
    """Of tensors by their content, texts, numbers and None, in tuples, lists and mappings; all 128 bits.

    Raises:
        TypeError: a part is something else, whose content cannot be told.
    """
    digest = xxhash.xxh3_128()
    add_part(digest, parts)
    return digest.hexdigest()


def add_part(digest: Any, part: Any) -> None:
    """Add one part to a hash, with its type, so that no two lists of parts look alike."""
    if isinstance(part, Tensor):
        value = part.detach().cpu().contiguous()
        digest.update(f"tensor {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    elif isinstance(part, Mapping):
        add_part(digest, sorted(part.items()))
    elif isinstance(part, tuple | list):
        digest.update(f"list {len(part)}\0".encode())
        for one in part:
            add_part(digest, one)
    elif isinstance(part, str | int | float | bool | None):
        text = f"{type(part).__name__} {part!r}"
        digest.update(f"{len(text)} {text}\0".encode())
    else:
        raise TypeError(f"{type(part).__name__}: its content cannot be hashed")
