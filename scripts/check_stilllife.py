"""Examine the trained networks of Still Life on the test split; print the scores, and write them where asked."""

import argparse
import json
from pathlib import Path

from diffedit.io.files import write
from diffedit.io.images import write_picture
from eval.stilllife.train.exam import examine

EXAMPLE = "example: python scripts/check_stilllife.py --count 256"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE)
    parser.add_argument("--count", type=int, default=256, help="test pictures for each part (default 256)")
    parser.add_argument("--steps", type=int, default=25, help="of DDIM (default 25)")
    parser.add_argument("--guidance", type=float, default=5.0, help="classifier-free guidance (default 5)")
    parser.add_argument("--weights", default="weights", help="folder of the networks (default weights)")
    parser.add_argument("--out", type=Path, help="write the scores to this file as JSON")
    parser.add_argument("--sheet", type=Path, help="write a sheet of samples to this PNG")
    args = parser.parse_args()
    for path in filter(None, (args.out, args.sheet)):
        path.parent.mkdir(parents=True, exist_ok=True)
    scores, sheet = examine(Path(args.weights), args.count, args.steps, args.guidance)
    text = json.dumps(scores, indent=1)
    print(text)
    if args.out:
        write(args.out, (text + "\n").encode())
    if args.sheet:
        write_picture(args.sheet, sheet)


if __name__ == "__main__":
    main()
