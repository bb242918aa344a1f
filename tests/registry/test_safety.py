"""What a stranger may have written into the registry: refused by name, and nothing is touched."""

import dataclasses
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from zoo.errors import UserError
from zoo.files import write_json, write_text
from zoo.registry.artifacts import fetch_file, local_folder
from zoo.registry.comparisons import fetch_comparison, log_comparison
from zoo.registry.images import fetch_images
from zoo.registry.references import check_digest
from zoo.registry.register import register
from zoo.registry.resolve import fetch_model, load, resolve
from zoo.registry.store import open_store

ESCAPES = ["../../victim", "/etc", "..", "a" * 63, "A" * 64, "a" * 64 + "\n", f"{'a' * 63}'"]


@pytest.fixture
def registered(store, make_folder):
    register(store, make_folder())
    return store


@pytest.fixture
def victim(tmp_path):
    """A folder beside the cache, which nothing in the registry may reach."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    return folder


@pytest.mark.parametrize("text", ESCAPES)
def test_only_a_digest_is_taken_for_one(text):
    with pytest.raises(UserError, match="here: expected a sha256 of 64 hex digits, got"):
        check_digest(text, "here")
    assert check_digest("0a" * 32, "here") == "0a" * 32


@pytest.mark.parametrize("digest", ["../../../victim", "/etc"])
def test_a_digest_that_is_a_path_is_refused(registered, victim, digest):
    registered.client.set_model_version_tag("vit-small", "1", "zoo.sha256", digest)
    before = sorted(victim.parent.iterdir())
    for reference in ("vit-small", "vit-small@best", "vit-small/1"):
        with pytest.raises(UserError, match=r"vit-small.*: tag zoo\.sha256: expected a sha256"):
            load(reference, store=registered)
    model_id = registered.client.get_model_version("vit-small", "1").tags["zoo.model_id"]
    registered.client.set_logged_model_tags(model_id, {"zoo.sha256": digest})
    with pytest.raises(UserError, match=r"models:/m-.*: tag zoo\.sha256: expected a sha256"):
        load(f"models:/{model_id}", store=registered)
    assert sorted(victim.parent.iterdir()) == before


def test_images_whose_digest_is_a_path_remove_nothing(store, victim):
    reach = "../../../victim"
    assert (store.cache / "images" / reach).resolve() == victim
    with pytest.raises(UserError, match="digest of the test images: expected a sha256"):
        fetch_images(store, reach)
    assert (victim / "precious.txt").read_text() == "mine"


def test_a_digest_of_other_content_is_refused(registered):
    registered.client.set_model_version_tag("vit-small", "1", "zoo.sha256", "0" * 64)
    with pytest.raises(UserError, match=r"vit-small .* expected sha256 000000000000, got .* not"):
        load("vit-small", store=registered)


@pytest.mark.parametrize("source", ["/etc", "file:///etc", "file:///etc/../etc"])
def test_a_version_that_points_at_this_machine_reads_no_other_file(store, source):
    store.client.create_registered_model("evil")
    store.client.create_model_version("evil", "/tmp/nowhere", tags={"zoo.sha256": "0" * 64})
    found = dataclasses.replace(resolve(store, "evil"), artifacts=source)
    with pytest.raises(UserError, match=r"evil .*cannot be fetched: data/spec\.json is missing"):
        fetch_model(store, found)


@pytest.mark.parametrize("name", ["../spec.json", "data/../../spec.json", "/etc/hostname"])
def test_a_file_outside_of_its_folder_is_not_opened(tmp_path, name):
    (tmp_path / "spec.json").write_text("{}")
    folder = tmp_path / "artifacts"
    (folder / "data").mkdir(parents=True)
    with pytest.raises(UserError, match="leads out of its folder"):
        fetch_file(None, folder.as_uri(), name, "")


@pytest.fixture
def compared(store, tmp_path):
    """A logged comparison, and the folder of its artifacts."""
    report = {"digest": "c" * 64, "settings": {}, "images": {}, "summary": "s"}
    report["analyses"] = [{"name": "cka", "figures": [{"file": "cka"}]}]
    write_json(tmp_path / "made" / "report.json", report)
    for name in ("report.html", "results.nc"):
        write_text(tmp_path / "made" / name, name)
    run = log_comparison(store, tmp_path / "made", report, [])
    return run, local_folder(run.info.artifact_uri)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_among_a_comparisons_files_are_not_followed(store, compared, victim, tmp_path, kind):
    run, artifacts = compared
    (victim / "cka.png").write_text("precious")
    if kind == "folder":
        (artifacts / "figures").symlink_to(victim)
    else:
        (artifacts / "figures").mkdir()
        (artifacts / "figures" / "cka.png").symlink_to(victim / "cka.png")
    with pytest.raises(UserError, match=r"cka\.png leads out of its folder .*: not opened"):
        fetch_comparison(store, run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["[]", "7", "null", "{"])
def test_a_report_that_is_none_is_refused(store, compared, tmp_path, content):
    run, artifacts = compared
    (artifacts / "report.json").write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        fetch_comparison(store, run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "path", ["../../evil", "/tmp/evil", "..%2F..%2Fevil", "spec.json/../../evil"]
)
def test_a_listing_that_leads_out_of_its_folder_writes_nothing(tmp_path, monkeypatch, path):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            listing = json.dumps({"files": [{"path": path, "is_dir": False, "file_size": 4}]})
            content = b"evil" if path in self.path else listing.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    target = tmp_path / "a" / "b" / "c"
    target.mkdir(parents=True)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
            store = open_store(tmp_path / "project")
            with pytest.raises(UserError, match=r"data is missing in mlflow-artifacts:/1"):
                fetch_file(store, "mlflow-artifacts:/1/artifacts", "data", target)
        finally:
            server.shutdown()
            thread.join()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "reference",
    [
        "vit' or name like '%",
        "vit@a' b",
        "a b",
        "runs:/x/../y",
        "models:/m 1",
        "vit/3/../4",
        "",
        "vit\n",
        "timm:vit\n",
    ],
)
def test_a_reference_is_checked_before_anything_is_sent(store, reference):
    unsent = dataclasses.replace(store, client=None)
    with pytest.raises(UserError, match=r"expected a model as NAME|no model in"):
        resolve(unsent, reference)
