"""Messages that no other test meets (`test_fuzz.py` finds them)."""

import dataclasses
import socket
import sys

import numpy as np
import pytest
import torch
from filelock import FileLock

from zoo.api import compare
from zoo.config import TrainConfig
from zoo.data.sources import load_source
from zoo.data.subsets import load_subset
from zoo.device import parse_device
from zoo.errors import UserError
from zoo.experiments.classifiers import with_new_classifier
from zoo.models.files import load_model, save_model
from zoo.models.predict import probabilities
from zoo.registry import lookup
from zoo.registry.resolve import fetch_model, resolve
from zoo.registry.store import open_store
from zoo.training.loop import train


def test_too_few_classes_or_images_in_a_folder_are_named(tmp_path):
    (tmp_path / "cats").mkdir()
    with pytest.raises(UserError, match="expected a folder for each of two or more classes, got"):
        load_source("imagefolder", tmp_path)
    (tmp_path / "dogs").mkdir()
    with pytest.raises(UserError, match=r"cats: no images; expected \.bmp, \.gif"):
        load_source("imagefolder", tmp_path)


def test_an_array_of_another_type_is_named(tmp_path, digits_folder):
    for file in (digits_folder / "small").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    np.save(tmp_path / "labels.npy", np.load(tmp_path / "labels.npy").astype(np.float32))
    with pytest.raises(UserError, match=r"labels\.npy: expected int64, got float32"):
        load_subset(tmp_path)


def test_weights_that_are_cut_off_are_named(tmp_path, make_model):
    model = make_model("vit", "vit-small")
    save_model(tmp_path / "m", model.module, model.spec)
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged: "):
        load_model(tmp_path / "m")


def test_an_unknown_interpolation_is_named(make_model):
    with pytest.raises(UserError, match=r"expected interpolation in .*, got 'cubic'"):
        dataclasses.replace(make_model().spec, interpolation="cubic")


def test_an_empty_subset_is_named(make_model):
    model = make_model("vit", "vit-small")
    config = TrainConfig(epochs=1, batch_size=4, learning_rate=0.1)
    with pytest.raises(UserError, match="expected images to train on, got an empty subset"):
        train(model.module, model.spec, [], [], config, steps=1, seed=0)


def test_leaving_out_all_that_was_asked_for_is_named(zoo):
    error = zoo("compare", "a", "b", "--only", "cka", "--skip", "cka", status=2)
    assert "no analysis to run: skip leaves out every one" in error


@pytest.mark.parametrize(
    ("printed", "said"), [("loading\\nno such table\\n", "no such table"), ("", "it said nothing")]
)
def test_a_ui_that_ends_is_named(zoo, registered, monkeypatch, printed, said):
    server = [sys.executable, "-c", f"import sys; sys.stderr.write('{printed}'); sys.exit(3)"]
    monkeypatch.setattr("zoo.registry.ui.server_command", lambda *_: server)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    error = zoo("ui", "--port", port, status=2)
    assert f"MLflow's server ended with status 3 ({said}); is port {port} in use?" in error


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_taken_port_is_named_before_any_link_is_printed(zoo, registered, capsys, host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "zoo.registry.ui.serve_ui", lambda *_, **__: pytest.fail("it was started")
            )
            patch.setattr("click.echo", lambda *_, **__: pytest.fail("a link was printed"))
            said = zoo("ui", "--port", port, "--host", host, status=2)
        assert said.startswith(f"Error: cannot listen on {host}, port {port} (Address already in")
        assert said.count("\n") == 1
        assert "models" in zoo("ui", "--port", port, "--no-serve")


def test_a_lock_that_another_process_keeps_is_named(registered, monkeypatch):
    store = open_store(registered)
    monkeypatch.setattr("zoo.registry.store.LOCK_SECONDS", 0.1)
    with (
        FileLock(registered / ".zoo" / "locks" / "a.lock"),
        pytest.raises(UserError, match=r"another process has held .*: wait for it or end it"),
        store.lock("a"),
    ):
        pass


def test_a_timm_model_has_no_folder_to_fetch():
    with pytest.raises(UserError, match="timm:vit has no folder: it is built when it is load"):
        fetch_model(None, resolve(None, "timm:vit"))


def test_a_network_that_zoo_would_build_otherwise_gets_no_new_classifier(make_model):
    model = make_model("vit", "vit-small")
    other = dataclasses.replace(model.spec, kwargs={**model.spec.kwargs, "depth": 1})
    with pytest.raises(
        UserError, match=r"vit-small: blocks\.1\..* does not fit vit as zoo builds it"
    ):
        with_new_classifier(dataclasses.replace(model, spec=other), 3, 0)


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("a b=1", "expected up to 250 letters, digits and"),
        ("zoo.x=1", "are taken; choose another"),
        ("x=", "expected 1 to"),
    ],
)
def test_a_tag_that_cannot_be_is_named(zoo, registered, tag, message):
    assert message in zoo("tag", "vit-small", tag, status=2)


def test_a_model_without_classes_predicts_none(make_model):
    model = make_model("vit", "vit-small")
    spec = dataclasses.replace(model.spec, class_names=[])
    with pytest.raises(UserError, match="has no classifier: it gives features, not classes"):
        probabilities(dataclasses.replace(model, spec=spec), np.zeros((1, 8, 8, 3), np.uint8))


def test_a_value_of_a_kwarg_that_is_no_yaml_is_named(zoo):
    error = zoo("import", "timm:vit", "--name", "a", "--kwarg", "depth=[", status=2)
    assert error.startswith("Error: --kwarg: ")


def test_a_model_without_a_description_is_named(registered, monkeypatch):
    def gone(*_):
        raise UserError("MLmodel is missing")

    monkeypatch.setattr(lookup, "fetch_file", gone)
    with pytest.raises(UserError, match="forest was not saved by zoo: MLmodel is missing"):
        lookup._digest(open_store(registered), {}, "", "forest")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cudda", "unknown device 'cudda': expected cpu, cuda or cuda:1"),
        ("cuda:99", "device 'cuda:99' is not available here; cpu always is"),
        ("meta", "device 'meta' is not available here"),
        (torch.device("cuda", 99), "device 'cuda:99' is not available here"),
    ],
)
def test_a_device_that_is_not_there_is_named_in_python_too(make_model, device, message):
    with pytest.raises(UserError, match=message):
        compare([make_model()], np.zeros((4, 16, 16, 3), np.uint8), device=device)


def test_a_device_without_64_bit_numbers_is_named(monkeypatch):
    def as_on_apples_gpu(*shape, dtype=torch.float32, **kwargs):
        if dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return torch.ones(1)

    monkeypatch.setattr(torch, "zeros", as_on_apples_gpu)
    with pytest.raises(UserError, match="device 'cpu' has no 64-bit numbers, which similarities"):
        parse_device("cpu")
