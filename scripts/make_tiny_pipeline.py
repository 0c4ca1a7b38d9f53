"""Write a tiny pipeline with RANDOM weights in the Stable Diffusion layout: it runs everything and draws noise."""

import argparse

from diffedit.testing import TinyPipeline


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python scripts/make_tiny_pipeline.py tiny --resolution 128"
    )
    parser.add_argument("folder")
    parser.add_argument("--resolution", type=int, default=32, help="side of the images, a multiple of 8 (default 32)")
    parser.add_argument(
        "--channels", type=int, nargs="+", default=[16, 32], help="of the UNet's stages (default 16 32)"
    )
    parser.add_argument("--prediction", choices=["epsilon", "v_prediction"], default="epsilon")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default 0)")
    args = parser.parse_args()
    tiny = TinyPipeline(
        channels=args.channels, latent=args.resolution // 4, prediction_type=args.prediction, seed=args.seed
    )
    print(f"{tiny.write(args.folder)}: a pipeline with random weights")


if __name__ == "__main__":
    main()
