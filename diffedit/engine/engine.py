"""Continuous batching: many programs, one network call at a time, always of the same size.

The engine keeps a window of live programs and the queries they wait on. Each kind of query has its own constant batch
size (`diffedit.engine.sizes`); a call is filled from the oldest programs first, whatever level, prompt or request its
rows belong to, and only the tail of the work is padded. There, once all that are left fit into the window, all are
taken in, and those that have asked least go first: they walk in step, so that their long, narrow walks (one row a
step) fill calls together and end together. Pictures of different shapes have calls of their own.

Because the shape of a call never changes, a row's answer does not depend on its neighbours, as long as the libraries
below treat every place in a batch alike. They do where places divide evenly among SIMD lanes and threads (on a CPU:
powers of two of both), so the first call of each kind is made twice, its rows shifted by one.

A window of sum(size - 1) + 1 programs is enough to never pad before the requests run out: every live program waits on
at least one row, so by the pigeonhole principle some kind has a full batch. (Equal texts share one row: only an `Embed`
call may be padded earlier.) Of k shapes it takes k times as many, and has them up to `MOST_SHAPES`. Memory is bounded
by the window, not by the number of requests.

Where a call runs out of memory, its kind is halved for the rest of the engine's life and its rows are asked again.
"""

import logging
import sys
import time
import traceback
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from tqdm.auto import tqdm

from diffedit.engine.queries import (
    Kind,
    Outcome,
    Row,
    Shape,
    call_network,
    count_evaluations,
    find_shape,
    gather,
    get_kind,
    run_custom,
    split,
)
from diffedit.engine.shared import SharedWork, share_encoding
from diffedit.engine.sizes import BatchSizes
from diffedit.engine.threads import RateWatch
from diffedit.io.device import is_out_of_memory
from diffedit.types import (
    Backbone,
    Cond,
    Credit,
    Custom,
    Decode,
    EditResult,
    Embed,
    Encode,
    Keep,
    Predict,
    Program,
    Query,
    Recall,
)

log = logging.getLogger(__name__)

KINDS = (Encode, Embed, Predict, Decode)  # in the order a program passes through them
LAG = 4  # queries that one of the last programs may fall behind others before its call is padded
MOST_SHAPES = 8  # of pictures, for each of which the window has room
PATIENCE = 16  # windows of programs that may come before one of a rare shape has its calls padded, and its shard an end


Lane = tuple[Kind, int, Shape]
"""What goes into one call: a kind of query, at a number of rows, each of a shape."""


def name_kind(kind: Kind) -> str:
    """Which batch size a kind goes by."""
    return kind.__name__.lower() if isinstance(kind, type) else "custom"


