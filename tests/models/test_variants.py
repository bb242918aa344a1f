"""Changes to the ViT: each computes what its paper says, trains, and comes back from its spec."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from zoo.config import load_params
from zoo.errors import UserError
from zoo.models.build import build, count_parameters
from zoo.models.files import describe_module, load_model, save_model
from zoo.models.mimetic import factors
from zoo.models.stems import with_shifted_copies
from zoo.models.untrained import before_training

SMALL = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
CHANGES = {
    "convolutions": ("vit", {"stem": "convolutions"}),
    "tokenizer": ("vit", {"stem": "tokenizer"}),
    "shifted": ("vit", {"stem": "shifted"}),
    "local": ("vit", {"attention": "local"}),
    "mimetic": ("vit", {"init": "mimetic"}),
    "sequence": ("vit", {"global_pool": "sequence"}),
    "cct": ("cct", {}),
    "distilled": ("vit-distilled", {}),
    "all": ("cct", {"attention": "local", "init": "mimetic"}),
}


PAGE = Path("docs/variants.md").read_text()
ENTRIES = load_params(Path("params.yaml")).models


def make(name, seed=0, image_size=16):
    arch, change = CHANGES[name]
    torch.manual_seed(seed)
    module = build(arch, classes=10, image_size=image_size, **SMALL, **change).eval()
    return describe_module(
        module,
        name=name,
        image_size=image_size,
        arch=arch,
        kwargs=SMALL | change,
        seed=seed,
        class_names=[str(i) for i in range(10)],
        parameters=count_parameters(module),
    )


def count(arch, **kwargs):
    with torch.device("meta"):
        return count_parameters(build(arch, classes=10, image_size=32, **kwargs))


def test_sizes_have_the_parameters_that_the_page_says():
    sizes = re.findall(r"^\| `([\w-]+)` \| .* \| ([\d,]{5,}) \|$", PAGE, re.MULTILINE)
    found = {name: count(ENTRIES[name].arch, **ENTRIES[name].kwargs) for name, _ in sizes}
    assert len(found) == 8
    assert found == {name: int(said.replace(",", "")) for name, said in sizes}


def test_changes_add_the_parameters_that_the_page_says():
    rows = re.findall(r"^\| `([^`]+)` \| .* \| ([-+]?[\d,]+) \| .* \|$", PAGE, re.MULTILINE)
    base = ENTRIES["vit-192"].kwargs
    found = {}
    for change, _ in rows:
        key, value = change.replace("<i>", "1").replace("<t>", "4").split(": ")
        arch, kwargs = (value, {}) if key == "arch" else ("vit", {key: value})
        found[change] = count(arch, **(base | kwargs)) - count("vit", **base)
    assert len(found) == 11
    assert found == {change: int(said.replace(",", "")) for change, said in rows}


@pytest.mark.parametrize("name", CHANGES)
def test_it_has_the_same_grid_of_tokens(name):
    module = make(name).module
    tokens = module.patch_embed(torch.zeros(2, 3, 16, 16))
    assert tokens.shape == (2, 16, 16)
    assert module.patch_embed.grid_size == (4, 4)
    assert module(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


@pytest.mark.parametrize("name", CHANGES)
def test_it_overfits_a_handful_of_images(name, digit_images):
    images = torch.from_numpy(digit_images[0][:8]).permute(0, 3, 1, 2) / 255
    labels = torch.from_numpy(digit_images[1][:8])
    module = make(name).module
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.003)
    for _ in range(400):  # how many it needs depends on how a machine rounds
        logits = module(images)
        if (logits.argmax(dim=1) == labels).all():
            break
        optimizer.zero_grad()
        functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    else:
        pytest.fail("it did not learn its images by heart")
    assert all(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("name", CHANGES)
def test_weights_come_back_from_a_file_and_the_untrained_network_from_its_seed(
    name, tmp_path, digit_images
):
    model = make(name, seed=3)
    save_model(tmp_path, model.module, model.spec)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded(digit_images[0]), model(digit_images[0]))
    untrained = before_training(loaded)
    assert torch.equal(untrained(digit_images[0]), model(digit_images[0]))
    other = before_training(
        dataclasses.replace(loaded, spec=dataclasses.replace(loaded.spec, seed=4))
    )
    assert not torch.equal(other(digit_images[0]), model(digit_images[0]))


def test_a_convolutional_stem_sees_seven_pixels_around_the_middle_of_its_patch():
    stem = make("convolutions").module.patch_embed
    image = torch.rand(1, 3, 16, 16)
    before = stem(image)[0, 5]  # row 1, column 1: pixels 4 to 7; its convolutions see 1 to 7
    seen = np.zeros((16, 16), dtype=bool)
    for row in range(16):
        for column in range(16):
            changed = image.clone()
            changed[..., row, column] += 1
            seen[row, column] = not torch.equal(stem(changed)[0, 5], before)
    expected = np.zeros((16, 16), dtype=bool)
    expected[1:8, 1:8] = True
    assert np.array_equal(seen, expected)


def test_the_tokenizer_is_convolution_relu_and_pool_twice():
    stem = make("tokenizer").module.patch_embed
    image = torch.rand(2, 3, 16, 16)
    x = image
    for layer in stem.backbone:
        x = functional.conv2d(x, layer[0].weight, padding=1).relu().numpy(force=True)
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        side = x.shape[-1]
        windows = [
            padded[..., i : i + side : 2, j : j + side : 2] for i in range(3) for j in range(3)
        ]
        x = torch.from_numpy(np.max(windows, axis=0))
    assert [layer[0].out_channels for layer in stem.backbone] == [64, 16]
    torch.testing.assert_close(stem(image), x.flatten(2).transpose(1, 2))


def test_shifted_copies_are_rolled_images_without_what_came_round():
    image = torch.rand(2, 3, 8, 8)
    found = with_shifted_copies(image, 2).numpy()
    expected = [image.numpy()]
    for down in (2, -2):
        for right in (2, -2):
            rolled = np.roll(image.numpy(), (down, right), axis=(2, 3))
            rolled[..., slice(0, 2) if down > 0 else slice(-2, None), :] = 0
            rolled[..., slice(0, 2) if right > 0 else slice(-2, None)] = 0
            expected.append(rolled)
    assert np.array_equal(found, np.concatenate(expected, axis=1))


def test_a_shifted_token_is_a_linear_map_of_its_five_normalised_patches():
    stem = make("shifted").module.patch_embed
    image = torch.rand(1, 3, 16, 16)
    found = stem(image)[0].numpy(force=True)
    channels = with_shifted_copies(image, 2)[0].numpy()
    weight, bias = stem.proj.weight.numpy(force=True), stem.proj.bias.numpy(force=True)
    for token in (0, 6, 15):
        row, column = 4 * (token // 4), 4 * (token % 4)
        values = channels[:, row : row + 4, column : column + 4].reshape(-1)
        values = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
        np.testing.assert_allclose(found[token], weight @ values + bias, atol=1e-5)


def test_local_attention_is_its_formula_in_loops():
    attention = make("local").module.blocks[0].attn
    with torch.no_grad():
        attention.q_norm.temperature.copy_(torch.tensor([0.2, 1.5]))
        attention.qkv.weight.normal_()
    x = torch.randn(1, 5, 16)
    q, k, v = (part.numpy() for part in attention.qkv(x).detach()[0].chunk(3, dim=-1))
    mixed = np.zeros((5, 16))
    for head, temperature in enumerate((0.2, 1.5)):
        part = slice(8 * head, 8 * head + 8)
        for i in range(5):
            others = [j for j in range(5) if j != i]
            scores = np.array([temperature * q[i, part] @ k[j, part] for j in others])
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            mixed[i, part] = sum(w * v[j, part] for w, j in zip(weights, others, strict=True))
    expected = attention.proj(torch.from_numpy(mixed).float())
    torch.testing.assert_close(attention(x)[0], expected, atol=1e-5, rtol=1e-5)


def test_local_attention_starts_at_the_plain_scale():
    attention = make("local").module.blocks[0].attn
    torch.testing.assert_close(attention.q_norm.temperature, torch.full((2,), 8**-0.5))


def test_sequence_pooling_weighs_tokens_by_their_scores():
    pool = make("sequence").module.attn_pool
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        pool.score.weight.normal_()
    scores = (x @ pool.score.weight[0] + pool.score.bias).numpy(force=True)
    for image in range(2):
        weights = np.exp(scores[image]) / np.exp(scores[image]).sum()
        expected = sum(w * token for w, token in zip(weights, x[image].numpy(), strict=True))
        np.testing.assert_allclose(pool(x)[image].numpy(force=True), expected, atol=1e-5)
    torch.nn.init.zeros_(pool.score.weight)
    torch.testing.assert_close(pool(x), x.mean(dim=1))


def test_mimetic_products_are_the_nearest_of_their_rank_to_noise_and_identity():
    torch.manual_seed(5)
    left, right = factors(16, 0.7, -0.4, 6)
    torch.manual_seed(5)
    noise = torch.randn(16, 16).numpy().astype(np.float64)
    u, s, vt = np.linalg.svd(0.7 * noise / 4 - 0.4 * np.eye(16))
    nearest = (u[:, :6] * s[:6]) @ vt[:6]
    np.testing.assert_allclose((left @ right).numpy(), nearest, atol=1e-5)


def test_mimetic_weights_give_their_products_in_every_block():
    torch.manual_seed(0)
    module = build("vit", classes=2, image_size=32, embed_dim=64, num_heads=2, init="mimetic")
    diagonal = torch.eye(64, dtype=torch.bool)
    for block in module.blocks:
        q, k, v = block.attn.qkv.weight.detach().chunk(3)
        for head in range(2):
            part = slice(32 * head, 32 * head + 32)
            product = q[part].T @ k[part]
            assert product.diagonal().mean() > 0.4 > 10 * product[~diagonal].mean().abs()
        product = (block.attn.proj.weight.detach() @ v).T
        # 0.4 Z - 0.4 I: within four standard errors of 64 and of 4,032 draws of 0.4 / 8.
        assert product.diagonal().mean() == pytest.approx(-0.4, abs=4 * 0.05 / 8)
        assert product[~diagonal].mean() == pytest.approx(0, abs=4 * 0.05 / 63)
        assert product[~diagonal].std() == pytest.approx(0.05, rel=0.05)


def test_mimetic_positions_are_alike_where_near():
    positions = make("mimetic", image_size=32).module.pos_embed.detach()[0, 1:]
    similar = (positions @ positions.T).reshape(8, 8, 8, 8)[3, 3]
    assert similar.argmax() == 8 * 3 + 3
    assert similar[3, 4] > similar[3, 5] > similar[3, 6]
    assert torch.allclose(similar, similar.T)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"stem": "conv"}, "unknown stem 'conv'; did you mean 'convolutions'"),
        ({"attention": "lsa"}, "unknown attention 'lsa'; valid: local, plain"),
        ({"init": "mimetik"}, "unknown init 'mimetik'; did you mean 'mimetic'"),
        ({"stem": "convolutions", "patch_size": 3}, "a power of 2, got 3"),
        ({"stem": "tokenizer", "patch_size": 1}, "a power of 2, got 1"),
        ({"stem": "shifted", "patch_size": 3}, "even patch_size, got 3"),
        ({"attention": "local", "qk_norm": True}, "leave out qk_norm"),
        ({"init": "mimetic", "embed_dim": 18}, "divisible by 4"),
    ],
)
def test_what_cannot_be_changed_is_named(kwargs, message):
    with pytest.raises(UserError, match=message):
        build("vit", classes=2, image_size=12, **(SMALL | kwargs))
