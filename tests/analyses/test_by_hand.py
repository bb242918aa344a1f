"""Every analysis through one comparison, against a ViT and formulas written out in NumPy.

The ViT's forward pass is in float64 and uses nothing of the project or of torch but weights.
"""

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax
from sklearn.linear_model import Ridge
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from tests.labelled import values
from zoo.analyses.engine import compare_models
from zoo.config import Settings
from zoo.measures.sampling import stratified_split
from zoo.models.build import build
from zoo.models.files import describe_module
from zoo.study.axes import select

SIDE, PATCH, GRID, HEADS, DEPTH, N, BATCH = 16, 4, 4, 4, 3, 48, 16
MEAN, STD = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])
LABELS = np.arange(N) % 3
IMAGES = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
IMAGES[LABELS == 1] //= 2
PIXELS = ((IMAGES / 255.0 - MEAN) / STD).transpose(0, 3, 1, 2)
CNN_LAYERS = ("maxpool", "layer1.0", "layer2.0", "layer3.0", "layer4.0")


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(3)
    sizes = {"patch_size": PATCH, "embed_dim": 16, "depth": DEPTH, "num_heads": HEADS}
    vit = build("vit", classes=3, image_size=SIDE, **sizes).eval()
    for name, parameter in vit.named_parameters():
        if "qkv.weight" in name:
            nn.init.normal_(parameter, std=0.5)  # attention that is far from even
        if name in ("cls_token", "pos_embed"):
            nn.init.normal_(parameter, std=0.3)
    cnn = ResNet(BasicBlock, (1, 1, 1, 1), 3, channels=(8, 8, 16, 16), zero_init_last=False)
    cnn.conv1, cnn.maxpool = nn.Conv2d(3, 64, 3, padding=1), nn.Identity()
    for part in cnn.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return vit, cnn.eval()


@pytest.fixture(scope="module")
def results(models):
    known = {
        "image_size": SIDE,
        "class_names": list("abc"),
        "mean": MEAN.tolist(),
        "std": STD.tolist(),
    }
    described = [describe_module(m, name=n, **known) for n, m in zip("vc", models, strict=True)]
    settings = Settings(batch_size=BATCH, references=False, show="0,1,2,3,4")
    found = compare_models(described, IMAGES, LABELS, class_names=tuple("abc"), settings=settings)
    assert found.not_applicable == {}
    assert found.shown == (0, 1, 2, 3, 4)
    return found.results


class Vit:
    """What a ViT computes, by its definition: everything is (n, tokens, channels)."""

    def __init__(self, module, zeroed=(None, None), pixels=PIXELS):
        self.p = {name: t.double().numpy() for name, t in module.state_dict().items()}
        kernel = self.p["patch_embed.proj.weight"].reshape(16, -1)
        cut = pixels.reshape(N, 3, GRID, PATCH, GRID, PATCH).transpose(0, 2, 4, 1, 3, 5)
        z = cut.reshape(N, GRID**2, -1) @ kernel.T + self.p["patch_embed.proj.bias"]
        z = np.concatenate([np.repeat(self.p["cls_token"], N, axis=0), z], axis=1)
        self.stem = z = z + self.p["pos_embed"]
        self.weights, self.heads, self.blocks = [], [], []
        self.sums = {"attention": [], "mlp": []}
        for block in range(DEPTH):
            for kind, branch in (("attention", self._attention), ("mlp", self._mlp)):
                f = branch(z, f"blocks.{block}.")
                self.sums[kind].append((z, f))
                part = zeroed[0] if zeroed[1] == block else None
                z = z * (part != "skip") + f * (part != "branch")
            self.blocks.append(z)
        self.logits = self._norm(z, "norm")[:, 0] @ self.p["head.weight"].T + self.p["head.bias"]

    def _norm(self, z, name):
        z = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-6)
        return z * self.p[f"{name}.weight"] + self.p[f"{name}.bias"]

    def _attention(self, z, path):
        qkv = self._norm(z, f"{path}norm1") @ self.p[f"{path}attn.qkv.weight"].T
        q, k, v = qkv.reshape(N, -1, 3, HEADS, 16 // HEADS).transpose(2, 0, 3, 1, 4)
        weights = softmax(q @ k.transpose(0, 1, 3, 2) / np.sqrt(16 // HEADS), axis=-1)
        self.weights.append(weights)
        self.heads.append((weights @ v).transpose(0, 2, 1, 3))
        mixed = self.heads[-1].reshape(N, -1, 16)
        return mixed @ self.p[f"{path}attn.proj.weight"].T + self.p[f"{path}attn.proj.bias"]

    def _mlp(self, z, path):
        p = self.p
        h = self._norm(z, f"{path}norm2") @ p[f"{path}mlp.fc1.weight"].T + p[f"{path}mlp.fc1.bias"]
        h = h * (1 + erf(h / np.sqrt(2))) / 2
        return h @ p[f"{path}mlp.fc2.weight"].T + p[f"{path}mlp.fc2.bias"]


@pytest.fixture(scope="module")
def vit(models):
    return Vit(models[0])


@pytest.fixture(scope="module")
def maps(models):
    """The CNN's stem and blocks, by calling its parts one after another."""
    cnn, z = models[1], torch.tensor(PIXELS).float()
    with torch.no_grad():
        found = [z := cnn.act1(cnn.bn1(cnn.conv1(z)))]
        found += [z := layer(z) for layer in (cnn.layer1, cnn.layer2, cnn.layer3, cnn.layer4)]
    return [value.double().numpy() for value in found]


def cka(x, y):
    def hsic(x, y):
        total, n = 0.0, BATCH
        for start in range(0, N, n):
            a, b = (v[start : start + n].reshape(n, -1) for v in (x, y))
            a, b = (g - np.diag(np.diag(g)) for g in (a @ a.T, b @ b.T))
            total += np.trace(a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2))
            total -= 2 / (n - 2) * (a @ b).sum()
        return total

    return hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))


