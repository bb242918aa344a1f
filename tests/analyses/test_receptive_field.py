import math

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from tests.analyses.cells import cell
from tests.figures.test_style import assert_legible
from tests.labelled import figures, layers
from zoo.analyses import receptive_field
from zoo.analyses.engine import compare_models
from zoo.analyses.receptive_field import mass_radius, receptive_fields
from zoo.analyses.receptive_field_figures import SUM, draw_maps
from zoo.capture import HookPoint
from zoo.config import Settings
from zoo.models.files import describe_module
from zoo.study.axes import select, variable

SIDE = 16


class Unit(nn.Module):
    """A residual block on maps: x + 3×3 convolutions, or the convolutions alone."""

    def __init__(self, channels, skip=True):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.keeps = skip

    def forward(self, x):
        f = self.second(self.act(self.first(x)))
        return x + f if self.keeps else f


class Net(nn.Module):
    def __init__(self, blocks=3, channels=4, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Unit(channels) for _ in range(blocks)))
        self.head = nn.Linear(channels, classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean(dim=(2, 3)))


def binomial_stack(depth):
    """Convolutions with the kernel [1 2 1]ᵀ[1 2 1], one channel after the first."""
    kernel = torch.outer(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([1.0, 2.0, 1.0]))
    layers = []
    for i in range(depth):
        inputs = 3 if i == 0 else 1
        layer = nn.Conv2d(inputs, 1, 3, padding=1, bias=False)
        layer.weight.data = kernel.expand(1, inputs, 3, 3).clone()
        layers.append(layer)
    return nn.Sequential(*layers)


def at(y, x):
    return lambda value: value[:, :, y, x]


def images(n=3, side=SIDE):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_field_of_stacked_binomial_kernels_is_the_binomial_kernel(depth):
    hook_point = HookPoint(str(depth - 1))
    found, problems = receptive_fields(binomial_stack(depth), images(), {hook_point: at(8, 8)})
    row = np.array([math.comb(2 * depth, k) for k in range(2 * depth + 1)], dtype=float)
    expected = np.zeros((SIDE, SIDE))
    expected[8 - depth : 9 + depth, 8 - depth : 9 + depth] = np.outer(row, row)
    np.testing.assert_allclose(found[hook_point], expected, rtol=1e-6)
    assert not problems


def test_a_strided_stack_matches_repeated_convolution_in_numpy():
    torch.manual_seed(3)
    first = nn.Conv2d(3, 1, 3, padding=1, stride=2, bias=False)
    first.weight.data = torch.rand(1, 1, 3, 3).expand(1, 3, 3, 3).clone()
    second = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    second.weight.data = torch.rand(1, 1, 3, 3)
    found, _ = receptive_fields(nn.Sequential(first, second), images(), {HookPoint("1"): at(4, 4)})
    a, b = first.weight.data[0, 0].numpy(), second.weight.data[0, 0].numpy()
    expected = np.zeros((SIDE, SIDE))
    for y in range(3):
        for x in range(3):
            top, left = 2 * (4 + y - 1) - 1, 2 * (4 + x - 1) - 1
            expected[top : top + 3, left : left + 3] += b[y, x] * a
    np.testing.assert_allclose(found[HookPoint("1")], expected, rtol=1e-6)


def test_the_field_of_a_network_that_is_not_linear_matches_finite_differences():
    torch.manual_seed(0)
    module = Net(blocks=2, channels=3).double().eval()
    module.blocks[0].act = module.blocks[1].act = nn.Tanh()
    x, step = images(2, side=6).double(), 1e-5

    def feature(inputs):
        with torch.inference_mode():
            return module.blocks(module.stem(inputs))[:, :, 3, 3].sum(dim=1)

    slopes = np.zeros(tuple(x.shape))
    for c, row, column in np.ndindex(3, 6, 6):
        moved = torch.zeros_like(x)
        moved[:, c, row, column] = step
        slope = (feature(x + moved) - feature(x - moved)) / (2 * step)
        slopes[:, c, row, column] = slope.numpy()
    expected = np.zeros((6, 6))
    for c, row, column in np.ndindex(3, 6, 6):
        expected[row, column] += np.mean(np.abs(slopes[:, c, row, column])) / 3
    hook_point = HookPoint("blocks.1")
    found, _ = receptive_fields(module, x, {hook_point: at(3, 3)}, batch_size=1)
    np.testing.assert_allclose(found[hook_point], expected, rtol=1e-5, atol=1e-9)


