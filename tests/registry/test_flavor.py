import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.models.files import load_model
from zoo.models.predict import BATCH
from zoo.models.spec import model_digest, read_spec
from zoo.registry.flavor import read_flavors, write_flavor
from zoo.registry.serving import as_pixels


@pytest.fixture
def images(test_split) -> np.ndarray:
    return np.array(load_subset(test_split).images)


@pytest.fixture
def written(tmp_path, make_folder, images) -> Path:
    folder, target = make_folder(), tmp_path / "flavor"
    digest = model_digest(folder)
    write_flavor(folder, target, read_spec(folder / "spec.json"), digest, example=images[:1])
    return target


@pytest.fixture
def served(written):
    import mlflow

    return mlflow.pyfunc.load_model(str(written))


def probabilities(folder: Path, images: np.ndarray) -> np.ndarray:
    logits = load_model(folder)(images).numpy().astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def test_mlflow_predicts_what_zoo_does(served, written, images):
    predicted = served.predict(images)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, probabilities(written / "data", images), atol=1e-6)


def test_batches_of_any_size_give_the_same_as_one_by_one(served, images):
    many = np.concatenate([images] * (BATCH // len(images) + 2))
    assert len(many) > BATCH
    together = served.predict(many)
    np.testing.assert_allclose(together[: len(images)], together[-len(images) :], atol=1e-6)
    np.testing.assert_allclose(together[3], served.predict(images[3:4])[0], atol=1e-6)


def test_images_of_other_sizes_are_resized(served):
    assert served.predict(np.zeros((2, 40, 30, 3), np.uint8)).shape == (2, 3)


def test_no_images_give_no_probabilities(served):
    assert served.predict(np.zeros((0, 16, 16, 3), np.uint8)).shape == (0, 3)


def test_json_as_a_server_gets_it_is_understood(served, images):
    from mlflow.pyfunc.scoring_server import invocations

    for key in ("instances", "inputs"):
        body = json.dumps({key: images[:2].tolist()})
        schema = served.metadata.get_input_schema()
        answer = invocations(body, "application/json", served, schema)
        assert answer.status == 200, answer.response
        got = json.loads(answer.response)["predictions"]
        np.testing.assert_allclose(got, served.predict(images[:2]), atol=1e-6)


def test_the_example_is_a_real_image_and_a_server_takes_it(served, written, images):
    from mlflow.pyfunc.scoring_server import invocations

    stored = json.loads((written / "input_example.json").read_text())
    np.testing.assert_array_equal(np.array(stored), images[:1])
    body = (written / "serving_input_example.json").read_text()
    schema = served.metadata.get_input_schema()
    assert invocations(body, "application/json", served, schema).status == 200


def test_the_signature_says_what_goes_in_and_out(served):
    inputs, outputs = served.metadata.signature.inputs, served.metadata.signature.outputs
    assert (str(inputs.inputs[0].type), inputs.inputs[0].shape) == ("uint8", (-1, -1, -1, 3))
    assert (str(outputs.inputs[0].type), outputs.inputs[0].shape) == ("float32", (-1, 3))


def test_nothing_is_pickled_and_the_files_are_those_of_the_folder(written):
    files = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("code/source/")} == {
        "MLmodel",
        "code/zoo_pyfunc.py",
        "data/model.safetensors",
        "data/spec.json",
        "input_example.json",
        "python_env.yaml",
        "requirements.txt",
        "serving_input_example.json",
    }
    assert all(name.endswith(".py") for name in files if name.startswith("code/"))
    flavors = read_flavors(written / "MLmodel")
    assert set(flavors) == {"zoo", "python_function"}
    assert flavors["zoo"]["digest"] == model_digest(written / "data")


@pytest.mark.parametrize("content", ["", "[1, 2", "flavors: 3", "- a"])
def test_a_damaged_mlmodel_names_no_flavors(tmp_path, content):
    (tmp_path / "MLmodel").write_text(content)
    assert read_flavors(tmp_path / "MLmodel") == {}


def test_every_way_of_giving_images_comes_to_the_same(images):
    some = images[:3]
    flat = pd.DataFrame(some.reshape(3, -1))
    nested = pd.DataFrame({"image": [image.tolist() for image in some]})
    arrays = pd.DataFrame({"image": list(some)})
    for given in (
        some,
        some.tolist(),
        some.astype(np.int64),
        some.astype(np.float32),
        flat,
        nested,
    ):
        np.testing.assert_array_equal(as_pixels(given, 16), some)
    np.testing.assert_array_equal(as_pixels(arrays, 16), some)
    np.testing.assert_array_equal(as_pixels(some[0], 16), some[:1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((2, 16, 16), np.uint8)[..., None], r"expected \(n, height, width, 3\)"),
        (np.zeros((2, 5), np.uint8), r"expected \(n, height, width, 3\), got \(2, 5\)"),
        (np.full((1, 2, 2, 3), 0.5), "expected whole numbers from 0 to 255"),
        (np.full((1, 2, 2, 3), np.nan), "expected whole numbers from 0 to 255"),
        (np.full((1, 2, 2, 3), -1), "expected values from 0 to 255, got -1 to"),
        (np.full((1, 2, 2, 3), 256), "expected values from 0 to 255, got 0 to 256"),
        (np.full((1, 2, 2, 3), np.inf), "expected values from 0 to 255, got 0.0 to inf"),
        (np.full((1, 2, 2, 3), "a"), "expected whole numbers from 0 to 255"),
        ([np.zeros((2, 2, 3)).tolist(), np.zeros((3, 3, 3)).tolist()], "the same size"),
    ],
)
def test_other_inputs_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        as_pixels(given, 16)