def found(results, analysis, what, *of, layer=""):
    return values(results[analysis], what, *of, layer=layer)


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_accuracy(results, vit):
    right = vit.logits.argmax(axis=1) == LABELS
    assert results["accuracy"].metric("accuracy", "v") == right.mean()
    other = results["accuracy"].data["predicted"].sel(network="c").values == LABELS
    gap = results["accuracy"].find("difference", "v", "c")
    assert gap.value == pytest.approx(right.mean() - other.mean())
    assert gap.low <= gap.value <= gap.high


def test_cka(results, vit, maps):
    tokens = [vit.stem, *vit.blocks]
    close(
        found(results, "cka", "cka", "v", "c")[:4, :5], [[cka(a, b) for b in maps] for a in tokens]
    )
    close(
        found(results, "cka", "cka", "v", "v")[:4, :4],
        [[cka(a, b) for b in tokens] for a in tokens],
    )


def test_another_measure_of_similarity(results, vit, maps):
    def procrustes(a, b):
        a, b = a - a.mean(axis=0), b - b.mean(axis=0)
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        return np.linalg.svd(a.T @ b, compute_uv=False).sum() / norms

    rows = [z[:, 1:].mean(axis=1) for z in vit.blocks]
    columns = [value.mean(axis=(2, 3)) for value in maps]
    expected = [[procrustes(a, b) for b in columns] for a in rows]
    close(found(results, "similarity", "procrustes", "v", "c")[1:4, :5], expected)


