"""The table as a whole, and the claims met with what the analyses really find."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.capture.networks import Residual
from tests.claims.made import CNN, VIT, by_layer, network, verdicts
from tests.test_imports import ROOT
from zoo.analyses import ANALYSES
from zoo.analyses.engine import compare_models
from zoo.claims import CLAIMS, judge
from zoo.config import Settings
from zoo.measures.difference_groups import difference_groups
from zoo.models.build import build
from zoo.models.files import describe_module

COMPARED = [claim for claim in CLAIMS if claim.cases]


def test_what_was_left_out_is_said():
    found = verdicts([VIT, CNN])
    assert found["R-uniform", ("v", "c")].detail == "cka: was left out"


def test_what_could_not_be_measured_is_said():
    none = {"v": np.full((5, 2), np.nan)}
    result = by_layer(["branch"], cls_ratio=none, patch_ratio=none)
    found = verdicts([VIT], residuals=result)["R-skip-cls", ("v",)]
    assert found.verdict == "not applicable"
    assert found.detail == "residuals could not measure it for these models"
    notes = ("of all: a", "c: no sum", "v: no sum was found", "v and c: b", "v: 1", "v: 2", "v: 3")
    noted = replace(result, notes=notes)
    found = verdicts([VIT], residuals=noted)["R-skip-cls", ("v",)]
    assert found.detail == (
        "residuals could not measure it for these models "
        "(notes: v: no sum was found; v: 1; v: 2; and 1 more)"
    )


def test_ids_are_unique_and_verdicts_are_json():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    found = [v.as_dict() for v in verdicts([VIT, CNN]).values()]
    assert {v["verdict"] for v in found} == {"not applicable"}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_claim_says_how_it_is_tested_and_why_so(claim):
    assert claim.threshold.side in ("above", "below", "at least")
    for text in ("paper", "figure", "statement", "measured_as", "why", "applies_when"):
        assert getattr(claim, text).strip() == getattr(claim, text) != "", text
    assert claim.analysis in ANALYSES or (ROOT / f"docs/analyses/{claim.analysis}.md").is_file()
    assert (claim.analysis in ANALYSES) == (claim.cases is not None)
    assert claim.id.startswith(claim.paper[0] + "-")


def test_a_claim_that_no_comparison_tests_says_what_does():
    found = verdicts([VIT, CNN])["R-transfer", ()]
    assert found.detail == "needs `zoo transfer` of the whole network"


def test_a_claim_about_training_images_says_of_which_networks_these_are_not_known():
    needs = next(claim for claim in CLAIMS if claim.id == "Z-accuracy").applies_when
    unknown = [network(name, family, "", 0) for name, family in (("v", "vit"), ("c", "cnn"))]
    where = "(subset_digest and subset_count of zoo.wrap)"
    found = verdicts(unknown)["Z-accuracy", ()].detail
    assert found == f"needs {needs}; what v and c were trained on is not known {where}"
    found = verdicts([VIT, unknown[1]])["Z-accuracy", ()].detail
    assert found == f"needs {needs}; what c was trained on is not known {where}"
    # Published weights: how many images is known, not which.
    assert "not known" not in verdicts([VIT, network("c", "cnn", "", 9)])["Z-accuracy", ()].detail
    assert "not known" not in verdicts(unknown[1:])["R-skip-cls", ()].detail


def test_a_control_is_no_vit_and_no_cnn():
    found = verdicts([network("n", "vit", arch="vit-noskip1"), CNN])
    assert found["R-skip-cls", ()].detail == "needs a ViT with a class token"
    assert ("R-skip-cnn", ("n", "c")) not in found
    shuffled = verdicts([VIT, network("c", "cnn", arch="resnet18-shuffled4")])
    assert ("Z-accuracy", ("v", "c")) in verdicts([VIT, CNN]).keys() - shuffled.keys()


@pytest.fixture(scope="module")
def judged():
    """All claims on small untrained models of every kind, from all analyses that they rest on."""
    tiny = {"patch_size": 4, "embed_dim": 16, "depth": 4, "num_heads": 4}
    wide = tiny | {"embed_dim": 32, "depth": 2}
    kinds = {
        "less": ("vit", "small", 10, tiny), "more": ("vit", "full", 20, tiny),
        "wide": ("vit", "small", 10, wide), "wide2": ("vit", "full", 20, wide),
        "gap": ("vit-gap", "full", 20, tiny), "without": ("vit-noskip1", "full", 20, tiny),
        "mixer": ("mixer", "full", 20, {"embed_dim": 16, "num_blocks": 2}),
    }  # fmt: skip
    digits = {"class_names": list("0123"), "image_size": 16, "source": "digits"}
    models = []
    torch.manual_seed(0)
    for name, (arch, subset, count, kwargs) in kinds.items():
        module = build(arch, classes=4, image_size=16, **kwargs)
        data = {"subset": subset, "subset_digest": subset, "subset_count": count}
        known = {"kwargs": kwargs, "parameters": 30_000 if kwargs is wide else 10_000}
        models.append(describe_module(module, name=name, arch=arch, **known, **data, **digits))
    for name, subset, count in (("cnn", "small", 10), ("cnn2", "full", 20)):
        body = nn.Sequential(Residual(4, 4), Residual(4, 8), Residual(8, 8))
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
        module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), body, *head)
        data = {"subset": subset, "subset_digest": subset, "subset_count": count}
        models.append(describe_module(module, name=name, **data, **digits, parameters=10_000))
    images = torch.randint(0, 256, (40, 16, 16, 3), dtype=torch.uint8).numpy()
    with pytest.MonkeyPatch.context() as patch:
        # No claim asks how stable groups of differences are, which takes a third of the time.
        patch.setitem(difference_groups.__kwdefaults__, "samples", 2)
        found = compare_models(
            models,
            images,
            torch.arange(40).numpy() % 4,
            class_names=tuple("0123"),
            only=sorted({claim.analysis for claim in COMPARED}),
            settings=Settings(batch_size=20, references=False, shown_images=2),
        )
    return judge(found)


@pytest.mark.parametrize("claim", COMPARED, ids=lambda claim: claim.id)
def test_every_claim_finds_what_it_needs_among_what_the_analyses_find(judged, claim):
    found = [verdict for verdict in judged if verdict.claim is claim]
    assert all(verdict.models for verdict in found)
    assert not any("could not measure" in verdict.detail for verdict in found), found
