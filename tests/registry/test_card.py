import pytest

from zoo.data.subsets import load_subset
from zoo.models.spec import read_spec
from zoo.registry.artifacts import local_folder
from zoo.registry.card import CARD, LONGEST, cell, model_card, name_card
from zoo.registry.register import register
from zoo.registry.resolve import resolve


def test_the_card_names_what_data_accuracy_and_how_to_load(make_folder):
    spec = read_spec(make_folder(test_count=360) / "spec.json")
    card = model_card(spec, "f" * 64)
    for part in (
        "| network | vit (embed\\_dim 16",
        "| classes | 3: a, b, c |",
        "| trained on | digits / small: 100 images of 3 classes |",
        "| test accuracy | 0.440 on 360 images, seed 0 |",
        f"| sha256 | {'f' * 64} |",
        'zoo.load("vit-small")  # its current version; a given one: "vit-small/1"',
    ):
        assert part in card
    # MLflow's lists of versions show the first line, as it is written.
    assert card.startswith("vit-small, seed 0: right on 44.0 % of 360 test images.\n")


def test_what_is_not_known_is_said_to_be_so(make_folder):
    folder = make_folder(metrics={}, subset="", source="", environment={})
    card = model_card(read_spec(folder / "spec.json"), "f" * 64)
    assert card.startswith("vit-small, seed 0: accuracy not measured.\n")
    assert "| test accuracy | not measured |" in card
    assert "| trained on | not known |" in card


def test_the_card_names_the_models_that_it_learnt_from(make_folder):
    lineage = {"teacher": "models/resnet18-small-0", "teacher_sha256": "a" * 64, "<b>": "c"}
    card = model_card(read_spec(make_folder(lineage=lineage) / "spec.json"), "f" * 64)
    assert "| teacher | models/resnet18-small-0 |" in card
    assert f"| sha256 of the teacher | {'a' * 64} |" in card
    assert "<b>" not in card
    assert "started from" not in card


def test_the_card_says_how_it_was_trained(make_folder):
    training = {"epochs": 20, "batch_size": 30, "optimizer": "adam", "learning_rate": 0.0003}
    folder = make_folder(training=training | {"flip": True}, metrics={"train/accuracy": 0.75})
    card = model_card(read_spec(folder / "spec.json"), "f" * 64)
    said = "20 epochs (80 steps), batches of 30, adam, learning rate 0.0003, flip"
    assert f"| training | {said} |" in card
    assert "| training accuracy | 0.750, seed 0 |" in card


@pytest.mark.parametrize(
    "wrong", [{}, {"epochs": "x"}, {"epochs": 1.5}, {"batch_size": 0}, {"learning_rate": None}]
)
def test_a_training_that_makes_no_sense_is_not_known(make_folder, wrong):
    training = {"epochs": 2, "batch_size": 3, "learning_rate": 0.1} | wrong if wrong else {}
    card = model_card(read_spec(make_folder(training=training) / "spec.json"), "f" * 64)
    assert "| training | not known |" in card


def test_text_stays_text():
    assert cell("<script>|a*\n[b](c)`~") == "&lt;script&gt;\\|a\\* \\[b\\](c)\\`\\~"


def test_imported_weights_have_a_source_and_a_licence(make_folder):
    origin = {"source": "timm:vit_x", "licence": "apache-2.0", "url": "https://a.b/c_d"}
    card = model_card(read_spec(make_folder(origin=origin) / "spec.json"), "f" * 64)
    assert "| weights from | timm:vit\\_x |\n| at | https://a.b/c\\_d |" in card
    assert "| licence | apache-2.0 |" in card
    unknown = model_card(read_spec(make_folder(origin={"package": "p"}) / "spec.json"), "f" * 64)
    assert "| licence | not known |" in unknown
    assert "| needs the package | p |" in unknown
    assert "licence" not in model_card(read_spec(make_folder() / "spec.json"), "f" * 64)


EVIL = "<script>alert(1)</script>|`**x**"


@pytest.mark.parametrize(
    "known",
    [
        {"class_names": [EVIL, "b", "c"]},
        {"source": EVIL},
        {"subset": EVIL},
        {"environment": {EVIL: EVIL}},
        {"origin": {"source": EVIL, "licence": EVIL, "url": EVIL}},
    ],
)
def test_what_comes_from_outside_shows_as_text(make_folder, known):
    spec = read_spec(make_folder(**known) / "spec.json")
    for text in (model_card(spec, "f" * 64), name_card(spec, spec.name)):
        table = text.split("```")[0]
        assert "<" not in table
        assert "**x" not in table
        assert all(line.replace("\\|", "").count("|") == 3 for line in table.split("\n")[4:-2])
    assert "&lt;script&gt;alert(1)" in model_card(spec, "f" * 64)


def test_a_name_does_not_end_the_block_of_code(make_folder):
    spec = read_spec(make_folder(name="a```\n<b>") / "spec.json")
    assert "<b>" not in model_card(spec, "f" * 64)
    assert 'zoo.load("NAME")' in name_card(spec, spec.name)


def test_the_card_is_the_description_and_among_the_files(store, make_folder, test_split):
    own = load_subset(test_split).info.digest
    register(store, make_folder(test_digest=own, test_count=12), test_folder=test_split)
    described = store.client.get_model_version("vit-small", "1").description
    folder = local_folder(resolve(store, "vit-small").artifacts)
    assert (folder / CARD).read_text() == described
    assert "0.440 on 12 images, seed 0" in described


def test_cards_fit_mlflow_s_column(make_folder):
    spec = read_spec(make_folder(environment={"note": "x" * 9000}) / "spec.json")
    assert len(model_card(spec, "f" * 64)) <= LONGEST
    assert "trained on **digits / small**" in name_card(spec, spec.name)
