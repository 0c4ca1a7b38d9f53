"""Prompts with one slot changed, and the pictures that the model draws from them."""

import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import composed, config
from hydra.utils import instantiate
from omegaconf import OmegaConf

from baselines.bounds import Copy
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.runs.directory import RunDirectory
from diffedit.sampling.noise import RequestNoise
from diffedit.text_to_image import TextToImage
from diffedit.types import Variant
from eval.benchmarks.generated import Generated
from eval.benchmarks.grammar import Grammar
from eval.scoring.finished_run import FinishedRun
from eval.scoring.reference import References
from eval.stilllife.generated import StillLifeGenerated, parse_caption
from eval.stilllife.scene import FRUITS, TABLES, VESSELS, WALLS, Scene, sample

PETS = {"colour": ["red", "blue"], "pet": ["cat", "dog", "hen"], "place": ["at sea"]}


@dataclass
class Painter:
    """A text_to_image that remembers what it was asked for, and is killed after `most` pictures."""

    most: int = 1000
    texts: dict[str, str] = field(default_factory=dict)
    fingerprint: str = "painter"

    def __call__(self, texts):
        for name, text in itertools.islice(texts.items(), self.most):
            self.texts[name] = text
            seed = int(hashlib.sha256(f"{name} {text}".encode()).hexdigest()[:8], 16)
            yield name, torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed))
        if len(texts) > self.most:
            raise KeyboardInterrupt


def grammar(name):
    return instantiate(composed("benchmark=generated", f"benchmark/grammar={name}").benchmark.grammar, _convert_="all")


def imagen(**settings):
    return Generated(Painter(), grammar("imagen"), **settings)


def pets(cache, text_to_image=None, **settings):
    return Generated(
        text_to_image or Painter(), Grammar("a {colour} {pet} {place}", PETS), cache=str(cache), **settings
    )


def targets(benchmark):
    return {change.source: change.target for change in benchmark.changes}


def slot(change):
    return change.id.split("-")[1]


# ------------------------------------------------------------------------------------------------------------ prompts


def test_the_papers_prompts():
    imagen_grammar = grammar("imagen")
    prompts = [imagen_grammar.prompt(values) for values in imagen_grammar.combinations()]
    assert len(imagen_grammar) == len(prompts) == len(set(prompts)) == 360
    assert prompts[0] == "A photo of a fuzzy panda wearing a cowboy hat and red shirt playing a guitar in a garden"
    assert (
        prompts[-1]
        == "An oil painting of a raccoon wearing sunglasses and black jacket skateboarding on top of a mountain"
    )


def test_the_prompts_of_still_life_are_captions():
    """Every scene with a vessel and one of eight kinds, in the words that its model learnt."""
    captions_grammar = grammar("stilllife")
    kinds = [kind for kind, plural in FRUITS.items() if plural in captions_grammar.slots["fruits"]]
    parts = itertools.product(VESSELS[:3], kinds, TABLES, WALLS)
    captions = {Scene((kind,), vessel, table, wall, 0).caption() for vessel, kind, table, wall in parts}
    assert {captions_grammar.prompt(values) for values in captions_grammar.combinations()} == captions
    assert len(kinds) == 8
    assert len(captions) == 384


def test_a_caption_is_understood():
    for seed in range(200):
        scene = sample(seed)
        assert replace(parse_caption(scene.caption()), seed=seed) == scene


@pytest.mark.parametrize(
    "text", ["a bowl of mangos on a wooden table, gray wall", "a cat", "a cup of pears on a desk, red wall"]
)
def test_what_is_no_caption_is_refused(text):
    with pytest.raises(ValueError, match=f"benchmark.grammar: '{text}' is no caption"):
        parse_caption(text)


def test_white_space_becomes_single_blanks():
    pets_grammar = Grammar("a  {colour}\n{pet} ", {"colour": [" red", "dark  blue"], "pet": ["cat"]})
    assert [pets_grammar.prompt(values) for values in pets_grammar.combinations()] == ["a red cat", "a dark blue cat"]


