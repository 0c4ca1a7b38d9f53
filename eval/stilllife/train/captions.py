"""The words of Still Life: captions with phrases dropped, and a CLIP tokenizer with a BPE learnt on them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from diffedit.io.files import write
from eval.stilllife.scene import ATTRIBUTES, FRUITS, Scene, sample

START = "<|startoftext|>"
END = "<|endoftext|>"
LIMIT = 32  # tokens, start and end included; the longest caption has 20 words


def shorten_caption(scene: Scene, rng: np.random.Generator) -> str:
    """The caption, whole in half of the cases; else some of its phrases, so that short prompts work too."""
    if rng.random() < 0.5:
        return scene.caption()
    phrases = scene.phrases()
    kept = [name for name in ATTRIBUTES if rng.random() < 0.6]
    if not any(phrases[name] for name in kept):  # nothing, or only the vessel of fruit that lie on the table
        kept = ["fruits"]
    words = {name: phrases[name] if name in kept else "" for name in phrases}
    what = " ".join(filter(None, [words["vessel"], words["fruits"]])).removesuffix(" of")
    thing = " on ".join(filter(None, [what, words["table"]])) if what else words["table"] and f"on {words['table']}"
    return ", ".join(filter(None, [thing, words["wall"]]))


def write_tokenizer(folder: Path, size: int = 600, captions: int = 4000) -> CLIPTokenizer:
    """Learn the BPE and write it in CLIP's own files (vocab.json, merges.txt); returns the tokenizer."""
    pattern = CLIPTokenizer().backend_tokenizer
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = pattern.normalizer, pattern.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    texts = [sample(seed).caption() for seed in range(captions)] + [f"a {kind}" for kind in FRUITS]
    tokenizer.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "vocab.json", json.dumps(number_tokens(merges)).encode())
    write(folder / "merges.txt", ("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n").encode())
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LIMIT, **special}
    write(folder / "tokenizer_config.json", json.dumps(config).encode())
    return CLIPTokenizer.from_pretrained(folder)


def number_tokens(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The vocabulary, always in the same order: the trainer numbers the letters in another one at each call.

    Every letter is there, also as the end of a word, so that no text is unknown.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [START, END, *letters, *(letter + "</w>" for letter in letters), *map("".join, merges)]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}
