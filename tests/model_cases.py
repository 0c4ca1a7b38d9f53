"""What is said of models, schedules and guidance: one line a case, in the form of what is said of settings.

A case is what is typed behind `diffedit`, in a folder with a picture `a.png`, a table `edits.csv` of it, and the folders
of made_models.py below `models/`; and what has to be said, word by word.
"""

# fmt: off
# ruff: noqa: E501 (a case is a line)

import said_when

WARNED = "a warning, once; it goes on"
Case = said_when.Case

RUN = "run benchmark=folder benchmark.path=edits.csv"
ON = f"{RUN} backbone=stable_diffusion backbone.path=models"
EXACT = f"{RUN} backbone=analytic ratios=[0.5]"

CASES = {
    "Models that cannot be used": [
        Case(f"{ON}/sample", "models/sample/scheduler: prediction_type 'sample' is neither epsilon nor v_prediction, and no other is read: where the weights were trained for one of these, say so in scheduler_config.json"),
        Case(f"{ON}/flow", "FlowMatchEulerDiscreteScheduler has no betas: not a DDPM noise schedule (a model of flow matching?)"),
        Case(f"{ON}/xl", "its UNet wants 'text_time' beside a text (addition_embed_type: text_time), and would be given none: take weights in the layout of Stable Diffusion 1.x or 2.x, or a backbone of its family (Stable Diffusion XL's: diffedit run --include examples backbone=sdxl)"),
        Case(f"{ON}/unclip", "its UNet wants 'projection' beside a text (class_embed_type: projection)"),
        Case(f"{ON}/inpainting", "the UNet takes 9 channels, latents have 4: an inpainting model, which is given a mask and a picture too: take the text-to-image weights of the same model; editor=diffedit_given, blended_latent and inpaint_diffusers edit under a given mask with them"),
        Case(f"{ON}/depth", "the UNet takes 5 channels, latents have 4: it is given more than a latent"),
        Case(f"{ON}/unconditional", "its UNet is a UNet2DModel, of another family: backbone=pixel_diffusion"),
        Case(f"{ON}/dit", "it is of another family (DiTPipeline): backbone=dit"),
        Case(f"{ON}/flux", "it is a FluxPipeline, which no backbone here loads: there are stable_diffusion (1.x and 2.x), latent_diffusion, dit and pixel_diffusion"),
        Case(f"{ON}/plain/unet", "it is a UNet2DConditionModel alone, one part of a model: give the folder of a whole pipeline, often the one above"),
        Case(f"{ON}/torn", "models/torn/unet/config.json: not a JSON file of settings"),
        Case(f"{ON}/fp16", "models/fp16/unet: the weights are there as the variant fp16 alone: backbone.variant=fp16"),
        Case(f"{ON}/plain backbone.variant=fp16", "models/plain/unet: no weights of backbone.variant = fp16 there: what there is, is null (those without one)"),
        Case(f"{ON}/bin", "diffusion_pytorch_model.bin is a pickle, which can hold code that runs, and only safetensors are read. Where you trust its source, diffusers converts it: DiffusionPipeline.from_pretrained('models/bin', use_safetensors=False).save_pretrained(FOLDER)"),
        Case(f"{ON}/empty", "models/empty/vae: no weights there"),
        Case(f"{ON}/misnamed", "models/misnamed/unet: model.safetensors: weights of this part are read as diffusion_pytorch_model.safetensors: rename it"),
        Case(f"{ON}/no_vae", "models/no_vae/vae: no config.json there: this part of the model is missing (a download that was stopped?): get the model again"),
        Case(f"{ON}/no_texts", "models/no_texts/text_encoder: no config.json there: this part of the model is missing"),
        Case(f"{ON}/no_words", "models/no_words/tokenizer has 2 tokens, the text encoder 514: vocab.json, merges.txt or tokenizer.json missing?"),
        Case(f"{ON}/no_noise", "models/no_noise/scheduler: no scheduler_config.json there: this part of the model is missing"),
        Case(f"{ON}/betas", "models/betas/scheduler: beta_schedule 'foo' is none of linear, scaled_linear, squaredcos_cap_v2, which are read"),
        Case(f"{ON}/spaced", "models/spaced/scheduler: timestep_spacing 'foo' is none of leading, trailing, linspace: backbone.timestep_spacing says another"),
        Case(f"{ON}/times", "models/times/scheduler: num_train_timesteps '1000' is no whole number from 1 on"),
        Case(f"{RUN} backbone=dit backbone.path=models/plain", "it is of another family (StableDiffusionPipeline): backbone=stable_diffusion"),
        Case(f"{RUN} backbone=latent_diffusion backbone.path=models/plain", "it is of another family (StableDiffusionPipeline): backbone=stable_diffusion"),
        Case(f"{ON}/no_unet", "no unet/config.json there: this part of the model is missing"),
        Case(f"{RUN} backbone=stable_diffusion backbone.path=./none", "backbone.path = ./none: no such folder"),
        Case(f"{RUN} backbone=stable_diffusion backbone.path=''", "backbone.path is empty: a folder is wanted, or a hub id"),
        Case(f"{ON}/plain backbone.device=gpu", "device = 'gpu': it should be auto, cpu, cuda, cuda:1, mps"),
        Case(f"{ON}/plain backbone.device=cuda:99", "device = cuda:99: PyTorch finds "),
        Case(f"{ON}/plain backbone.compile=fast", "backbone.compile = 'fast': it should be 'default', 'reduce-overhead', 'max-autotune', 'max-autotune-no-cudagraphs', or null"),
        Case(f"{RUN} --include examples backbone=sdxl backbone.path=models/xl", "models/xl/text_encoder_2: no config.json there: this part of the model is missing"),
        Case(f"{ON}/consistency", "its UNet wants the guidance beside a text (time_cond_proj_dim: 256; a latent consistency model), and would be given none: take the model that it was distilled from"),
        Case(f"{ON}/checkpoint", "classes.safetensors in it is one file, of a class-conditional latent diffusion model: python scripts/convert_ldm.py"),
        Case(f"{ON}/checkpoint/model.safetensors", "one file, and a folder is wanted. diffusers makes one: StableDiffusionPipeline.from_single_file('model.safetensors').save_pretrained(FOLDER)"),
        Case(f"{ON}/checkpoint/model.ckpt", "one file, which is a pickle and can hold code that runs: a folder is wanted. diffusers makes one"),
        Case(f"{ON}/lora", "a LoRA, which changes a model and is none: load its model in diffusers, then pipe.load_lora_weights(...), pipe.fuse_lora(), pipe.save_pretrained(FOLDER), and give that folder; or give the pipeline itself to diffedit.edit"),
        Case(f"{ON}/named_lora", "style.safetensors in it is a LoRA, which changes a model and is none"),
        Case(f"{ON}/lora/pytorch_lora_weights.safetensors", "a LoRA, which changes a model and is none"),
        Case("edit a.png --target x --model models/fp16", "backbone.variant=fp16"),
        Case("doctor backbone=stable_diffusion backbone.path=models/inpainting", "an inpainting model"),
    ],
    "Steps and levels": [
        Case(f"{RUN} backbone=analytic ratios=[0.5] steps=20 editor.mask.noise_strength=0.01", "editor.mask.noise_strength = 0.01: ratio r = 0.01 of N = 20 steps is less than one step"),
        Case(f"{ON}/plain steps=1000", "steps = 1000: spaced as leading, with an offset of 1, the last is t = 1000, and the model was trained at 0 to 999; the nearest is 999, or backbone.timestep_spacing=trailing"),
        Case(f"{ON}/plain steps=1500", "steps = 1500: the model was trained at 1000 noise levels, that is 1 to 999 steps where they are spaced as leading; the nearest is 999"),
        Case(f"{EXACT} steps=1500", "steps = 1500: the model was trained at 1000 noise levels, that is 1 to 999 steps where they are spaced as leading; the nearest is 999"),
        Case(f"{ON}/plain backbone.timestep_spacing=trailing steps=1001", "that is 1 to 1000 steps where they are spaced as trailing; the nearest is 1000"),
        Case(f"{ON}/blank ratios=[0.3,0.5,1.0]", "r = 1: level 50 of 50 (t = 999) has no signal left (zero terminal SNR), and a model that predicts epsilon cannot be decoded from there, as x0 is divided by the signal: take ratios up to 0.98 (ratios=[0.3, 0.5]); or backbone.timestep_spacing=leading, which ends below; or, where the weights were trained for v, prediction_type: v_prediction in scheduler_config.json"),
        Case(f"{EXACT} steps=15", "steps = 15: spaced as leading, the highest level is t = 925 of 999, where 10.4 % of the signal is left, and 6.8 % at the end of the training: ratio 1 is no more than that. Farther: a number of steps that divides 1000", done=WARNED, code=0),
        Case(f"plan {EXACT.removeprefix('run ')} steps=15", "steps = 15: spaced as leading, the highest level is t = 925 of 999", done=WARNED, code=0),
        Case("edit a.png --target pear --backbone analytic --ratio 0.5 --steps 15", "the highest level is t = 925 of 999", done=WARNED, code=0),
        Case("doctor backbone=analytic steps=[15] count=1", "steps = 15: spaced as leading, the highest level is t = 925 of 999", done="a warning, beside what it measures", code=1),
        Case("doctor backbone=analytic levels=[10]", "levels = [10]: AnalyticBackbone has one spacing of its own", done="refused"),
    ],
    "Settings that are not read, or do nothing": [
        Case(f"{EXACT} steps=20 editor.negative_text=plum", "editor.negative_text = 'plum' is not read, as editor.negative is empty: it is with editor.negative=given", done=WARNED, code=0),
        Case(f"{EXACT} steps=20 editor.inversion.text=plum", "editor.inversion.text = 'plum' is not read, as editor.inversion.condition is empty: it is with editor.inversion.condition=given", done=WARNED, code=0),
        Case(f"{EXACT} steps=20 editor.guidance_interval=[0.51,0.52]", "editor.guidance_interval = [0.51, 0.52]: none of the levels lies there: nothing is guided", done=WARNED, code=0),
        Case(f"{ON}/plain backbone.revision=main steps=4 ratios=[0.5]", "backbone.revision = main is of the hub, and not read: models/plain is a folder here", done=WARNED, code=0),
        Case(f"{EXACT} steps=20 \"refine_score=['resamples=9']\"", "refine_score = ['resamples=9']: of refine=METRIC@VALUE, and refine is null"),
        Case("edit a.png --target pear --request 1", "--request 1: of a benchmark, and a.png is edited: leave one out"),
        Case("edit a.png --target pear benchmark.size=3", "benchmark.size=3: a.png is edited, and no benchmark: leave one out"),
        Case("edit --target pear resize.policy=keep", "resize.policy=keep: of a picture that is given; of a benchmark's it is benchmark.resize.policy=keep"),
        Case("edit edits.csv --target pear --backbone analytic --steps 4", "edits.csv: "),
        Case("edit a.png --target pear --backbone analytic --steps 4 --out edits.csv", "edits.csv is a file, and a folder is wanted"),
    ],
    "Guidance below 1": [
        Case(f"{EXACT} steps=20 editor.guidance=0", "editor.guidance = 0: the text that is led away from, the empty one by default, alone decides, and the target text is not read. Without guidance, as Turbo and LCM models are used, it is 1", done=WARNED, code=0),
        Case(f"{EXACT} steps=20 editor.guidance=0.5", "editor.guidance = 0.5: the target text counts for 50 % of the estimate, and the text that is led away from, the empty one by default, for the rest: less than without guidance, which is 1", done=WARNED, code=0),
        Case(f"{EXACT} steps=20 editor.guidance=-1", "editor.guidance = -1: leads away from the target text, beyond the one that is led away from, the empty one by default", done=WARNED, code=0),
        Case(f"{EXACT} steps=20 editor.guidance=0 editor.guidance_interval=[0.2,0.8]", "alone decides at ratios from 0.2 to 0.8, and the target text is not read", done=WARNED, code=0),
        Case(f"plan {EXACT.removeprefix('run ')} steps=20 editor.guidance=0", "editor.guidance = 0: the text that is led away from", done=WARNED, code=0),
        Case(f"plan --multirun {EXACT.removeprefix('run ')} steps=20 editor.guidance=0.5,7.5", "editor.guidance = 0.5: the target text counts for 50 % of the estimate", done=WARNED, code=0),
        Case("edit a.png --target pear --backbone analytic --ratio 0.5 --steps 20 --guidance 0", "editor.guidance = 0: the text that is led away from, the empty one by default, alone decides", done=WARNED, code=0),
        Case(f"{EXACT} steps=20 editor=proposition1 editor.guidances=[1,0.5]", "editor.guidances[1] = 0.5: the target text counts for 50 % of the estimate", done=WARNED, code=0),
        Case("run benchmark=stilllife_generated benchmark.edits=[fruits] benchmark.limit=1 backbone=analytic backbone.classes=[apples,pears,oranges,lemons,grapes,strawberries,bananas,carrots] steps=4 ratios=[0.5] benchmark.text_to_image.guidance=0", "benchmark.text_to_image.guidance = 0: the text that is led away from, the empty one by default, alone decides", done=WARNED, code=0),
    ],
}

