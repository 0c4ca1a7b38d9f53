"""`diffedit plan`: what `diffedit run` with the same words would cost; nothing is edited, and nothing handed in."""

from collections.abc import Sequence

from diffedit.commands import run

HELP = """Say what a run would cost, and begin nothing: requests, evaluations of the denoiser by what they
are for, shards, the time, the disk. Takes the words of diffedit run, and is diffedit run plan=true.

Examples:
  diffedit plan benchmark.size=32
  diffedit plan --multirun editor=diffedit,sdedit benchmark.size=32
  diffedit plan backbone=sd15 benchmark=coco launcher=slurm launcher.tasks=16

The time is that of an earlier run of the same weights below runs=DIR, on this device (with
launcher=slurm or print, on any), else of a few calls of the networks. Large networks are not called
on a CPU: edit a few requests where the run is to go, then plan from anywhere. Bytes on disk, too,
are those of an earlier run of this backbone, benchmark and editor, else a bound.

With a launcher it says what each task does, and hands nothing in. It takes ten seconds at most,
beside imports and loading the networks. Settings and exit codes: diffedit run --help."""


def main(argv: Sequence[str]) -> int:
    """The command; returns its exit code."""
    if {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    return run.main([*argv, "plan=true"], "diffedit plan")
