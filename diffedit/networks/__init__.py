"""Frozen networks beside the backbone, shared by methods and metrics.

Each finds its weights in a documented place (a path of the config, else the cache of the library it comes from), names
by `hash` what decides its answers, and names by `domain` what pictures it knows. A missing file is a FileNotFoundError,
raised when the network is made, that names the file and where to put it; nothing is ever measured by random weights.
"""

from diffedit.networks.base import (
    Extractor,
    FrozenExtractor,
    FrozenNetwork,
    Perceptual,
    Tokens,
    out_of_domain,
    prepare_all,
)

__all__ = [
    "Extractor",
    "FrozenExtractor",
    "FrozenNetwork",
    "Perceptual",
    "Tokens",
    "out_of_domain",
    "prepare_all",
]
