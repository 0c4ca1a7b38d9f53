"""How long a large run takes on a cluster whose workers die: a simulation of who takes which shard, without networks.

Each worker takes the shards k modulo N first, then what nobody has taken, as `diffedit run shard=k/N` does, and waits
for the last ones. A worker that dies leaves its claims for `--timeout` seconds and what it had under way undone; what
was saved of the shard stays. It comes back after `--requeue` seconds, and loads its networks again. Prints the time of
the run over the ideal: all work, shared evenly by workers that never die and load their networks for nothing.

Example: python scripts/simulate_cluster.py --workers 64 --shards 2000 --deaths 0.05
"""

import argparse
import heapq
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean

import numpy as np

HOUR = 3600.0


@dataclass
class Shard:
    """What is left of a shard, and when others may take it."""

    left: int
    free_at: float = 0.0
    is_held: bool = False


@dataclass
class Cluster:
    """Workers, shards and the time.

    Attributes:
        args: of the command line.
        draw: of lengths and deaths.
    """

    args: argparse.Namespace
    draw: np.random.Generator
    shards: list[Shard] = field(init=False)
    deaths: int = 0
    undone: int = 0

    def __post_init__(self) -> None:
        requests = -(-self.args.edits // self.args.ratios)
        sizes = np.diff(np.linspace(0, requests, self.args.shards + 1).astype(int))
        self.shards = [Shard(int(size)) for size in sizes]
        self.speeds = np.exp(self.draw.normal(0, self.args.spread, self.args.workers))

    def run(self) -> float:
        """Seconds until the last shard is done."""
        events = [(self.args.load, k) for k in range(self.args.workers)]
        heapq.heapify(events)
        last = 0.0
        while events:
            now, k = heapq.heappop(events)
            number = self.choose(k, now)
            if number is None:
                if any(shard.left for shard in self.shards):
                    heapq.heappush(events, (now + 1.0, k))  # it waits, and looks again
                continue
            ended, is_done = self.edit(k, self.shards[number], now)
            last = max(last, ended) if is_done else last
            heapq.heappush(events, (ended + (0 if is_done else self.args.requeue + self.args.load), k))
        return last

    def choose(self, k: int, now: float) -> int | None:
        """The shard that a worker takes now: one of its own, one of the others, or none."""
        free = [i for i, shard in enumerate(self.shards) if shard.left and not shard.is_held and shard.free_at <= now]
        own = (i for i in free if i % self.args.workers == k)
        return next(own, free[0] if free else None)

    def edit(self, k: int, shard: Shard, now: float) -> tuple[float, bool]:
        """When it ends, and whether with the shard's end; the shard is held by events in between."""
        each = self.args.seconds * self.speeds[k]
        whole = shard.left * each + self.args.overhead
        dies_after = self.draw.exponential(HOUR / self.args.deaths) if self.args.deaths else np.inf
        if dies_after >= whole:
            shard.left, shard.free_at = 0, now + whole
            return now + whole, True
        saved = max(int(dies_after / each) - self.args.window // 2, 0)
        self.deaths, self.undone = self.deaths + 1, self.undone + min(int(dies_after / each), self.args.window // 2)
        shard.left -= min(saved, shard.left)
        shard.free_at = now + dies_after + self.args.timeout
        return now + dies_after, False


def simulate(args: argparse.Namespace, seed: int) -> dict[str, float]:
    """One run."""
    cluster = Cluster(args, np.random.default_rng(seed))
    requests = sum(shard.left for shard in cluster.shards)
    ideal = requests * args.seconds / float(np.sum(1 / cluster.speeds))
    seconds = cluster.run()
    return {"hours": seconds / HOUR, "over_ideal": seconds / ideal, "deaths": cluster.deaths, "undone": cluster.undone}


def main(argv: Sequence[str]) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\nExample")[0],
        epilog=__doc__.partition("\n\n")[2].splitlines()[-1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, kind, value, text in (
        ("edits", int, 400_000, "edits of the run"),
        ("ratios", int, 7, "edits of a request"),
        ("shards", int, 2000, "shards of the run"),
        ("workers", int, 64, "tasks at once"),
        ("seconds", float, 30.0, "that a request takes, with all its ratios"),
        ("spread", float, 0.05, "of the workers' speeds, as a standard deviation of their logarithm"),
        ("deaths", float, 0.05, "of a worker in an hour"),
        ("timeout", float, 60.0, "seconds until a dead worker's shard is taken over"),
        ("requeue", float, 300.0, "seconds until a dead worker comes back"),
        ("load", float, 60.0, "seconds to load the networks"),
        ("overhead", float, 1.0, "seconds to claim and to pack a shard"),
        ("window", int, 16, "requests under way at once, which a death leaves half done"),
        ("repeats", int, 20, "simulations"),
    ):
        parser.add_argument(f"--{name}", type=kind, default=value, help=f"{text} (default %(default)s)")
    args = parser.parse_args(argv)
    found = [simulate(args, seed) for seed in range(args.repeats)]
    over = [one["over_ideal"] for one in found]
    print(json.dumps(vars(args)))
    print(
        f"{mean(one['hours'] for one in found):.2f} hours, {mean(over):.3f} of the ideal [{min(over):.3f}, "
        f"{max(over):.3f}]; {mean(one['deaths'] for one in found):.1f} deaths, "
        f"{mean(one['undone'] for one in found):.0f} requests made again"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
