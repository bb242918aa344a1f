import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_image

from zoo.report.viewer_data import heat_map_data, image_data, pack
from zoo.study.axes import Scale, column, head_counts, interval, variable
from zoo.study.results import Part, Result

LAYERS = {"a": ["stem", "blocks.0", "head"], "b": ["conv", "fc"]}
OVER = ("image", "row", "column")


def unpack(packed: dict, shape: Sequence[int], bits: int = 16) -> np.ndarray:
    """Read packed numbers as the page does."""
    codes = np.frombuffer(base64.b64decode(packed["data"]), f"<u{bits // 8}").reshape(shape)
    most = 2**bits - 2
    values = packed["low"] + (packed["high"] - packed["low"]) * codes / most
    return np.where(codes == most + 1, np.nan, values)


def layers(names: Mapping[str, Sequence[str]], axis: str = "layer") -> dict:
    """Coordinates of an axis of the layers of several networks."""
    end = axis.removeprefix("layer")
    rows = [(network, layer) for network, own in names.items() for layer in own]
    columns = {"network": [network for network, _ in rows], "name": [layer for _, layer in rows]}
    return {f"{key}{end}": (axis, column(values)) for key, values in columns.items()}


def over_layers(names: Mapping[str, Sequence[str]], **variables) -> Result:
    """A result of variables over the layers of several networks, or over their heads."""
    paired = any("layer_b" in dims for dims, *_ in variables.values())
    axes = layers(names) | (layers(names, "layer_b") if paired else {})
    data = xr.Dataset(variables, axes)
    heads = head_counts([data.sizes.get("head", 0)] * data.sizes["layer"])
    return Result(data.assign_coords(heads))


def heat(result: Result, *networks: str) -> list[dict]:
    packed = heat_map_data(result, "Similarity", networks or ("a",))
    return packed["maps"] if packed else []


def pictures(size: int = 8) -> tuple:
    """Two black pictures, as a part holds them."""
    dims = ("image", "pixel_row", "pixel_column", "channel")
    return variable(dims, np.zeros((2, size, size, 3), dtype=np.uint8))


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


