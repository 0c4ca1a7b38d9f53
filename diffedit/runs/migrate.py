"""Runs of before can still be read: classes that moved, settings and fields that have another name now.

`FORMAT` counts what a run directory looks like. Format 1 had no number; its ratios were bare numbers. In format 2 the
class of Stable Diffusion itself was called with a path. In format 3 an inversion had no settings but its timestep. In
format 4 each request had a file of its own for its record for good, and there were no shards.
"""

from collections.abc import Callable, Mapping
from typing import Any

from diffedit.io.checks import RENAMED
from diffedit.types import Variant

FORMAT = 5

# Modules of format 1, where the classes that a config names lie now; the longest prefix counts.
MOVED = {
    "diffedit.editor": "diffedit.diffedit",
    "diffedit.sampler": "diffedit.text_to_image",
    "diffedit.reconstruct": "diffedit.stages.background",
    "diffedit.stages": "diffedit.stages.rank",
    "eval.images": "diffedit.io.images",
    "eval.networks.clip": "diffedit.networks.clip",
    "eval.benchmarks.stilllife": "eval.stilllife",
}
RENAMED_CLASSES = {
    "diffedit.text_to_image.Sampler": "diffedit.text_to_image.TextToImage",
    "diffedit.stages.background.Bare": "diffedit.stages.background.NoReconstruction",
    "diffedit.stages.rank.First": "diffedit.stages.rank.KeepFirst",
    "diffedit.networks.clip.ClipRank": "diffedit.stages.rank.ClipRank",
    "diffedit.mask.NoExtremes": "diffedit.mask.KeepOutliers",
}
LOADED = {  # classes of format 2 that were called with a path, by what loads one now
    "diffedit.backbones.stable_diffusion.StableDiffusion": (
        "diffedit.backbones.stable_diffusion.StableDiffusion.from_pretrained"
    )
}
GONE = {
    "eval.stilllife.generated.StillLifeGenerated": "run benchmark=stilllife_generated (other captions now), or "
    "score this one by the revision that made it (environment.json)"
}
FIRST_NAMES = {"editor.inversion_label": "editor.inversion_timestep"}  # of format 1, in format 3
BOUNDS = ("Copy", "RoundTrip", "Oracle")


def migrate_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run in today's names; one of today comes back as it is.

    Raises:
        ValueError: its benchmark is no longer there, or it is of a later release; the message says what to do.
    """
    before = config.get("format", 1)
    if before > FORMAT:
        raise ValueError(f"a run of a later release (format {before}; this one reads up to {FORMAT}): update diffedit")
    if before == FORMAT:
        return dict(config)
    config = map_targets(config, lambda target: LOADED.get(target, target))
    config = config if before > 1 else migrate_first_format(config)
    return {**config, **nest_inversion(config), "format": FORMAT}


def migrate_first_format(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run of format 1 in the names of format 2; a ValueError as of `migrate_config`."""
    config = rename_settings(map_targets(config, move_target))
    benchmark = config.get("benchmark", {})
    if (target := benchmark.get("_target_")) in GONE:
        raise ValueError(f"benchmark {target} is no longer there: {GONE[target]}")
    grammar = benchmark.get("grammar") or {}
    if grammar.pop("truth", None) is not None:  # what captions say is known to a benchmark of its own
        benchmark["_target_"] = "eval.stilllife.generated.StillLifeGenerated"
    is_bound = str(config.get("editor", {}).get("_target_", "")).rpartition(".")[2] in BOUNDS
    return {**config, "is_bound": is_bound, "strength_name": "ratio"}


def nest_inversion(config: Mapping[str, Any]) -> dict[str, Any]:
    """The editor of a config of format 3: its inversion as one object, without which a method has none."""
    editor = config.get("editor", {})
    if "inversion_timestep" not in editor:
        return {}
    inversion = {"timestep": editor["inversion_timestep"], "condition": "empty", "text": None}
    editor = {"inversion" if key == "inversion_timestep" else key: value for key, value in editor.items()}
    more = {"reference_text": None} if "reference" in editor else {}
    return {"editor": {**editor, "inversion": inversion, **more}}


def map_targets(node: Any, rename: Callable[[str], str]) -> Any:
    """A config whose `_target_`s have another name."""
    if isinstance(node, Mapping):
        return {key: rename(value) if key == "_target_" else map_targets(value, rename) for key, value in node.items()}
    return [map_targets(value, rename) for value in node] if isinstance(node, list | tuple) else node


def move_target(target: str) -> str:
    """Where a class of format 1 lies now."""
    prefixes = [prefix for prefix in MOVED if target.startswith(f"{prefix}.")]
    if prefixes:
        longest = max(prefixes, key=len)
        target = MOVED[longest] + target.removeprefix(longest)
    return RENAMED_CLASSES.get(target, target)


def rename_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config whose settings have today's names; their order stays."""

    def rename(node: Any, prefix: str) -> Any:
        if not isinstance(node, Mapping):
            return node
        renamed = {}
        for key, value in node.items():
            path = f"{prefix}{key}"
            name = (RENAMED["run"] | FIRST_NAMES).get(path, path).removeprefix(prefix)
            renamed[name] = rename(value, f"{prefix}{name}.")
        return renamed

    return rename(config, "")


def migrate_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of any format in today's fields."""
    record = dict(record)
    if "notes" in record:
        record["metadata"] = record.pop("notes")
    for name in ("edits", "samples"):
        if name in record:
            record[name] = [migrate_edit(edit) for edit in record[name]]
    return record


def migrate_edit(edit: Mapping[str, Any]) -> dict[str, Any]:
    """One edit of a record: its ratio as a variant."""
    if "variant" in edit:
        return dict(edit)
    rest = {key: value for key, value in edit.items() if key != "ratio"}
    return {"variant": str(Variant(float(edit["ratio"]))), **rest}
