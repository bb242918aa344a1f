"""Every message that a user can meet is met by a test.

The messages are found in the source by their syntax: what is raised as a `UserError`, an
`unknown` name or a click error. A message counts as met where a text in some test holds words
of it that stand in no other message, or where `MET` names the test.
"""

import ast
import itertools
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RAISED = {"UserError", "NotApplicable", "BadParameter", "ClickException", "UsageError", "fail"}
SHORTEST = 8  # characters
# Messages of which a test holds too few words in a row, and the test.
MET = {
    "cli/test_probe.py::test_bad_input_is_one_line": ["unknown subset in"],
    "cli/test_bad_input.py::test_weights_that_are_cut_off_are_named": ["is damaged: …;"],
    "cli/test_bad_input.py::test_a_value_of_a_kwarg_that_is_no_yaml_is_named": ["--kwarg:"],
    "data/test_sources.py::test_bad_image_folders_are_named": [
        "no folder …; expected <class>/<image> folders in it"
    ],
    "data/test_subsets.py::test_a_changed_pixel_or_length_is_noticed": [
        "subset … is damaged: expected digest …, got …; build it again with: "
        "dvc repro --force subset"
    ],
    "data/test_subsets.py::test_damaged_subset_files_are_named": [
        "no file …; build it with: dvc repro subset",
        "is damaged (…); build it again with: dvc repro --force subset",
    ],
    "models/test_files.py::test_a_spec_that_names_other_code_is_refused": ["unknown arch"],
    "models/test_files.py::test_json_that_python_refuses_is_refused_by_name": [
        "is damaged: expected a spec, got …;"
    ],
    "models/test_imported.py::test_a_fine_tuned_classifier_is_kept": [
        "the weights do not fit … (…)"
    ],
    "models/test_pretrained.py::test_an_unknown_timm_model_gets_a_suggestion": [
        "unknown timm model"
    ],
    "registry/test_importing.py::test_pulling_replaces_a_model_and_nothing_else": [
        "lies in … already; name another folder"
    ],
    "registry/test_resolve.py::test_a_huge_spec_is_not_read": [": … has … bytes: no spec"],
    "registry/test_resolve.py::test_a_name_that_is_nothing_gets_the_nearest": ["no model … in …;"],
    "registry/test_resolve.py::test_missing_files_are_named": ["is missing in"],
    "registry/test_resolve.py::test_runs_and_models_that_are_not_there_are_named": [
        "no model … in",
        "no run … in",
    ],
    "report/test_html.py::test_a_damaged_comparison_is_named_in_one_line": [
        "is damaged (…); run the comparison again",
        "no file",
    ],
    "test_config.py::test_a_stage_does_not_begin_with_analyses_that_are_not_there": [
        "params.yaml: compare:"
    ],
    "test_config.py::test_a_wrong_key_or_value_is_named": [
        ": expected …, got",
        "unknown compare.pairs entry (no variant of `study`)",
    ],
    "analyses/test_engine.py::test_bad_input_is_named": ["expected at least … images, got"],
}


@dataclass(frozen=True)
class Message:
    """A message's place, and the texts of it that stand between its variable parts."""

    place: str
    texts: tuple[str, ...]

    @property
    def whole(self) -> str:
        """Its texts, with a sign for each variable part."""
        return "…".join(self.texts).strip()

    @property
    def signs(self) -> set[str]:
        """Regular expressions by which it is known: runs of words, and what joins two texts."""
        texts = [normal(text) for text in self.texts]
        found = set()
        for words in map(str.split, texts):
            runs = (
                " ".join(words[i : i + n]).strip(".,:;()")
                for n in (2, 3, 4)
                for i in range(len(words))
            )
            found |= {re.escape(run) for run in runs if len(run) >= SHORTEST}
        for before, after in itertools.pairwise(texts):
            if len(before[-8:] + after[:4]) >= SHORTEST:
                found.add(f"{re.escape(before[-8:])}.{{1,60}}?{re.escape(after[:4])}")
        return found


def normal(text: str) -> str:
    """Return a text without what regular expressions and line ends add."""
    return re.sub(r"\s+", " ", re.sub(r"\\(?=[^\w\s])", "", text).replace(".*", " "))


def texts_of(node: ast.expr) -> list[str]:
    """Return the literal parts of a string, an f-string, or a sum of them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return [v.value for v in node.values if isinstance(v, ast.Constant)]
    if isinstance(node, ast.BinOp):
        return texts_of(node.left) + texts_of(node.right)
    if isinstance(node, ast.IfExp):
        return texts_of(node.body) + texts_of(node.orelse)
    return []


def name_of(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def messages(folder: Path) -> list[Message]:
    found = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            place = f"{path.relative_to(ROOT)}:{node.lineno}"
            texts = texts_of(node.args[0])
            if name_of(node) == "unknown" and texts:
                found.append(Message(place, (f"unknown {texts[0]}",)))
            elif name_of(node) in RAISED and texts:
                found.append(Message(place, tuple(texts)))
    return found


def texts_of_tests(folder: Path) -> str:
    """Return all texts of the tests but their documentation, one a line."""
    lines = []
    for path in sorted(folder.rglob("*.py")):
        if path == Path(__file__):
            continue
        tree = ast.parse(path.read_text())
        prose = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and id(node) not in prose:
                lines.append(normal(text))
    return "\n".join(lines)


def untested(found: list[Message], texts: str) -> list[Message]:
    # The same words raised at several places are one message.
    shared = Counter(sign for m in {m.texts: m for m in found}.values() for sign in m.signs)
    return [
        message
        for message in found
        if not any(shared[sign] == 1 and re.search(sign, texts) for sign in message.signs)
    ]


def test_every_message_is_met_by_a_test():
    missing = untested(messages(ROOT / "zoo"), texts_of_tests(ROOT / "tests"))
    named = [text for texts in MET.values() for text in texts]
    left = [message for message in missing if message.whole not in named]
    assert not left, "\n".join(f"{m.place}: {m.whole}" for m in left)


def test_the_tests_that_are_named_exist_and_so_do_their_messages():
    found = {message.whole for message in messages(ROOT / "zoo")}
    for place, texts in MET.items():
        path, name = place.split("::")
        assert f"def {name}(" in (ROOT / "tests" / path).read_text(), place
        assert set(texts) <= found


def test_a_message_without_a_test_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.cli.test_messages.ROOT", tmp_path)
    (tmp_path / "a.py").write_text(
        "def f(x):\n"
        "    if x: raise UserError(f'expected a number of apples, got {x}; pick some')\n"
        "    raise unknown('fruit tree', x, ['apple'])\n"
    )
    found = sorted(messages(tmp_path), key=lambda m: m.place)
    assert [m.whole for m in found] == [
        "expected a number of apples, got …; pick some",
        "unknown fruit tree",
    ]
    assert untested(found, "some pears\nunknown fruit tree") == found[:1]
    assert untested(found, "number of apples") == found[1:]
