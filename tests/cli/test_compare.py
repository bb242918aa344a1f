"""How `zoo compare` tells the claims, and that it runs no network for what it knows."""

import xarray as xr

from zoo.cli.compare import _print_claims as print_claims
from zoo.comparison import open_results
from zoo.files import read_json
from zoo.study import one_pass


def test_networks_that_were_compared_do_not_run_again(registered, zoo, monkeypatch):
    ran, forward = [], one_pass._forward

    def run(s, network, pixels, wanted):
        ran.append(network.name)
        return forward(s, network, pixels, wanted)

    def compare(out, *more):
        ran.clear()
        asked = ("vit-small", "vit-gap-small", "--images", "23", "--batch-size", "9")
        zoo("compare", *asked, "--out", f"reports/{out}", *more)
        return open_results(registered / "reports" / out).tree["cka"].to_dataset()

    monkeypatch.setattr(one_pass, "_forward", run)
    first = compare("first", "--only", "cka")
    assert set(ran) == {"vit-small", "vit-gap-small"}  # which have the weights before training
    several = "--only", "cka,calibration", "--only", "accuracy"
    second = compare("second", *several, "--show", "classes")
    assert ran == []
    told = read_json(registered / "reports" / "second" / "report.json")
    assert {entry["name"] for entry in told["analyses"]} == {"accuracy", "calibration", "cka"}
    xr.testing.assert_identical(first, second)
    xr.testing.assert_identical(first, compare("third", "--only", "cka", "--force"))
    assert ran


def claim(id_, models, value=None, *, analysis="cka", untrained=None, seeds=(), counted=""):
    return {
        "id": id_, "models": models, "value": value, "analysis": analysis,
        "verdict": "supported" if value else "not applicable", "statement": f"It is {id_}",
        "low": value and value - 0.125, "high": value and value + 0.125, "p_holm": value and 0.02,
        "counted": counted, "over": "seeds" if seeds else "images", "seeds": list(seeds),
        "before": untrained and {"value": untrained, "low": None, "high": None, "detail": ""},
    }  # fmt: skip


def told(capsys, *claims, models=2):
    print_claims(
        {
            "claims": claims,
            "models": [{}] * models,
            "analyses": [{"name": "cka"}],
            "not_applicable": {"residuals": "no model has any"},
        }
    )
    return capsys.readouterr().out.splitlines()


def test_a_claim_stands_beside_what_it_gives_before_training(capsys):
    header, first, second = told(
        capsys, claim("A", ["v", "c"], 0.25, untrained=-0.125), claim("B", ["v"], 0.5)
    )
    names = ["claim", "verdict", "value", "95", "%", "interval", "untrained", "p", "(Holm)"]
    assert header.split() == [*names, "statement"]
    interval = ["0.125", "to", "0.375"]
    assert first.split() == [
        "A",
        "supported",
        "0.25",
        *interval,
        "-0.125",
        "0.020",
        "It",
        "is",
        "A",
    ]
    interval = ["0.375", "to", "0.625"]
    assert second.split() == ["B", "supported", "0.50", *interval, "0.020", "It", "is", "B"]


def test_a_share_of_all_layers_is_told_by_counts(capsys):
    _, row = told(capsys, claim("A", ["v"], 0.75, counted="2 to 4 of 4"))
    assert "0.75  2 to 4 of 4" in row


def test_of_more_than_two_models_those_that_were_asked_are_named(capsys):
    header, row = told(capsys, claim("A", ["v", "c"], 0.25), models=3)
    assert "models" in header
    assert "v, c" in row


def test_a_claim_of_one_model_names_it_where_each_was_asked(capsys):
    header, first, second = told(capsys, claim("A", ["v"], 0.25), claim("A", ["c"], 0.5))
    at = header.index("models")
    assert (first[at], second[at]) == ("v", "c")


def test_why_a_claim_was_not_tested_is_told(capsys):
    lines = told(
        capsys,
        claim("B", []), claim("A", []),
        claim("C", ["v"], analysis="probes"),
        claim("D", ["v"]), claim("E", ["v"], analysis="residuals"),
        claim("F", [], analysis="data-effect"),
    )  # fmt: skip
    assert lines == [
        "Could not be told (see the report): D, E.",
        "Left out by --only or --skip: C.",
        "Need other models (see zoo claims): A, B.",
        "Tested by dvc repro effect or zoo transfer: F.",
    ]


def test_what_one_group_of_models_could_not_tell_and_another_could_is_told(capsys):
    assert len(told(capsys, claim("A", ["v"], 0.5), claim("A", ["w"]))) == 2


def test_over_seeds_it_says_in_how_many_and_what_the_interval_is_over(capsys):
    header, first, second = told(
        capsys, claim("A", ["v"], 0.25, seeds=(2, 3)), claim("B", ["v"], 0.5)
    )
    held, over = header.index("holds in"), header.index("interval over")
    assert first[held:over].strip() == "2 of 3 seeds"
    assert second[held:over].strip() == "one seed"
    assert (first[over:].split()[0], second[over:].split()[0]) == ("seeds", "images")
