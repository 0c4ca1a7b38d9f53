"""Real photographs and masks in the true formats, through the command as a user calls it."""

import csv

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import call, said
from PIL import Image

from diffedit.io.images import ImageFile, MaskFile

BATCH = "engine.batch={predict: 16, encode: 4, decode: 4, embed: 8, custom: 4}"


def pairs(realset):
    """(picture, mask) of every pair."""
    yield realset / "diffedit/origin.png", realset / "diffedit/mask.png"
    yield realset / "bld/img.png", realset / "bld/mask.png"
    for mask in sorted((realset / "bld").glob("*/*_mask.png")):
        yield mask.with_name(mask.name.replace("_mask", "")), mask


def run(folder, tiny_folder, rows, *args):
    """(exit code, output, manifest by picture) of one run over these rows."""
    with (folder / "edits.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "source", "target", "mask"), *rows])
    table = ["benchmark=folder", f"benchmark.path={folder}/edits.csv", f"runs={folder}/runs"]
    settings = ["backbone=stable_diffusion", f"backbone.path={tiny_folder}", *table]
    done = call("run.py", *settings, "steps=4", "ratios=[0.5,1]", BATCH, *args)
    (path,) = (folder / "runs").rglob("manifest.parquet")
    return done, pd.read_parquet(path), path.parent


def test_photographs_odd_files_and_pairs(realset, tiny_folder, tmp_path):
    """Every readable file is edited, the truncated one is named, the exit code says that one failed."""
    photographs = sorted((realset / "imagenet/val").rglob("*.JPEG"))[::6][:40]
    odd, pictures = sorted((realset / "odd_files").iterdir()), [picture for picture, _ in pairs(realset)]
    assert len(photographs) == 40
    assert len(odd) == 6
    rows = [(path, "a photo", "a painting", "") for path in [*photographs, *odd, *pictures]]
    done, table, root = run(tmp_path, tiny_folder, rows)
    assert done.returncode == 1
    failed = table[table.status == "failed"]
    assert failed.id.str.startswith("truncated_jpeg-").all()
    assert failed.error.str.contains(r"odd_files/truncated_jpeg\.jpg: image file is truncated").all()
    assert "truncated_jpeg.jpg: image file is truncated" in said(done)
    assert f"{len(rows) - 1} of {len(rows)} requests done, {2 * (len(rows) - 1)} edits" in said(done)
    for row in table[table.status == "done"].itertuples():
        with Image.open(root / row.file) as picture:
            assert (picture.mode, picture.size) == ("RGB", (32, 32))
            assert np.asarray(picture).std() > 0


def test_given_masks(realset, tiny_folder, tmp_path):
    """Masks in L, LA, RGB and RGBA, soft-edged, of another size than the picture: all used, none empty or full."""
    rows = [(picture, "", "a painting", mask) for picture, mask in pairs(realset)]
    assert len(rows) == 8
    done, table, root = run(tmp_path, tiny_folder, rows, "editor/mask=given")
    assert done.returncode == 0, said(done)
    assert table.mask_area.between(0.01, 0.9).all()
    assert (table.mask_flag == "").all()
    assert len(list((root / "masks").iterdir())) == 8
    assert not (root / "maps").exists()


@pytest.mark.parametrize("editor", ["blended_latent", "blended_latent_sd2", "sdedit_given"])
def test_blended_latent_on_the_real_pairs(realset, tiny_folder, tmp_path, editor):
    """Each real mask is used; pasted, the picture outside it comes back to the byte; a text file as a mask is named."""
    rows = [(picture, "", "a painting", mask) for picture, mask in pairs(realset)]
    (tmp_path / "bad.png").write_text("not a mask")
    rows.append((rows[0][0], "", "a painting", tmp_path / "bad.png"))
    done, table, root = run(tmp_path, tiny_folder, rows, f"editor={editor}", "reconstruct=pixel_paste")
    assert done.returncode == 1
    assert "bad.png: not an image file" in said(done)
    table = table[(table.status == "done") & (table.strength == 1)]
    assert len(table) == 8
    assert (table.mask_flag == "").all()
    sources = {row[0].stem: row for row in rows[:8]}
    for row in table.itertuples():
        picture, _, _, mask = next(source for stem, source in sources.items() if row.id.startswith(stem + "-"))
        outside = MaskFile(mask, picture, 32)()[0].numpy() < 0.5
        before = (ImageFile(picture, 32)().permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        after = np.asarray(Image.open(root / row.file))
        assert np.array_equal(before[outside], after[outside])
        assert not np.array_equal(before, after)


def test_every_image_of_the_set_loads(realset):
    files = [path for path in realset.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png")]
    assert len(files) > 300
    for path in files:
        if path.name == "truncated_jpeg.jpg":
            with pytest.raises(OSError, match="truncated"):
                ImageFile(path, 32)()
        else:
            image = ImageFile(path, 32)()
            assert image.shape == (3, 32, 32)
            assert torch.isfinite(image).all()


AREAS = {
    "diffedit/mask.png": 0.366,
    "bld/mask.png": 0.183,
    "eta/gnochi_mirror_sq_mask.png": 0.601,
    "inpainting_examples/8399166846_f6fb4e4b8e_k_mask.png": 0.147,
    "inpainting_examples/alex-iby-G_Pk4D9rMLs_mask.png": 0.462,
    "inpainting_examples/bench2_mask.png": 0.138,
    "inpainting_examples/billow926-12-Wc-Zgx6Y_mask.png": 0.174,
    "inpainting_examples/overture-creations-5sI6fQgYIuo_mask.png": 0.132,
}


def test_masks_cover_what_they_cover(realset):
    """The share of the frame under each real mask, pinned after a look at the overlays."""
    areas = {
        f"{mask.parent.name}/{mask.name}": MaskFile(mask, picture, 512)().round().mean().item()
        for picture, mask in pairs(realset)
    }
    assert areas == pytest.approx(AREAS, abs=0.001)
