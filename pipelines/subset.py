"""Stage `subset`: the source's images become nested subsets and two held-out splits."""

from pathlib import Path

from pipelines.paths import SUBSETS, stage
from zoo.data.build import build_subsets
from zoo.data.sources import load_source
from zoo.data.subsets import SUBSET
from zoo.errors import UserError
from zoo.files import find_root, user_path
from zoo.files.folders import remove_folder

if __name__ == "__main__":
    with stage() as params:
        data = params.data
        try:
            source = load_source(data.source, user_path(data.root, find_root()), seed=data.seed)
        except UserError as error:
            raise UserError(f"params.yaml: data: {error}") from None
        infos = build_subsets(
            source,
            params.subsets,
            SUBSETS,
            image_size=data.image_size,
            validation=data.validation,
            seed=data.seed,
            root=data.root or ".",
            max_array_gb=data.max_array_gb,
        )
        # Those of earlier settings. Where a link leads elsewhere, they may be another study's.
        if SUBSETS.resolve() == Path.cwd() / SUBSETS:
            for folder in sorted(path for path in SUBSETS.glob("[!.]*") if path.is_dir()):
                if folder.name not in infos:
                    remove_folder(folder, SUBSET)  # what is not zoo's is kept
        for name, info in infos.items():
            print(f"{name}: {info.count} images of {info.image_size} px")
        if any(info.root for info in infos.values()):
            print(
                f"images stay in {data.root}: as arrays they would be larger than "
                f"data.max_array_gb ({data.max_array_gb:g} GB)"
            )
