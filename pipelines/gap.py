"""The gap study in the working folder: trains what is missing, one variant after another.

    python -m pipelines.gap

A study that was stopped continues, and the same command run again beside it takes its share of the
trainings. Table and figure in `summary` are written again after every model, so that they show what
there is so far; at the end, how the networks see stands beside it.
"""

from pathlib import Path

from filelock import FileLock

from pipelines.paths import SUMMARY, stage
from zoo.data.sources import load_source
from zoo.errors import UserError
from zoo.experiments.gap import Run, in_order, run_study
from zoo.experiments.gap_report import write_representation, write_shares
from zoo.files import user_path

if __name__ == "__main__":
    with stage() as params:
        if params.gap is None:
            raise UserError("params.yaml has no section `gap`; studies/gap.yaml shows one")
        data = params.data
        source = load_source(data.source, user_path(data.root), seed=data.seed)
        order = in_order(params.study)
        runs: list[Run] = []
        writing = FileLock("checkpoints/summary.lock")  # beside those of the trainings
        for run in run_study(params, params.gap, source, Path()):
            print(
                f"{run.model}-{run.subset}-{run.seed}: test {run.test:.3f}, validation "
                f"{run.validation:.3f}, rate {run.learning_rate:g}, {run.steps} steps, "
                f"{run.seconds:.0f} s",
                flush=True,
            )
            runs = sorted([*runs, run], key=lambda run: order.index(run.variant))
            if run.seed == params.study.seeds[-1] or len(runs) == len(order):
                with writing:
                    write_shares(runs, params.gap, SUMMARY)
        with writing:
            write_representation(runs, params, params.gap, source, Path(), SUMMARY)
