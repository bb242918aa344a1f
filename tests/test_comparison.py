"""A finished comparison: its identity, its words, its folder."""

import gc
import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from torch import nn

import zoo
from tests.claims import made
from zoo.analyses.about import Drawing
from zoo.comparison import Comparison, open_results, redraw
from zoo.config import Settings
from zoo.errors import UserError
from zoo.figures.names import file_name
from zoo.report.figures import caption
from zoo.study.identity import comparison_digest

ONLY = ["accuracy", "cka", "probes", "receptive-field"]


@pytest.fixture(scope="module")
def compared(digits_folder):
    import torch

    from tests.conftest import TINY_VIT
    from zoo.data.subsets import load_subset
    from zoo.models.build import build

    torch.manual_seed(0)
    nets = [build("vit", classes=10, image_size=16, **TINY_VIT) for _ in range(2)]
    names = [str(i) for i in range(10)]
    models = [
        zoo.wrap(net, name=name, image_size=16, class_names=names)
        for net, name in zip(nets, ("a", "<b>"), strict=True)
    ]
    test = load_subset(digits_folder / "test")
    images, labels = np.array(test.images[:80]), np.array(test.labels[:80])
    return zoo.compare(models, images, labels, only=ONLY, settings=Settings(batch_size=20))


def test_the_python_way_needs_no_pipeline_and_no_server(compared):
    assert isinstance(compared, Comparison)
    assert set(compared.results.results) == set(ONLY)
    assert 0 < compared.results.results["cka"].metric("mean_all_pairs", "a", "<b>") <= 1
    assert len(compared.report()["digest"]) == 64


