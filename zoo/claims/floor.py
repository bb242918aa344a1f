"""The claims before training: what a test gives where nothing has been learnt.

A number that untrained networks reach as well describes their architecture, or the images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from zoo.analyses.engine import ComparisonResults, compare_models
from zoo.claims.base import Claim, Measurement, Verdict
from zoo.models.files import LoadedModel
from zoo.models.untrained import before_training
from zoo.progress import OnProgress, no_progress
from zoo.study.networks import ComparedNetwork


def with_floors(
    findings: ComparisonResults, verdicts: Sequence[Verdict], on_progress: OnProgress = no_progress
) -> list[Verdict]:
    """Return verdicts with their floors, for which one more comparison is made.

    Args:
        findings: the comparison that was judged; its images and settings are used again.
        verdicts: what `zoo.claims.judge` made of it.
        on_progress: is told of that comparison's images and analyses.
    """
    networks = _Untrained(findings)
    groups = {
        position: group
        for position, verdict in enumerate(verdicts)
        if verdict.value is not None and (group := networks.group(verdict))
    }
    if not groups:
        return list(verdicts)
    study = findings.study
    found = compare_models(
        list({model.name: model for group in groups.values() for model in group}.values()),
        study.images,
        study.labels,
        class_names=study.class_names,
        only=sorted({verdicts[position].claim.analysis for position in groups}),
        settings=dataclasses.replace(study.settings, references=False),
        device=study.device,
        on_progress=on_progress,
    )
    subjects = {subject.name: subject for subject in found.study.models}
    floored = list(verdicts)
    for position, group in groups.items():
        floor = _measure(verdicts[position].claim, found, [subjects[m.name] for m in group])
        floored[position] = dataclasses.replace(verdicts[position], untrained=floor)
    return floored


class _Untrained:
    """The untrained networks of a comparison's models; those that start alike are one."""

    def __init__(self, findings: ComparisonResults) -> None:
        self.models = {subject.name: subject.model for subject in findings.study.models}
        self.found: dict[str, LoadedModel | None] = {}
        self.alike: list[LoadedModel] = []

    def group(self, verdict: Verdict) -> list[LoadedModel]:
        """Return the models that a verdict's floor is measured on; none where it has no floor."""
        stay = verdict.claim.stay_trained
        if stay is None:
            return []
        group = [
            self.models[name] if position in stay else self._before(name)
            for position, name in enumerate(verdict.models)
        ]
        known = [model for model in group if model is not None]
        return known if len(known) == len(group) else []

    def _before(self, name: str) -> LoadedModel | None:
        if name not in self.found:
            model = before_training(self.models[name])
            known = (other for other in self.alike if model and _start(other) == _start(model))
            self.found[name] = model = next(known, model)
            self.alike += [model] if model else []
        return self.found[name]


def _start(model: LoadedModel) -> tuple[object, ...]:
    """Return what decides an untrained network and how it sees images."""
    spec = model.spec
    network = spec.arch, spec.kwargs, spec.seed, spec.class_names
    return *network, spec.image_size, spec.mean, spec.std, spec.interpolation, spec.crop_fraction


def _measure(
    claim: Claim, found: ComparisonResults, group: Sequence[ComparedNetwork]
) -> Measurement | None:
    if claim.analysis not in found.results:
        return None
    measured = claim.measure(found, tuple(group))
    return measured if isinstance(measured, Measurement) else None