@pytest.mark.parametrize(
    ("template", "slots", "message"),
    [
        ("{a} {b}", {"a": ["x", "y"]}, r"\.template = '\{a\} \{b\}': no slot for 'b'"),
        ("{a}", {"a": ["x", "y"], "b": ["z"]}, r"\.template.*no place for the slot 'b'"),
        ("{a} {}", {"a": ["x", "y"]}, "no slot for ''"),
        ("{a", {"a": ["x", "y"]}, r"\.template = '\{a': expected '}'"),
        ("{a!r}", {"a": ["x", "y"]}, r"\.template.*'a': the name alone"),
        ("{a:>9}", {"a": ["x", "y"]}, "'a': the name alone"),
        ("{a}", {"a": []}, r"\.slots\.a = \[\]: a list of at least one"),
        ("{a}", {"a": "xy"}, r"\.slots\.a = 'xy': a list"),
        ("{a}", {"a": ["x", " "]}, r"\.slots\.a: the value ' ' is blank"),
        ("{a}", {"a": ["x", True]}, r"\.slots\.a: the value True is blank or no text"),
        ("{a}", {"a": ["x y", "z", "x  y"]}, r"\.slots\.a: 'x y' is there more than once"),
        ("{a} {b}", {"a": ["x"], "b": ["y"]}, r"\.slots: one value in each"),
        ("{a} {b}", {"a": ["x", "x y"], "b": ["y z", "z"]}, r"\.slots: .* give the same prompt 'x y z'"),
    ],
)  # fmt: skip
def test_a_bad_grammar_is_refused(template, slots, message):
    with pytest.raises(ValueError, match=rf"benchmark\.grammar.*{message}"):
        Grammar(template, slots)


# -------------------------------------------------------------------------------------------------------------- edits


def test_one_slot_of_every_prompt_is_changed():
    benchmark = imagen()
    values = {benchmark.grammar.prompt(filling): filling for filling in benchmark.grammar.combinations()}
    assert [change.source for change in benchmark.changes] == list(values)
    assert [int(change.id.split("-")[0]) for change in benchmark.changes] == list(range(360))
    for change in benchmark.changes:
        before, after = values[change.source], values[change.target]
        assert [name for name in before if before[name] != after[name]] == [slot(change)]


def test_slots_and_values_are_balanced_over_all_and_every_limit():
    whole = imagen(limit=360)
    values = {whole.grammar.prompt(filling): filling for filling in whole.grammar.combinations()}
    slots, turns = Counter(dict.fromkeys(whole.grammar.slots, 0)), {}
    for name, options in whole.grammar.slots.items():
        for old in options:
            turns[name, old] = Counter({new: 0 for new in options if new != old})
    for change in whole.changes:
        name = slot(change)
        slots[name] += 1
        turn = turns[name, values[change.source][name]]
        turn[values[change.target][name]] += 1
        for counts in (slots, turn):
            assert max(counts.values()) - min(counts.values()) <= 1
    assert set(slots.values()) == {60}


@pytest.mark.parametrize("part", [(0, 7), (100, 117), (350, 400)])
def test_slots_are_balanced_over_every_range(part):
    counts = Counter(map(slot, imagen(range=part, edits=["subject", "activity", "place"]).changes))
    assert len(counts) == 3
    assert max(counts.values()) - min(counts.values()) <= 1


def test_requests_are_pinned():
    """On any machine: published figures rest on them."""
    first, second = imagen(limit=2).changes
    assert first.id == "158-medium"
    assert second.id == "253-subject"
    assert second.target.startswith(
        "An oil painting of a fuzzy panda wearing a cowboy hat and red shirt playing a guitar"
    )
    assert (first.input_name, first.reference_name) == ("136e98578008921f", "22bc112834d751c8-136e98578008921f")


def test_an_edit_depends_on_the_seed_and_its_own_prompt_alone():
    imagen_grammar = grammar("imagen")
    turned = replace(imagen_grammar, slots={name: values[::-1] for name, values in imagen_grammar.slots.items()})
    assert targets(imagen()) == targets(replace(imagen(), grammar=turned)) != targets(imagen(seed=1))


def test_limits_and_ranges_take_from_one_permutation():
    whole = imagen().changes
    parts = [imagen(range=part).changes for part in ((0, 100), (100, 300), (300, 360))]
    joined = list(itertools.chain(*parts))
    assert joined != whole
    assert sorted(joined) == sorted(whole)
    assert imagen(limit=120).changes == joined[:120]
    assert imagen(limit=5, seed=1).changes != joined[:5]


def test_slots_that_may_be_changed():
    assert {slot(change) for change in imagen(edits=["place", "subject"]).changes} == {"place", "subject"}
    assert {slot(change) for change in pets("none").changes} == {"colour", "pet"}


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (["pet", "tail"], r"'tail'; the slots that can be changed, each named once: colour, pet$"),
        (["place"], "'place'; the slots"),
        (["pet", "pet"], "'pet'; the slots"),
        ([], "none given; the slots"),
    ],
)
def test_slots_that_cannot_be_changed_are_refused(edits, message):
    with pytest.raises(ValueError, match=rf"benchmark\.edits = .*: {message}"):
        pets("none", edits=edits)


