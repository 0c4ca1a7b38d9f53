"""ImageNet by FlexIT's table and by WordNet siblings: made files in the true formats, and the true files."""

import csv
import json
import logging
from collections import Counter
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import composed
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from scipy.io import savemat

from baselines.bounds import Copy
from diffedit.engine.engine import BatchSizes, Engine
from diffedit.io.images import ImageFile, Resize
from diffedit.runs.directory import RunDirectory
from diffedit.sampling.noise import RequestNoise
from diffedit.types import Benchmark
from eval.benchmarks.imagenet import ImageNet, ImageNetPairs
from eval.benchmarks.imagenet_classes import Classes, read_siblings

# Two cranes, a name of two words, one with a hyphen and an apostrophe: numbers 0 to 4 in the order of the wnids.
NAMES = {
    "n02012849": "crane",
    "n02091032": "Italian_greyhound",
    "n02113186": "Cardigan",
    "n03126707": "crane",
    "n03590841": "jack-o'-lantern",
}
WNIDS = list(NAMES)
HEADER = ",path,source,source_id,target,target_id,is_test"
ROWS = [
    "7,n02012849/ILSVRC2012_val_00000001.JPEG,crane,0,crane,3,True",
    "3,n03126707/ILSVRC2012_val_00000002.JPEG,crane,3,crane,0,True",
    "12,n02113186/ILSVRC2012_val_00000003.JPEG,Cardigan,2,Italian greyhound,1,False",
    "5,n03590841/n03590841_jack-o'-lantern.JPEG,jack-o'-lantern,4,Cardigan,2,True",
]
HIERARCHY = """n01503061 n02012849
n02083346 n02091032
n02083346 n02113186
n04524313 n03126707
n04524313 n03590841
n00001740 n02083346
n02113186 n99999999
"""


@pytest.fixture
def disk(tmp_path):
    """The four pictures in folders and flat, three forms of the class index, the table, the hierarchy."""
    for i, row in enumerate(ROWS):
        path = Path(row.split(",")[1])
        for target in (tmp_path / "val" / path, tmp_path / "flat" / path.name):
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (60 * i, 0, 0)).save(target, "JPEG")
    index = {str(i): [wnid, name] for i, (wnid, name) in enumerate(NAMES.items())}
    (tmp_path / "index.json").write_text(json.dumps(index))
    spoken = {wnid: name.replace("_", " ") + ", another name" for wnid, name in NAMES.items()}
    (tmp_path / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} {name}\n" for wnid, name in spoken.items()))
    (tmp_path / "colons.txt").write_text("".join(f"{wnid} : {name}\n" for wnid, name in spoken.items()))
    (tmp_path / "queries.csv").write_text("\n".join([HEADER, *ROWS]) + "\n")
    (tmp_path / "is_a.txt").write_text(HIERARCHY)
    return tmp_path


def flexit(disk, rows=None, **settings):
    """The benchmark on the made files."""
    if rows is not None:
        (disk / "queries.csv").write_text("\n".join(rows) + "\n")
    given = {"queries": "queries.csv", "images": "val", "classes": "index.json"} | settings
    paths = ("queries", "images", "classes", "truth")
    return ImageNet(**{key: str(disk / value) if key in paths else value for key, value in given.items()})


def pairs(disk, images="val", **settings):
    paths = {"images": images, "classes": "index.json", "hierarchy": "is_a.txt"}
    return ImageNetPairs(**{key: str(disk / name) for key, name in paths.items()}, **settings)


def devkit(disk, wnids, folder="devkit"):
    """The ground truth in the devkit's form, whose numbers are in another order than the class index."""
    order = [WNIDS[i] for i in (3, 0, 4, 1, 2)]
    (disk / folder).mkdir(exist_ok=True)
    table = np.zeros(len(order), [("ILSVRC2012_ID", object), ("WNID", object), ("words", object)])
    for i, wnid in enumerate(order):
        table[i] = (i + 1, wnid, NAMES[wnid])
    savemat(disk / folder / "meta.mat", {"synsets": table})
    path = disk / folder / "ILSVRC2012_validation_ground_truth.txt"
    path.write_text("".join(f"{order.index(wnid) + 1}\n" for wnid in wnids))
    return path


