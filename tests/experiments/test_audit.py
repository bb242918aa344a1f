"""Which measure tells what is known to differ: against other formulas, and on networks."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from tests.report.conftest import TINY_VIT, digit_images, tiny_model
from zoo.config import Settings
from zoo.errors import UserError
from zoo.experiments import audit
from zoo.experiments.audit import MAPS, Audited, audit_measures, d_prime, describe, failures
from zoo.experiments.audit_report import draw
from zoo.measures.table import MEASURES
from zoo.models.untrained import untrained_network

CHANNELS = [8, 8, 8, 8]


def audited(measure="cka", question="architecture", auprc=1.0, distance=3.0):
    return Audited(measure, MAPS[measure][1], question, auprc, 0.4, distance, (0.9, 0.8), (0.1,))


def by_hand(alike, apart):
    """Average precision: the mean over alike pairs of the precision down to each of them."""
    return np.mean([
        sum(other >= one for other in alike)
        / sum(other >= one for other in [*alike, *apart])
        for one in alike
    ])  # fmt: skip


def test_d_prime_is_the_distance_over_the_pooled_deviation():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 2, 5), rng.normal(0, 1, 9)
    pooled = np.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2)
    assert d_prime(a, b) == pytest.approx((np.mean(a) - np.mean(b)) / pooled)
    assert d_prime(b, a) == pytest.approx(-d_prime(a, b))
    assert math.isnan(d_prime([1.0], [0.0, 1.0]))
    assert math.isnan(d_prime([1.0, 1.0], [0.0, 0.0]))


@pytest.fixture(scope="module")
def found():
    """Two seeds of a ViT and of a small ResNet, each moved a little from its start."""

    def seed(arch, number, **kwargs):
        base = tiny_model(arch, arch, **kwargs)
        spec = dataclasses.replace(base.spec, seed=number)
        module = untrained_network(spec, number).module
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return dataclasses.replace(base, module=module, spec=spec)

    vits = [seed("vit", s, **TINY_VIT) for s in (0, 1)]
    cnns = [seed("resnet18", s, channels=CHANNELS) for s in (0, 1)]
    images, _ = digit_images(24)
    return audit_measures([vits, cnns], images, settings=Settings(batch_size=12))


def test_every_measure_of_a_comparison_is_asked_both_questions(found):
    assert {one.measure for one in found} == {
        *("cka", "cka_deconfounded", "cka_without_dominant"), *MEASURES
    }  # fmt: skip
    for one in found:
        alike, apart = {"architecture": (2, 4), "training": (2, 4)}[one.question]
        assert (len(one.alike), len(one.apart)) == (alike, apart)
        assert one.chance == pytest.approx(alike / (alike + apart))
        assert one.auprc == pytest.approx(by_hand(one.alike, one.apart))
        assert one.d_prime == pytest.approx(d_prime(one.alike, one.apart), nan_ok=True)


def test_pairs_are_of_networks_of_which_the_answer_is_known():
    def member(name, variant, seed, architecture, trained=True):
        return audit._Member(name, variant, seed, architecture, trained)

    v0, v1 = (member(f"v{s}", "vit-small", s, "vit") for s in (0, 1))
    full, cnn = member("f", "vit-full", 0, "vit"), member("c", "cnn-small", 0, "cnn")
    start = member("u1", "vit-small", 1, "vit", trained=False)
    assert [audit._by_architecture(v0, b) for b in (v1, cnn, full, start)] == [
        True, False, None, None
    ]  # fmt: skip
    assert [audit._by_training(v0, b) for b in (v1, start, cnn)] == [True, False, None]
    assert audit._by_training(v1, start) is None  # its own start


def test_a_measure_fails_where_it_ranks_no_better_than_at_random():
    assert not audited().failed
    assert audited(auprc=0.4).failed
    assert audited(distance=-0.1).failed
    assert not audited(distance=math.nan).failed
    found = [audited(), audited("rsa", auprc=0.3), audited("rsa", "training", 0.3)]
    assert failures(found) == {MAPS["rsa"][1]: ["architecture", "training"]}
    said = describe([*found, audited("cka", "training", 0.9, 1.25)])
    assert said.startswith("Of 2 measures, trust the map of linear CKA first: it tells best seeds")
    assert "trained from untrained networks (AUPRC 0.90, chance 0.40, d′ 1.2)" in said
    assert f"No better than chance at telling: {MAPS['rsa'][1]} seeds of one variant" in said


def test_equal_precision_is_decided_by_the_smaller_distance():
    both = ("architecture", "training")
    found = [audited("cka", q, distance=d) for q, d in zip(both, (9.0, 1.0), strict=True)]
    found += [audited("rsa", q, distance=2.0) for q in both]
    assert f"the map of {MAPS['rsa'][1]} first" in describe(found)


def test_too_few_seeds_or_architectures_are_told():
    vit = tiny_model("vit", "vit-small", **TINY_VIT)
    with pytest.raises(UserError, match=r"two or more registered seeds, got vit-small \(1\)"):
        audit_measures([[vit]], digit_images(8)[0])
    with pytest.raises(UserError, match="got none"):
        audit_measures([], digit_images(8)[0])


def test_the_figure_has_a_dot_for_every_number_and_another_colour_where_it_failed(found):
    figure = draw([*found[:3], dataclasses.replace(found[3], auprc=0.0)])
    (axis,) = figure.axes
    dots = [line for line in axis.get_lines() if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == [*(one.auprc for one in found[:3]), 0.0]
    assert len({line.get_color() for line in dots[:3]}) == 1
    assert dots[3].get_color() != dots[0].get_color()
    title = axis.get_title(loc="left").replace("\n", " ")
    assert title == "seeds of one variant from other architectures"
