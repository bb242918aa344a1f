"""Copy the pictures of these pages from where zoo drew them into `docs/images`.

    python docs/figures.py . PHOTOS

Each folder is a project (`.`: this one, after `make repro`; PHOTOS: the one in which the
photographs of docs/findings.md were compared), and the first that has a picture gives it. Pictures
that none has stay as they are and are named, with the file that was looked for; the exit status is
then 1. The page of a picture says how it was drawn.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

IMAGES = Path(__file__).parent / "images"
DIGITS, PHOTOS = "vit-small__resnet18-small", "vit-n5000__cnn-schedule-n5000"
NO_SKIP, LOCAL = "vit-full__vit-noskip3-full", "vit-mimetic-n5000__cnn-schedule-n5000"


def same(*names: str) -> dict[str, str]:
    """Return pictures that are called in the docs as in the comparison."""
    return {name: name for name in names}


# For each folder of a project, its figures by the names that they have in docs/images.
FIGURES = {
    f"reports/{DIGITS}/figures": same(
        "ablation", "accuracy-by-class", "calibration", "differences-confusion",
        "frequency-answers", "frequency-curves", "frequency-depth", "probes-layers",
        "residuals-depth", "robustness-curves", "robustness-examples", f"similarity-{DIGITS}",
    )
    | {
        "differences-gallery": f"differences-gallery-{DIGITS}",
        "differences-groups": f"differences-groups-{DIGITS}",
        "stitching": f"stitching-{DIGITS}",
    },
    f"reports/{PHOTOS}/figures": {
        "photos-attention-distance": "attention-distance-vit-n5000",
        "photos-attention-maps": "attention-maps-vit-n5000",
        "photos-cka": f"cka-{PHOTOS}",
        "photos-confusion": "differences-confusion",
        "photos-feature-maps": "feature-maps-cnn-schedule-n5000",
        "photos-frequency-curves": "frequency-curves",
        "photos-gallery": f"differences-gallery-{PHOTOS}",
        "photos-grad-cam-deletion": "grad-cam-deletion",
        "photos-grad-cam-maps": "grad-cam-maps-vit-n5000",
        "photos-localisation": "localisation-vit-n5000",
        "photos-patch-components": "patch-components",
        "photos-probes": "probes-layers",
        "photos-receptive-field-radius": "receptive-field-radius",
        "photos-robustness": "robustness-curves",
    },
    f"reports/{NO_SKIP}__vit-noskip3-small/figures": same(f"cka-{NO_SKIP}"),
    f"reports/{LOCAL}/figures": {"photos-local-heads": f"local-heads-{LOCAL}"},
    "reports/vit-n500__cnn-n500__vit-all__cnn-all/figures": same("loss-geometry"),
    "reports/map/figures": {"map-matrix": "matrix", "map-plane": "plane"},
    "reports/transfer-vit-n5000-on-digits": {"photos-transfer-vit": "transfer"},
    "reports/transfer-cnn-schedule-n5000-on-digits": {"photos-transfer-cnn": "transfer"},
    "effect": {"effect-cka": "cka"},
    "studies/runs/gap/summary": same("gap"),
    "studies/runs/gap-long/summary": {"gap-long": "gap"},
}  # fmt: skip


def copy(projects: list[Path]) -> list[str]:
    """Copy what the projects have; return the pictures that none has, with their files."""
    missing = []
    for folder, figures in FIGURES.items():
        for picture, figure in figures.items():
            files = [project / folder / f"{figure}.png" for project in projects]
            found = next((file for file in files if file.is_file()), None)
            if found:
                shutil.copyfile(found, IMAGES / f"{picture}.png")
            else:
                missing.append(f"{picture}: no {folder}/{figure}.png")
    return missing


if __name__ == "__main__":
    missing = copy([Path(argument) for argument in sys.argv[1:]])
    print("\n".join(missing) or "all figures were copied")
    sys.exit(bool(missing))