# What the hub raises (a class of huggingface_hub.errors), and what is said of it.
HUB = [
    ("GatedRepoError", "the hub gives it to those alone who have accepted its licence: accept it on https://huggingface.co/somebody/model, then log in here (`hf auth login`, or HF_TOKEN=...)"),
    ("RepositoryNotFoundError", "no such folder here, and no model that the hub gives: misspelt, withdrawn (look for a copy under another name on https://huggingface.co), or private (log in: `hf auth login`, or HF_TOKEN=...)"),
    ("DisabledRepoError", "the hub has disabled it (https://huggingface.co/somebody/model): look for a copy under another name"),
    ("RevisionNotFoundError", "the hub has no revision 'v2' of it: backbone.revision=null takes the newest"),
    ("HfHubHTTPError", "the hub answers with an error (502): try again later"),
    ("OfflineModeIsEnabled", "no such folder here; as a model of the hub, HF_HUB_OFFLINE is set: unset it, or download the model where there is a network, and give its folder: backbone.path=FOLDER"),
    ("ConnectError", "no such folder here; as a model of the hub, that cannot be reached (502): look at the network, or download the model where there is a network, and give its folder: backbone.path=FOLDER"),
    ("ConnectTimeout", "no such folder here; as a model of the hub, that cannot be reached (502)"),
]
