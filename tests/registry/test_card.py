from zoo.models.spec import read_spec
from zoo.registry.card import LONGEST, cell, model_card, name_card


def test_the_card_names_what_data_accuracy_and_how_to_load(make_folder):
    spec = read_spec(make_folder() / "spec.json")
    card = model_card(spec, "f" * 64, test_count=360)
    for part in (
        "| network | vit (embed\\_dim 16",
        "| trained on | digits / small: 100 images of 3 classes |",
        "| test accuracy | 0.440 on 360 images, seed 0 |",
        f"| sha256 | {'f' * 64} |",
        'zoo.load("vit-small")',
    ):
        assert part in card


def test_what_is_not_known_is_said_to_be_so(make_folder):
    folder = make_folder(metrics={}, subset="", source="", environment={})
    card = model_card(read_spec(folder / "spec.json"), "f" * 64)
    assert "| test accuracy | not measured |" in card
    assert "| trained on | not known |" in card


def test_text_stays_text():
    assert cell("<script>|a*\n[b](c)`") == "&lt;script&gt;\\|a\\* \\[b\\](c)\\`"


def test_cards_fit_mlflow_s_column(make_folder):
    spec = read_spec(make_folder(environment={"note": "x" * 9000}) / "spec.json")
    assert len(model_card(spec, "f" * 64)) <= LONGEST
    assert "trained on **digits / small**" in name_card(spec)
