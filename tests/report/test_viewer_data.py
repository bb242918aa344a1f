import base64
import io
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.report.viewer_data import heat_map_data, image_data, pack, split_name
from zoo.study.results import Scale

LABELS = {"layer[a]": ["stem", "blocks.0", "head"], "layer[b]": ["conv", "fc"]}


def unpack(packed: dict, shape: Sequence[int], bits: int = 16) -> np.ndarray:
    """Read packed numbers as the page does."""
    codes = np.frombuffer(base64.b64decode(packed["data"]), f"<u{bits // 8}").reshape(shape)
    most = 2**bits - 2
    values = packed["low"] + (packed["high"] - packed["low"]) * codes / most
    return np.where(codes == most + 1, np.nan, values)


def analysis(
    labels: dict | None = None, units: dict | None = None, scales: dict | None = None
) -> dict:
    found = {name: asdict(scale) for name, scale in (scales or {}).items()}
    return {"title": "Likeness", "labels": labels or {}, "units": units or {}, "scales": found}


@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(np.nan), st.just(np.inf)), max_size=40),
    st.sampled_from([8, 16]),
)
@settings(max_examples=60, deadline=None)
def test_packed_numbers_come_back_to_half_a_step(numbers: list[float], bits: int):
    values = np.array(numbers)
    packed = pack(values, bits)
    back = unpack(packed, values.shape, bits)
    finite = np.isfinite(values)
    assert (np.isnan(back) == ~finite).all()
    step = (packed["high"] - packed["low"]) / (2**bits - 2)
    assert (np.abs(back - values)[finite] <= 0.5 * step * (1 + 1e-9) + 1e-9).all()


def test_equal_numbers_and_none_at_all_are_packed():
    assert unpack(pack(np.full(3, 0.25)), (3,)).tolist() == [0.25] * 3
    assert np.isnan(unpack(pack(np.full(2, np.nan)), (2,))).all()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("cka/a__b", ("cka", "a × b", "")),
        ("mean/a/layer1.0", ("mean", "a", "layer1.0")),
        ("mean/a/2/layer1.0", ("mean", "a/2", "layer1.0")),
        ("cka/a/2__b", ("cka", "a/2 × b", "")),
        ("images", ("images", "", "")),
        ("mean/other/x", ("mean", "", "other/x")),
        ("mean/ab", ("mean", "", "ab")),
    ],
)
def test_names_are_split_by_the_models_that_are_known(name: str, parts: tuple):
    assert split_name(name, ["a", "a/2", "b"]) == parts


def test_maps_of_one_kind_are_drawn_on_the_range_that_the_analysis_names():
    dims = ("layer[a]", "head[a]")
    arrays = {"distance/a": (np.array([[2.0, 3.0], [4.0, 5.0]]), dims)}
    arrays["distance/b"] = (np.array([[1.0, 3.0], [4.0, np.nan]]), dims)
    arrays["share/a"] = (np.array([[0.4, 0.6], [0.4, 0.6]]), dims)
    known = {"share": Scale("share of a head", 0.25, 4, log=True), "distance": Scale("far", 0)}
    island = heat_map_data(analysis(scales=known), arrays, ["a", "b"])
    assert island is not None
    # In the order of the scales; the highest value of all maps of its kind where none is named.
    ends = [(m["measure"], m["scale"]["low"], m["scale"]["high"]) for m in island["maps"]]
    assert ends == [("share of a head", 0.25, 4), ("far", 0, 5), ("far", 0, 5)]
    assert [m["scale"]["log"] for m in island["maps"]] == [True, False, False]
    island = heat_map_data(analysis(), arrays, ["a", "b"])
    assert island is not None
    ranges = {m["measure"]: (m["scale"]["low"], m["scale"]["high"]) for m in island["maps"]}
    assert ranges == {"distance": (1, 5), "share": (0.4, 0.6)}


