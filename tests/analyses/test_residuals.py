import math

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.labelled import figures, layers, values
from zoo.analyses import residuals
from zoo.analyses.engine import compare_models
from zoo.analyses.residuals import norm_ratio, token_cosine
from zoo.config import Settings
from zoo.models.build import NoSkipBlock
from zoo.models.files import describe_module
from zoo.models.preprocess import preprocess

SIDE = 16


def linear(weight):
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    layer.weight.data = torch.tensor(weight, dtype=torch.float32)
    return layer


class Tokens(nn.Module):
    """Cut an image into 4 × 4 patches: tokens (n, 16, 48)."""

    def forward(self, x):
        patches = x.unfold(2, 4, 4).unfold(3, 4, 4)
        return patches.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


class Scaled(nn.Module):
    """A block whose branch is its input times a number, so that ‖z‖/‖f(z)‖ is known."""

    def __init__(self, factor, width=48):
        super().__init__()
        eye = torch.eye(width).tolist()
        self.first = linear(eye)
        self.second = linear((factor * torch.eye(width)).tolist())

    def forward(self, x):
        return x + self.second(self.first(x))


class ScaledNet(nn.Module):
    def __init__(self, *factors):
        super().__init__()
        self.stem = Tokens()
        self.blocks = nn.ModuleList([Scaled(factor) for factor in factors])
        self.head = nn.Linear(48, 10)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(dim=1))


def compare(models, images, batch_size=128):
    made = Settings(references=False, batch_size=batch_size)
    return compare_models(models, images, only=["residuals"], settings=made).results["residuals"]


def of_tokens(result, what, network):
    """A network's table (blocks, tokens): `cosine`, or the ratio of a kind of branch."""
    part = result.part(network)
    return (part["cosine"] if what == "cosine" else part["ratio"].sel(branch=what)).values


def described(module, name, **known):
    return describe_module(module, name=name, image_size=SIDE, **known)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), axis=st.sampled_from([1, -1]))
def test_ratio_and_cosine_match_loops_over_tokens(seed, axis):
    random = np.random.default_rng(seed)
    z, f = random.normal(size=(2, 2, 3, 2, 4))
    ratio = norm_ratio(torch.tensor(z), torch.tensor(f), axis=axis)
    cosine = token_cosine(torch.tensor(z), torch.tensor(f), axis=axis)
    last = [np.moveaxis(v, axis, -1) for v in (z, f)]
    for n in range(2):
        places = [v[n].reshape(-1, v.shape[-1]) for v in last]
        for t, (a, b) in enumerate(zip(*places, strict=True)):
            norms = math.sqrt(sum(a**2)), math.sqrt(sum(b**2))
            assert ratio[n, t] == pytest.approx(norms[0] / norms[1])
            assert cosine[n, t] == pytest.approx(sum(a * b) / norms[0] / norms[1])


def test_a_zero_branch_has_no_ratio_and_a_zero_stream_has_no_cosine():
    z, f = torch.ones(1, 2, 3), torch.ones(1, 2, 3)
    f[0, 1] = 0
    assert np.isnan(norm_ratio(z, f)).tolist() == [[False, True]]
    assert norm_ratio(f, z)[0, 1] == 0
    assert np.isnan(token_cosine(f, z)).tolist() == [[False, True]]
    z[0, 0, 0] = torch.inf
    assert np.isnan(norm_ratio(z, f)).all()


def test_a_network_whose_branches_are_known_multiples_has_the_known_ratios(digit_images):
    model = described(ScaledNet(0.5, 0.1, -3.0), "known")
    images = digit_images[0] // 2 + 60  # no token is zero
    result = compare([model], images)
    (ratios,) = values(result, "mean_ratio", "known").T
    np.testing.assert_allclose(ratios, [2, 10, 1 / 3], rtol=1e-6)
    # 1 − 3 = −2: the third block turns every token round.
    np.testing.assert_allclose(values(result, "mean_cosine", "known"), [1, 1, -1], rtol=1e-6)
    mean = (2 + 10 + 1 / 3) / 3
    assert result.metric("mean_ratio", "known") == pytest.approx(mean)
    np.testing.assert_allclose(values(result, "patch_ratio", "known"), ratios[:, None], rtol=1e-6)


