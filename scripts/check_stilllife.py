"""Examine the trained networks of Still Life on the test split; write what was found where asked."""

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # its modules lie in scripts/train

from diffedit.io.files import resolve_path
from eval.stilllife.train import exam

EXAMPLE = "example: python scripts/check_stilllife.py --count 256"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE)
    parser.add_argument("--count", type=int, default=256, help="test pictures for each part (default 256)")
    parser.add_argument("--steps", type=int, default=25, help="of DDIM (default 25)")
    parser.add_argument("--guidance", type=float, default=5.0, help="classifier-free guidance (default 5)")
    parser.add_argument("--weights", default="weights", help="folder of the networks (default weights)")
    parser.add_argument("--out", type=Path, help="write the figures to this file as JSON")
    parser.add_argument("--sheet", type=Path, help="write a sheet of samples to this PNG")
    args = parser.parse_args()
    for path in filter(None, (args.out, args.sheet)):
        path.parent.mkdir(parents=True, exist_ok=True)
    names = ("stilllife", "stilllife_features", "stilllife_clip", "stilllife_pixel")
    model, features, clip, pixel = (resolve_path(Path(args.weights) / name) for name in names)
    with torch.no_grad():
        found = {
            "autoencoder": exam.autoencoder(model, args.count),
            "features": exam.classifier(features, 4 * args.count),
            "clip": exam.clip(clip, args.count),
            "pixel": exam.pixels(pixel, features, args.count, 4 * args.steps),
        }
        found["diffusion"], sheet = exam.diffusion(model, features, args.count, args.steps, args.guidance)
    found["settings"] = {"count": args.count, "steps": args.steps, "guidance": args.guidance}
    print(json.dumps(found, indent=1))
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")
    if args.sheet:
        sheet.save(args.sheet)


if __name__ == "__main__":
    main()