def test_maps_over_images_say_what_they_are_of_and_what_one_steps_through():
    images = (np.zeros((2, 8, 8, 3), dtype=np.uint8), ("image", "row", "column", "channel"))
    one, dims = np.ones((2, 4, 4)), ("image", "row", "column")
    heads = (np.ones((2, 3, 4, 4)), ("image", "head[a]", "row", "column"))
    arrays = {"images": images, "predicted/a": (one, dims), "true/a": (one, dims)}
    labels = {"predicted[a]": ["cat", "dog"], "true[a]": ["cat", "cat"]}
    known = {"predicted": Scale("predicted class", 0, empty="nothing")}
    island = image_data(analysis(labels, scales=known), arrays | {"heads/a": heads}, ["a"])
    assert island is not None
    sets = {s["measure"]: s for s in island["sets"]}
    assert list(sets) == ["predicted class", "true", "heads"]
    for entry in sets.values():
        assert entry["captions"] == ["predicted: cat, true: cat", "predicted: dog, true: cat"]
    assert sets["predicted class"]["scale"] == asdict(known["predicted"])
    assert sets["predicted class"]["steps"][0]["name"] == "predicted class"
    assert sets["heads"]["scale"]["high"] is None
    assert sets["heads"]["along"] == "Head"
    assert [step["name"] for step in sets["heads"]["steps"]] == ["head 1", "head 2", "head 3"]
    assert sets["true"]["along"] == "Depth, from input to output"


def test_a_heat_map_carries_names_values_and_intervals():
    random = np.random.default_rng(0)
    across, dims = random.random((3, 2)), ("layer[a]", "layer[b]")
    across[1, 0] = np.nan
    arrays = {
        "cka/a__b": (across, dims),
        "low/a__b": (across - 0.1, dims),
        "high/a__b": (across + 0.1, dims),
        "cka/a__a": (random.random((3, 3)), ("layer[a]", "layer[a]")),
    }
    island = heat_map_data(analysis(LABELS, {"cka/a__b": "nats"}), arrays, ["a", "b"])
    assert island is not None
    first, second = island["maps"]
    assert (first["measure"], first["label"], first["unit"]) == ("cka", "a × b", "nats")
    assert first["rows"] == {"what": "layer", "model": "a", "names": LABELS["layer[a]"]}
    assert first["columns"]["names"] == ["conv", "fc"]
    assert first["scale"] == second["scale"]
    np.testing.assert_allclose(unpack(first["value"], (3, 2)), across, atol=1e-5)
    for end, shift in zip(first["interval"], (-0.1, 0.1), strict=True):
        np.testing.assert_allclose(unpack(end, (3, 2)), across + shift, atol=1e-5)
    assert second["interval"] == []


def test_intervals_of_several_measures_are_kept_apart():
    values, dims = np.random.default_rng(0).random((3, 2)), ("layer[a]", "layer[b]")
    arrays = dict.fromkeys(("cka/a__b", "rsa/a__b", "low/a__b", "high/a__b"), (values, dims))
    island = heat_map_data(analysis(), arrays, ["a", "b"])
    assert island is not None
    assert [m["interval"] for m in island["maps"]] == [[], []]
    arrays |= dict.fromkeys(("low/rsa/a__b", "high/rsa/a__b"), (values, dims))
    island = heat_map_data(analysis(), arrays, ["a", "b"])
    assert island is not None
    assert [len(m["interval"]) for m in island["maps"]] == [0, 2]


@pytest.mark.parametrize(
    ("shape", "dims", "shown"),
    [
        ((3, 2), ("layer[a]", "head[a]"), True),
        ((3, 9), ("layer[a]", "token[a]"), True),
        ((3, 2), ("layer[a]", "pooling[a]"), False),
        ((3, 999), ("layer[a]", "image"), False),
        ((3, 9), ("image", "layer[a]"), False),
        ((3, 9, 2), ("layer[a]", "head[a]", "end"), False),
        ((1, 9), ("layer[a]", "head[a]"), False),
    ],
)
def test_only_matrices_over_layers_become_heat_maps(shape, dims, shown: bool):
    island = heat_map_data(analysis(), {"distance/a": (np.zeros(shape), dims)}, ["a"])
    assert (island is not None) == shown


def test_positions_without_names_are_counted():
    island = heat_map_data(
        analysis(), {"distance/a": (np.ones((2, 3)), ("layer[a]", "head[a]"))}, ["a"]
    )
    assert island is not None
    assert island["maps"][0]["columns"]["names"] == ["head 1", "head 2", "head 3"]