def test_networks_are_told_apart_by_their_names_whatever_these_are():
    names = {name: ["x", "y"] for name in ("a", "b", "a__b", "a/b", "a × b")}
    values = np.arange(100.0).reshape(10, 10)
    result = over_layers(names, cka=variable(("layer", "layer_b"), values))
    maps = heat(result, *names)
    assert len(maps) == 5 + 10
    for entry in maps:
        i, j = (list(names).index(entry[side]["model"]) for side in ("rows", "columns"))
        cells = values[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        np.testing.assert_allclose(unpack(entry["value"], (2, 2)), cells, atol=1e-3)


def test_the_panel_opens_on_the_measure_that_is_asked_for():
    square = variable(("layer", "layer_b"), np.eye(2))
    result = over_layers({"a": ["x", "y"]}, cka=square, rest=square)
    for first, order in (("rest", ["rest", "cka"]), ("cka", ["cka", "rest"])):
        packed = heat_map_data(result, "Similarity", ["a"], first)
        assert [entry["measure"] for entry in packed["maps"]] == order


def test_maps_of_one_kind_are_drawn_on_the_range_that_the_analysis_names():
    names = {"a": ["x", "y"], "b": ["x", "y"], "a untrained": ["x", "y"]}
    dims = ("layer", "head")
    far = np.array([[2.0, 3.0], [4.0, 5.0], [1.0, 3.0], [4.0, np.nan], [9.0, 9.0], [0.5, 9.0]])
    share = np.array([[0.4, 0.6]] * 6)
    named = over_layers(
        names,
        share=variable(dims, share, scale=Scale("share of a head", 0.25, 4, log=True)),
        distance=variable(dims, far, scale=Scale("far", 0)),
    )
    maps = heat(named, "a", "b")
    # The highest value of all maps of its kind where none is named; what is not shown aside.
    ends = [(m["measure"], m["scale"]["low"], m["scale"]["high"]) for m in maps]
    assert ends == 2 * [("share of a head", 0.25, 4)] + 2 * [("far", 0, 5)]
    assert [m["scale"]["log"] for m in maps] == [True, True, False, False]
    plain = over_layers(names, share=variable(dims, share), distance=variable(dims, far))
    ranges = {m["measure"]: (m["scale"]["low"], m["scale"]["high"]) for m in heat(plain, "a", "b")}
    assert ranges == {"distance": (1, 5), "share": (0.4, 0.6)}


def test_maps_over_images_say_what_they_are_of_and_what_one_steps_through():
    one = np.ones((2, 4, 4))
    scale = Scale("predicted class", 0, empty="nothing", outlined=0.5)
    data = xr.Dataset(
        {
            "images": pictures(),
            "predicted_map": variable(OVER, one, scale=scale),
            "true_map": variable(OVER, one),
            "heads": variable(("image", "head", "row", "column"), np.ones((2, 3, 4, 4))),
        },
        {
            "image": column(["first", "second"]),
            "predicted": ("image", column(["cat", "dog"])),
            "true": ("image", column(["cat", "cat"])),
        },
    )
    packed = image_data(Result(parts=(Part("a", data),)), "Similarity", ["a"])
    assert packed is not None
    assert packed["labels"] == ["first", "second"]
    sets = {s["measure"]: s for s in packed["sets"]}
    assert list(sets) == ["predicted class", "true map", "heads"]
    for entry in sets.values():
        assert entry["captions"] == ["predicted: cat, true: cat", "predicted: dog, true: cat"]
    assert sets["predicted class"]["scale"] == asdict(scale)
    assert sets["predicted class"]["steps"][0]["name"] == "predicted class"
    assert sets["heads"]["scale"]["high"] is None
    assert sets["heads"]["along"] == "Head"
    assert [step["name"] for step in sets["heads"]["steps"]] == ["head 1", "head 2", "head 3"]
    assert sets["true map"]["along"] == "Depth, from input to output"


def test_a_heat_map_carries_names_values_and_intervals():
    dims = ("layer", "layer_b")
    values = np.random.default_rng(0).random((5, 5))
    values[1, 3] = np.nan  # the first of b's layers
    low = np.where(np.arange(5)[:, None] < 3, values - 0.1, np.nan)
    low[:, :3] = np.nan  # of the pair of a and b alone
    result = over_layers(
        LAYERS,
        cka=variable(dims, values, unit="nats"),
        cka_ci=interval(dims, low, low + 0.2, kind="jackknife"),
    )
    whole, _, across = heat(result, "a", "b")
    assert (across["measure"], across["label"], across["unit"]) == ("cka", "a × b", "nats")
    assert across["rows"] == {"what": "layer", "model": "a", "names": LAYERS["a"]}
    assert across["columns"] == {"what": "layer", "model": "b", "names": LAYERS["b"]}
    assert across["scale"] == whole["scale"]
    np.testing.assert_allclose(unpack(across["value"], (3, 2)), values[:3, 3:], atol=1e-5)
    for end, shift in zip(across["interval"], (-0.1, 0.1), strict=True):
        np.testing.assert_allclose(unpack(end, (3, 2)), values[:3, 3:] + shift, atol=1e-5)
    assert (whole["label"], whole["interval"]) == ("a", [])


def test_intervals_of_several_measures_are_kept_apart():
    dims, values = ("layer", "layer_b"), np.random.default_rng(0).random((3, 3))
    names = {"a": LAYERS["a"]}
    known = {"cka": variable(dims, values), "rsa": variable(dims, values)}
    assert [m["interval"] for m in heat(over_layers(names, **known))] == [[], []]
    known["rsa_ci"] = interval(dims, values - 1, values + 1, kind="jackknife")
    assert [len(m["interval"]) for m in heat(over_layers(names, **known))] == [0, 2]


@pytest.mark.parametrize(
    ("shape", "dims", "shown"),
    [
        ((3, 2), ("layer", "head"), True),
        ((3, 9), ("layer", "token"), False),
        ((3, 2), ("layer", "pooling"), False),
        ((9, 3), ("image", "layer"), False),
        ((3, 9, 2), ("layer", "head", "end"), False),
    ],
)
def test_only_matrices_over_layers_become_heat_maps(shape, dims, shown: bool):
    names = {"a": LAYERS["a"][: shape[dims.index("layer")]]}
    values = variable(dims, np.zeros(shape))
    assert bool(heat(over_layers(names, distance=values))) == shown


def test_positions_without_names_are_counted():
    (entry,) = heat(over_layers({"a": LAYERS["a"]}, distance=(("layer", "head"), np.ones((3, 4)))))
    assert entry["columns"]["names"] == ["head 1", "head 2", "head 3", "head 4"]


def test_heads_that_a_network_does_not_have_are_no_columns_of_its_map():
    values = np.ones((5, 4))
    values[:3, 2:] = np.nan
    values[:, 1] = np.nan  # a head of each that is defined in no layer
    result = over_layers(LAYERS, distance=(("layer", "head"), values))
    result.data.coords.update(head_counts([2, 2, 2, 4, 4]))
    maps = heat(result, "a", "b")
    assert [len(m["columns"]["names"]) for m in maps] == [2, 4]
    assert np.isnan(unpack(maps[0]["value"], (3, 2))[:, 1]).all()


def test_layers_are_counted_beside_heads_and_called_by_name_beside_layers():
    for across, names in (
        ("head", ["layer 1: stem", "layer 2: blocks.0", "layer 3: head"]),
        ("layer_b", LAYERS["a"]),
    ):
        result = over_layers({"a": LAYERS["a"]}, distance=(("layer", across), np.ones((3, 3))))
        assert heat(result)[0]["rows"]["names"] == names


def test_maps_lie_over_their_own_models_images():
    random = np.random.default_rng(0)
    seen = {n: random.integers(255, size=(2, 4, 4, 3), dtype=np.uint8) for n in ("a", "b")}
    maps = {"a": random.random((2, 3, 4, 4)), "b": random.random((2, 2, 2, 2)).astype(np.float32)}
    maps["b"][1, 0, 1, 1] = np.nan
    parts = tuple(
        Part(
            name,
            xr.Dataset(
                {
                    "images": (("image", "pixel_row", "pixel_column", "channel"), seen[name]),
                    "rollout": (("image", "layer", "row", "column"), maps[name]),
                },
                {"image": column(["cat", "dog"]), "name": ("layer", column(LAYERS[name]))},
            ),
        )
        for name in ("a", "b")
    )
    packed = image_data(Result(parts=parts), "Similarity", ["a", "b"])
    assert packed is not None
    assert packed["labels"] == ["cat", "dog"]
    assert [s["label"] for s in packed["sets"]] == ["a", "b"]
    for entry in packed["sets"]:
        name = entry["images"]
        names = [f"layer {i}: {layer}" for i, layer in enumerate(LAYERS[name], 1)]
        assert [step["name"] for step in entry["steps"]] == names
        for source, picture in zip(packed["images"][name], seen[name], strict=True):
            content = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
            assert (np.asarray(Image.open(io.BytesIO(content))) == picture).all()
        for k, step in enumerate(entry["steps"]):
            shape = (step["height"], step["width"])
            for drawn, expected in zip(step["maps"], maps[name][:, k], strict=True):
                np.testing.assert_allclose(unpack(drawn, shape, 8), expected, atol=0.003)
    only = image_data(Result(parts=parts), "Similarity", ["b"])
    assert only is not None
    assert [s["label"] for s in only["sets"]] == list(only["images"]) == ["b"]


def test_maps_of_single_layers_become_steps_over_their_networks_images():
    dims, ranked = ("image", "row", "column"), ("image", "channel", "row", "column")
    head = {"mean": (dims, np.ones((2, 4, 4))), "strongest": (ranked, np.ones((2, 2, 4, 4)))}
    parts = (
        Part("a", xr.Dataset({"images": pictures(), "predicted": (dims, np.ones((2, 4, 4)))})),
        Part("a", xr.Dataset({"mean": (dims, np.ones((2, 8, 8)))}), "stem"),
        Part("a", xr.Dataset(head, {"channel": column(["#7", "#2"])}), "head"),
    )
    packed = image_data(Result(parts=parts), "Similarity", ["a"])
    assert packed is not None
    steps = {s["measure"]: [step["name"] for step in s["steps"]] for s in packed["sets"]}
    assert steps == {
        "predicted": ["predicted"],
        "mean": ["stem", "head"],
        "strongest": ["head #7", "head #2"],
    }
    assert {s["images"] for s in packed["sets"]} == {"a"}
    (mean,) = (s for s in packed["sets"] if s["measure"] == "mean")
    assert [step["height"] for step in mean["steps"]] == [8, 4]


def test_there_is_no_picker_without_images_or_without_maps():
    maps = ("image", "layer", "row", "column"), np.zeros((2, 3, 4, 4))
    others = ("other", "layer", "row", "column"), np.zeros((5, 3, 4, 4))

    def shown(**variables):
        return image_data(Result(parts=(Part("a", xr.Dataset(variables)),)), "Similarity", ["a"])

    assert shown(images=pictures(), rollout=maps) is not None
    assert shown(images=pictures()) is None
    assert shown(rollout=maps) is None
    assert shown(images=pictures(), rollout=others) is None
    counts = ("image", np.array([10.0, 20.0]))
    assert shown(images=pictures(), counts=counts) is None


def test_photographs_are_as_large_as_they_are_drawn_and_lose_what_no_eye_sees():
    photo = load_sample_image("flower.jpg")  # 427 x 640
    parts = (
        Part(
            "a",
            xr.Dataset(
                {
                    "images": (("image", "pixel_row", "pixel_column", "channel"), photo[None]),
                    "rollout": (("image", "layer", "row", "column"), np.ones((1, 1, 4, 4))),
                },
                {"image": column(["flower"]), "name": ("layer", column(["blocks.0"]))},
            ),
        ),
    )
    packed = image_data(Result(parts=parts), "Attention", ["a"])
    assert packed is not None
    content = base64.b64decode(packed["images"]["a"][0].removeprefix("data:image/webp;base64,"))
    drawn = Image.open(io.BytesIO(content))
    assert drawn.size == (480, 320)
    assert len(content) < 40_000
    expected = Image.fromarray(photo)
    expected.thumbnail((480, 480))
    difference = np.asarray(drawn.convert("RGB"), float) - np.asarray(expected, float)
    assert np.sqrt((difference**2).mean()) < 4  # of 255