def test_the_folder_holds_page_report_results_and_figures(compared, tmp_path):
    report = compared.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.json", "results.nc", "figures"}
    for entry in report["analyses"]:
        assert {figure["file"] for figure in entry["figures"]} == set(compared.plot(entry["name"]))
        for figure in entry["figures"]:
            assert (tmp_path / "out" / "figures" / f"{figure['file']}.png").stat().st_size > 1000
            assert (tmp_path / "out" / "figures" / f"{figure['file']}.svg").is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_the_page_calls_the_images_by_the_name_they_were_given(digit_images, tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    scaled = zoo.wrap(network, image_size=16, mean=[0.1, 0.2, 0.3], std=[1.0] * 3)
    found = zoo.compare([scaled], digit_images[0], images_name="<scans> of 2026", only="cka")
    found.save(tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Compared on 60 images of &lt;scans&gt; of 2026" in page
    assert "16 × 16 pixels (bicubic); mean (0.1, 0.2, 0.3), standard deviation 1<" in page


def test_saved_results_are_the_same_when_they_are_opened(compared, tmp_path):
    compared.save(tmp_path / "out")
    for path in (tmp_path / "out", tmp_path / "out" / "results.nc"):
        opened = open_results(path)
        xr.testing.assert_identical(opened.tree, compared.tree)
        assert opened.to_frame().equals(compared.to_frame())
        assert opened.verdicts == compared.verdicts
        assert opened.report() == compared.report()
    assert opened.results.networks == compared.results.networks
    for name, result in compared.results.results.items():
        # As text, since one NaN is not another; a count stays an int.
        assert repr(opened.results.results[name].metrics) == repr(result.metrics)
        assert opened.results.results[name].notes == result.notes


def test_what_was_saved_is_drawn_again_without_a_network(compared, tmp_path, monkeypatch):
    compared.save(tmp_path / "out")
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    kept = {p: p.read_bytes() for p in files if p.suffix != ".nc"}
    (tmp_path / "out" / "report.html").unlink()

    def run(*_):
        raise AssertionError("a network was run")

    monkeypatch.setattr("zoo.analyses.engine.run_pass", run)
    monkeypatch.setattr("torch.nn.Module.__call__", run)
    redraw(tmp_path / "out")
    assert {p: p.read_bytes() for p in kept} == kept


def test_names_that_contain_each_other_are_kept_apart(make_model, digit_images, tmp_path):
    names, images = ["a", "b", "a__b", "a/b"], digit_images[0][:20]
    models = [make_model("vit", name, seed=i) for i, name in enumerate(names)]
    settings = Settings(batch_size=10, references=False)
    whole = zoo.compare(models, images, only="cka", settings=settings)
    report = whole.save(tmp_path / "out")
    for i, j in ((0, 1), (0, 2), (2, 3), (1, 3)):
        two = zoo.compare([models[i], models[j]], images, only="cka", settings=settings)
        of = names[i], names[j]
        for result in (whole, open_results(tmp_path / "out")):
            assert zoo.select(result["cka"]["cka"], *of).values == pytest.approx(
                zoo.select(two["cka"]["cka"], *of).values, abs=1e-9
            )
            assert result.results.results["cka"].metric("mean_all_pairs", *of) == pytest.approx(
                two.results.results["cka"].metric("mean_all_pairs", *of), abs=1e-9
            )
    (entry,) = report["analyses"]
    files = [figure["file"] for figure in entry["figures"]]
    assert len(set(files)) == len(files) == 1 + 6
    contents = {(tmp_path / "out" / "figures" / f"{file}.png").read_bytes() for file in files}
    assert len(contents) == len(files)


def test_one_selection_gives_a_block_of_one_network_with_all_of_another(make_model, digit_images):
    models = [make_model("vit", "v"), make_model("resnet18", "c")]
    settings = Settings(batch_size=30, references=False)
    cka = zoo.compare(models, digit_images[0], only="cka", settings=settings)["cka"]["cka"]
    row = zoo.select(cka, "v", "c", name="blocks.1")
    blocks = cka["name_b"].values[cka["network_b"].values == "c"]
    assert row["name"].values.tolist() == ["blocks.1"]
    assert row["name_b"].values.tolist() == blocks.tolist()
    whole = zoo.select(cka, "v", "c")
    assert np.array_equal(row.values[0], whole.values[whole["name"].values == "blocks.1"][0])


def test_a_name_that_is_not_in_the_results_is_told_with_those_that_are(compared):
    names = [network.name for network in compared.results.compared]
    cka = compared["cka"]["cka"]
    for wanted, said in (
        ({"network": f"{names[0]}s"}, f"unknown network '{names[0]}s'; did you mean '{names[0]}'"),
        ({"name": "blocks.99"}, "unknown name 'blocks.99'; did you mean 'blocks."),
        ({"nam": "x"}, "unknown coordinate 'nam'; did you mean 'name' or 'name_b'?"),
        ({"role": ("leaf", "twig")}, "unknown role ('leaf', 'twig'); valid: block, head, stem"),
    ):
        with pytest.raises(UserError) as raised:
            zoo.select(cka, **wanted)
        assert str(raised.value).startswith(said)
    assert zoo.select(cka, role=("stem", "twig")).size
    with pytest.raises(UserError, match="unknown maps of cka: 'nobody stem'; valid: none"):
        compared.maps("cka", "nobody", "stem")


def test_opened_results_no_longer_need_their_file(compared, tmp_path):
    compared.save(tmp_path / "out")
    opened = open_results(tmp_path / "out")
    (tmp_path / "out" / "results.nc").unlink()
    xr.testing.assert_identical(opened["cka"], compared["cka"])


def test_results_that_are_none_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no file .*results\.nc: zoo compare writes one"):
        open_results(tmp_path)
    (tmp_path / "results.nc").write_bytes(b"no")
    with pytest.raises(UserError, match=r"results\.nc holds no comparison .*compare again"):
        open_results(tmp_path)
    xr.Dataset({"x": 1}).to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    with pytest.raises(UserError, match=r"results\.nc is of another version .*compare again"):
        open_results(tmp_path)


def test_one_flipped_bit_in_its_numbers_is_told(compared, tmp_path):
    compared.save(tmp_path / "out")
    content = (tmp_path / "out" / "results.nc").read_bytes()
    for group, name in (
        ("cka", "cka"), ("accuracy", "predicted"), ("metrics", "value"), ("probes", "depth"),
        ("maps/receptive-field/a", "map"),
    ):  # fmt: skip
        held, damaged = compared.tree[group][name].values.tobytes(), bytearray(content)
        damaged[content.index(held) + len(held) // 2] ^= 1
        file = tmp_path / f"{name}.nc"
        file.write_bytes(damaged)
        with pytest.raises(UserError, match=r"\.nc holds no comparison or is damaged .* again$"):
            open_results(file)


def test_it_is_saved_under_a_plain_name_and_never_over_foreign_files(
    compared, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    compared.save("report")
    report = compared.save("report")
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == report
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(UserError, match="thesis, which zoo did not write"):
        compared.save("absent/../thesis")
    with pytest.raises(UserError, match="no home folder is known for ~nosuch"):
        compared.save("~nosuch/report")
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_a_number_stands_beside_the_images_it_was_measured_on(compared):
    images = {entry["name"]: entry["images"] for entry in compared.report()["analyses"]}
    assert images["cka"] == 80
    assert images["probes"] == 40
    assert images["receptive-field"] == 32
    n = {claim["id"]: claim["n"] for claim in compared.report()["claims"]}
    assert n["R-uniform"] == 80
    assert n["R-token-cnn"] == 40


def test_a_notebook_shows_the_page(compared):
    assert compared._repr_html_().startswith("<iframe srcdoc=")


def test_the_identity_is_that_of_everything_that_decides_the_numbers():
    base = {
        "models": [("a", "1"), ("b", "2")],
        "images": "i",
        "analyses": ["cka"],
        "settings": Settings(),
        "siblings": [],
        "device": "cpu",
    }
    changes = [
        {},
        {"models": [("b", "2"), ("a", "1")]},
        {"images": "j"},
        {"analyses": ["cka", "accuracy"]},
        {"settings": Settings(pool="gap")},
        {"siblings": ["3"]},
        {"device": "meta"},
    ]
    assert len({comparison_digest(**(base | change)) for change in changes}) == len(changes)
    assert comparison_digest(**base) == comparison_digest(**base)


def test_another_torch_is_another_identity(monkeypatch):
    asked = [("a", "1")], "i", ["cka"], Settings()
    before = comparison_digest(*asked, device="cpu")
    monkeypatch.setattr("zoo.study.identity.version", lambda name: "0")
    assert comparison_digest(*asked, device="cpu") != before


def test_the_identity_holds_the_threads_and_precision_that_the_networks_ran_with():
    import torch

    asked = [("a", "1")], "i", ["cka"], Settings()
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    found = {comparison_digest(*asked, device="cpu")}
    try:
        torch.set_num_threads(threads + 1)
        found.add(comparison_digest(*asked, device="cpu"))
        torch.set_float32_matmul_precision("medium")
        found.add(comparison_digest(*asked, device="cpu"))
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
    assert len(found) == 3


def test_results_of_other_code_that_cannot_be_drawn_are_named(compared, tmp_path):
    out, tree = tmp_path / "out", compared.tree.copy()
    compared.save(out)
    known = json.loads(tree.attrs["provenance"])
    tree["cka"] = tree["cka"].to_dataset(inherit=False).drop_vars("cka")

    def write(**attributes):
        tree.attrs |= attributes
        (out / "results.nc").unlink()
        tree.to_netcdf(out / "results.nc", engine="h5netcdf")

    write()
    with pytest.raises(KeyError):  # of today's code it is a defect of zoo's
        redraw(out)
    write(provenance=json.dumps(known | {"code": "older"}))
    with pytest.raises(UserError, match=r"measured by other code \(zoo 0\.1\.0\).* again$"):
        redraw(out)
    write(format=0)
    with pytest.raises(UserError, match=r"another version of zoo .*got format 0.*; compare again"):
        redraw(out)


def test_labels_beyond_the_classes_are_named(make_model):
    images = np.zeros((8, 16, 16, 3), np.uint8)
    with pytest.raises(UserError, match="class indices from 0 to 9, got 0 to 10"):
        zoo.compare([make_model("vit", "v")], images, [*range(7), 10], only=["cka"])


def test_the_caption_of_a_figure_of_one_seed_says_which():
    v, c = made.network("v", "vit"), made.network("c", "cnn", seed=3)
    second = [replace(n, name=f"{n.name} 2", model=n.name, seed=9, compared=False) for n in (v, c)]
    one, all_of_them = (Drawing("calibration", Figure(), over_seeds=of) for of in (False, True))
    for drawing, networks, end in (
        (one, [v, second[0]], " Seed 0 of each."),
        (one, [v, c, *second], " One seed of each."),
        (one, [v, c], ""),
        (all_of_them, [v, c, *second], ""),
    ):
        text = caption(made.found(networks), "calibration", drawing)
        plain = caption(made.found([v]), "calibration", drawing)
        assert text == plain + end


def test_figure_names_are_file_names():
    assert file_name("cka-a v1__b/2") == "cka-a-v1__b-2"
    assert "/" not in file_name("../../a__b")


def test_saving_leaves_garbage_collection_as_it_was(compared, tmp_path):
    before = gc.get_freeze_count()
    compared.save(tmp_path / "out")
    assert gc.get_freeze_count() == before
    assert gc.isenabled()
