"""Maps and masks of `eval.benchmarks.synthetic_maps`, as tests of rules want them."""

from eval.benchmarks.synthetic_maps import AREAS, draw_differences
from eval.metrics.ground_truth import compute_iou as compute_ious

__all__ = ["AREAS", "compute_iou", "draw_differences", "draw_map"]


def draw_map(*args, **settings):
    """(contrast map, (h, w); the object, (h, w)), as of `draw_differences`."""
    differences, inside = draw_differences(*args, **settings)
    return differences.abs().mean(1).mean(0), inside


def compute_iou(mask, inside):
    """Intersection over union of two masks of one size."""
    return compute_ious(*(one.reshape(1, 1, *one.shape[-2:]) for one in (mask, inside))).item()