def edit(benchmark, backbone, root):
    """A whole run of the cheapest method, through the engine, into a run directory: its table."""
    schedule, run = backbone.schedule(2), RunDirectory(root, {"ratios": [1.0], "seed": 0}, benchmark.version)
    engine = Engine(backbone, BatchSizes(2, 2, 2, 2, 2), progress=False)
    requests = {request.id: request for request in run.find_pending(benchmark.requests(backbone.resolution))}
    programs = ((name, Copy()(request, [1.0], schedule, RequestNoise(0, name))) for name, request in requests.items())
    for outcome in engine.run(programs, len(requests), 1):
        run.write_outcome(requests[outcome.id], outcome)
    return run.close()


def files(benchmark):
    return [request.image.path for request in benchmark.requests(16)]


@pytest.mark.parametrize("classes", ["index.json", "LOC_synset_mapping.txt", "colons.txt"])
@pytest.mark.parametrize("images", ["val", "flat"])
def test_queries_of_a_split_in_either_layout(disk, images, classes):
    benchmark = flexit(disk, images=images, classes=classes)
    assert isinstance(benchmark, Benchmark)
    one, two, three = benchmark.requests(16)
    assert len(benchmark) == 3
    assert (one.id, two.id, three.id) == ("7", "3", "5")
    assert (one.target, one.label) == ("crane", "n03126707")
    assert (two.target, two.label) == ("crane", "n02012849")
    assert (three.target, three.label) == ("Cardigan", "n02113186")
    assert one.source is None
    assert one.mask is None
    assert three.origin == "n03590841/n03590841_jack-o'-lantern.JPEG"
    assert one.image.path.relative_to(disk / images).as_posix() == ROWS[0].split(",")[1][10 * (images == "flat") :]
    assert all(path.is_file() for path in files(benchmark))
    for request in (one, two, three):
        whole = ImageFile(request.image.path, 16, Resize("crop", "bilinear"))()
        assert torch.equal(request.image(), whole)
    (dev,) = flexit(disk, images=images, classes=classes, split="dev").requests(16)
    assert (dev.id, dev.target) == ("12", "Italian greyhound")


def test_the_layout_can_be_said(disk):
    flat = flexit(disk, layout="flat")
    assert [path.parent.name for path in files(flat)] == ["val"] * 3
    folders = flexit(disk, images="flat", layout="folders")
    assert [path.parent.name for path in files(folders)] == ["n02012849", "n03126707", "n03590841"]


def test_class_conditional_ids_and_templates(disk):
    texts = [request.target for request in flexit(disk, prompt="a photo of a {class}").requests(8)]
    assert texts == ["a photo of a crane"] * 2 + ["a photo of a Cardigan"]
    assert [request.target for request in flexit(disk, prompt="{number}").requests(8)] == ["3", "0", "2"]
    assert next(request.target for request in flexit(disk, prompt="{wnid}").requests(8)) == "n03126707"
    for prompt in ("a photo", "{name}", "{", "{0}", "{}", "{class.none}"):
        with pytest.raises(ValueError, match=r"benchmark\.prompt = .*a text with {class}, {wnid} or {number}"):
            flexit(disk, prompt=prompt)


def test_wnids_in_place_of_numbers_and_a_path_without_a_folder(disk):
    row = "1,ILSVRC2012_val_00000001.JPEG,crane,n02012849,crane,n03126707,True"
    (request,) = flexit(disk, [HEADER, row]).requests(8)
    assert (request.label, request.origin) == ("n03126707", "n02012849/ILSVRC2012_val_00000001.JPEG")
    assert request.image().shape == (3, 8, 8)


def test_a_limit_takes_the_same_ones_whatever_the_order(disk):
    some = {request.id for request in flexit(disk, limit=2, seed=3).requests(8)}
    assert len(some) == len(flexit(disk, limit=2, seed=3)) == 2
    assert some == {request.id for part in ([0, 1], [1, 2]) for request in flexit(disk, range=part, seed=3).requests(8)}
    assert some == {request.id for request in flexit(disk, [HEADER, *ROWS[::-1]], limit=2, seed=3).requests(8)}
    assert len({frozenset(r.id for r in flexit(disk, limit=2, seed=seed).requests(8)) for seed in range(9)}) > 1