def test_layers_are_counted_beside_heads_and_called_by_name_beside_layers():
    for across, names in (
        ("head[a]", ["layer 1: stem", "layer 2: blocks.0", "layer 3: head"]),
        ("layer[b]", LABELS["layer[a]"]),
    ):
        arrays = {"distance/a": (np.ones((3, 2)), ("layer[a]", across))}
        island = heat_map_data(analysis(LABELS), arrays, ["a"])
        assert island is not None
        assert island["maps"][0]["rows"]["names"] == names


def test_maps_lie_over_their_own_models_images():
    random = np.random.default_rng(0)
    pictures = {n: random.integers(255, size=(2, 4, 4, 3), dtype=np.uint8) for n in ("a", "b")}
    maps = {"a": random.random((2, 3, 4, 4)), "b": random.random((2, 2, 2, 2)).astype(np.float32)}
    maps["b"][1, 0, 1, 1] = np.nan
    arrays = {}
    for name in ("a", "b"):
        dims = ("image", f"layer[{name}]", "row", "column")
        arrays[f"images/{name}"] = (pictures[name], ("image", "row", "column", "channel"))
        arrays[f"rollout/{name}"] = (maps[name], dims)
    island = image_data(analysis(LABELS | {"image": ["cat", "dog"]}), arrays, ["a", "b"])
    assert island is not None
    assert island["labels"] == ["cat", "dog"]
    assert [s["label"] for s in island["sets"]] == ["a", "b"]
    for entry in island["sets"]:
        name = entry["images"]
        layers = [f"layer {i}: {layer}" for i, layer in enumerate(LABELS[f"layer[{name}]"], 1)]
        assert [step["name"] for step in entry["steps"]] == layers
        for source, picture in zip(island["images"][name], pictures[name], strict=True):
            content = base64.b64decode(source.removeprefix("data:image/png;base64,"))
            assert (np.asarray(Image.open(io.BytesIO(content))) == picture).all()
        for k, step in enumerate(entry["steps"]):
            shape = (step["height"], step["width"])
            for packed, expected in zip(step["maps"], maps[name][:, k], strict=True):
                np.testing.assert_allclose(unpack(packed, shape, 8), expected, atol=0.003)


def test_arrays_of_single_layers_become_steps_over_the_shared_images():
    images = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    arrays = {
        "images": (images, ("image", "row", "column", "colour")),
        "mean/a/stem": (np.ones((2, 8, 8)), ("image", "row[a.stem]", "column[a.stem]")),
        "mean/a/head": (np.ones((2, 4, 4)), ("image", "row[a.head]", "column[a.head]")),
        "strongest/a/head": (np.ones((2, 2, 4, 4)), ("image", "rank[a.head]", "row", "column")),
        "predicted/a": (np.ones((2, 4, 4)), ("image", "row", "column")),
    }
    island = image_data(analysis({"rank[a.head]": ["#7", "#2"]}), arrays, ["a"])
    assert island is not None
    steps = {s["measure"]: [step["name"] for step in s["steps"]] for s in island["sets"]}
    assert steps == {
        "mean": ["stem", "head"],
        "strongest": ["head #7", "head #2"],
        "predicted": ["predicted"],
    }
    assert island["sets"][0]["images"] == ""
    assert [step["height"] for step in island["sets"][0]["steps"]] == [8, 4]


def test_there_is_no_picker_without_images_or_without_maps():
    images = (np.zeros((2, 8, 8, 3), dtype=np.uint8), ("image", "row", "column", "channel"))
    maps = (np.zeros((2, 3, 4, 4)), ("image", "layer[a]", "row", "column"))
    others = (np.zeros((5, 3, 4, 4)), ("image", "layer[a]", "row", "column"))
    assert image_data(analysis(), {"images": images}, ["a"]) is None
    assert image_data(analysis(), {"rollout/a": maps}, ["a"]) is None
    assert image_data(analysis(), {"images": images, "rollout/a": others}, ["a"]) is None
    counts = (np.array([10, 20]), ("part",))
    assert image_data(analysis(), {"images": counts, "rollout/a": maps}, ["a"]) is None