def test_how_the_images_are_split_into_passes_changes_nothing():
    module, place = Net(), {HookPoint("blocks.2"): at(8, 8)}
    whole, _ = receptive_fields(module, images(5), place)
    parts, _ = receptive_fields(module, images(5), place, batch_size=2)
    np.testing.assert_allclose(
        whole[HookPoint("blocks.2")], parts[HookPoint("blocks.2")], rtol=1e-4
    )


def test_an_activation_in_place_is_not_part_of_the_layer_before_it():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    alone, _ = receptive_fields(nn.Sequential(conv), images(), {HookPoint("0"): at(8, 8)})
    followed = nn.Sequential(conv, nn.ReLU(inplace=True))
    found, _ = receptive_fields(followed, images(), {HookPoint("0"): at(8, 8)})
    np.testing.assert_array_equal(found[HookPoint("0")], alone[HookPoint("0")])


def test_the_networks_modes_and_gradients_are_left_as_they_were():
    module = Net()
    module.train()
    module.blocks[1].eval()
    receptive_fields(module, images(), {HookPoint("blocks.2"): at(8, 8)})
    assert module.training
    assert not module.blocks[1].training
    assert all(p.grad is None for p in module.parameters())


def test_a_feature_that_sums_to_a_constant_is_named():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(1, 4, affine=False))
    found, problems = receptive_fields(
        module, images(side=1), {HookPoint("0"): at(0, 0), HookPoint("1"): at(0, 0)}
    )
    assert list(found) == [HookPoint("0")]
    assert "same sum over channels" in problems[HookPoint("1")]


def maps_of(result, network, path=SUM):
    """A network's maps after the residual sum, or on a kind of branch."""
    return result.part(network)["map"].sel(path=path).values


@pytest.fixture
def found(make_model, digit_images):
    torch.manual_seed(0)
    cnn = describe_module(Net(), name="cnn", image_size=SIDE)
    mlp = describe_module(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4)), name="flat", image_size=SIDE
    )
    models = [make_model("vit", "v"), cnn, mlp]
    made = Settings(references=False)
    return compare_models(models, digit_images[0], only=["receptive-field"], settings=made)


def test_a_network_without_blocks_has_no_first_block(digit_images):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 4))
    model = describe_module(plain, name="plain", image_size=SIDE)
    made = Settings(references=False)
    found = compare_models([model], digit_images[0], only=["receptive-field"], settings=made)
    assert np.isfinite(found.results["receptive-field"].data["reach"]).all()
    assert not found.results["receptive-field"].metrics


def test_in_a_comparison_the_vits_stem_sees_one_patch_and_the_cnn_widens_its_view(found):
    result = found.results["receptive-field"]
    assert result.networks == ("v", "cnn")
    stem = maps_of(result, "v")[0]
    rows, columns = np.nonzero(stem)
    # The centre token of a 4 × 4 grid is (2, 2), with the pixels 8 to 11.
    assert {rows.min(), rows.max(), columns.min(), columns.max()} == {8, 11}
    share = select(result.data["reach"], "cnn").values
    assert (np.diff(share) > 0).all()
    np.testing.assert_allclose(select(result.data["depth"], "cnn"), [0, 1 / 3, 2 / 3, 1])
    radii = [mass_radius(field, 0.9) for field in maps_of(result, "cnn")]
    np.testing.assert_allclose(share, np.array(radii) / math.hypot(SIDE, SIDE) * 2)
    assert result.metric("radius90_first_block", "cnn") == share[1]
    assert result.metric("radius90_last_block", "cnn") == share[-1]


def test_a_branch_is_mapped_without_the_skip_around_it(found):
    result = found.results["receptive-field"]
    assert layers(result, "v")[1:] == ("blocks.0", "blocks.1")
    assert result.part("v")["path"].values.tolist() == [SUM, "attention", "mlp"]
    assert result.part("cnn")["path"].values.tolist() == [SUM, "residual"]
    for network, kinds in (("v", ("attention", "mlp")), ("cnn", ("residual",))):
        for kind in kinds:
            measured = np.isfinite(maps_of(result, network, kind)).all(axis=(1, 2))
            assert measured[1:].all()
            assert not measured[0]  # the stem has no branch
    # Two 3×3 convolutions after the stem's see 7 × 7 pixels, with or without the skip.
    first = maps_of(result, "cnn", "residual")[1]
    assert first.shape == (SIDE, SIDE)
    assert {np.nonzero(first)[0].min(), np.nonzero(first)[0].max()} == {5, 11}
    summed = maps_of(result, "cnn")[1]
    assert summed[8, 8] / summed.sum() > first[8, 8] / first.sum()


