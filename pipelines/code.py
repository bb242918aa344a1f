"""Stage `code` of a study made by `zoo init`: digests of the code that decides each stage.

There the package lies outside the project, where DVC cannot look: `deps` name these files.
"""

from pathlib import Path

from pipelines.paths import stage
from zoo.files import write_text
from zoo.project.new_study import CODE, code_digests

if __name__ == "__main__":
    with stage():
        for name, digest in code_digests().items():
            write_text(Path(CODE) / f"{name}.sha256", f"{digest}\n")
