"""Files and references of any content: every command ends in one short line and changes nothing."""

import json
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.registry.test_hostile_server import places, put
from zoo.cli import main
from zoo.comparison import RESULTS, open_results
from zoo.errors import UserError

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 100), st.just([]), st.just({}),
    st.sampled_from([2**31, -(2**64), 10**30, 1e30, -1e-300, float("inf"), float("nan")]),
    st.sampled_from(["", "..", "a/b", "1e-3", "9" * 5000, "é" * 300, "\x1b[31m", "os:system"]),
    st.lists(st.integers(-1, 9), max_size=4), st.text(max_size=9),
    st.dictionaries(st.text(max_size=3), st.integers()),
)  # fmt: skip
FUZZ = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def ends(project, monkeypatch, capsys):
    """Run a command: it ends as it should, and no file has changed."""

    def run(*arguments, allowed=(0, 2)):
        before, began = contents(project), time.monotonic()
        monkeypatch.setattr("sys.argv", ["zoo", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err
        assert time.monotonic() - began < 30
        assert (ended.value.code or 0) in allowed, said
        assert "Traceback" not in said
        errors = [line for line in said.splitlines() if line.startswith("Error: ")]
        assert len(errors) == (ended.value.code == 2), said
        assert all(len(line) < 1000 for line in said.splitlines()), said
        assert "\x1b" not in said
        assert contents(project) == before

    return run


def contents(folder):
    """Return every file of a folder with what is in it, but for what zoo keeps for itself."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_relative_to(folder / ".zoo")
    }


@pytest.fixture
def model(save):
    return save("vit-0", subset="small", source="digits", training={"epochs": 2, "batch_size": 5})


@pytest.fixture
def image(project):
    from PIL import Image

    Image.new("RGB", (16, 16)).save(project / "image.png")
    return project / "image.png"


COMMANDS = (("show",), ("show", "--json"), ("predict", "image.png"))


def on_model(command):
    return (command[0], "./models/vit-0", *command[1:])


@FUZZ
@given(data=st.data(), value=ODD, command=st.sampled_from(COMMANDS))
def test_any_value_in_a_spec(ends, model, image, data, value, command):
    whole = json.loads((model / "spec.json").read_text())
    path = data.draw(st.sampled_from(list(places(whole))))
    (model / "spec.json").write_text(json.dumps(put(whole, path, value)))
    try:
        ends(*on_model(command))
    finally:
        (model / "spec.json").write_text(json.dumps(whole))


@pytest.mark.parametrize("command", COMMANDS)
def test_any_field_of_a_spec_may_be_missing(ends, model, image, command):
    whole = json.loads((model / "spec.json").read_text())
    for key in whole:
        (model / "spec.json").write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        ends(*on_model(command))
        (model / "spec.json").write_text(json.dumps(whole | {f"{key}s": 1}))
        ends(*on_model(command), allowed=(2,))


@FUZZ
@given(
    name=st.sampled_from(["spec.json", "model.safetensors"]),
    place=st.floats(0, 1), content=st.binary(max_size=20), cut=st.booleans(),
)  # fmt: skip
def test_any_bytes_in_a_model(ends, model, image, name, place, content, cut):
    whole = (model / name).read_bytes()
    at = int(place * min(len(whole), 3000))  # where the header and the spec are
    (model / name).write_bytes(whole[:at] + content + (b"" if cut else whole[at + len(content) :]))
    try:
        ends("predict", "./models/vit-0", "image.png")
    finally:
        (model / name).write_bytes(whole)


@FUZZ
@given(
    reference=st.text("avit-0/@:.\\~ %\n\x1btmuns1", max_size=20)
    | st.builds("{}{}".format, st.sampled_from(["models:/", "runs:/", "timm:", "vit-0/", "vit@"]),
                st.text(max_size=12) | st.just("9" * 5000))
)  # fmt: skip
def test_any_reference(ends, reference):
    for command in ("show", "pull"):
        out = ("out",) if command == "pull" else ()
        ends(command, "--", reference, *out, allowed=(2,))


@pytest.fixture(scope="module")
def report(tmp_path_factory, make_model, digit_images):
    """A saved comparison."""
    from zoo.api import compare
    from zoo.config import Settings

    images, labels = digit_images
    models = [make_model("vit", "a"), make_model("vit", "b", seed=1)]
    done = compare(
        models, images[:20], labels[:20], only=["accuracy", "cka"],
        settings=Settings(batch_size=10, references=False),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("report") / "report"
    done.save(folder)
    return folder


@FUZZ
@given(place=st.floats(0, 1), content=st.binary(max_size=40), cut=st.booleans())
# In the metadata of a group, which h5py finds while it goes through the links.
@example(place=0.4590087794097527, content=bytes(8), cut=False)
def test_any_bytes_in_results(tmp_path, report, place, content, cut):
    whole = (report / RESULTS).read_bytes()
    at = int(place * len(whole))
    file = tmp_path / RESULTS
    file.write_bytes(whole[:at] + content + (b"" if cut else whole[at + len(content) :]))
    said = ""
    try:
        open_results(file)
    except UserError as error:
        said = str(error)
    assert len(said) < 1000
