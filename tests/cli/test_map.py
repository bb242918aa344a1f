"""`zoo fingerprint`, `zoo map` and `zoo nearest` on a registry of two models."""

import json

import pytest


def test_fingerprints_are_made_once_then_mapped(kept, zoo):
    made = json.loads(zoo("fingerprint", "--images", "40", "--json"))
    assert [(row["model"], row["made"]) for row in made] == [
        ("vit-gap-small/1", True),
        ("vit-small/1", True),
    ]
    assert "was there" in zoo("fingerprint", "vit-small", "--images", "40")
    printed = zoo("map", "--images", "40", "--at", "features")
    assert "2 models on 40 images of digits test, compared by their features" in printed
    report = json.loads((kept / "reports" / "map" / "map.json").read_text())
    assert report["command"] == "zoo map --images 40 --at features"
    (near,) = report["models"][0]["nearest"]
    asked = ("--images", "40", "--at", "features", "--json")
    (found,) = json.loads(zoo("nearest", "vit-gap-small", *asked))
    assert found["name"] == near["name"] == "vit-small/1"
    assert found["cka"] == pytest.approx(near["cka"], abs=1e-9)
    assert "vit-small/1" in zoo("nearest", "vit-gap-small", "--images", "40")
    assert zoo("map", "--images", "40", "--quiet").strip() == str(kept / "reports/map/map.html")


def test_what_cannot_be_done_is_told_in_a_line(kept, zoo):
    told = zoo("fingerprint", "vit-small", "--filter", "arch=vit", status=2)
    assert "expected models or --filter, got both" in told
    told = zoo("fingerprint", "--on", "10.0.0.1:10001", status=2)
    assert "--on: expected ray or ray://HOST:PORT, got '10.0.0.1:10001'" in told
    told = zoo("map", "--filter", "arch=mixer", status=2)
    assert "no model passes the filter 'arch=mixer'" in told
    told = zoo("map", "--at", "2", status=2)
    assert "'2' is not one of '0', '0.25', '0.5', '0.75', '1', 'features', 'logits'" in told
    told = zoo("nearest", "vit-smal", status=2)
    assert "did you mean" in told
