import shutil

import numpy as np
import pytest

from tests.conftest import cut_files
from zoo.data.subsets import load_subset
from zoo.errors import UserError
from zoo.registry import images as module
from zoo.registry.artifacts import local_folder
from zoo.registry.images import cut, fetch_images, store_images
from zoo.registry.runs import search_runs
from zoo.registry.store import TEST_IMAGES


def test_images_come_back_as_they_were(store, test_split):
    original = load_subset(test_split)
    digest = store_images(store, test_split)
    fetched = fetch_images(store, digest)
    np.testing.assert_array_equal(fetched.images, original.images)
    np.testing.assert_array_equal(fetched.labels, original.labels)
    assert digest == original.info.digest == fetched.info.digest
    assert fetched.info.class_names == original.info.class_names


def test_they_are_stored_and_fetched_once(store, test_split):
    digest = store_images(store, test_split)
    assert store_images(store, test_split) == digest
    runs = search_runs(store, TEST_IMAGES)
    assert [run.info.status for run in runs] == ["FINISHED"]
    (listed,) = runs[0].inputs.dataset_inputs
    assert (listed.dataset.name, listed.dataset.digest) == ("digits/test", digest[:36])
    fetch_images(store, digest)
    store.client.delete_run(runs[0].info.run_id)
    assert len(fetch_images(store, digest)) == 12


def test_what_was_fetched_is_hashed_once(store, test_split, monkeypatch):
    digest, hashed = store_images(store, test_split), []
    monkeypatch.setattr(module, "verify_subset", hashed.append)
    fetch_images(store, digest)
    assert len(hashed) == 1
    fetch_images(store, digest)  # of the cache
    assert len(hashed) == 2


def test_a_large_split_is_cut_evenly_and_bears_its_own_digest(store, make_split, monkeypatch):
    info = make_split("many", 50)
    whole = load_subset(store.root / "many")
    monkeypatch.setattr(module, "LARGEST", 9)
    fetched = fetch_images(store, store_images(store, store.root / "many"))
    assert len(fetched) == 9
    assert fetched.info.digest != info.digest
    for start in (0, 3, 6):
        assert sorted(fetched.labels[start : start + 3]) == [0, 1, 2]
    np.testing.assert_array_equal(fetched.images, whole.images[fetched.info.indices])
    tags = search_runs(store, TEST_IMAGES)[0].data.tags
    assert (tags["zoo.test_digest"], tags["zoo.images_digest"]) == (
        info.digest,
        fetched.info.digest,
    )


def test_a_small_split_is_not_cut(test_split):
    subset = load_subset(test_split)
    assert cut(subset, 12) is subset


def test_images_that_stay_in_their_files_travel_as_pixels(store, digit_files, tmp_path):
    arrays, files = (
        load_subset(cut_files(digit_files, tmp_path / str(most), max_array_gb=most) / "test")
        for most in (1, 0)
    )
    fetched = fetch_images(store, store_images(store, tmp_path / "0" / "test"))
    digit_files.rename(tmp_path / "gone")
    assert fetched.info.root == ""
    order = [arrays.info.indices.index(i) for i in fetched.info.indices]
    np.testing.assert_array_equal(fetched.images, arrays.images[order])
    np.testing.assert_array_equal(fetched.labels, arrays.labels[order])
    assert search_runs(store, TEST_IMAGES)[0].data.tags["zoo.test_digest"] == files.info.digest


def test_a_damaged_copy_is_fetched_again(store, test_split):
    digest = store_images(store, test_split)
    fetch_images(store, digest)
    copy = store.cache / "images" / digest / "images.npy"
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    np.testing.assert_array_equal(
        fetch_images(store, digest).images, load_subset(test_split).images
    )


def test_changed_images_in_the_registry_are_refused(store, test_split):
    digest = store_images(store, test_split)
    folder = local_folder(search_runs(store, TEST_IMAGES)[0].info.artifact_uri)
    path = folder / "images" / "labels.npy"
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"the test images {digest[:12]} in the registry were ch"):
        fetch_images(store, digest)
    assert not (store.cache / "images" / digest).exists()


def test_another_split_under_a_digest_is_refused(store, test_split, make_split):
    digest = store_images(store, test_split)
    other = make_split("other", 12, seed=1)
    folder = local_folder(search_runs(store, TEST_IMAGES)[0].info.artifact_uri) / "images"
    for name in ("images.npy", "labels.npy", "subset.json"):
        (folder / name).write_bytes((store.root / "other" / name).read_bytes())
    with pytest.raises(UserError, match=f"got {other.digest[:12]}|got {other.digest}"):
        fetch_images(store, digest)


def test_pickled_arrays_are_not_opened(store, test_split):
    digest = store_images(store, test_split)
    folder = local_folder(search_runs(store, TEST_IMAGES)[0].info.artifact_uri) / "images"
    np.save(folder / "labels.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="in the registry were changed"):
        fetch_images(store, digest)


def test_images_that_are_not_there_are_told_with_the_way_out(store):
    with pytest.raises(
        UserError, match=r"000000000000 are not in the registry: run `zoo register`"
    ):
        fetch_images(store, "0" * 64)


def test_what_a_killed_process_left_is_removed_and_never_used(store, test_split, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(store.client, "log_artifacts", _killed)
        patch.setattr(store.client, "delete_run", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            store_images(store, test_split)
    digest = load_subset(test_split).info.digest
    assert [run.info.status for run in search_runs(store, TEST_IMAGES)] == ["RUNNING"]
    with pytest.raises(UserError, match="are not in the registry"):
        fetch_images(store, digest)
    store_images(store, test_split)
    assert [run.info.status for run in search_runs(store, TEST_IMAGES)] == ["FINISHED"]


def _killed(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("lost", ["images.npy", "labels.npy", ""])
def test_lost_images_come_back_to_their_run(store, test_split, lost, caplog):
    digest = store_images(store, test_split)
    [run] = search_runs(store, TEST_IMAGES)
    folder = local_folder(run.info.artifact_uri) / "images"
    if lost:
        (folder / lost).unlink()
    else:
        shutil.rmtree(folder)
    with pytest.raises(
        UserError, match=r"cannot be fetched: .*npy is missing in .*; run `zoo register` where"
    ):
        fetch_images(store, digest)
    assert store_images(store, test_split) == digest
    assert "its files were lost; restored" in caplog.text
    assert [found.info.run_id for found in search_runs(store, TEST_IMAGES)] == [run.info.run_id]
    assert len(fetch_images(store, digest)) == 12
