"""What is said of pictures: their crops, shapes and names; one line a case, in the form of what is said of settings.

A case is what is typed behind `diffedit`, in the folder of made_pictures.py; and what has to be said, word by word.
"""

# fmt: off
# ruff: noqa: E501 (a case is a line)

from said_when import Case

WARNED = "a line; it goes on"
TABLE = "benchmark=folder benchmark.path="
RUN = "backbone=analytic steps=4 ratios=[0.5]"
KEPT = "benchmark.resize.policy=keep"
MODEL = "backbone=stable_diffusion backbone.path=models/plain steps=4 ratios=[0.5]"
CUT = "the mask lies at 2 to 6 x 4 to 20 of 48 x 24, and resize.policy=crop shows 12 to 36 x 0 to 24"

CASES = {
    "Masks that a crop takes away": [
        Case(f"run {TABLE}cut.csv {RUN} editor=sdedit_given", "masks: 1 cut away (outside what is shown of their pictures, nothing is edited: benchmark.resize.policy", WARNED, 0),
        Case(f"check-benchmark {TABLE}cut.csv", f"end.png: {CUT}", "exit code of a fault that was found", 1),
        Case(f"check-benchmark {TABLE}cut.csv benchmark.resize.policy=squash", "1 masks: 1 found, 0 missing, 0 unreadable", WARNED, 0),
        Case("edit wide.png --mask end.png --target pear --editor sdedit_given --backbone analytic --steps 4 --ratio 0.5", f"the mask is cut away: {CUT}", WARNED, 0),
    ],
    "Pictures that are not square": [
        Case(f"run {TABLE}shapes.csv {KEPT} {MODEL}", "the sides of 1 are rounded to what the model takes, which changes width : height by ", WARNED, 0),
        Case(f"run {TABLE}shapes.csv {KEPT} {RUN}", "AnalyticBackbone takes squares of 16 x 16 alone"),
        Case(f"run {TABLE}shapes.csv {KEPT} benchmark.resize.grain=12 {MODEL}", "resize.grain = 12: "),
        Case(f"run {TABLE}shapes.csv benchmark.resize.side=longer {RUN}", "resize.side = longer: of resize.policy=keep alone"),
        Case(f"run benchmark=coco benchmark.bison=x benchmark.captions=x benchmark.images=x {KEPT}", "is published on squares"),
    ],
    "Names, and what systems leave among pictures": [
        Case(f"check-benchmark {TABLE}spelled.csv", "1 pictures: 1 found, 0 missing, 0 unreadable", "nothing: é is found as one letter and as e with an accent", 0),
        Case(f"check-benchmark {TABLE}lost.csv", "missing: ", "exit code of a fault that was found", 1),
        Case("reference-stats folder=set per_class=2 resolution=64 held=1 extractors=[fid] out=stats", "folder = set: 3 passed over, which macOS or Windows left there: .DS_Store, ._a.png, ", WARNED, 0),
    ],
}
