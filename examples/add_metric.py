"""A metric of one's own with a network of its own: DINO similarity, the subject fidelity of DreamBooth (Ruiz et al., 2023).

python scripts/score.py --include examples "metric=[lpips,dino_similarity]"
"""

from typing import ClassVar

from eval.scoring.metric import Metric


class DinoSimilarity(Metric):
    """Cosine of the class tokens of input and edit; 1 is no change.

    Args:
        network: a DINO of transformers.
    """

    version: ClassVar = "dino-similarity-1"
    higher_is_better: ClassVar = {"dino_similarity": True}