def test_a_vits_maps_are_means_over_all_images_whatever_the_batch(make_model, digit_images):
    images, _ = digit_images
    model = make_model("vit", "v")
    result = compare([model], images, batch_size=16)
    at_once = compare([make_model("vit", "v")], images, batch_size=60)
    block = model.module.blocks[1]
    seen = []
    block.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    with torch.inference_mode():
        model.module.eval()(preprocess(images, model.spec))
        (x,) = seen
        attended = block.attn(block.norm1(x))
        middle = x + attended
        added = block.mlp(block.norm2(middle))
    expected = {
        "attention": x.norm(dim=-1) / attended.norm(dim=-1),
        "mlp": middle.norm(dim=-1) / added.norm(dim=-1),
        "cosine": nn.functional.cosine_similarity(x, middle + added, dim=-1),
    }
    for name, means in expected.items():
        table, other = of_tokens(result, name, "v"), of_tokens(at_once, name, "v")
        np.testing.assert_allclose(table[1], means.mean(dim=0).numpy(), rtol=1e-4)
        np.testing.assert_allclose(table, other, rtol=1e-5)


def test_cls_and_patches_are_rated_apart(make_model, digit_images):
    result = compare([make_model("vit", "v")], digit_images[0])
    tokens = result.part("v")["token"].values.tolist()
    assert tokens[:2] == ["CLS", "0,0"]
    assert len(tokens) == 17
    assert layers(result, "v") == ("blocks.0", "blocks.1")
    ratios = [of_tokens(result, kind, "v") for kind in ("attention", "mlp")]
    np.testing.assert_allclose(values(result, "cls_ratio", "v").T, [r[:, 0] for r in ratios])
    patches = [r[:, 1:].mean(axis=1) for r in ratios]
    np.testing.assert_allclose(values(result, "patch_ratio", "v").T, patches)


def test_a_model_without_a_class_token_has_no_cls_ratio(make_model, digit_images):
    result = compare([make_model("vit-gap", "g")], digit_images[0])
    assert (values(result, "patch_ratio", "g") > 0).all()
    assert "cls_ratio" not in result.data