def test_an_absent_picture_is_the_requests_own_error(disk):
    (disk / "val" / ROWS[0].split(",")[1]).unlink()
    one, two, _ = flexit(disk).requests(8)
    with pytest.raises(FileNotFoundError, match=r"n02012849/ILSVRC2012_val_00000001\.JPEG: no such file"):
        one.image()
    assert two.image().shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([HEADER.replace(",is_test", ""), "1,a,b,0,c,1"], r"queries\.csv, line 1: no column 'is_test'; wanted are ''"),
        ([HEADER.replace("target_id", "target_no"), ROWS[0]], "no column 'target_id'"),
        (["id" + HEADER, ROWS[0]], r"no column '' \(the first, unnamed: the query's id\)"),
        (
            [HEADER, ROWS[0].replace("3,True", "n03126708,True")],
            "line 2: target_id = 'n03126708' is no class of .*json",
        ),
        ([HEADER, ROWS[0].replace("3,True", "5,True")], "line 2: target_id = '5' is no class"),
        ([HEADER, ROWS[0].replace(",0,", ",-1,")], "line 2: source_id = '-1' is no class"),
        ([HEADER, ROWS[0].replace(",0,", ",2,")], "source_id = 2 is n02113186 in .*in the order of the wnids"),
        ([HEADER, ROWS[0].replace("True", "1")], "line 2: is_test = '1' is neither True nor False"),
        ([HEADER, ROWS[0], ROWS[1], ROWS[0]], "line 4: the id '7' is on line 2 already"),
        ([HEADER, ROWS[0][1:]], "line 2: the query's id or its path is empty"),
        ([HEADER, ROWS[0] + ",more"], "line 2: not as many cells"),
        ([HEADER, '1,"a" b,crane,0,crane,3,True'], "line 2: not CSV"),
        ([HEADER, ROWS[2]], "no queries of benchmark.split = test"),
        (["version https://git-lfs.github.com/spec/v1", "oid sha256:0", "size 1"], r"queries\.csv: a git-LFS pointer"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(disk, rows, message):
    with pytest.raises(ValueError, match=message):
        flexit(disk, rows)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"c\.json: a git-LFS pointer"),
        ("c.json", '{"0": ["n01440764"', "not JSON"),
        ("c.json", '["tench"]', "not a class index"),
        ("c.json", '{"0": "tench"}', "not a class index"),
        ("c.json", '{"0": ["tench", "n01440764"]}', "not a wnid and a name"),
        ("c.json", '{"0": ["n01440764", "a"], "1": ["n01440764", "b"]}', "n01440764 or number 1 occurs twice"),
        ("c.txt", "n01440764 tench\nn01440764 tench\n", "n01440764 or number 1 occurs twice"),
        ("c.txt", "n01440764\n", "'n01440764': 'n01440764' and '' are not a wnid and a name; wanted"),
        ("c.txt", "{0: 'tench, Tinca tinca',\n", "are not a wnid and a name; wanted"),
        ("c.txt", "\n", "no classes there"),
    ],
)
def test_a_bad_class_index_is_refused(disk, name, text, message):
    (disk / name).write_text(text)
    with pytest.raises(ValueError, match=rf"benchmark\.classes = .*{message}"):
        flexit(disk, classes=name)


def test_files_that_are_not_there_or_not_text(disk):
    for key in ("queries", "classes", "truth"):
        with pytest.raises(FileNotFoundError, match=rf"benchmark\.{key} = .*none: no such file"):
            flexit(disk, **{key: "none"})
    with pytest.raises(FileNotFoundError, match=r"benchmark\.images = .*none: no such folder"):
        flexit(disk, images="none")
    with pytest.raises(ValueError, match=r"val_00000001\.JPEG: not UTF-8"):
        flexit(disk, classes="flat/ILSVRC2012_val_00000001.JPEG")


