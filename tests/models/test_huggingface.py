"""Vision models of Hugging Face's, tiny and random; skipped where transformers is not installed."""

import json

import numpy as np
import pytest
import torch

import zoo
from zoo.errors import UserError
from zoo.models.build import build
from zoo.models.files import load_model, save_model
from zoo.models.imported import ImportOptions, import_model
from zoo.models.untrained import before_training

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")

TOWER = {
    "image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
TEXT = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SWIN = {
    "image_size": 32, "patch_size": 2, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2],
    "window_size": 4,
}  # fmt: skip
LABELS = {"id2label": {0: "cat", 1: "dog", 2: "owl"}, "label2id": {"cat": 0, "dog": 1, "owl": 2}}


def make(kind):
    torch.manual_seed(1)
    t = transformers
    return {
        "vit": lambda: t.ViTForImageClassification(t.ViTConfig(**TOWER, **LABELS)),
        "swin": lambda: t.SwinForImageClassification(t.SwinConfig(**SWIN, **LABELS)),
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**TOWER)),
        "clip": lambda: t.CLIPModel(t.CLIPConfig(vision_config=TOWER, text_config=TEXT)),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(vision_config=TOWER, text_config=TEXT)),
        "convnext": lambda: t.ConvNextForImageClassification(
            t.ConvNextConfig(
                image_size=32, hidden_sizes=[8, 8], depths=[1, 2], num_stages=2, **LABELS
            )
        ),
    }[kind]().eval()


def save(kind, folder, **processor):
    module = make(kind)
    module.save_pretrained(folder)
    said = {
        "size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.5, 0.5], "resample": 3, "image_processor_type": "ViTImageProcessor",
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(said | processor))
    return module


def expected(kind, module, x):
    with torch.inference_mode():
        if kind in ("vit", "swin", "convnext"):
            return module(x).logits
        tower = module.vision_model if kind in ("clip", "siglip") else module
        return tower(x).pooler_output


KINDS = ("vit", "swin", "convnext", "dinov2", "clip", "siglip")


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_comes_back_bit_for_bit(tmp_path, kind):
    module = save(kind, tmp_path / "hub")
    imported = import_model(f"hf:{tmp_path / 'hub'}", "mine", ImportOptions())
    save_model(tmp_path / "saved", imported.module, imported.spec)
    loaded, x = load_model(tmp_path / "saved"), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded.module(x), expected(kind, module, x))
    classifies = kind in ("vit", "swin", "convnext")
    assert loaded.spec.class_names == (["cat", "dog", "owl"] if classifies else [])
    assert (loaded.spec.image_size, loaded.spec.mean) == (32, [0.1, 0.2, 0.3])
    assert (loaded.spec.interpolation, loaded.spec.crop_fraction) == ("bicubic", 1.0)
    assert loaded.spec.origin["source"] == "hf:hub"
    assert loaded.spec.origin["package"] == "transformers"
    untrained = before_training(loaded)
    assert untrained is not None
    assert not torch.equal(untrained.module(x), loaded.module(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_compared(tmp_path, kind):
    save(kind, tmp_path / "hub")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    model = zoo.load(f"hf:{tmp_path / 'hub'}")
    found = zoo.compare([model], images, np.arange(12) % 3)
    ran = set(found.results.results)
    assert {"cka", "localisation", "residuals", "receptive-field"} <= ran
    roles = list(found["cka"].coords["role"].values)
    assert roles.count("block") >= 2
    if kind in ("vit", "dinov2", "clip", "siglip"):
        assert {"attention-maps", "attention-distance"} <= ran
        assert found.results.compared[0].class_token == (kind != "siglip")
    if kind == "swin":
        assert {"grad-cam", "probes"} <= ran
    assert ("grad-cam" in ran) == (kind in ("vit", "swin", "convnext"))


def test_a_bare_network_of_transformers_is_compared_as_it_is(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    models = [zoo.wrap(make(kind), name=kind, image_size=32) for kind in ("dinov2", "swin")]
    found = zoo.compare(models, images, np.arange(12) % 3)
    assert {"cka", "residuals", "localisation", "grad-cam"} <= set(found.results.results)
    assert any(
        "dinov2: no map, since it gives no logits" in n
        for n in found.results.results["grad-cam"].notes
    )


def test_without_its_classifier_nothing_is_made_up(tmp_path):
    module = save("vit", tmp_path / "hub")
    imported = import_model(f"hf:{tmp_path / 'hub'}", "mine", ImportOptions(no_head=True))
    assert imported.spec.kwargs["add_pooling_layer"] is False
    save_model(tmp_path / "saved", imported.module, imported.spec)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        tokens = module.vit(x).last_hidden_state
        assert torch.equal(load_model(tmp_path / "saved").module(x), tokens.mean(dim=1))


@pytest.mark.parametrize(
    ("processor", "size", "fraction", "noted"),
    [
        ({"size": {"height": 32, "width": 32}}, 32, 1.0, True),
        (
            {
                "size": {"shortest_edge": 40}, "do_center_crop": True,
                "crop_size": {"height": 32, "width": 32},
            },
            32, 0.8, False,
        ),
        ({"size": {"shortest_edge": 32}, "crop_pct": 0.875}, 32, 0.875, False),
        ({"size": 32}, 32, 1.0, False),
    ],
)  # fmt: skip
def test_the_processors_sizes_are_kept(tmp_path, processor, size, fraction, noted):
    save("convnext", tmp_path / "hub", **processor)
    imported = import_model(f"hf:{tmp_path / 'hub'}", "mine", ImportOptions())
    assert (imported.spec.image_size, imported.spec.crop_fraction) == (size, fraction)
    assert any("squeezes images" in note for note in imported.notes) == noted


def test_what_cannot_be_imported_is_one_line(tmp_path):
    save("vit", tmp_path / "hub")
    source = f"hf:{tmp_path / 'hub'}"
    for given, said in (
        (ImportOptions(weights=tmp_path / "hub" / "model.safetensors"), "no --weights, --kwarg"),
        (ImportOptions(image_size=64), "does not take an image of 64 px"),
    ):
        with pytest.raises(UserError, match=said):
            import_model(source, "m", given)
    with pytest.raises(UserError, match="expected a folder that transformers saved") as raised:
        import_model(f"hf:{tmp_path / 'nowhere'}", "m", ImportOptions())
    assert len(str(raised.value)) < 900
    (tmp_path / "hub" / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"no preprocessor_config\.json: --image-size"):
        import_model(source, "m", ImportOptions())
    assert import_model(source, "m", ImportOptions(image_size=32)).spec.mean == [0.0] * 3
    words = {name: size for name, size in TEXT.items() if name != "bos_token_id"}
    reader = transformers.BertModel(transformers.BertConfig(**words))
    reader.save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match="expected a vision network, got BertModel"):
        import_model(f"hf:{tmp_path / 'bert'}", "m", ImportOptions(image_size=32))


def test_a_spec_can_name_no_other_class():
    for name in ("Trainer", "os", "pipeline"):
        with pytest.raises(UserError, match="unknown model of transformers"):
            build(f"hf:{name}", classes=2, image_size=32)