def test_figures_and_notes_name_what_was_measured(found):
    result = found.results["receptive-field"]
    assert any(note.startswith("flat:") for note in result.notes)
    drawn = figures(receptive_field.draw(result, ["v", "cnn", "flat"]))
    assert set(drawn) == {
        "receptive-field-v",
        "receptive-field-cnn",
        "receptive-field-radius",
    }
    axes = drawn["receptive-field-radius"].axes
    for axis, key, share in zip(axes, ("core", "reach"), (50, 90), strict=True):
        assert axis.get_title(loc="left") == f"disc with {share} % of the mass"
        lines = {line.get_label(): line for line in axis.get_lines()}
        radii = select(result.data[key], "cnn")
        np.testing.assert_array_equal(lines["cnn"].get_data(), (radii["depth"], radii))
    # A disc with half of a square has the radius √(1 / 2π) of its side.
    (even,) = {*axes[0].get_lines()[-1].get_ydata()}
    assert even == pytest.approx(math.sqrt(1 / (2 * math.pi)) / math.sqrt(0.5), abs=0.01)


def test_maps_show_a_faint_rest_and_say_how_many_layers_are_left_out():
    faint = np.full((16, 16), 0.01)
    faint[8, 8] = 1.0
    maps = np.stack([faint, *[np.eye(16)] * 8])
    names = [f"blocks.{i}" for i in range(9)]
    part = xr.Dataset({"map": variable(("path", "layer", "y", "x"), maps[None])}, {"path": [SUM]})
    figure = draw_maps(part, names)
    rest, nothing = cell(figure, 0, 0)[2, 2], cell(figure, 0, 1)[2, -3]
    assert np.abs(rest[:3].astype(int) - nothing[:3]).max() > 40
    (foot,) = (t.get_text() for t in figure.axes[0].texts if "input" in t.get_text())
    assert foot == "each map: the 16 × 16 pixels of the input; 6 of 9 layers shown"
    assert "logarithmic" in figure.axes[1].get_ylabel().replace("\n", " ")
    assert_legible(figure)


def test_networks_without_places_do_not_apply(digit_images):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4))
    model = describe_module(module, name="flat", image_size=SIDE)
    found = compare_models([model], digit_images[0], only=["receptive-field"])
    assert "lie over the image" in found.not_applicable["receptive-field"]


class Shifting(Net):
    """Works in place on the images that it is given."""

    def forward(self, x):
        return super().forward(x.sub_(0.5).mul_(2))


def test_a_network_that_works_in_place_on_its_input_is_measured_as_one_that_does_not():
    torch.manual_seed(0)
    shifting, plain = Shifting(), Net()
    plain.load_state_dict(shifting.state_dict())
    pixels = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)
    models = [
        describe_module(shifting, name="m", image_size=SIDE, class_names=list("abc")),
        describe_module(
            plain, name="m", image_size=SIDE, class_names=list("abc"), mean=[0.5] * 3, std=[0.5] * 3
        ),
    ]
    own, other = (
        compare_models(
            [model], pixels, only=["receptive-field", "residuals", "grad-cam"],
            settings=Settings(references=False, batch_size=8, shown_images=2),
        ).results
        for model in models
    )  # fmt: skip
    assert set(own) == {"receptive-field", "residuals", "grad-cam"}
    for name, result in own.items():
        compared = [(result.data, other[name].data)]
        assert [p.layer for p in result.parts] == [p.layer for p in other[name].parts]
        compared += [(p.data, q.data) for p, q in zip(result.parts, other[name].parts, strict=True)]
        for data, plain_data in compared:
            assert data.variables.keys() == plain_data.variables.keys()
            for key, value in data.variables.items():
                if value.dtype.kind != "f":
                    np.testing.assert_array_equal(value, plain_data[key], err_msg=key)
                    continue
                # Its gradients are of the pixels before the network shifts them.
                factor = 2 if (name, key) == ("receptive-field", "map") else 1
                expected = factor * plain_data[key].values
                np.testing.assert_allclose(value.values, expected, atol=1e-5, err_msg=key)


def test_half_precision_overflows_no_sum(make_model):
    model = make_model("vit", "v")
    with torch.no_grad():
        for block in model.module.blocks:
            block.mlp.fc2.bias += 300  # summed over channels and images: above float16's range
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    found = {}
    for kind in (torch.float32, torch.float16):
        model.module.to(kind)
        result = compare_models([model], images, only=["receptive-field"]).results[
            "receptive-field"
        ]
        measured = {key: np.isfinite(v).values for key, v in result.data.data_vars.items()}
        found[kind] = layers(result, "v"), result.notes, {k: v.all() for k, v in measured.items()}
    assert found[torch.float16] == found[torch.float32]