def test_the_ground_truth_checks_the_table(disk):
    right = [WNIDS[0], WNIDS[3], WNIDS[2]]
    assert len(flexit(disk, truth=str(devkit(disk, right)))) == 3
    wrong = devkit(disk, [WNIDS[3], *right[1:]])
    with pytest.raises(
        ValueError, match=r"line 2: .*00000001\.JPEG is of n02012849 here, of n03126707 in benchmark.tr"
    ):
        flexit(disk, truth=str(wrong))
    kaggle = disk / "LOC_val_solution.csv"
    kaggle.write_text("ImageId,PredictionString\nILSVRC2012_val_00000002,n03126707 1 2 3 4 \n")
    assert len(flexit(disk, truth=str(kaggle))) == 3
    kaggle.write_text("ImageId,PredictionString\nILSVRC2012_val_00000002,n00000000 1 2 3 4 \n")
    with pytest.raises(ValueError, match=r"ILSVRC2012_val_00000002 is of 'n00000000', a class not in .*index\.json"):
        flexit(disk, truth=str(kaggle))
    wrong.write_text("6\n")
    with pytest.raises(ValueError, match=r"line 1: '6' is no ILSVRC2012_ID of meta\.mat"):
        flexit(disk, truth=str(wrong))
    wrong.with_name("meta.mat").write_bytes(b"no matrix, and long enough to be read as one" * 9)
    with pytest.raises(ValueError, match=r"meta\.mat: not the devkit's"):
        flexit(disk, truth=str(wrong))
    wrong.with_name("meta.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"meta\.mat: no such file; the devkit has it beside"):
        flexit(disk, truth=str(wrong))


def test_siblings_share_a_parent(disk):
    by_class = read_siblings(disk / "is_a.txt", Classes(disk / "index.json"))
    greyhound, cardigan, crane, lantern = (WNIDS[i] for i in (1, 2, 3, 4))
    assert by_class == {greyhound: [cardigan], cardigan: [greyhound], crane: [lantern], lantern: [crane]}


def test_pairs_take_turns_and_depend_on_nothing_but_seed_and_names(disk, caplog):
    family = [*WNIDS[1:3], WNIDS[4]]
    (disk / "is_a.txt").write_text("".join(f"n02083346 {wnid}\n" for wnid in family))
    for wnid in family:
        (disk / "val" / wnid).mkdir(exist_ok=True)
        for i in range(3):
            Image.new("RGB", (8, 8)).save(disk / "val" / wnid / f"{wnid}_{i}.JPEG")
        (disk / "val" / wnid / "metadata.txt").write_text("no picture")
    with caplog.at_level(logging.WARNING, "imagenet"):
        benchmark = pairs(disk)
    assert not caplog.records
    assert isinstance(benchmark, Benchmark)
    requests = list(benchmark.requests(8))
    assert len(requests) == len(benchmark) == len({request.id for request in requests}) == 12
    assert Counter(request.label for request in requests) == dict.fromkeys(family, 4)
    for target in family:
        sources = [request.origin.split("/")[0] for request in requests if request.label == target]
        assert sources[:2] == sources[2:]
        assert {target, *sources} == set(family)
    assert all(request.image().shape == (3, 8, 8) and request.source is None for request in requests)
    assert [request.id for request in pairs(disk).requests(8)] == [request.id for request in requests]
    assert {request.id for request in pairs(disk, seed=1).requests(8)} != {request.id for request in requests}
    assert {request.id for request in pairs(disk, per_class=2).requests(8)} < {request.id for request in requests}
    assert len(pairs(disk, limit=5)) == 5
    assert [query.id for query in pairs(disk, range=[2, 5]).entries] == [
        query.id for query in pairs(disk, limit=5).entries
    ][2:]
    with caplog.at_level(logging.WARNING, "imagenet"):
        assert len(pairs(disk, per_class=9)) < 27
    assert "3 classes have too few pictures of siblings for per_class = 9" in caplog.text


def test_pairs_of_a_flat_folder_need_the_truth(disk):
    with pytest.raises(ValueError, match=r"no folders named by wnid there.*benchmark\.truth="):
        pairs(disk, "flat")
    truth = devkit(disk, [WNIDS[3], WNIDS[4], WNIDS[1]])
    requests = list(pairs(disk, "flat", truth=str(truth)).requests(8))
    assert sorted((request.label, request.origin.split("_")[-1]) for request in requests) == [
        (WNIDS[2], "00000003.JPEG"),
        (WNIDS[3], "00000002.JPEG"),
        (WNIDS[4], "00000001.JPEG"),
    ]
    assert all(request.image().shape == (3, 8, 8) for request in requests)


def test_pairs_that_cannot_be(disk):
    with pytest.raises(ValueError, match="per_class = 0: it should be a whole number from 1 on"):
        pairs(disk, per_class=0)
    (disk / "is_a.txt").write_text("n02083346 n02091032 n02113186\n")
    with pytest.raises(ValueError, match=r"is_a\.txt, line 1: .* is not 'parent child'"):
        pairs(disk)
    (disk / "is_a.txt").write_text("n02083346 n02091032\n")
    with pytest.raises(ValueError, match=r"no two classes of .*index\.json share a parent"):
        pairs(disk)
    (disk / "is_a.txt").write_text("n02083346 n02091032\nn02083346 n03590841\n")
    (disk / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no pictures of a class with a sibling"):
        pairs(disk, "empty", layout="folders")


@pytest.mark.parametrize("images", ["val", "flat"])
def test_made_files_end_to_end(disk, analytic, tmp_path, images):
    """The same run from either layout, to the byte; an absent picture fails alone."""
    (disk / images / ROWS[1].split(",")[1][10 * (images == "flat") :]).unlink()
    table = edit(flexit(disk, images=images), analytic, tmp_path / "run")
    assert dict(zip(table.id, table.status, strict=True)) == {"7": "done", "3": "failed", "5": "done"}
    assert "ILSVRC2012_val_00000002.JPEG: no such file" in table.error[table.id == "3"].item()


@pytest.mark.parametrize("name", ["imagenet", "imagenet_pairs"])
def test_a_yaml_lists_every_field_with_its_default(disk, name):
    given = {"queries": "queries.csv", "images": "val", "classes": "index.json", "hierarchy": "is_a.txt"}
    settings = OmegaConf.to_container(composed(f"benchmark={name}").benchmark)
    given = {key: str(disk / value) for key, value in given.items() if key in settings}
    built = instantiate(settings | given, _convert_="all")
    options = [option for option in fields(built) if option.init]
    assert set(settings) - {"_target_"} == {option.name for option in options}
    assert {key for key, value in settings.items() if value == "???"} == {
        option.name for option in options if option.default is MISSING
    }
    assert built == type(built)(**given)


def true_files(realset, queries="queries.csv"):
    return {
        "queries": str(realset / "flexit" / queries),
        "images": str(realset / "imagenet/val"),
        "classes": str(realset / "wordnet/imagenet_class_index.json"),
    }


def test_flexits_table(realset):
    """2,184 queries: 273 targets, 4 pictures of each in either split."""
    splits = [ImageNet(**true_files(realset), split=split) for split in ("test", "dev")]
    by_split = [list(benchmark.requests(256)) for benchmark in splits]
    assert [len(requests) for requests in by_split] == [len(benchmark) for benchmark in splits] == [1092, 1092]
    for requests in by_split:
        counts = Counter(request.label for request in requests)
        assert (len(counts), set(counts.values())) == (273, {4})
    ids = {request.id for requests in by_split for request in requests}
    assert len(ids) == len({request.origin for requests in by_split for request in requests}) == 2184
    with open(true_files(realset)["queries"], newline="") as file:
        named = {row[""]: row["target"] for row in csv.DictReader(file)}
    assert {request.id: request.target for requests in by_split for request in requests} == named


def test_true_class_indexes_agree(realset):
    one = Classes(realset / "wordnet/imagenet_class_index.json")
    other = Classes(realset / "wordnet/LOC_synset_mapping.txt")
    assert one.by_number == other.by_number
    assert len(one.by_wnid) == 1000
    twice = Counter(entry.name for entry in one.by_wnid.values())
    assert {name for name, count in twice.items() if count > 1} == {"crane", "maillot"}


def test_the_true_pictures_end_to_end(realset, tiny, tmp_path):
    """All 42 queries whose picture is here, in the true format, through the tiny pipeline."""
    for split in ("test", "dev"):
        benchmark = ImageNet(**true_files(realset, "queries_present.csv"), split=split)
        assert len(benchmark) == 21
        table = edit(benchmark, tiny, tmp_path / split)
        assert list(table.status) == ["done"] * 21
        for request in benchmark.requests(32):
            stored = np.asarray(Image.open(tmp_path / split / f"images/1/{request.id}.png"))
            assert np.array_equal(stored, (request.image() * 255).round().byte().permute(1, 2, 0).numpy())
            assert request.image.path.is_file()


@pytest.mark.parametrize("hierarchy", ["hierarchy_modified", "hierarchy_wordnet"])
def test_true_hierarchies(realset, hierarchy):
    """Pairs of the pictures that are here; every one opens, those with an apostrophe too."""
    files = {key: value for key, value in true_files(realset).items() if key != "queries"}
    path = realset / "wordnet" / hierarchy / "class_hierarchy.txt"
    by_class = read_siblings(path, Classes(Path(files["classes"])))
    assert len(by_class) == {"hierarchy_modified": 699, "hierarchy_wordnet": 677}[hierarchy]
    benchmark = ImageNetPairs(**files, hierarchy=str(path), per_class=2)
    requests = list(benchmark.requests(32))
    assert len({request.id for request in requests}) == len(requests) > 300
    assert all(request.origin.split("/")[0] in by_class[request.label] for request in requests)
    assert all(request.image.path.is_file() for request in requests)
    quoted = [request for request in requests if "'" in request.origin]
    assert quoted
    assert all(request.image().shape == (3, 32, 32) for request in quoted)


# ------------------------------------------------------------------------------------------------------------- retrieve


def retrieved(benchmark):
    """The names of what is retrieved, by the target's label."""
    return {
        request.label: request.retrieved and request.retrieved.path.name for request in benchmark.requests(16)
    }  # fmt: skip


def test_a_real_picture_of_the_target_class_is_retrieved_from_folders(disk):
    expected = {
        "n03126707": "ILSVRC2012_val_00000002.JPEG",
        "n02012849": "ILSVRC2012_val_00000001.JPEG",
        "n02113186": "ILSVRC2012_val_00000003.JPEG",
    }
    assert retrieved(flexit(disk)) == expected
    flat = retrieved(flexit(disk, images="flat"))
    assert flat == expected | {"n02113186": None}  # no query of the split says its class
    request = next(flexit(disk).requests(16))
    assert torch.equal(request.retrieved(), ImageFile(request.retrieved.path, 16, Resize("crop", "bilinear"))())


def test_which_one_of_several_is_drawn_for_each_request_alone(disk):
    for i in range(20):
        Image.new("RGB", (20, 20), (10 * i, 0, 0)).save(disk / f"val/n03126707/extra_{i:02d}.JPEG")
        Image.new("RGB", (20, 20), (10 * i, 0, 0)).save(disk / f"val/n02012849/extra_{i:02d}.JPEG")
    one = retrieved(flexit(disk))
    assert one == retrieved(flexit(disk))
    assert {label: one[label] for label in retrieved(flexit(disk, limit=2))} == retrieved(flexit(disk, limit=2))
    assert len({retrieved(flexit(disk, seed=seed))["n03126707"] for seed in range(12)}) > 4


def test_true_pictures_are_retrieved_from_the_files_of_the_benchmark(realset):
    benchmark = ImageNet(**true_files(realset, "queries_present.csv"))
    found = [request for request in benchmark.requests(16) if request.retrieved is not None]
    assert found
    for request in found:
        assert request.retrieved.path.parent.name == request.label
        assert request.retrieved.path != request.image.path
        assert request.retrieved().shape == (3, 16, 16)