def test_a_models_ratios_do_not_depend_on_the_branches_of_the_models_before_it(
    make_model, digit_images
):
    models = [described(ScaledNet(0.5, 0.1), "k"), make_model("vit", "v")]
    result = compare(models, digit_images[0] // 2 + 60)
    alone = compare(models[1:], digit_images[0] // 2 + 60)
    ratios = {kind: of_tokens(result, kind, "v") for kind in ("attention", "mlp")}
    assert result.metric("mean_ratio", "v") == pytest.approx(np.mean(list(ratios.values())))
    assert result.metric("mean_ratio", "k") == pytest.approx((2 + 10) / 2)
    # As text: a NaN is not equal to another.
    assert [str(m) for m in result.metrics if m.network == "v"] == [*map(str, alone.metrics)]


class Location(nn.Module):
    """A convolutional block that makes its sum in place, in its branch or in its skip."""

    def __init__(self, projected):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)
        self.project = nn.Conv2d(4, 4, 1) if projected else None
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        f = self.second(self.first(x).tanh())
        if self.project is None:
            f += x
            return self.act(f)
        z = self.project(x)
        z += f
        return self.act(z)


def test_a_cnns_skip_is_taken_after_its_projection_and_both_before_the_sum(digit_images):
    torch.manual_seed(0)
    body = nn.Sequential(Location(False), Location(True))
    stem, head = nn.Conv2d(3, 4, 1), (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    model = described(nn.Sequential(stem, body, *head), "c")
    result = compare([model], digit_images[0])
    with torch.inference_mode():
        x = stem(preprocess(digit_images[0], model.spec))
        for i, block in enumerate(body):
            z = x.clone() if i == 0 else block.project(x)
            f = block.second(block.first(x).tanh())
            x = (z + f).relu()
            norms = [(v.double() ** 2).sum(dim=1).sqrt().numpy() for v in (z, f, x)]
            (ratio,) = values(result, "mean_ratio", "c")[i]
            assert ratio == pytest.approx((norms[0] / norms[1]).mean(), rel=1e-5)
            dot = (z.double() * x.double()).sum(dim=1).numpy()
            alive = norms[2] > 0
            by_place = [
                (dot[:, y, c] / (norms[0] * norms[2])[:, y, c])[alive[:, y, c]].mean()
                for y, c in np.ndindex(SIDE, SIDE)
                if alive[:, y, c].any()
            ]
            assert values(result, "mean_cosine", "c")[i] == pytest.approx(
                np.mean(by_place), rel=1e-5
            )
    assert result.parts == ()  # locations have no rows in a token map


def test_what_is_undefined_is_left_out_and_named(digit_images):
    model = described(ScaledNet(0.5, 0.0), "dead")
    images = digit_images[0] // 2 + 60
    result = compare([model], images)
    (ratios,) = values(result, "mean_ratio", "dead").T
    assert ratios[0] == pytest.approx(2)
    assert np.isnan(ratios[1])
    (note,) = [n for n in result.notes if "zero or not finite" in n]
    assert note.endswith("blocks.1 100.00 %")
    assert np.isnan(values(result, "patch_ratio", "dead")[1]).all()


def test_models_without_sums_are_named_or_do_not_apply(make_model, digit_images):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 14 * 14, 10))
    plain_model = described(plain, "plain")
    result = compare([make_model("vit", "v"), plain_model], digit_images[0])
    assert result.networks == ("v",)
    assert any(note.startswith("plain:") for note in result.notes)
    found = compare_models([plain_model], digit_images[0], only=["residuals"])
    assert "residual" in found.not_applicable["residuals"]


def test_figures_are_drawn_from_the_result(make_model, digit_images):
    model = make_model("vit", "v")
    result = compare([model, described(ScaledNet(0.5, 0.1), "k")], digit_images[0])
    drawn = figures(residuals.draw(result, ["v", "k"]))
    assert set(drawn) == {
        "residuals-tokens-v",
        "residuals-tokens-k",
        "residuals-depth",
    }
    prefix = drawn["residuals-tokens-v"].axes[1]
    assert [t.get_text() for t in prefix.get_yticklabels()] == ["CLS"]
    labels_shown = [t.get_text() for t in drawn["residuals-depth"].legends[0].get_texts()]
    assert labels_shown == ["v, attention", "v, mlp", "k, residual"]
    left, right = drawn["residuals-depth"].axes
    lines = left.get_lines()
    of_kind = {line.get_label(): line.get_ydata() for line in lines}
    for kind, ratios in zip(result.data["branch"].values[:2], values(result, "mean_ratio", "v").T,
                            strict=True):  # fmt: skip
        np.testing.assert_array_equal(of_kind[f"v, {kind}"], ratios)
    np.testing.assert_array_equal(
        right.get_lines()[0].get_ydata(), values(result, "mean_cosine", "v")
    )
    marks = {line.get_label(): line.get_marker() for line in lines}
    # Without colours, too, the models are told apart.
    assert marks["v, attention"] == marks["v, mlp"] != marks["k, residual"]


def test_a_network_whose_branches_are_all_zero_is_in_the_legend(digit_images):
    nets = [described(ScaledNet(0.5, 0.5), "k"), described(ScaledNet(0.0, 0.0), "zero")]
    drawn = figures(residuals.draw(compare(nets, digit_images[0]), ["k", "zero"]))
    labels = [t.get_text() for t in drawn["residuals-depth"].legends[0].get_texts()]
    assert labels == ["k, residual", "zero"]


