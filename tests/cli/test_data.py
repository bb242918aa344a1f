"""`zoo data check`, and pictures of one's own for `zoo compare` and `zoo predict`."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.project.new_study import IMAGE_SIZE


@pytest.fixture
def pictures(project):
    """Eight pictures of several sizes in one folder."""
    folder = project / "pictures"
    folder.mkdir()
    random = np.random.RandomState(0)
    for i in range(8):
        pixels = random.randint(0, 256, (40 + i, 60 - i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def flowers(pictures):
    """The same pictures, four in each of two classes."""
    for i, path in enumerate(sorted(pictures.iterdir())):
        path.rename(path.parent.parent / f"{i}.png")
        (pictures / "ab"[i % 2]).mkdir(exist_ok=True)
        (pictures.parent / f"{i}.png").rename(pictures / "ab"[i % 2] / f"{i}.png")
    return pictures


def test_what_will_be_made_of_the_images_is_told(zoo, flowers):
    told = zoo("data", "check", str(flowers))
    assert "finding" not in told
    assert f"to {IMAGE_SIZE}×{IMAGE_SIZE}: scaled by the shorter side" in told
    assert "a fifth of every class, drawn with seed 0" in told
    assert "4 to train on, 2 for validation, 2 to test" in told
    assert "none for CKA: they need 8 test images" in told
    assert told.endswith("all is well\n")


def test_a_damaged_image_gives_status_3(zoo, flowers):
    (flowers / "a" / "broken.jpg").write_bytes(b"nothing")
    zoo("data", "check", str(flowers), status=3)


def test_shards_are_told_from_pictures_beside_an_archive(zoo, flowers, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    with tarfile.open(shards / "all.tar", "w") as archive:
        for path in sorted(flowers.rglob("*.png")):
            label = shards / f"{path.stem}.cls"
            label.write_text(str(int(path.parent.name == "b")))
            archive.add(path, path.name)
            archive.add(label, label.name)
    (flowers / "backup.tar").write_bytes((shards / "all.tar").read_bytes())
    assert f"images in {flowers}" in zoo("data", "check", str(flowers))
    told = zoo("data", "check", str(shards))
    assert f"shards in {shards}" in told
    assert "4 to train on, 2 for validation, 2 to test" in told


def test_json_holds_counts_and_findings(zoo, flowers):
    (flowers / "a" / "notes.txt").write_text("")
    told = json.loads(zoo("data", "check", str(flowers), "--json"))
    assert told["well"]
    assert told["parts"]["classes"] == {"a": [3, 1], "b": [3, 1]}
    assert [(f["kind"], f["what"]) for f in told["findings"]] == [("unused", "a/notes.txt")]


def test_in_a_study_the_sizes_of_its_subsets_are_checked(zoo, flowers, monkeypatch):
    assert "no params.yaml in" in zoo("data", "check", status=2)
    zoo("init", "study", "--source", "imagefolder", "--root", str(flowers))
    monkeypatch.chdir("study")
    assert "all is well" in zoo("data", "check")
    text = (flowers.parent / "study" / "params.yaml").read_text()
    (flowers.parent / "study" / "params.yaml").write_text(
        text.replace("\n  small: 2", "\n  small: 9")
    )
    zoo("data", "check", status=3)


def test_models_are_compared_on_pictures_without_labels(zoo, save, pictures):
    for name in ("vit-small", "vit-gap-small"):
        save(name)
    told = zoo(
        "compare", "models/vit-small", "models/vit-gap-small", "--data", str(pictures),
        "--only", "cka,accuracy,probes", "--batch-size", "4", "--images", "6", "--json",
    )  # fmt: skip
    report = json.loads(told)
    # Folders have no training runs to be put side by side.
    found = zoo(
        "compare", "models/vit-small", "models/vit-gap-small", "--data", str(pictures),
        "--only", "cka,accuracy,probes", "--batch-size", "4", "--images", "6",
    )  # fmt: skip
    assert not any(line.startswith("runs") for line in found.splitlines())
    assert report["images"]["count"] == 6
    assert report["images"]["source"] == "pictures"
    assert [entry["name"] for entry in report["analyses"]] == ["cka"]
    assert report["not_applicable"]["accuracy"] == "the images have no labels"
    assert report["not_applicable"]["probes"] == "the images have no labels"


def test_a_second_folder_says_whether_the_map_is_that_of_the_images(zoo, save, pictures, flowers):
    for name in ("vit-small", "vit-gap-small"):
        save(name)
    asked = ["compare", "models/vit-small", "models/vit-gap-small", "--only", "cka", "--json"]
    one = json.loads(zoo(*asked, "--data", str(pictures)))
    two = json.loads(zoo(*asked, "--data", str(pictures), "--data", str(flowers)))
    assert one["other_images"] == []
    (other,) = two["other_images"]
    assert (other["name"], other["count"]) == (flowers.name, 8)
    assert two["digest"] != one["digest"]
    measured = {m["measure"]: m["value"] for m in two["metrics"] if m["network_b"]}
    assert -1 <= measured["cka_set_agreement"] <= 1
    assert not any("_set_" in m["measure"] for m in one["metrics"])


def test_folders_for_classes_are_labels_of_a_comparison(zoo, save, flowers):
    known = [*map(str, range(8)), "b", "a"]
    for name in ("vit-small", "vit-gap-small"):
        save(name, class_names=known)
    told = zoo(
        "compare", "models/vit-small", "models/vit-gap-small", "--data", str(flowers),
        "--only", "accuracy", "--json",
    )  # fmt: skip
    report = json.loads(told)
    assert report["images"]["class_names"] == known
    [accuracy] = [
        m for m in report["metrics"] if m["measure"] == "accuracy" and m["network"] == "vit-small"
    ]
    predicted = json.loads(zoo("predict", "models/vit-small", str(flowers), "--json", "--top", "1"))
    right = [Path(p["image"]).parent.name == p["classes"][0]["name"] for p in predicted]
    assert len(right) == 8
    assert accuracy["value"] == pytest.approx(np.mean(right))


def test_a_folder_that_holds_neither_is_told(zoo, save, project):
    save("vit-small")
    save("vit-gap-small")
    (project / "empty").mkdir()
    told = zoo("compare", "models/vit-small", "models/vit-gap-small", "--data", "empty", status=2)
    assert "empty: no images; expected .bmp" in told