def test_metrics_know_what_a_caption_says(tmp_path):
    benchmark = StillLifeGenerated(Painter(), grammar("stilllife"), cache=str(tmp_path), limit=40)
    assert (benchmark.domain, imagen().domain) == ("stilllife", None)
    truths = dict(benchmark.ground_truths())
    assert {request.id: request.ground_truth for request in benchmark.requests(8)} == truths
    assert list(truths) == [change.id for change in benchmark.changes]
    for change in benchmark.changes:
        truth = truths[change.id]
        assert truth.attribute == slot(change)
        assert (truth.before.caption(), truth.after.caption()) == (change.source, change.target)
    of_pets = Grammar("a {colour} {pet} {place}", PETS)
    with pytest.raises(ValueError, match=r"benchmark\.grammar: 'a red cat at sea' is no caption"):
        StillLifeGenerated(Painter(), of_pets)


# ----------------------------------------------------------------------------------------------------------- pictures


def test_only_what_is_needed_is_drawn_in_one_pass_and_once(tmp_path):
    benchmark = pets(tmp_path, limit=2)
    requests = list(benchmark.requests(8))
    assert len(requests) == 2
    assert len(benchmark.text_to_image.texts) == len(files(tmp_path)) == 4
    assert [benchmark.text_to_image.texts[Path(request.origin).stem] for request in requests] == [
        request.source for request in requests
    ]
    assert {Path(request.origin).parent.name for request in requests} == {"painter"}
    assert requests[0].image().shape == (3, 8, 8)
    assert next(benchmark.requests(16)).image().shape == (3, 16, 16)
    again = pets(tmp_path, limit=3)
    list(again.requests(8))
    list(again.reference(3, 8))
    assert len(again.text_to_image.texts) == 2
    assert len(files(tmp_path)) == 6


def test_grammars_that_share_prompts_share_pictures(tmp_path):
    list(pets(tmp_path).requests(8))
    fewer = Grammar("a {colour} {pet} at sea", {"colour": ["blue", "red"], "pet": ["cat", "cow"]})
    other = Generated(Painter(), fewer, cache=str(tmp_path))
    list(other.requests(8))
    inputs = {name: text for name, text in other.text_to_image.texts.items() if "-" not in name}
    assert set(inputs.values()) == {"a red cow at sea", "a blue cow at sea"}


