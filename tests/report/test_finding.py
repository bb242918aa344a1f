"""The finding's sentences and its table, each against the numbers that they are made of."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from tests.claims import made
from tests.claims.made import metrics, network
from zoo.report.finding import describe_finding, pixels_explain_most
from zoo.report.finding_table import Number, numbers
from zoo.study.results import INITIAL, Result, column

V, C, D = network("v", "vit"), network("c", "cnn"), network("d", "cnn")


def found(networks, **results):
    return made.found(networks, images=200, **results)


def untrained(of):
    """The same network before training, which was not asked for."""
    return replace(of, name=f"{of.name} at the start", state=INITIAL, compared=False)


def verdict(word):
    return SimpleNamespace(verdict=word, measurement=None if word == "not applicable" else 1)


def rated(by_class=None, **measures):
    """A result of accuracies, with those of the classes `cat`, `dog` and `ant`."""
    result = metrics(**measures)
    if not by_class:
        return result
    data = xr.Dataset(
        {"class_accuracy": (("network", "class"), np.array(list(by_class.values())))},
        {"network": column(list(by_class)), "class": column(["cat", "dog", "ant"])},
    )
    return Result(data, metrics=result.metrics)


def similarity(maps, spread=0.01):
    """CKA maps that are one number each, with three groups of images of which all move alike."""
    result = made.cka({pair: np.full((7, 7), value) for pair, value in maps.items()})
    cka = result.data["cka"]
    moves = np.array([-spread, 0.0, spread]).reshape(-1, 1, 1)
    offset = np.arange(cka.size).reshape(cka.shape) % 5 / 100  # differences keep some noise
    without = cka.values + moves * (1 + offset)
    kept = xr.DataArray(without, dims=("replicate", "layer", "layer_b"))
    kept.attrs = {"weight": np.full(3, 2 / 3), "freedom": 40}
    return Result(result.data.assign(cka_without=kept), metrics=result.metrics)


@pytest.mark.parametrize("order", [[V, C], [C, V]])
@pytest.mark.parametrize(("pair", "sign"), [(("c", "v"), 1), (("v", "c"), -1)])
def test_the_more_accurate_of_two_comes_first_whatever_was_asked_first(order, pair, sign):
    ends = [sign * 0.3, *sorted([sign * 0.2, sign * 0.45])]
    accuracy = metrics(accuracy={"v": 0.5, "c": 0.8}, difference={pair: ends})
    assert describe_finding(found(order, accuracy=accuracy), []) == (
        "c is more accurate than v on 200 images: 80.0 % against 50.0 % "
        "(30.0 points, 95 % interval 20.0 to 45.0)."
    )


def test_it_names_networks_without_accuracy_and_answers_that_are_not_numbers():
    predicted = xr.DataArray([[0, -1, -1, 1]], {"network": ["c"]}, ("network", "image"))
    accuracy = Result(
        xr.Dataset({"predicted": predicted}), metrics=metrics(accuracy={"c": 0.5}).metrics,
        notes=("v: not rated, since it was trained on other classes",),
    )  # fmt: skip
    said = describe_finding(found([V, C, D], accuracy=accuracy), [])
    assert "The outputs of c are not numbers on 2 of 4 images, which count as wrong." in said
    why = "v: not rated, since it was trained on other classes"
    assert f"The accuracy of v and d was not measured ({why})." in said
    assert "not measured" not in describe_finding(found([C], accuracy=accuracy), [])


def test_images_in_the_order_of_their_classes_are_a_warning():
    cka = similarity({("v", "c"): 0.5})
    by_class = replace(cka, data=cka.data.assign_attrs(sorted_by_class=1))
    said = describe_finding(found([V, C], cka=by_class), [])
    assert "sorted by class, which biases CKA: shuffle them" in said
    assert "sorted" not in describe_finding(found([V, C], cka=cka), [])


@pytest.mark.parametrize("ends", [[0.01, -0.02, 0.04], [0.0, -0.03, 0.03], [0.02, 0.0, 0.04]])
def test_an_interval_that_holds_0_is_no_detectable_difference(ends):
    accuracy = metrics(accuracy={"v": 0.9, "c": 0.9 - ends[0]}, difference={("v", "c"): ends})
    said = describe_finding(found([V, C], accuracy=accuracy), [])
    rates = f"90.0 % against {90 - 100 * ends[0]:.1f} %"
    assert said.startswith(
        f"No detectable difference in accuracy between v and c on 200 images: {rates} "
        f"({100 * ends[0]:.1f} points"
    )
    assert "more accurate" not in said


def test_the_weakest_class_is_named_unless_classes_tie():
    gap = {"accuracy": {"v": 0.5, "c": 0.8}, "difference": {("c", "v"): [0.3, 0.2, 0.45]}}
    said = describe_finding(
        found([V, C], accuracy=rated({"v": [0.1, 0.9, 0.5], "c": [0.9, 0.7, 0.8]}, **gap)), []
    )
    assert said.endswith(
        "; c is weakest on class dog (70 % right), v is weakest on class cat (10 % right)."
    )
    same = rated({"v": [0.1, 0.9, np.nan], "c": [0.6, 0.7, np.nan]}, **gap)
    said = describe_finding(found([V, C], accuracy=same), [])
    assert said.endswith("; both are weakest on class cat (60 % and 10 % right).")
    tied = rated({"v": [0.1, 0.1, 0.5], "c": [0.9, 0.9, 0.9]}, **gap)
    assert "weakest" not in describe_finding(found([V, C], accuracy=tied), [])
    one = rated({"v": [0.1, np.nan, np.nan], "c": [0.6, np.nan, np.nan]}, **gap)
    assert "weakest" not in describe_finding(found([V, C], accuracy=one), [])


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (
            0.9,
            "Training made the layers of v and c less like each other "
            "(mean CKA 0.60, before training 0.90).",
        ),
        (
            0.2,
            "Training made the layers of v and c more like each other "
            "(mean CKA 0.60, before training 0.20).",
        ),
        (
            0.6,
            "Training did not detectably change how alike the layers of v and c are "
            "(mean CKA 0.60, before training 0.60).",
        ),
    ],
)
def test_what_training_changed_is_told_only_beyond_noise(before, said):
    start = [untrained(V), untrained(C)]
    maps = {("v", "c"): 0.6, (start[0].name, start[1].name): before}
    assert describe_finding(found([V, C, *start], cka=similarity(maps)), []) == said
    turned = {("c", "v"): 0.6, (start[1].name, start[0].name): before}
    swapped = describe_finding(found([C, V, *start], cka=similarity(turned)), [])
    assert swapped == said.replace("v and c", "c and v")


@pytest.mark.parametrize(
    ("before", "than"),
    [(-0.001, "more than the 0.00"), (0.25, "not detectably different from the 0.25")],
)
def test_of_two_networks_it_is_told_what_is_left_without_the_pixels(before, than):
    start = [untrained(V), untrained(C)]
    pairs = [("v", "c"), (start[0].name, start[1].name)]
    whole = similarity(dict(zip(pairs, (0.6, 0.9), strict=True)))
    left = similarity(dict(zip(pairs, (0.25, before), strict=True))).data
    names = {name: f"cka_deconfounded{name.removeprefix('cka')}" for name in left.data_vars}
    both = replace(whole, data=whole.data.assign(left.rename(names).data_vars))
    assert describe_finding(found([V, C, *start], cka=both), []) == (
        "Training made the layers of v and c less like each other (mean CKA 0.60, before training "
        f"0.90). Without what the pixels explain, 0.25 is left, {than} before training."
    )
    both = replace(both, metrics=metrics(best_match_deconfounded_p={("v", "c"): 0.3}).metrics)
    said = describe_finding(found([V, C, *start], cka=both), [])
    assert f"0.25 is left, no better matched than with permuted images, {than} before" in said


def test_of_networks_whose_start_is_not_known_nothing_is_said_to_be_trained():
    said = describe_finding(found([V, C], cka=similarity({("v", "c"): 0.6})), [])
    assert said == (
        "The mean CKA of the layers of v and c is 0.60; before training it was not measured."
    )


def test_matches_that_chance_gives_as_well_are_told():
    result = similarity({("v", "c"): 0.6})
    chance = made.metrics(best_match_p={("v", "c"): 0.3}).metrics
    said = describe_finding(found([V, C], cka=replace(result, metrics=chance)), [])
    assert "no better matched than with permuted images" in said


def test_of_more_than_two_the_ends_are_named_and_a_lead_that_is_chance():
    gaps = {("c", "d"): [0.02, -0.01, 0.05], ("c", "v"): [0.3, 0.2, 0.4]}
    gaps |= {("d", "v"): [0.28, 0.2, 0.4]}
    accuracy = metrics(accuracy={"v": 0.5, "c": 0.8, "d": 0.78}, difference=gaps)
    start = [untrained(n) for n in (V, C, D)]
    maps = {("v", "c"): 0.4, ("v", "d"): 0.3, ("c", "d"): 0.8}
    maps |= {(f"{a} at the start", f"{b} at the start"): 0.5 for a, b in maps}
    results = found([V, C, D, *start], accuracy=accuracy, cka=similarity(maps))
    assert describe_finding(results, []) == (
        "Of 3 models, c is the most accurate on 200 images (80.0 %, not detectably ahead of d) and "
        "v the least (50.0 %). Most alike are c and d (mean CKA 0.80), least alike v and d "
        "(0.30); of 3 pairs, training made 1 more alike and 2 less alike."
    )


def test_one_pair_known_before_training_is_one_pair():
    maps = {("v", "c"): 0.4, ("v", "d"): 0.3, ("c", "d"): 0.8}
    maps |= {("v at the start", "c at the start"): 0.5}
    said = describe_finding(found([V, C, D, untrained(V), untrained(C)], cka=similarity(maps)), [])
    assert said.endswith("; of 1 pair, training made 0 more alike and 1 less alike.")


def test_of_pairs_that_chance_tells_apart_none_is_the_most_alike():
    maps = {("v", "c"): 0.723, ("v", "d"): 0.738, ("c", "d"): 0.731}
    data = similarity(maps, spread=0.0).data
    # Without one group of images or another, CKA with d moves: by hand, the difference 0.015 of the
    # ends has a standard error of sqrt(2 / 3 * 2 * 0.02 ** 2) = 0.023.
    with_d = (data["network"] == "d") | (data["network_b"] == "d")
    moves = xr.DataArray([-0.02, 0.0, 0.02], dims="replicate") * with_d
    without = (data["cka_without"] + moves).transpose(*data["cka_without"].dims)
    moved = Result(data.assign(cka_without=without.assign_attrs(data["cka_without"].attrs)))
    assert describe_finding(found([V, C, D], cka=moved), []) == (
        "No pair is detectably more alike than another (mean CKA 0.72 to 0.74)."
    )
    assert describe_finding(found([V, C, D], cka=Result(data)), []) == (
        "Most alike are v and d (mean CKA 0.74), least alike v and c (0.72)."
    )


def test_an_extreme_that_others_may_share_is_not_named_alone():
    values = {"c": 0.8, "d": 0.79, "e": 0.78, "v": 0.5}
    gaps = {("c", "d"): [0.01, 0.005, 0.02], ("c", "e"): [0.02, -0.01, 0.05],
            ("c", "v"): [0.3, 0.2, 0.4], ("d", "v"): [0.29, 0.2, 0.4],
            ("e", "v"): [0.28, 0.2, 0.4]}  # fmt: skip
    models = [V, C, D, replace(D, name="e", model="e")]

    def said(gaps):
        return describe_finding(
            found(models, accuracy=metrics(accuracy=values, difference=gaps)), []
        )

    # The second is told apart, the third is not.
    assert "(80.0 %, not detectably ahead of e) and v the least (50.0 %)." in said(gaps)
    gaps |= {("c", "d"): [0.01, -0.01, 0.02], ("e", "v"): [0.28, -0.1, 0.4]}
    assert (
        "(80.0 %, not detectably ahead of d and 1 more) and v the least (50.0 %, not detectably "
        "behind e)."
    ) in said(gaps)


def test_of_alike_pairs_the_runners_up_are_named_where_chance_tells_them_not_apart():
    maps = {("v", "c"): 0.4, ("v", "d"): 0.738, ("c", "d"): 0.731}
    data = similarity(maps, spread=0.0).data
    # As in the test above, but for one pair alone.
    pair = ((data["network"] == "d") & (data["network_b"] == "c")) | (
        (data["network"] == "c") & (data["network_b"] == "d")
    )
    moves = xr.DataArray([-0.02, 0.0, 0.02], dims="replicate") * pair
    without = (data["cka_without"] + moves).transpose(*data["cka_without"].dims)
    moved = Result(data.assign(cka_without=without.assign_attrs(data["cka_without"].attrs)))
    assert describe_finding(found([V, C, D], cka=moved), []) == (
        "Most alike are v and d (mean CKA 0.74, not detectably more than c and d), least alike v "
        "and c (0.40)."
    )


def test_where_neither_accuracy_nor_cka_was_measured_it_says_so():
    attention = metrics(entropy={"v": 0.94})
    assert describe_finding(found([V, C], attention_maps=attention), []) == (
        "Neither accuracy nor CKA was measured: the report shows what was."
    )


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([], ""),
        ([verdict("not applicable")], ""),
        ([verdict("supported")], "1 test of the papers' claims: 1 supported."),
        (
            [
                verdict(w)
                for w in ("undecided", "built in", "supported", "built in", "not supported")
            ],
            "5 tests of the papers' claims: 1 supported, 2 built in (true before "
            "training as well), 1 undecided and 1 not supported.",
        ),
    ],
)
def test_claims_are_counted_and_told_apart_from_what_holds_untrained(verdicts, said):
    assert describe_finding(found([V, C]), verdicts) == said


def test_one_model_alone_is_described_without_a_pair():
    start = untrained(V)
    maps = {("v", "v"): 0.8, (start.name, start.name): 0.9}
    results = found([V, start], accuracy=metrics(accuracy={"v": 0.5}), cka=similarity(maps))
    assert describe_finding(results, []) == (
        "v classifies 50.0 % of 200 images correctly. Training made the layers of v less alike "
        "(mean CKA 0.80, before training 0.90)."
    )


def test_the_table_holds_what_the_sentences_rest_on():
    start = [untrained(V), untrained(C)]
    accuracy = metrics(
        accuracy={"v": [0.5, 0.4, 0.6], "c": 0.8, start[0].name: 0.1},
        difference={("v", "c"): [-0.3, -0.45, -0.2]},
    )
    maps = {("v", "c"): 0.6, (start[0].name, start[1].name): 0.9}
    cka = similarity(maps, spread=0.0)
    chance = made.metrics(
        mean_best_match={("v", "c"): 0.7}, best_match_permuted={("v", "c"): 0.3},
        best_match_p={("v", "c"): 0.004},
    ).metrics  # fmt: skip
    results = found([V, C, *start], accuracy=accuracy, cka=replace(cka, metrics=chance[:]))
    rows = numbers(results)
    assert rows[:4] == [
        Number("accuracy", "v", "50.0 %", "40.0 % to 60.0 %", "10.0 %"),
        Number("accuracy", "c", "80.0 %"),
        Number("accuracy, difference", "c − v", "30.0 points", "20.0 to 45.0 points"),
        Number("mean CKA over all pairs of layers", "v × c", "0.60", "0.60 to 0.60", "0.90"),
    ]
    best = "CKA of best matches (images permuted: 0.30, p 0.004)"
    assert Number(best, "v in c", "0.70") in rows


def test_of_more_than_two_the_table_has_the_lowest_and_the_highest():
    attention = metrics(entropy={"v": 0.94, "c": 0.9, "d": 0.91})
    rows = numbers(found([V, C, D], attention_maps=attention))
    assert [(row.of, row.value) for row in rows] == [("c", "90.0 %"), ("v", "94.0 %")]
    assert [row.measure.rsplit(", ")[-1] for row in rows] == ["lowest of 3", "highest of 3"]


def test_over_seeds_means_are_said_and_the_better_comes_first_in_the_table():
    seeds = [
        replace(of, name=f"{of.name} seed 1", model=of.name, seed=1, compared=False)
        for of in (V, C)
    ]
    accuracy = rated(
        {"v": [0.1, 0.5, 0.9], "c": [0.7, 0.7, 0.9], "v seed 1": [0.9, 0.2, 0.9],
         "c seed 1": [0.8, 0.5, 0.9]},
        accuracy={"v": 0.5, "c": 0.8, "v seed 1": 0.6, "c seed 1": 0.86},
        difference={("c", "v"): [0.3, 0.2, 0.4]},
    )  # fmt: skip
    results = found([V, C, *seeds], accuracy=accuracy)
    half = 12.706 * 0.02  # Student's t with one degree of freedom, times the standard error
    assert describe_finding(results, []) == (
        "c is more accurate than v on 200 images: 83.0 % against 55.0 % "
        f"(28.0 points, 95 % interval over 2 seeds {28 - 100 * half:.1f} to "
        f"{28 + 100 * half:.1f}); both are weakest on class dog (60 % and 35 % right)."
    )
    rows = {row.measure: row for row in numbers(results) if row.of != "v"}
    better = rows["probability that a seed of the first is more accurate"]
    assert (better.of, better.value) == ("c, v", "1.00")
    assert rows["accuracy"].value == "83.0 % ± 4.2 %"


@pytest.mark.parametrize("seeds", [1, 2])
def test_of_unequal_seeds_the_accuracies_said_are_those_of_the_difference(seeds):
    """The table keeps the mean of all seeds of each, and says what the difference is of."""
    more = [replace(V, name=f"v seed {i}", model="v", seed=i, compared=False) for i in range(1, 3)]
    more += [replace(C, name="c seed 1", model="c", seed=1, compared=False)][: seeds - 1]
    rates = {"v": 0.5, "c": 0.8, "v seed 1": 0.6, "c seed 1": 0.86, "v seed 2": 0.1}
    accuracy = rated(accuracy=rates, difference={("c", "v"): [0.3, 0.2, 0.4]})
    results = found([V, C, *more], accuracy=accuracy)
    rows = {(row.measure, row.of): row.value for row in numbers(results)}
    assert rows["accuracy", "v"].startswith("40.0 % ± ")
    said = describe_finding(results, [])
    if seeds == 1:
        assert "80.0 % against 50.0 % (one seed of each; 30.0 points, 95 % interval 20.0" in said
        assert rows["accuracy, difference (one seed of each)", "c − v"] == "30.0 points"
    else:
        assert "83.0 % against 55.0 % (2 seeds of each; 28.0 points, 95 % interval over" in said
        assert rows["accuracy, difference (2 seeds of each)", "c − v"] == "28.0 points"


def test_a_best_layer_that_tells_less_than_the_pixels_is_named_unless_that_is_chance():
    probes = metrics(best_layer_accuracy={"v": 0.81, "c": 0.88}, pixels_accuracy={"": 0.9})
    fitted = probes.data.assign_attrs(fit_images=199)
    results = found([V, C], probes=replace(probes, images=200, data=fitted))
    # By hand, half of the interval of 0.90 − 0.81 is 0.069, and of 0.90 − 0.88 it is 0.062.
    assert describe_finding(results, []) == (
        "A linear classifier fitted to the raw pixels of 199 images is right on 90.0 % of the "
        "others, more than one that reads the best layer of v (81.0 %)."
    )


@pytest.mark.parametrize(("left", "most"), [(0.2, True), (0.4, False)])
def test_pixels_explain_most_where_less_than_half_is_left(left, most):
    result = similarity({("v", "c"): 0.6})
    rest = result.data["cka"] * left / 0.6
    cka = Result(result.data.assign(cka_deconfounded=rest))
    assert pixels_explain_most(found([V, C], cka=cka)) is most
    assert not pixels_explain_most(found([V, C], cka=result))
    assert not pixels_explain_most(found([V, C, D], cka=cka))
