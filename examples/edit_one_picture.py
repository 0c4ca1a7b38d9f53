"""Edit one picture: cell by cell in an editor that knows `# %%`, or whole by `python examples/edit_one_picture.py`."""

# %% A model and a picture. Here those that come with the project, which need a second on a CPU; yours would be
#
#    pipe = StableDiffusionPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5").to("cuda")
#    image, source, target = Image.open("cat.jpg"), "a photo of a cat", "a photo of a dog"
from diffusers import StableDiffusionPipeline

import diffedit
from diffedit.io.files import resolve_path
from diffedit.io.images import to_pil
from eval.stilllife.benchmarks import StillLifeScenes

pipe = StableDiffusionPipeline.from_pretrained(resolve_path("weights/stilllife"), safety_checker=None)
scene = next(StillLifeScenes(size=1).requests(64))
image, source, target = to_pil(scene.image()), scene.source, scene.target
print(f"{source!r} -> {target!r}")

# %% One edit. The pipeline's networks are shared and its scheduler is left alone.
result = diffedit.edit(pipe, image, target=target, source=source, ratio=0.7, num_inference_steps=20, seed=0)
result.image.save("edited.png")
result.mask.save("mask.png")  # white where the picture may change
print(result)

# %% Where the two texts disagree, before any rule makes a mask of it: an array on the latent grid.
contrast = result.contrast_map
print(f"contrast map {contrast.shape}, from {contrast.min():.3f} to {contrast.max():.3f}")

# %% Several strengths share encoding, mask and inversion: four edits cost far less than four times one.
results = diffedit.edit(pipe, image, target, source, ratio=[0.3, 0.5, 0.7, 0.9], num_inference_steps=20)
print(f"{results.evaluations} evaluations of the network for four edits, {result.evaluations} for one")
results.sheet().save("sheet.png")  # in a notebook, `results` alone shows it

# %% A mask of your own: find one, change it, edit under it.
found = diffedit.find_mask(pipe, image, target, source, num_inference_steps=20)
mask = found.mask.copy()
mask.paste(0, (0, 0, mask.width, mask.height // 2))  # the upper half stays as it is
below = diffedit.edit(pipe, image, target, mask=mask, ratio=0.7, num_inference_steps=20)
below.image.save("edited_below.png")
