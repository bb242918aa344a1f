"""The gap study in the working folder: trains what is missing, one variant after another.

    python -m pipelines.gap

A study that was stopped continues. Table and figure in `summary` are written again after every
model, so that they show what there is so far; at the end, how the networks see stands beside it.
"""

from pathlib import Path

from pipelines.paths import SUMMARY, stage
from zoo.data.sources import load_source
from zoo.errors import UserError
from zoo.experiments.gap import Run, run_study
from zoo.experiments.gap_report import write_representation, write_shares
from zoo.files import user_path

if __name__ == "__main__":
    with stage() as params:
        if params.gap is None:
            raise UserError("params.yaml has no section `gap`; studies/gap.yaml shows one")
        data = params.data
        source = load_source(data.source, user_path(data.root), seed=data.seed)
        runs: list[Run] = []
        for run in run_study(params, params.gap, source, Path()):
            runs.append(run)
            print(
                f"{run.model}-{run.subset}-{run.seed}: test {run.test:.3f}, validation "
                f"{run.validation:.3f}, rate {run.learning_rate:g}, {run.steps} steps, "
                f"{run.seconds:.0f} s",
                flush=True,
            )
            if run.seed == params.study.seeds[-1]:
                write_shares(runs, params.gap, SUMMARY)
        write_representation(runs, params, params.gap, source, Path(), SUMMARY)