def test_the_axes_of_branches_that_add_next_to_nothing_have_marks(digit_images):
    net = described(ScaledNet(1e-8, 1e-8), "layer scale")
    drawn = figures(residuals.draw(compare([net], digit_images[0]), ["layer scale"]))
    ratios, cosines = drawn["residuals-depth"].axes
    low, high = ratios.get_ylim()
    assert sum(low <= tick <= high for tick in ratios.get_yticks()) >= 3
    assert cosines.get_ylim() == (0.9, 1.01)


@pytest.mark.parametrize(
    ("usual", "odd", "lowest", "extend"),
    [(0.97, 0.1, 0.9, "min"), (0.97, 0.95, 0.9, "neither"), (-0.45, 0.3, -0.5, "neither")],
)
def test_the_colours_of_cosines_show_how_most_tokens_differ(
    make_model, digit_images, usual, odd, lowest, extend
):
    result = compare([make_model("vit", "v")], digit_images[0])
    cosines = values(result, "cosine", "v")
    cosines[:] = usual
    cosines[0, 0] = odd
    figure = figures(residuals.draw(result, ["v"]))["residuals-tokens-v"]
    *_, bar = figure.axes
    assert bar.get_ylabel() == "cosine of block input and output"
    assert bar.get_ylim() == pytest.approx((lowest, 1))
    assert bar._colorbar.extend == extend


def test_a_blank_first_image_hides_no_residual_sum(make_model):
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    images[0] = 0  # without biases, all of an untrained ResNet's activations are 0 there
    found = compare_models([make_model("resnet18", "r")], images, only=["residuals"])
    assert not found.not_applicable
    result = found.results["residuals"]
    assert result.networks == ("r", "r untrained")
    for name in result.networks:
        assert np.isfinite(values(result, "mean_ratio", name)).all()
        assert result.metric("mean_ratio", name) > 0


def test_blocks_that_do_not_lie_over_the_image_are_named_as_such():
    """Their sums are found; it said that there were none."""
    torch.manual_seed(0)
    module = timm.create_model("levit_128s", img_size=64, depth=(1, 1, 1), num_classes=3).eval()
    with torch.no_grad():
        for parameter in module.parameters():  # branches begin at zero
            parameter.add_(0.1 * torch.randn_like(parameter))
    model = describe_module(module, name="m", image_size=64)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    found = compare_models([model], images, None, only=["residuals"])
    one_token = "m: not measured in stages.2.blocks.0: no output there lies over the image"
    assert found.results["residuals"].notes == (one_token,)


def test_only_blocks_without_their_sums_are_named_where_a_network_mixes_blocks():
    """It said that a transformer's blocks lack the sum of convolutional ones, and the reverse."""
    torch.manual_seed(0)
    module = timm.create_model(
        "coatnet_pico_rw_224", img_size=64, num_classes=3, embed_dim=(32, 32, 32, 32),
        depths=(1, 2, 3, 1),
    ).eval()  # fmt: skip
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)

    def notes():
        model = describe_module(module, name="m", image_size=64)
        result = compare_models([model], images, None, only=["residuals"]).results["residuals"]
        assert {"residual", "attention", "mlp"} <= set(result.data["branch"].values)
        return result.notes

    assert notes() == ()
    blocks = module.stages[2].blocks
    blocks[1] = NoSkipBlock(blocks[1])
    half = blocks[2]
    half.forward = lambda x, **_: half.attn(half.norm1(x)) + half.mlp(half.norm2(x))
    assert notes() == (
        "m: found no residual sum in stages.2.blocks.1: nothing is added there, or not as the "
        "block's parts take and give it",
        "m: found fewer residual sums than in blocks like it in stages.2.blocks.2 (1 instead of 2)",
    )
