"""What a reader is told before the numbers."""

from dataclasses import replace

import pytest

from tests.claims import made
from zoo.report.cautions import ONE_SEED, cautions

V, C = made.network("v", "vit"), made.network("c", "cnn")


def results(networks=(), **steps):
    models = [{"name": name, "steps": count} for name, count in steps.items()]
    return replace(made.found(networks), provenance={"models": models})


def test_networks_of_different_numbers_of_steps_are_named():
    assert cautions(results(v=40, w=40, c=1560)) == [
        "v was trained for 40 steps, w for 40 and c for 1,560: differences may come from that."
    ]


def test_other_settings_of_training_are_named_where_they_are_known_of_all():
    trained = {
        "v": "2 epochs (40 steps), batches of 50, adam, learning rate 0.0003, flip",
        "c": "3 epochs (40 steps), batches of 50, adamw, learning rate 0.001, flip",
    }
    models = [{"name": name, "training": text} for name, text in trained.items()]
    assert cautions(replace(results(), provenance={"models": models})) == [
        "They were trained in different ways (v: adam, learning rate 0.0003; c: adamw, learning "
        "rate 0.001): differences may come from that, and not from their architecture."
    ]
    models[1] |= {"training": trained["v"]}
    assert cautions(replace(results(), provenance={"models": models})) == []
    models[1] |= {"training": ""}
    assert cautions(replace(results(), provenance={"models": models})) == []


def test_measures_that_failed_an_audit_are_named():
    made_known = results()
    made_known = replace(
        made_known, provenance={"audit": {"RSA": ["training"], "SVCCA": ["a", "b"]}}
    )
    (said,) = cautions(made_known)
    assert said.endswith("or trained from untrained: RSA (training), SVCCA (a and b).")


@pytest.mark.parametrize("steps", [{}, {"v": 40, "c": 40}, {"v": 40, "c": 0}, {"v": 0, "c": 0}])
def test_equal_or_unknown_steps_are_not_spoken_of(steps):
    assert cautions(results(**steps)) == []


def test_one_seed_is_told_where_no_model_has_another():
    start = replace(V, name="v untrained", state="initial", compared=False)
    second = replace(V, name="v seed 1", seed=1, compared=False)
    assert cautions(results([V, C, start])) == [ONE_SEED]
    (said,) = cautions(results([V, C, second]))
    assert said.startswith("Seeds: v 2, c 1. Numbers are means over seeds")
    assert "figures show one seed of each (0 of v, 0 of c)" in said
    assert cautions(results([V, replace(C, images=0)])) == [ONE_SEED]  # of whatever was trained


def test_images_that_a_network_was_trained_on_are_named_first():
    known = results(v=40, c=1560)
    found = replace(known, provenance=known.provenance | {"trained_on": {"c": 3}})
    assert cautions(found)[0] == (
        "c was trained on 3 of these 50 images: on new ones it may do worse."
    )
    assert len(cautions(found)) == len(cautions(known)) + 1
