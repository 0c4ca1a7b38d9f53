"""Three methods on one picture, at the same strengths and from the same noise: `python examples/compare_methods.py`."""

# %% A model and a picture, as in edit_one_picture.py; this one knows its own exact edit.
import pandas as pd
from diffusers import StableDiffusionPipeline

import diffedit
from diffedit.io.files import resolve_path
from diffedit.io.images import to_pil, to_tensor
from eval.metrics.functional.pairwise import PerceptualDistance
from eval.reporting.contact_sheet import draw_sheet
from eval.stilllife.benchmarks import StillLifeScenes
from eval.stilllife.network import load

pipe = StableDiffusionPipeline.from_pretrained(resolve_path("weights/stilllife"), safety_checker=None)
scene = list(StillLifeScenes(size=4).requests(64))[3]
image, exact = to_pil(scene.image()), to_pil(scene.true_edit())

# %% The same call for each; a name of `diffedit ls editor`, or an object.
methods = {
    "DiffEdit": "diffedit",
    "DiffEdit w/o Encode": diffedit.DiffEdit(start="noise"),
    "SDEdit": "sdedit",
}
ratios = [0.3, 0.5, 0.7, 0.9]
results = {
    name: diffedit.edit(pipe, image, scene.target, scene.source, ratio=ratios, editor=editor, num_inference_steps=20)
    for name, editor in methods.items()
}

# %% How far each edit is from the input, and from the exact edit, by LPIPS on a network that knows such pictures.
distance = PerceptualDistance(load("weights/stilllife_features"))


def measure(one, other):
    """LPIPS of two pictures."""
    return distance(to_tensor(one)[None], to_tensor(other)[None]).item()


rows = [
    {"method": name, "ratio": r, "to the input": measure(edit, image), "to the exact edit": measure(edit, exact)}
    for name, result in results.items()
    for r, edit in result.images.items()
]
table = pd.DataFrame(rows).set_index(["method", "ratio"])
print(table.round(3))

# %% And to look at: input and exact edit first, then a row a method.
sheet = [[("input", image), (f"exact: {scene.target}", exact)]]
sheet += [[(f"{name}, {r}", edit) for r, edit in result.images.items()] for name, result in results.items()]
draw_sheet(sheet, f"{scene.source} -> {scene.target}").save("methods.png")