def equal(one: Any, other: Any) -> bool:
    """Whether two answers are equal to the bit, NaN equal to itself; a float is a measurement (seconds)."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return isinstance(one, float) or one == other


@dataclass(eq=False)
class LiveProgram:
    """A program under way, and the query it waits on: its rows, the answers so far, the rows still to ask."""

    id: str
    program: Program[EditResult]
    evaluations: Counter[int | None] = field(default_factory=Counter)
    seconds: float = 0.0
    number: int = 0  # of the programs of a run
    query: Query | None = None
    rows: list[Row] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    todo: list[int] = field(default_factory=list)
    shape: Shape = ()  # of these rows
    picture: Shape = ()  # of the first that it asked about: programs of another one never share its calls
    asked: int = 0  # queries so far: how far it has come
    lowered: dict[str, int] = field(default_factory=dict)  # sizes of its calls that had to be smaller than set

    def wait(self, query: Query) -> None:
        self.query, self.rows = query, split(query)
        self.asked += 1
        if not self.rows:
            raise ValueError(f"a program asked {type(query).__name__} without a row")
        self.shape = find_shape(self.rows[0])
        self.picture = self.picture or self.shape
        self.answers, self.todo = [None] * len(self.rows), list(range(len(self.rows)))

    def take(self, i: int, answer: Any) -> None:
        self.answers[i] = answer
        self.todo.remove(i)
        if count := count_evaluations(self.query):
            self.evaluations[self.query.edits[i] if self.query.edits else None] += count


class Engine:
    """Runs programs against a backbone in constant batches.

    Args:
        backbone: answers the queries.
        batch: rows in a call, by kind.
        max_live: most programs alive at once; None for the smallest number that never pads early.
        embedding_cache: how many embedded texts to remember.
        progress: show a bar of edits done, evaluations a second and time left.
        pad: every call of a kind has the same size, so that a row's answer does not depend on its neighbours. False
            leaves calls as full as they are: quicker where there is little to do, and the last bits may differ.
        shared: what programs ask each other for, and earlier runs left; None where each makes its own.
        watch: notes how long each call of the denoiser takes; None where that tells nothing, as where a device answers
            later.
        check: is called before each call of a network, and may raise to stop all.
    """

    def __init__(
        self,
        backbone: Backbone,
        batch: BatchSizes | None = None,
        max_live: int | None = None,
        embedding_cache: int = 512,
        progress: bool = True,
        pad: bool = True,
        shared: SharedWork[LiveProgram] | None = None,
        watch: RateWatch | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.backbone = backbone
        self.shared = shared
        self.made: Counter[str] = Counter()  # evaluations, by purpose
        self.pad, self.watch, self.check = pad, watch, check
        self.batch = batch or BatchSizes()
        self.grows = max_live is None  # whether the window has room for several shapes
        self.max_live = self.batch.count_window() if max_live is None else max_live
        if self.max_live < 1:
            raise ValueError(f"engine.max_live = {max_live}: at least one program has to live")
        self.embedding_cache = embedding_cache
        self.progress = progress
        self.embedded: OrderedDict[str, Cond] = OrderedDict()
        self.checked: set[Lane] = set()
        self.limits: dict[tuple[str, Shape], int] = {}  # rows of a kind and shape that were found to fit the memory
        self.shapes: set[Shape] = set()  # of the pictures so far
        self.rows: Counter[str] = Counter()  # asked of the networks, padding among them
        self.padding: Counter[str] = Counter()

    def get_size(self, kind: Kind, rows: int, shape: Shape = ()) -> int:
        """Rows in the calls for a query of so many rows of a shape."""
        name = name_kind(kind)
        size = self.batch.get_size(name, rows)
        return min(size, self.limits.get((name, shape), size))

    def describe_padding(self) -> str:
        """How many rows were asked of the networks, how many of them were padding, and the shapes of pictures."""
        counts = {"rows": (self.rows.total(), self.padding.total())}
        counts |= {name: (rows, self.padding[name]) for name, rows in self.rows.most_common()}
        total, *kinds = (
            f"{rows:,} {name}, {padding:,} of them padding ({padding / max(rows, 1):.1%})"
            for name, (rows, padding) in counts.items()
        )
        shapes = f"; pictures of {len(self.shapes)} shapes" if len(self.shapes) > 1 else ""
        return f"{total}: {'; '.join(kinds)}{shapes}"

    def run(
        self, programs: Iterable[tuple[str, Program[EditResult]]], total: int = 0, edits: int = 1, unit: str = "edit"
    ) -> Iterator[Outcome]:
        """Run programs; yield how each ended, as it ends, not in their order.

        Args:
            programs: (id, program) pairs; drawn only as the window empties.
            total: how many there are, for the bar and so that the last of them can be taken in together; 0 for unknown.
            edits: how many edits each makes, for the bar.
            unit: what the bar counts.
        """
        pool = Pool(self)
        source = iter(programs)
        drawn = 0
        often = 0.1 if sys.stderr.isatty() else 10  # a log file wants a line now and then
        with tqdm(total=total * edits or None, unit=unit, disable=not self.progress, mininterval=often) as bar:
            while True:
                lane = pool.overdue() or pool.full()
                alive, window = len(pool.running) - pool.parked, pool.count_window()
                fits = total > 0 and total - drawn + alive <= window  # all that is left
                if pool.woken:
                    ended = pool.wake(pool.woken.popleft())
                elif not pool.is_last and alive < window and (lane is None or fits):
                    entry = next(source, None)
                    pool.is_last, drawn = entry is None, drawn + 1
                    ended = pool.admit(*entry) if entry else []
                elif lane := lane or pool.waiting():
                    self.check()
                    ended = pool.call(lane, pool.choose(lane))
                    bar.set_postfix_str(pool.rate(), refresh=False)
                elif pool.parked:
                    ended = pool.wake(self.shared.give_up(), [])
                else:
                    return
                bar.update(edits * len(ended))
                # The good ones first: whoever stops at an error has been handed all that was ready with it.
                yield from sorted(ended, key=lambda outcome: outcome.error is not None)


class Pool:
    """The live programs of one `Engine.run`, oldest first."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.backbone = engine, engine.backbone
        self.running: list[LiveProgram] = []
        self.admitted = 0
        self.is_last = False  # whether no more programs will come
        self.evaluations = 0
        self.woken: deque[LiveProgram] = deque()  # those whose wait for another program is over
        self.began = self.mark = time.perf_counter()

    def rate(self) -> str:
        return f"{self.evaluations / (time.perf_counter() - self.began):.1f} evaluations/s"

    def count_window(self) -> int:
        """How many programs may be alive: as many for each shape of a picture, unless the engine was told a number."""
        shapes = len({live.picture for live in self.running} - {()}) if self.engine.grows else 1
        return self.engine.max_live * min(max(shapes, 1), MOST_SHAPES)

    def get_lane(self, live: LiveProgram) -> Lane:
        """Where the rows that a program waits on go."""
        kind = get_kind(live.query)
        return kind, self.engine.get_size(kind, len(live.rows), live.shape), live.shape

    @property
    def asking(self) -> list[LiveProgram]:
        """The programs that wait for a row, and not for another program."""
        return [live for live in self.running if live.todo]

    def order(self) -> list[LiveProgram]:
        """Whose rows go first: the oldest's; of the last programs, those that have come least far."""
        return sorted(self.asking, key=lambda live: live.asked) if self.is_last else self.asking

    def choose(self, lane: Lane) -> list[tuple[LiveProgram, int]]:
        """The rows of the next call of this lane: (program, row) pairs; repeated texts do not count twice."""
        kind, size, _ = lane
        keys: set[Any] = set()
        taken: list[tuple[LiveProgram, int]] = []
        for live in self.order():
            if self.get_lane(live) == lane:
                for i in live.todo:
                    key = live.rows[i] if kind is Embed else (id(live), i)
                    if key in keys or len(keys) < size:
                        keys.add(key)
                        taken.append((live, i))
        return taken

    def full(self) -> Lane | None:
        """The lane of the next call, where some lane has a full batch: the one that is nearest to a program's end.

        Of the last programs, all walk in step: the lane whose programs have come least far; also one that is not full,
        once its programs lag so far behind that the others of its shape would leave them to walk alone.
        """
        count: Counter[Lane] = Counter()
        reached: dict[Lane, int] = {}
        pictures: dict[Lane, Shape] = {}
        texts: dict[Lane, set[Row]] = {}
        for live in self.asking:
            lane = self.get_lane(live)
            reached[lane] = min(live.asked, reached.get(lane, live.asked))
            pictures[lane] = live.picture
            if lane[0] is Embed:
                texts.setdefault(lane, set()).update(live.rows[i] for i in live.todo)
                count[lane] = len(texts[lane])
            else:
                count[lane] += len(live.todo)
        full = [lane for lane in count if count[lane] >= lane[1]]
        if not self.is_last or not full:
            return max(full, key=lambda lane: KINDS.index(lane[0]) if lane[0] in KINDS else len(KINDS), default=None)
        first = min(full, key=reached.__getitem__)
        behind = self.waiting(pictures[first])
        return behind if reached[behind] + LAG < reached[first] else first

    def overdue(self) -> Lane | None:
        """The lane of the oldest program, where others of its shape are so rare that it has waited long enough."""
        oldest = next((live for live in self.running if live.todo), None)
        if len(self.engine.shapes) < 2 or oldest is None:
            return None
        is_overdue = self.admitted - oldest.number > PATIENCE * self.engine.max_live
        return self.get_lane(oldest) if is_overdue else None

    def waiting(self, picture: Shape = ()) -> Lane | None:
        """The lane whose program has come least far, decoding last: it may still add rows to others, none to it.

        Of those with pictures of one shape, or of all: an unknown one, as before the first picture, may be any.
        """
        asking = [live for live in self.asking if not (picture and live.picture) or live.picture == picture]
        behind = min(asking, key=lambda live: (get_kind(live.query) is Decode, live.asked), default=None)
        return behind and self.get_lane(behind)

    def admit(self, name: str, program: Program[EditResult]) -> list[Outcome]:
        live = LiveProgram(name, share_encoding(program) if self.engine.shared is not None else program)
        self.admitted += 1
        live.number = self.admitted
        self.running.append(live)
        return self.advance(live)

    def call(self, lane: Lane, taken: list[tuple[LiveProgram, int]]) -> list[Outcome]:
        """One network call for these rows, padded to the constant size; the programs it completes move on."""
        kind, size, _ = lane
        batch = [live.rows[i] for live, i in taken]
        if kind is Embed:
            batch = list(dict.fromkeys(batch))
        padded = batch + [batch[-1]] * (size - len(batch) if self.engine.pad else 0)
        programs = list({id(live): live for live, _ in taken}.values())
        began = time.perf_counter()
        try:
            answers = call_network(self.backbone, kind, padded)
        except Exception as error:
            return self.recover(lane, taken, programs, error)
        if self.engine.watch is not None and kind is Predict:
            self.engine.watch.note(len(padded), time.perf_counter() - began)
        self.check_places(lane, padded, answers)
        self.account(lane, programs, len(padded), len(batch))
        self.share_time(taken)
        if kind is Embed:
            self.remember(zip(batch, answers, strict=False))
            answers = [answers[batch.index(live.rows[i])] for live, i in taken]
        for (live, i), answer in zip(taken, answers, strict=False):
            live.take(i, answer)
            if count := count_evaluations(live.query):
                self.evaluations += count
                self.engine.made[getattr(live.query, "purpose", "decoding")] += count
        return [ended for live in programs if not live.todo for ended in self.advance(live)]

    def recover(
        self, lane: Lane, taken: list[tuple[LiveProgram, int]], programs: list[LiveProgram], fault: Exception
    ) -> list[Outcome]:
        """After a call that failed: ask again in smaller calls, or each program alone, or end the one that is left."""
        kind, size, shape = lane
        if is_out_of_memory(fault):
            traceback.clear_frames(fault.__traceback__)  # they hold the tensors that did not fit
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if size > 1:
                self.lower(name_kind(kind), size, shape)
                return []  # nothing was answered: the same rows wait
            text = f"out of memory: one row in a call, and engine.batch.{name_kind(kind)} cannot be lower"
            error = RuntimeError(f"{text}; a smaller backbone.resolution or another backbone.dtype may fit")
            error.__cause__ = fault
            fault = error
        if len(programs) == 1:
            return self.end(programs[0], None, fault)
        # Whose row is bad? Ask again, one program at a time: the size stays, so the good ones get the same answers.
        # Where that runs out of memory, so that the lane is another now, the rest waits for its turn.
        alone = [[(live, i) for live, i in taken if live is one] for one in programs]
        return [ended for part in alone if self.get_lane(part[0][0]) == lane for ended in self.call(lane, part)]

    def lower(self, name: str, size: int, shape: Shape) -> None:
        """Halve the calls of a kind that did not fit the memory; those of another shape stay as they are."""
        limit = self.engine.limits[name, shape] = size // 2
        log.warning(
            "out of memory at %d rows in a call: %s goes on with %d, so the last bits differ; the records of requests "
            "that had rows in such calls say so (batch_%s). engine.batch.%s=%d asks for it at once",
            *(size, name, limit, name, name, limit),
        )

    def account(self, lane: Lane, programs: list[LiveProgram], rows: int, asked: int) -> None:
        """Count the rows of a call, and note with its programs that it was smaller than set."""
        name = name_kind(lane[0])
        self.engine.rows[name] += rows
        self.engine.padding[name] += rows - asked
        for live in programs:
            if lane[1] < self.engine.batch.get_size(name, len(live.rows)):
                live.lowered[f"batch_{name}"] = min(lane[1], live.lowered.get(f"batch_{name}", lane[1]))

    def check_places(self, lane: Lane, padded: list[Row], answers: list[Any]) -> None:
        """Warn, once a lane, where the answer to a row depends on its place in the batch."""
        if lane in self.engine.checked or not self.engine.pad:
            return
        self.engine.checked.add(lane)
        kind, size, _ = lane
        try:
            shifted = call_network(self.backbone, kind, padded[-1:] + padded[:-1])
            alike = equal(answers, shifted[1:] + shifted[:1])
        except Exception as error:
            log.warning("%s: could not check that places in a batch are alike: %s", name_kind(kind), error)
            return
        if not alike:
            log.warning(
                "%s: the last bits of an answer depend on the row's place in a batch of %d (%d threads), so results "
                "differ in them between runs of other order or neighbours; take a power of two for engine.batch.%s, "
                "and on a CPU for engine.cpu_threads",
                *(name_kind(kind), size, torch.get_num_threads(), name_kind(kind)),
            )

    def remember(self, embedded: Iterable[tuple[Row, Cond]]) -> None:
        for (text,), cond in embedded:
            self.engine.embedded[text] = cond
            if self.engine.shared is not None and not self.engine.limits:
                self.engine.shared.keep_text(text, cond)
        while len(self.engine.embedded) > self.engine.embedding_cache:
            self.engine.embedded.popitem(last=False)

    def share_time(self, taken: list[tuple[LiveProgram, int]]) -> None:
        """The wall time since the last call, in equal parts to the rows of this one."""
        now = time.perf_counter()
        for live, _ in taken:
            live.seconds += (now - self.mark) / len(taken)
        self.mark = now

    @torch.no_grad()
    def advance(self, live: LiveProgram) -> list[Outcome]:
        """Send a program the answers it waited for; what it spends itself, `Custom` included, is its own time."""
        began = time.perf_counter()
        ended = self.move(live)
        spent = time.perf_counter() - began
        live.seconds += spent
        self.mark += spent
        return self.end(live, *ended) if ended else []

    def move(self, live: LiveProgram) -> tuple[EditResult | None, Exception | None] | None:
        """On to the next query that a batch has to answer (None), or to the end: (result, error)."""
        try:
            answer = None if live.query is None else gather(live.query, live.answers)
            while True:
                query = live.program.send(answer)
                if isinstance(query, Custom):
                    answer = run_custom(query, self.backbone)
                    continue
                if isinstance(query, Recall | Keep | Credit):
                    answer = self.share(live, query)
                    if answer is None and isinstance(query, Recall):
                        live.query, live.rows, live.answers, live.todo = query, [], [], []
                        return None
                    continue
                live.wait(query)
                if live.picture:
                    self.engine.shapes.add(live.picture)
                if isinstance(query, Embed):
                    self.recall(live)
                if live.todo:
                    return None
                answer = gather(query, live.answers)
        except StopIteration as stop:
            return stop.value, None
        except Exception as error:
            return None, error

    @property
    def parked(self) -> int:
        """How many programs wait for another program, and for no row."""
        return len(self.engine.shared.waiters) if self.engine.shared is not None else 0

    def share(self, live: LiveProgram, query: Recall | Keep | Credit) -> Sequence[Any] | None:
        """Answer what a program asks of others: for a `Recall` None where it has to wait."""
        if isinstance(query, Credit):
            for edit, count in query.evaluations.items():
                live.evaluations[edit] += count
        if (shared := self.engine.shared) is None:
            return [] if isinstance(query, Recall) else None
        match query:
            case Recall():
                return shared.find(query, live)
            case Keep():
                if not self.engine.limits:  # what is shared is known by the sizes that were set
                    shared.keep(query.recall, query.items)
                self.woken.extend(shared.release(live, query.recall))
            case Credit():
                shared.recalled[query.purpose] += sum(query.evaluations.values())
        return None

    def wake(self, live: LiveProgram, known: Sequence[Any] | None = None) -> list[Outcome]:
        """A program that waited for another asks again, unless what it is told is said here."""
        known = self.engine.shared.find(live.query, live) if known is None else known
        if known is None:
            return []
        live.answers = list(known)
        return self.advance(live)

    def recall(self, live: LiveProgram) -> None:
        """Answer the texts that were embedded before."""
        for i in list(live.todo):
            (text,) = live.rows[i]
            if text not in self.engine.embedded and self.engine.shared is not None:
                self.recall_from_disk(text)
            if text in self.engine.embedded:
                self.engine.embedded.move_to_end(text)
                live.take(i, self.engine.embedded[text])

    def recall_from_disk(self, text: str) -> None:
        """Remember a text that an earlier run embedded."""
        cond = self.engine.shared.find_text(text)
        if cond is not None:
            self.engine.embedded[text] = cond.to(getattr(self.backbone, "device", "cpu"))

    def end(self, live: LiveProgram, result: EditResult | None, error: Exception | None) -> list[Outcome]:
        try:
            live.program.close()
        except Exception as failure:  # its own clean-up went wrong: its own error
            result, error = None, error or failure
        self.running.remove(live)
        if self.engine.shared is not None:
            self.woken.extend(self.engine.shared.release(live))
        if result is not None and live.lowered:
            result = replace(result, metadata={**result.metadata, **live.lowered})
        return [Outcome(live.id, result, error, live.evaluations, live.seconds)]
