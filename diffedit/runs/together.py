"""Edit several runs of one backbone beside each other: one set of networks, one engine, work that they share once.

Each keeps a claim, a directory and an end of its own: what goes wrong with one stops no other, and a start that is
killed leaves each as if it had been alone.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, TypeVar

from diffedit.runs.claim import BusyError
from diffedit.runs.edit import edit_runs
from diffedit.runs.held import AskedRun, HeldRun, check_all_done, hold_run, prepare_run
from diffedit.runs.loop import RunSettings
from diffedit.types import Backbone

log = logging.getLogger("run")

T = TypeVar("T")
K = TypeVar("K")


Tell = Callable[[AskedRun, Exception], None]


def edit_together(asked: Sequence[AskedRun], backbone: Backbone, tell: Tell) -> None:
    """Edit runs as `run_benchmark` would edit one after the other.

    Those that ask for another engine, or for a directory that another one of them asks for, come later; after all
    others, and each by itself, those that wait for another process: so nothing that is held waits for something else.

    Args:
        asked: the runs.
        backbone: the networks of all.
        tell: is given each run that fails or is refused, and the error that `run_benchmark` would have raised.
    """
    late: list[AskedRun] = []
    for part in group_by(asked, lambda run: name_engine(run.settings)):
        for same_root in transpose(group_by(part, lambda run: run.root.resolve())):
            late += edit_at_once(same_root, backbone, tell)
    for run in late:
        edit_at_once([run], backbone, tell, wait=True)


def name_engine(settings: RunSettings) -> tuple[Any, ...]:
    """What runs in one engine have in common; the sizes of a batch come later, as they may have to be measured."""
    engine = settings.max_live, settings.embedding_cache, settings.threads, settings.cpu_threads, settings.progress
    return *engine, settings.cache, settings.cache_gigabytes


def edit_at_once(asked: Sequence[AskedRun], backbone: Backbone, tell: Tell, wait: bool = False) -> list[AskedRun]:
    """Edit runs of different directories; returns those that another process is at and that shall wait for it."""
    busy: list[AskedRun] = []

    def tell_or_wait(one: AskedRun, error: Exception) -> None:
        if isinstance(error, BusyError) and one.settings.wait and not wait:
            busy.append(one)
        else:
            tell(one, error)

    held: dict[HeldRun, tuple[AskedRun, ExitStack]] = {}
    weights: Mapping[str, str] | None = None  # hashed once for all
    with ExitStack() as all_ends:  # of each run its own, also where all are stopped
        for one in asked:
            end = all_ends.enter_context(ExitStack())
            try:
                with one.log.own():
                    prepared = prepare_run(one, backbone, weights)
                    weights = prepared.config["weights"]
                    settings = replace(prepared.settings, wait=wait)
                    run = end.enter_context(hold_run(replace(prepared, settings=settings)))
            except Exception as error:
                tell_or_wait(one, error)
            else:
                held[run] = one, end
                one.log.is_open = True
        for group in group_by(held, lambda run: run.prepared.settings.batch):
            edit_group({run: held[run] for run in group}, tell_or_wait)
    return busy


def edit_group(held: dict[HeldRun, tuple[AskedRun, ExitStack]], tell: Tell) -> None:
    """Edit runs of one engine, and give each back as it ends."""

    def finish(run: HeldRun) -> None:
        one, end = held.pop(run)
        try:
            end_run(run, end)
        except Exception as error:
            tell(one, error)

    if len(held) > 1:
        log.info("edited together: %s", ", ".join(str(run.directory.root) for run in held))
    try:
        with closing(edit_runs(list(held))) as ended:
            for run in ended:
                finish(run)
    except Exception as error:  # of all that are left
        if not held:
            raise
        for run in list(held):
            run.error = error
            finish(run)


def end_run(run: HeldRun, end: ExitStack) -> None:
    """Give a run back as a `with` of its own would; what ended it, or is not whole of it, is raised."""
    with end:
        if run.error is not None:
            raise run.error
    check_all_done(run)


def group_by(items: Iterable[T], key: Callable[[T], K]) -> list[list[T]]:
    """Items with one key together, in the order of the first of each."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def transpose(groups: Sequence[Sequence[T]]) -> list[list[T]]:
    """The first of each group, the second of each that has one, and so on."""
    longest = max(map(len, groups), default=0)
    return [[group[i] for group in groups if i < len(group)] for i in range(longest)]