def distances(vit):
    places = np.array([(i // GRID, i % GRID) for i in range(GRID**2)]) * PATCH
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
    patches = [a[:, :, 1:, 1:] / a[:, :, 1:, 1:].sum(-1, keepdims=True) for a in vit.weights]
    return np.array([(a * apart).sum(-1).mean(axis=(0, 2)) for a in patches])


def test_attention_distance(results, vit):
    close(found(results, "attention-distance", "distance", "v"), distances(vit))


def test_attention_maps_and_entropy(results, vit):
    rollout, steps = np.eye(17), []
    for weights in vit.weights:
        mixed = weights.mean(axis=1) + np.eye(17)
        rollout = mixed / mixed.sum(-1, keepdims=True) @ rollout
        read = rollout[:5, 0, 1:].reshape(5, GRID, GRID)
        steps.append(read / read.mean(axis=(1, 2), keepdims=True))
    close(found(results, "attention-maps", "rollout", "v"), np.stack(steps, axis=1))
    entropy = [-(a * np.log(a)).sum(-1).mean(axis=(0, 2)) for a in vit.weights]
    close(found(results, "attention-maps", "entropy", "v"), entropy)


def test_local_heads(results, vit, maps):
    order, first = np.argsort(distances(vit)[0]), vit.heads[0]
    halves = [first[:, :, order[i : i + 2]] for i in range(3)]
    expected = [[cka(half, value) for value in maps[:3]] for half in halves]
    close(results["local-heads"].part("v", network_b="c")["cka"], expected)


def test_feature_maps(results, maps):
    for layer, value in zip(CNN_LAYERS, maps, strict=True):
        close(found(results, "feature-maps", "mean", "c", layer=layer), value[:5].mean(axis=1))


def test_residuals(results, vit):
    for kind, sums in vit.sums.items():
        norms = [[np.linalg.norm(part, axis=-1) for part in pair] for pair in sums]
        ratio = results["residuals"].part("v")["ratio"].sel(branch=kind)
        close(ratio, [(z / f).mean(0) for z, f in norms])
    before = [z for z, _ in vit.sums["attention"]]
    cosine = [
        ((z * y).sum(-1) / np.linalg.norm(z, axis=-1) / np.linalg.norm(y, axis=-1)).mean(axis=0)
        for z, y in zip(before, vit.blocks, strict=True)
    ]
    close(found(results, "residuals", "cosine", "v"), cosine)


def test_ablation(models, results, vit):
    def accuracy(*zeroed):
        return (Vit(models[0], zeroed).logits.argmax(axis=1) == LABELS).mean()

    expected = [[accuracy(part, block) for block in range(DEPTH)] for part in ("branch", "skip")]
    drops = found(results, "ablation", "accuracy_drop", "v")
    intact = (vit.logits.argmax(axis=1) == LABELS).mean()
    close(drops, intact - np.array(expected), 1e-12)
    assert np.ptp(drops) > 0.05


def test_localisation(results, vit):
    cut = IMAGES.reshape(N, GRID, PATCH, GRID, PATCH, 3) / 255
    patches = [cut[:, i // GRID, :, i % GRID] for i in range(GRID**2)]
    tokens = vit.blocks[-1][:, 1:].swapaxes(0, 1)
    expected = np.array([[cka(token, patch) for patch in patches] for token in tokens])
    cka_of_tokens = found(results, "localisation", "cka", "v", layer="blocks.2")
    close(cka_of_tokens.reshape(expected.shape), expected)
    score = results["localisation"].metric("score_last_block", "v")
    assert score == (expected.argmax(axis=1) == np.arange(GRID**2)).mean()


def test_probes(results, vit):
    features, targets = vit.blocks[1][:, 0], np.where(LABELS[:, None] == np.arange(3), 1.0, -1.0)
    train, test = stratified_split(LABELS, 0.5, 0)
    fit, judge = (train[part] for part in stratified_split(LABELS[train], 0.2, 0))

    def accuracy(penalty, fitted, judged):
        moved = features[fitted] - features[fitted].mean(axis=0)
        unit = np.linalg.eigvalsh(moved.T @ moved).mean()
        ridge = Ridge(alpha=penalty * unit).fit(features[fitted], targets[fitted])
        return (ridge.predict(features[judged]).argmax(axis=1) == LABELS[judged]).mean()

    best = max(10.0 ** np.arange(-6, 5), key=lambda p: (accuracy(p, fit, judge), p))
    probe = select(results["probes"].data["accuracy"], "v", name="blocks.1")
    assert probe.sel(pooling="class token") == accuracy(best, train, test)
    penalty = select(results["probes"].data["penalty"], "v", name="blocks.1")
    assert penalty.sel(pooling="class token") == pytest.approx(best)


def test_receptive_field(models, results, vit):
    """Against finite differences of the hand-written network at single pixels."""
    field = results["receptive-field"].part("v")["map"].sel(path="sum").values[2]
    rows = np.sort(np.random.default_rng(0).choice(N, size=32, replace=False))
    centre, step = 1 + 2 * GRID + 2, 1e-5
    for y, x in ((9, 9), (2, 13)):
        slopes = []
        for channel in range(3):
            pixels = PIXELS.copy()
            pixels[:, channel, y, x] += step
            change = Vit(models[0], pixels=pixels).blocks[1] - vit.blocks[1]
            slopes.append(np.abs(change[rows, centre].sum(axis=-1)) / step)
        assert field[y, x] == pytest.approx(np.mean(slopes), rel=1e-3)


def test_grad_cam_and_deletion(models, results, maps):
    """At the last block with 4 × 4 places, its gradient taken through the parts after it."""
    cnn = models[1]
    weight, bias = (getattr(cnn.fc, part).detach().double().numpy() for part in ("weight", "bias"))
    indices = results["grad-cam"].part("c")["tested_image"].values
    logits = maps[-1].mean(axis=(2, 3)) @ weight.T + bias
    places = torch.tensor(maps[3]).float().requires_grad_()
    after = cnn.fc(cnn.layer4(places).mean(dim=(2, 3)))
    for kind, classes in (("predicted", logits.argmax(axis=1)), ("true", LABELS)):
        shown = found(results, "grad-cam", kind, "c")
        of_class = after[torch.arange(N), torch.tensor(classes)].sum()
        (slope,) = torch.autograd.grad(of_class, places, retain_graph=True)
        chosen = slope.double().numpy().mean(axis=(2, 3))
        cam = (maps[3] * chosen[:, :, None, None]).sum(axis=1)[: len(shown)]
        differ = (logits.argmax(axis=1) != LABELS)[: len(shown)]
        own = differ if kind == "true" else np.full(len(shown), True)
        close(shown[own], np.maximum(cam, 0)[own])
        assert np.isnan(shown[~own]).all()
        assert own.any()
    assert (cam < -0.01).any()
    probability = softmax(logits, axis=1).max(axis=1)[indices]
    curves = results["grad-cam"].part("c")["deletion"].sel(order="predicted")
    close(curves.values[:, 0], probability)
