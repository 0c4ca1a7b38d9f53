"""What a distance of a set of pictures to real ones is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from eval.scoring.bootstrap import Estimate
from eval.scoring.reference import Reference


class Distance(ABC):
    """A distance of features to reference statistics.

    Attributes:
        version: its name and the number of its code.
        higher_is_better: for each of its scores, by name.
        needs_classes: whether every image has to have a class.
    """

    version: ClassVar[str]
    higher_is_better: ClassVar[Mapping[str, bool]]
    needs_classes: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> dict[str, Estimate]:
        """Its scores, by name; `labels` are the classes of the images, "" for none."""

    def notes(self, labels: Sequence[str]) -> dict[str, str]:
        """What is to be said of a score beside its value, by name: why it has no interval."""
        return {}

    def class_table(
        self, features: Float[ndarray, "n d"], reference: Reference, labels: Sequence[str]
    ) -> pd.DataFrame | None:
        """One row a class, where it is class by class."""
        return None
