"""Draw the pictures of these pages and copy them into `docs/images`.

    make figures ROOT=FOLDER                    # all; FOLDER holds CIFAR-10 as images
    python docs/figures.py FOLDER photos        # those of one study

Every picture comes from one of `studies/`, which is run in `studies/runs/NAME`; then come the
commands below. What is done is found again: a call that was stopped continues, and a second one
only copies. What fails is named at the end; its pictures stay as they are. Without the results of
the gap study, `python docs/gap_figures.py` draws its pictures from the tables of its page.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOME = Path(__file__).parent.parent
IMAGES = HOME / "docs" / "images"
SEEDS = (1, 2, 3, 4, 0)  # the last one that is registered is the one shown
PAIR = "vit-n5000__cnn-schedule-n5000"
LOCAL = "vit-mimetic-n5000__cnn-schedule-n5000"
NO_SKIP = "vit-n5000__vit-noskip2-n5000"
EFFECT = "vit-small__vit-full__resnet18-small__resnet18-full"

# The commands that follow a study; {test} is the folder of the test images of its seed 0.
COMMANDS = {
    "photos": [
        "zoo register "
        + " ".join(
            f"models/{name}-n5000-{seed}"
            for name in ("vit", "cnn-schedule", "vit-mimetic", "vit-noskip2")
            for seed in SEEDS
        ),
        "zoo compare vit-n5000 cnn-schedule-n5000 --data {test} --images 1000",
        "zoo compare vit-mimetic-n5000 cnn-schedule-n5000 --data {test} --images 1000 "
        "--only local-heads",
        "zoo compare vit-n5000 vit-noskip2-n5000 --data {test} --images 1000 --only accuracy,cka",
        "zoo transfer vit-n5000 --source digits --subset 400",
        "zoo transfer cnn-schedule-n5000 --source digits --subset 400",
    ],
    "cifar10-small": [
        "zoo compare vit-small vit-full resnet18-small resnet18-full --images 128 "
        "--only loss-geometry"
    ],
    "gap-long": [
        "zoo register models/*-n5000-*",
        "zoo map --data {test} --images 512",
    ],
    "gap": [],
}  # fmt: skip
# Of each study its folders of figures, and of each picture the figure that it is.
FIGURES = {
    "photos": {
        f"reports/{PAIR}/figures": {
            "photos-ablation": "ablation",
            "photos-accuracy": "accuracy-by-class",
            "photos-attention-distance": "attention-distance-vit-n5000",
            "photos-attention-maps": "attention-maps-vit-n5000",
            "photos-calibration": "calibration",
            "photos-cka": f"cka-{PAIR}",
            "photos-confusion": "differences-confusion",
            "photos-feature-maps": "feature-maps-cnn-schedule-n5000",
            "photos-frequency-answers": "frequency-answers",
            "photos-frequency-curves": "frequency-curves",
            "photos-frequency-depth": "frequency-depth",
            "photos-gallery": f"differences-gallery-{PAIR}",
            "photos-grad-cam-deletion": "grad-cam-deletion",
            "photos-grad-cam-maps": "grad-cam-maps-vit-n5000",
            "photos-groups": f"differences-groups-{PAIR}",
            "photos-localisation": "localisation-vit-n5000",
            "photos-patch-components": "patch-components",
            "photos-probes": "probes-layers",
            "photos-receptive-field-radius": "receptive-field-radius",
            "photos-residuals": "residuals-depth",
            "photos-robustness": "robustness-curves",
            "photos-robustness-examples": "robustness-examples",
            "photos-similarity": f"similarity-{PAIR}",
            "photos-stitching": f"stitching-{PAIR}",
        },
        f"reports/{LOCAL}/figures": {"photos-local-heads": f"local-heads-{LOCAL}"},
        f"reports/{NO_SKIP}/figures": {"photos-no-skip": f"cka-{NO_SKIP}"},
        "reports/transfer-vit-n5000-on-digits": {"photos-transfer-vit": "transfer"},
        "reports/transfer-cnn-schedule-n5000-on-digits": {"photos-transfer-cnn": "transfer"},
    },
    "cifar10-small": {
        "effect": {"effect-cka": "cka"},
        f"reports/{EFFECT}/figures": {"loss-geometry": "loss-geometry"},
    },
    "gap-long": {
        "summary": {"gap-long": "gap"},
        "reports/map": {"map-matrix": "matrix", "map-plane": "plane"},
    },
    "gap": {"summary": {"gap": "gap"}},
}


def draw(study: str, images: str) -> Iterator[str]:
    """Run a study and its commands, copy its figures, and yield what failed or is missing."""
    folder = HOME / "studies" / "runs" / study
    if _failed([sys.executable, "-m", "pipelines.study", study, images], HOME):
        yield f"{study}: the study did not finish"
        return
    for command in COMMANDS[study]:
        test = next(iter(sorted(folder.glob("subsets/*-0/test"))), folder / "data/subsets/test")
        if _failed(command.format(test=test.relative_to(folder)), folder):
            yield f"{study}: {command.split(' --')[0][:80]} failed"
    for source, figures in FIGURES[study].items():
        for picture, figure in figures.items():
            file = folder / source / f"{figure}.png"
            if file.is_file():
                shutil.copyfile(file, IMAGES / f"{picture}.png")
            else:
                yield f"{picture}: no {file.relative_to(HOME)}"


def _failed(command: list[str] | str, folder: Path) -> bool:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(HOME)}
    shell = isinstance(command, str)
    done = subprocess.run(command, cwd=folder, env=environment, shell=shell, check=False)
    return done.returncode != 0


if __name__ == "__main__":
    if not sys.argv[1:] or not sys.argv[1]:
        sys.exit("which images? make figures ROOT=FOLDER, with train/<class>/* and test/<class>/*")
    images, *studies = sys.argv[1:]
    problems = [text for study in studies or COMMANDS for text in draw(study, images)]
    print("\n".join(problems) or "all pictures were drawn")
    sys.exit(bool(problems))
