"""The name of a run's directory: what was overridden, without what does not change the pictures."""

import hashlib
import os
import re

from omegaconf import OmegaConf

# Settings that change how a run goes and not what comes out: a name leaves them out, a resumed run may have others.
RUNTIME_KEYS = (
    *("on_error", "runs", "name", "verify", "wait", "max_pixels", "is_bound", "strength_name"),
    *("plan", "together", "refine", "refine_score", "cache", "cache_gigabytes", "cache_edits"),
    *("shard", "shards.size", "claims.timeout", "launcher"),
    *("engine.max_live", "engine.embedding_cache", "engine.threads", "engine.cpu_threads", "engine.progress"),
)

LONGEST = 200  # letters; file systems take 255 bytes
BETWEEN = re.compile(r",(?=[+~]?[\w./@]+=)")  # between two overrides; a list has commas too
IN_THE_PATH = ("benchmark", "backbone", "editor")  # these name folders above


def name_run(overrides: str, benchmark: str) -> str:
    """The name of a run; `default` where nothing was overridden.

    Args:
        overrides: `key=value` pairs, joined by commas, as Hydra's `override_dirname` has them.
        benchmark: `_target_` of the benchmark, whose `path_keys` say where files lie: a name is cut, and has to keep
            what was asked for.
    """
    from hydra.utils import get_class  # here: a benchmark's class imports torch, and `--help` asks for no name

    left_out = {*RUNTIME_KEYS, *IN_THE_PATH, *(f"benchmark.{key}" for key in get_class(benchmark).path_keys)}
    pairs = [(pair, pair.partition("=")[0].lstrip("+~")) for pair in BETWEEN.split(overrides)]
    kept = [pair for pair, key in pairs if key not in left_out and not key.startswith("launcher.")]
    return slugify(",".join(kept))


def slugify(text: str) -> str:
    """Overrides as the name of one folder."""
    name = re.sub(r"[^\w=.,+@-]+", "-", re.sub(r"[][{}'\"]", "", text)).strip("-")
    if len(name) > LONGEST:
        name = re.sub(r"(.+),(experiment=\w+)", r"\2,\1", name)  # tables and figures find their runs by it
        name = f"{name[: LONGEST - 10]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return name or "default"


def check_name(name: object) -> str:
    """The name itself, where it is that of one folder; a ValueError where it leads elsewhere."""
    text = "" if name is None else str(name)
    is_one = text != "" and not re.search(r"[/\\\x00-\x1f\x7f]", text)
    if not is_one or text != text.strip() or text.startswith(".") or len(os.fsencode(text)) > 255:
        shown = "null" if name is None else repr(text)
        raise ValueError(
            f"name = {shown}: the name of one folder is wanted, without /, of at most 255 bytes, and without a dot in "
            "front, as what is hidden is not scored"
        )
    return text


def register_resolvers() -> None:
    """Make known to OmegaConf what conf/run.yaml uses: `${run_name:...}`, `${folder_name:...}`, `${checked:...}`.

    The last one checks nothing but in a command, which knows what is allowed.
    """
    OmegaConf.register_new_resolver("run_name", name_run, replace=True)
    OmegaConf.register_new_resolver("folder_name", check_name, replace=True)
    OmegaConf.register_new_resolver("checked", lambda value: value, replace=True)
