"""The page of a comparison: what it says, what it shows, and that it needs nothing from elsewhere."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from helpers import edit_benchmark, make_scores
from PIL import Image

from baselines.sdedit import SDEdit
from diffedit.backbones.stable_diffusion import StableDiffusion
from diffedit.diffedit import DiffEdit
from diffedit.testing import TinyPipeline
from diffedit.types import UNEDITED, Variant
from eval.reporting.page import choose_requests, find_figures, mark_changes, write_page
from eval.scoring.finished_run import FinishedRun
from eval.stilllife.benchmarks import StillLifeScenes

RATIOS = (0.5, 1.0)  # of the runs that are edited
MEASURED = np.array([0.2, 0.4, 0.6, 0.8, 1.0])  # of those that are compared
SUCCESS = np.array([0, 0.2, 0.45, 0.65, 0.75])
HOSTILE = "</script><b onclick='x'>\"&"


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Finished runs of two methods on three scenes."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = TinyPipeline(latent=16, tokens=77).write(folder / "tiny")
    backbone = StableDiffusion.from_pretrained(str(tiny), device="cpu")
    return {
        name: edit_benchmark(folder / f"s/m/{name}/run", StillLifeScenes(size=3), editor, backbone, RATIOS, 4)
        for name, editor in (("diffedit", DiffEdit()), ("sdedit", SDEdit()))
    }


@pytest.fixture
def runs(roots):
    return {name: FinishedRun(root) for name, root in roots.items()}


@pytest.fixture
def set_lpips(monkeypatch):
    """Says what was measured: accuracy rises alike for both methods, LPIPS as given, an image's own noise apart."""

    def set_lpips(first, second, spread=0.02, top=1.0):
        random = np.random.default_rng(0)
        noise = random.normal(0, spread, (64, len(MEASURED)))

        def read(root, metric):
            values = (np.arange(64)[:, None] < 64 * SUCCESS * top).astype(float)
            if metric != "accuracy":
                last = first if root.name == "diffedit" else second
                values = 0.1 + (last - 0.1) * (MEASURED - MEASURED[0]) / np.ptp(MEASURED) + noise
                values = values + random.normal(0, spread, noise.shape)
            index = pd.MultiIndex.from_product([map(str, range(64)), [""]], names=["id", "label"])
            return pd.DataFrame(values, index, columns=list(MEASURED))

        monkeypatch.setattr("eval.reporting.seeds.read_pseudo_values", read)

    return set_lpips


def scores(*more):
    bounds = {"low": 0.4, "high": 0.6, "n": 64}
    rows = [
        (editor, Variant(ratio), metric, ratio, bounds | {"higher_is_better": metric == "accuracy"})
        for editor in ("diffedit", "sdedit")
        for ratio in RATIOS
        for metric in ("accuracy", "lpips")
    ]
    floor = {"is_bound": True, "run": "", "n": 64, "higher_is_better": False}
    return make_scores(*rows, ("copy", UNEDITED, "lpips", 0.0, floor), *more)


@pytest.mark.parametrize(
    ("first", "second", "spread", "sentence"),
    [
        (0.5, 1.0, 0.02, "DiffEdit leaves the picture closer to the input than SDEdit by 0."),
        (1.0, 0.5, 0.02, "DiffEdit leaves the picture farther from the input than SDEdit by 0."),
        (0.7, 0.7, 0.4, "no difference can be seen between DiffEdit and SDEdit at n = 64"),
    ],
)
def test_a_sentence_for_each_outcome(set_lpips, first, second, spread, sentence):
    set_lpips(first, second, spread)
    figures = [figure for figure in find_figures(scores(), "diffedit") if figure.what.startswith("LPIPS")]
    assert len(figures) == 2  # at the smallest and at the largest accuracy that both have
    assert [figure.what.rpartition(" ")[2] for figure in figures] == ["0.1", "0.6"]
    assert all(sentence in figure.sentence for figure in figures)


def test_more_and_fewer_edits(set_lpips):
    set_lpips(0.5, 1.0)
    (figure,) = (figure for figure in find_figures(scores(), "diffedit") if figure.what.startswith("accuracy"))
    assert "DiffEdit makes more of the edits that were asked for than SDEdit: the share is higher by" in figure.sentence


def test_where_nothing_is_reached_it_is_said(set_lpips):
    set_lpips(0.5, 1.0, top=0.05)
    (figure,) = (figure for figure in find_figures(scores(), "diffedit") if figure.what.startswith("LPIPS"))
    assert figure.value == "–"
    assert "SDEdit: nothing to compare at accuracy 0.1: over the strengths of these runs" in figure.sentence


def test_masks_are_told_of_where_there_are_some(set_lpips):
    set_lpips(0.5, 1.0)
    mask = ("diffedit", Variant(0.5), "mask_iou", 0.63, {"n": 64, "low": 0.6, "high": 0.66})
    figure = find_figures(scores(mask), "diffedit")[-1]
    assert figure.value == "0.63 [0.60, 0.66]"
    assert "share 63% of their union with the true ones, n = 64" in figure.sentence


class Links(HTMLParser):
    """What a page refers to, and the alternative texts of its pictures."""

    def __init__(self, page):
        super().__init__()
        self.links, self.alts, self.tags = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.links += [attributes[name] for name in ("src", "href", "srcset") if name in attributes]
        if tag == "img":
            self.alts.append(attributes["alt"])


def test_the_page_is_whole_and_safe(runs, set_lpips, tmp_path):
    """It holds figures and commands, its files are all there, and what others wrote in it is text."""
    set_lpips(0.5, 1.0)
    for run in runs.values():
        run.requests[0] = replace(run.requests[0], source=None, target=HOSTILE)
    commands = [("Try <it>:", 'diffedit edit --target "a & b"')]
    path, figures = write_page(tmp_path / "page", runs, scores(), 2, commands=commands, made=HOSTILE)
    page = path.read_text()
    assert "<b" not in page.replace("<body", "")
    assert "</script>" not in page
    assert "&lt;/script&gt;&lt;b onclick" in page
    assert "diffedit edit --target &#34;a &amp; b&#34;" in page
    assert all(figure.sentence in page for figure in figures)
    seen = Links(page)
    assert "script" not in seen.tags
    assert not [link for link in seen.links if ":" in link or link.startswith("/")]
    assert not re.search(r"https?:|url\(|@import", page)
    assert all((path.parent / unquote(link)).is_file() for link in seen.links)
    assert len(seen.alts) == 2 * (1 + 1 + 2 + 2 + 1) + 1  # input, mask, edits of each method, true edit; the curve
    assert all(seen.alts)
    assert '<html lang="en">' in page
    assert "prefers-color-scheme: dark" in page
    with Image.open(path.parent / "pictures/00000-fruits_diffedit_0.5.png") as edit:
        assert edit.size == (64, 64)


def test_requests_are_spread_over_all_kinds():
    chosen = choose_requests(192, 8)
    assert len(chosen) == 8
    assert {i % 4 for i in chosen} == {0, 1, 2, 3}  # the benchmark changes four attributes in turn
    assert choose_requests(3, 8) == [0, 1, 2]
    assert choose_requests(16, 8)[-1] < 16


def test_words_that_change_are_marked():
    assert mark_changes("a plate of pears, gray wall", "pears, dark wall") == [
        ("a plate of", "del"), ("pears,", ""), ("gray", "del"), ("dark", "ins"), ("wall", ""),
    ]  # fmt: skip
    assert mark_changes(None, "a dog") == [("a dog", "")]
