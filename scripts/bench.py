"""How fast this is: against diffusers, against the bare networks, and as work grows."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

COMMANDS = {
    "peers": "DiffEdit, SDEdit and blended latents against diffusers' pipelines, on the same weights",
    "call": "diffedit.edit of one picture against the calls of diffusers' documentation",
    "engine": "wall time of a run over the time of its bare networks",
    "batch": "rows a second over rows a call, memory formats and dtypes; the knee, and the setting it suggests",
    "numerics": "what dtype, memory format and compilation do to speed and to the edits",
    "pipeline": "share of reading, encoding, predicting, decoding, writing and scoring in a run",
    "growth": "cost over pictures, ratios, methods, steps and resolution; memory over requests",
    "shards": "what shards cost a run, and two processes at one of the throughput of two bare ones",
    "gpu": "Stable Diffusion 1.5's architecture on an accelerator: ours, diffusers, and the floor",
}
EXAMPLE = "example: python scripts/bench.py engine --repeats 5"


def make_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; only the sub-command that is called is imported, with what it needs."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"{EXAMPLE}; COMMAND --help shows its own")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shape = argparse.RawDescriptionHelpFormatter
    for name, text in COMMANDS.items():
        if argv[:1] != [name]:
            commands.add_parser(name, help=text)
            continue
        part = import_module(f"bench_parts.{name}")
        one = commands.add_parser(
            name, help=text, description=part.__doc__, epilog=f"example: {part.EXAMPLE}", formatter_class=shape
        )
        one.add_argument("--out", type=Path, help=f"folder of result.json, .md and .png (default bench/{name})")
        one.add_argument("--repeats", type=int, default=3, help="interleaved rounds that count (default %(default)s)")
        one.add_argument("--threads", type=int, help="of torch (default: its own choice)")
        one.add_argument("--tiny", action="store_true", help="small shapes, seconds: tries the code, measures nothing")
        part.add_arguments(one)
        if "--tiny" in argv:
            one.set_defaults(**part.TINY)
    return parser


def main(argv: Sequence[str]) -> int:
    """Command line; returns the exit code."""
    args = make_parser(argv).parse_args(argv)
    import torch
    from bench_parts.report import Report

    from diffedit.commands.launch import tell

    before = torch.get_num_threads()
    if args.threads:
        torch.set_num_threads(args.threads)
    part = import_module(f"bench_parts.{args.command}")
    report = Report(args.command, args)
    try:
        part.measure(args, report)
    except Exception as error:
        return tell(error, f"python scripts/bench.py {args.command}")
    finally:
        torch.set_num_threads(before)
    print((report.out / "result.md").read_text(), end="")
    print(f"{report.out}: result.json, result.md, result.png")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
