from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import UserError
from zoo.registry.references import check_alias, check_name, parse, resolve_folder
from zoo.registry.register import register
from zoo.registry.resolve import resolve

RUN, MODEL = "0123456789abcdef" * 2, "m-" + "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("text", "kind", "name", "version", "alias"),
    [
        ("vit-small", "version", "vit-small", None, ""),
        ("vit-small/3", "version", "vit-small", 3, ""),
        ("vit-small@best", "version", "vit-small", None, "best"),
        ("vit-small/latest", "version", "vit-small", None, "latest"),
        ("vit-small@latest", "version", "vit-small", None, "latest"),
        ("models:/vit-small/3", "version", "vit-small", 3, ""),
        ("models:/vit-small@best", "version", "vit-small", None, "best"),
        (f"runs:/{RUN}/model", "run", "model", None, ""),
        (f"runs:/{RUN}", "run", "model", None, ""),
        (f"models:/{MODEL}", "logged", "", None, ""),
        ("timm:vit_small_patch16_224.augreg_in21k", "timm", None, None, ""),
    ],
)
def test_every_form_of_a_reference_is_taken_apart(text, kind, name, version, alias):
    reference = parse(text)
    assert (reference.kind, reference.version, reference.alias) == (kind, version, alias)
    if name is not None:
        assert reference.name == name


def test_a_timm_name_keeps_its_tag():
    assert parse("timm:vit_small_patch16_224.augreg_in21k").name == (
        "vit_small_patch16_224.augreg_in21k"
    )


@pytest.mark.parametrize("text", ["./vit", "/tmp/vit", "~/vit", "models/vit", "../vit", "."])
def test_paths_are_folders(text):
    assert parse(text).kind == "folder"


@pytest.mark.parametrize(
    "text", ["", "vit small", "vit@", "vit/3/4:", "vit@a@b", "runs:/short", "models:/", "timm:a b"]
)
def test_other_texts_are_refused_with_the_forms(text):
    with pytest.raises(UserError, match="expected a model as NAME, NAME/3"):
        parse(text)


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_the_parser_or_brings_quotes_into_a_search(text):
    try:
        reference = parse(text)
    except UserError:
        return
    if reference.kind == "version":
        assert not set(reference.name + reference.alias) & set("'\"`\\/:@ ")


def test_a_folder_resolves_without_a_registry(make_folder):
    folder = make_folder()
    resolved = resolve_folder(parse(str(folder)))
    assert (resolved.name, resolved.label, resolved.folder) == ("vit-small", "vit-small", folder)
    assert len(resolved.digest) == 64


def test_a_folder_without_a_model_is_named(tmp_path: Path):
    with pytest.raises(
        UserError, match=r"no model in .*nothing: expected a folder with spec\.json"
    ):
        resolve_folder(parse(str(tmp_path / "nothing")))


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a b", "a@b", "-a", "a'b", "../a"])
def test_names_that_mlflow_or_a_search_would_trip_over_are_refused(name):
    with pytest.raises(UserError, match="expected letters, digits"):
        check_name(name)


@pytest.mark.parametrize("alias", ["", "latest", "v3", "V12", "a.b", "a b", "a/b"])
def test_reserved_aliases_are_refused(alias):
    with pytest.raises(UserError, match="neither 'latest' nor like 'v3'"):
        check_alias(alias)


def test_good_names_and_aliases_come_back():
    assert (check_name("vit-gap_2.1"), check_alias("best")) == ("vit-gap_2.1", "best")


@pytest.mark.parametrize("number", ["2147483648", "9" * 5000])
def test_a_number_beyond_every_version_is_one_that_is_not_there(store, make_folder, number):
    register(store, make_folder())
    with pytest.raises(UserError, match=r"vit-small has no version [0-9]+; it has 1"):
        resolve(store, f"vit-small/{number}")


def test_other_digits_make_no_version():
    with pytest.raises(UserError, match="no model in vit/٣"):
        resolve(None, "vit/٣")
