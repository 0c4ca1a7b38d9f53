"""A method of one's own, beside those of the papers: `python examples/own_method.py`.

Here: between Encode-Decode and SDEdit. The noise that DDIM inversion finds in the picture is mixed with fresh noise.
"""

# %% A method is a generator for one request: it yields what it asks of the networks, and is sent the answers. Who puts
# its questions into batches with those of other requests is not its business. A frozen dataclass holds its settings.
from diffusers import StableDiffusionPipeline

import diffedit
from baselines.encode_decode import EncodeDecode
from baselines.sdedit import SDEdit
from diffedit.io.checks import settings
from diffedit.io.files import resolve_path
from diffedit.io.images import to_pil
from diffedit.sampling.ddim import add_noise, ddim_invert, ddim_sample, decode_edits
from diffedit.types import BaseEditor, EditResult, Embed, Encode
from eval.stilllife.benchmarks import StillLifeScenes


@settings
class PartlyEncoded(BaseEditor):
    """Decode from a mixture of the picture's own noise and fresh noise; `fresh` = 0 is Encode-Decode, 1 is SDEdit."""

    fresh: float = 0.5
    guidance: float = 7.5

    def __call__(self, request, ratios, schedule, noise):
        """All ratios share one encoding, one inversion and one fresh noise."""
        starts = schedule.start_levels(ratios)
        x0 = yield Encode(request.image())
        target, empty = yield Embed((request.target, ""))
        path = yield from ddim_invert(x0, schedule, max(starts), empty)
        fresh = noise.randn_like(x0, "start 0")

        def start(i):
            own = (path[i] - x0 * schedule[i].alpha) / schedule[i].sigma
            return add_noise(x0, own * (1 - self.fresh) ** 0.5 + fresh * self.fresh**0.5, schedule[i])

        edited = yield from ddim_sample({i: start(i) for i in starts}, schedule, target, empty, self.guidance)
        return EditResult((yield from decode_edits(edited, ratios, starts)))


# %% On one picture. At both ends it has to be what it lies between.
pipe = StableDiffusionPipeline.from_pretrained(resolve_path("weights/stilllife"), safety_checker=None)
scene = next(StillLifeScenes(size=1).requests(64))
image = to_pil(scene.image())


def edit(editor):
    """The picture by one editor."""
    return diffedit.edit(pipe, image, scene.target, editor=editor, ratio=0.7, num_inference_steps=20).image


edit(PartlyEncoded(fresh=0.5)).save("partly_encoded.png")
for fresh, known in ((0.0, EncodeDecode()), (1.0, SDEdit())):
    pairs = zip(edit(PartlyEncoded(fresh=fresh)).tobytes(), edit(known).tobytes(), strict=True)
    apart = max(abs(one - other) for one, other in pairs)
    print(f"fresh = {fresh:g} and {type(known).__name__}: at most {apart} of 255 levels apart")

# %% Over a benchmark, into a run directory like any other: it resumes, and is scored and plotted beside the others.
run = diffedit.run(StillLifeScenes(size=4), PartlyEncoded(fresh=0.5), pipe, "runs/own/partly_encoded/fresh=0.5",
                   ratio=[0.5, 0.7], num_inference_steps=10, progress=False)  # fmt: skip
print(run.table[["id", "strength", "status", "evaluations"]])

# %% From the command line: put the class into a file of its own folder, say mine/partly_encoded.py, and beside it
# mine/conf/editor/partly_encoded.yaml:
#
#    _target_: partly_encoded.PartlyEncoded
#    fresh: 0.5
#    guidance: 7.5
#
# Then `diffedit run --include mine editor=partly_encoded editor.fresh=0.2` runs it.
