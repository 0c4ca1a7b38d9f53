"""Scores of two plain folders of pictures, and metrics by their names, for notebooks."""

from collections.abc import Sequence
from difflib import get_close_matches

from hydra.utils import instantiate

from diffedit.io.compose import compose
from diffedit.io.files import find_shipped
from eval.scoring.metric import Metric


def load_metrics(names: Sequence[str], networks: str = "photographs") -> dict[str, Metric]:
    """Metrics by their names, as `diffedit score "metric=[...]" networks=...` makes them.

    Args:
        names: of conf/metric, as `diffedit ls metric` lists them.
        networks: of conf/networks: `photographs`, `pie_bench`, or `stilllife` for pictures of that world.

    Raises:
        ValueError: there is none of that name.
        FileNotFoundError: weights are missing; the message says where to put them.
    """
    for group, chosen in (("metric", names), ("networks", [networks])):
        known = sorted(path.stem for path in (find_shipped("conf") / group).glob("[!_]*.yaml"))
        for name in chosen:
            if name not in known:
                near = get_close_matches(name, known, 3, 0.4) or known
                raise ValueError(f"{group} = {name!r}: there is none of that name; did you mean {', '.join(near)}?")
    config = compose("score", [f"networks={networks}", f"metric=[{','.join(names)}]"])
    return instantiate(config.metric, _convert_="all")