def test_a_kill_in_the_middle_loses_nothing_that_is_drawn(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        list(pets(tmp_path / "a", Painter(most=5)).requests(8))
    kept = files(tmp_path / "a")
    assert len(kept) == 5
    rest = pets(tmp_path / "a")
    list(rest.requests(8))
    list(pets(tmp_path / "b").requests(8))
    assert len(rest.text_to_image.texts) == 7
    assert not set(kept) & set(rest.text_to_image.texts)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_the_reference_is_what_the_model_makes_of_the_targets(tmp_path):
    benchmark = pets(tmp_path)
    assert benchmark.has_reference
    pictures = list(benchmark.reference(100, 8))
    requests = list(benchmark.requests(8))
    assert len(pictures) == len(requests) == 6
    assert {label for label, _ in pictures} == {""}
    distinct = {
        image.numpy().tobytes()
        for image in [picture for _, picture in pictures] + [request.image() for request in requests]
    }
    assert len(distinct) == 12
    drawn = [text for name, text in benchmark.text_to_image.texts.items() if "-" in name]
    assert sorted(drawn) == sorted(request.target for request in requests)
    assert len(set(drawn)) < 6  # one target of two requests has two pictures


def test_a_part_of_the_reference_is_of_the_permutations_first(tmp_path):
    few, whole = pets(tmp_path, limit=2), pets(tmp_path)
    same = zip(few.reference(2, 8), whole.reference(2, 8), strict=True)
    assert all(torch.equal(one, other) for (_, one), (_, other) in same)


def test_a_picture_that_is_not_there_is_named_where_nothing_may_be_drawn(tmp_path):
    benchmark = pets(tmp_path).read_only()
    assert benchmark == pets(tmp_path, benchmark.text_to_image, generate_missing=False)
    requests = list(benchmark.requests(8))
    message = r"painter/\w+(-\w+)?\.png: no such file, and benchmark\.generate_missing is false.* start the run again"
    with pytest.raises(FileNotFoundError, match=message):
        requests[0].image()
    with pytest.raises(FileNotFoundError, match=message):
        next(benchmark.reference(1, 8))
    assert not benchmark.text_to_image.texts


@pytest.mark.parametrize("size", [0, 40, -5])
def test_a_picture_that_is_cut_short_is_drawn_again(tmp_path, size):
    """By the next start, with the same bytes."""
    list(pets(tmp_path).requests(8))
    before = files(tmp_path)
    path = sorted(tmp_path.rglob("*.png"))[1]
    path.write_bytes(path.read_bytes()[:size])
    benchmark = pets(tmp_path)
    list(benchmark.requests(8))
    assert list(benchmark.text_to_image.texts) == [path.stem]
    assert files(tmp_path) == before


def files(folder):
    return {path.stem: path.read_bytes() for path in Path(folder).rglob("*.png")}


def test_pictures_of_a_model_are_drawn_edited_and_seen_by_a_score(tiny_folder, tiny, tmp_path, monkeypatch):
    text_to_image = {
        "_target_": "diffedit.text_to_image.TextToImage",
        "_recursive_": False,
        "backbone": config(tiny_folder),
    }
    settings = {
        "_target_": "eval.benchmarks.generated.Generated",
        "text_to_image": text_to_image | {"steps": 2, "batch": 4},
        "grammar": {"_target_": "eval.benchmarks.grammar.Grammar", "template": "{colour} {pet} {place}", "slots": PETS},
        "cache": str(tmp_path / "cache"),
        "generate_missing": True,
        "limit": 3,
    }
    benchmark = instantiate(settings, _convert_="all")
    run = RunDirectory(tmp_path / "run", {"ratios": [0.5], "benchmark": settings}, benchmark.version)
    requests = {request.id: request for request in run.find_pending(benchmark.requests(tiny.resolution))}
    programs = [
        (request.id, Copy()(request, [0.5], tiny.schedule(2), RequestNoise(0, request.id)))
        for request in requests.values()
    ]
    for outcome in Engine(tiny, BatchSizes(), progress=False).run(programs):
        run.write_outcome(requests[outcome.id], outcome)
    run.close()
    monkeypatch.setattr(TextToImage, "__call__", lambda *_: pytest.fail("a score never draws"))
    finished = FinishedRun(tmp_path / "run")
    finished.check()
    (batch,) = (batches[Variant(0.5)] for batches in finished.batches(4))
    assert torch.equal(batch.inputs, batch.edits)
    assert len(torch.unique(batch.inputs, dim=0)) == 3
    assert len(list(finished.benchmark.reference(9, 32))) == 3
    (tmp_path / "cache" / benchmark.text_to_image.fingerprint / f"{benchmark.changes[1].input_name}.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"\.png: no such file, and benchmark\.generate_missing is false"):
        list(FinishedRun(tmp_path / "run").batches(4))


def test_a_yaml_lists_every_field_with_its_default():
    cfg = composed("benchmark=generated").benchmark
    built, settings = instantiate(cfg, _convert_="all"), OmegaConf.to_container(cfg)
    for part, keys in ((built, settings), (built.grammar, settings["grammar"])):
        assert set(keys) - {"_target_"} == {one.name for one in fields(part) if one.init}
    assert built == Generated(built.text_to_image, built.grammar)
    assert set(settings["text_to_image"]) - {"_target_", "_recursive_"} == {
        one.name for one in fields(built.text_to_image)
    }


def test_statistics_of_other_weights_are_others(tmp_path, monkeypatch):
    """Retrained weights in the same folder draw other pictures under the same settings."""

    def stop(*_):
        raise InterruptedError

    paths = []
    made = SimpleNamespace(to_bytes=lambda: b"statistics")
    network = SimpleNamespace(name="network", hash="network", prepare=str, features=str)
    monkeypatch.setattr("eval.scoring.reference.compute_reference", lambda *_: made)
    monkeypatch.setattr("eval.scoring.reference.write", lambda path, _: paths.append(path) or stop())
    for fingerprint in ("one", "one", "other"):
        benchmark = pets(tmp_path, Painter(fingerprint=fingerprint))
        with pytest.raises(InterruptedError):
            References(benchmark, "pets", 8, ("",), tmp_path)(network, 4)
    assert paths[0] == paths[1] != paths[2]
