"""A run in hub layout: it predicts the same after push and pull; what was changed, unsafe or private does not pass."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import errors
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors import safe_open
from safetensors.numpy import save_file

from causalft.data.opening import open_images
from causalft.methods.estimators.strata import StrataClassifier
from causalft.models.tuning.towers import open_tower
from causalft.models.tuning.tuners import apply_tuner
from causalft.models.tuning.tuners.adapters import bottleneck_width
from causalft.pipelines.hub import ADAPTER_BYTES, MANIFEST
from causalft.runs.folder import Run, read_json
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("hub") / "run", tiny_zoo, photos)


@pytest.fixture(scope="module")
def shared(fitted, tmp_path_factory):
    """The run in hub layout."""
    folder = tmp_path_factory.mktemp("shared") / "layout"
    result = run("push", fitted, "--to-folder", folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def copy(shared, tmp_path):
    return shutil.copytree(shared, tmp_path / "copy")


# --- the way there and back --------------------------------------------------------------------------------------


def test_a_pulled_run_predicts_the_same_without_the_zoo_it_came_from(
    fitted, shared, tmp_path, photos, tiny_zoo, monkeypatch
):
    wanted = StrataClassifier.load(fitted, device="cpu", progress=False).predict_proba(open_images(photos))
    result = run("pull", shared, "--to", tmp_path / "pulled")
    assert result.exit_code == 0 and "clip, openclip, 4 classes" in result.stdout
    assert Run.open(tmp_path / "pulled").config["zoo"] == str(tmp_path / "pulled" / "zoo")
    found = StrataClassifier.load(tmp_path / "pulled", device="cpu", progress=False)
    assert np.array_equal(found.predict_proba(open_images(photos)), wanted)


def test_shared_files_suffice_to_predict_and_hold_nothing_private(shared, fitted, photos, tiny_zoo):
    names = {path.relative_to(shared).as_posix() for path in shared.rglob("*") if path.is_file()}
    tuned = {f"strata/{n}/{f}.safetensors" for n in ("clip", "openclip") for f in ("adapter", "head")}
    zoo = {f"zoo/{n}.{end}" for n in ("clip", "openclip") for end in ("json", "safetensors")}
    assert names >= {"README.md", "config.json", "metrics.json", "report.html", MANIFEST} | tuned | zoo
    assert not [name for name in names if "predictions" in name or "/." in name]
    listed = read_json(shared / MANIFEST)["files"]
    assert set(listed) == names - {"README.md", MANIFEST}
    for path in shared.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for private in (photos, tiny_zoo, fitted):
                assert str(private.parent).encode() not in content, path
    assert read_json(shared / "config.json")["config"]["data"] == photos.name
    own, sent = ((folder / "report.html").read_text() for folder in (fitted, shared))
    assert "data:image/jpeg" in own and "data:image/jpeg" not in sent and "Which of my classes?" in sent


def test_the_images_can_be_named_so_that_evaluate_scores_the_test_split(shared, fitted, photos, tmp_path):
    run("pull", shared, "--to", tmp_path / "pulled", "--data", photos)
    found = json.loads(run("evaluate", tmp_path / "pulled", "--data", photos, "--json").stdout)
    assert found["n_test"] == 16  # four a class, and not the training images
    assert found["fused"]["accuracy"] == pytest.approx(
        read_json(fitted / "metrics.json")["fused"]["accuracy"]
    )


def test_run_with_an_edited_card_is_pulled(copy, tmp_path):
    (copy / "README.md").write_text("# Mine")
    assert run("pull", copy, "--to", tmp_path / "pulled").exit_code == 0
    assert (tmp_path / "pulled" / "README.md").read_text() == "# Mine"


# --- what does not pass ------------------------------------------------------------------------------------------


def flip_a_byte(folder):
    path = folder / "strata" / "clip" / "head.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def add_pickle(folder):
    (folder / "pytorch_model.bin").write_bytes(b"x")


def hide_pickle(folder):
    path = folder / "strata" / "clip" / "head.safetensors"
    path.write_bytes(b"\x80\x04" + path.read_bytes())


def drop_file(folder):
    (folder / "strata" / "clip" / "adapter.safetensors").unlink()


def drop_manifest(folder):
    (folder / MANIFEST).unlink()


def manifest(change):
    def spoil(folder):
        document = read_json(folder / MANIFEST)
        change(document)
        (folder / MANIFEST).write_text(json.dumps(document))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (flip_a_byte, "head.safetensors is not the file of the manifest"),
        (add_pickle, "holds a pickle (pytorch_model.bin)"),
        (hide_pickle, "head.safetensors is a pickle in disguise"),
        (drop_file, "adapter.safetensors is missing"),
        (drop_manifest, "no run in hub layout"),
        (
            manifest(lambda d: d["files"].update({"../x.json": {}})),
            "'../x.json', which is outside the folder",
        ),
        (manifest(lambda d: d["files"].update({"/etc/x": {}})), "which is outside the folder"),
        (manifest(lambda d: d.update(format=2)), "does not list the files of a run"),
        (manifest(lambda d: d["files"].pop("metrics.json")), "does not list the files of a run"),
    ],
)
def test_changed_or_unsafe_runs_are_refused(copy, tmp_path, spoil, message):
    spoil(copy)
    assert message in said(run("pull", copy, "--to", tmp_path / "pulled"))
    assert not (tmp_path / "pulled").exists() and {p.name for p in tmp_path.iterdir()} == {"copy"}


def test_unlisted_file_is_not_installed(copy, tmp_path):
    (copy / "extra.py").write_text("import os")
    assert run("pull", copy, "--to", tmp_path / "pulled").exit_code == 0
    assert not (tmp_path / "pulled" / "extra.py").exists()


def relist(folder, name):
    """Make the manifest whole again after a file was changed: what an attacker would do."""
    document = read_json(folder / MANIFEST)
    content = (folder / name).read_bytes()
    document["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / MANIFEST).write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("strata/clip/head.safetensors", b"\x80\x04\x95pickle", "is a pickle in disguise"),
        ("strata/clip/head.safetensors", b"(lp0\nI1\na.", "is no safetensors file"),
        ("strata/clip/head.safetensors", b"", "is empty"),
        ("zoo/clip.safetensors", b"<html>", "is a web page"),
        ("figures/groups.png", b"<script>alert(1)</script>", "is no PNG image"),
        ("metrics.json", b"[]", "it holds no object"),
        ("config.json", b'{"kind": "fit", "config": {"strata": 3}}', "config.json"),
        ("strata/clip/run.py", b"import os", "which is no file of a run"),
        ("figures/a.svg", b"<svg/>", "which is no file of a run"),
    ],
)
def test_listed_file_of_an_unknown_kind_is_refused(copy, tmp_path, name, content, message):
    (copy / name).write_bytes(content)
    relist(copy, name)
    assert message in said(run("pull", copy, "--to", tmp_path / "pulled"))
    assert {p.name for p in tmp_path.iterdir()} == {"copy"}


@pytest.mark.parametrize("name", ["config.json", "strata/clip/head.safetensors", "README.md", "strata/clip"])
def test_a_link_out_of_the_folder_is_not_followed(copy, tmp_path, name):
    (tmp_path / "secret").mkdir()
    elsewhere = shutil.move(copy / name, tmp_path / "secret" / "there")
    (copy / name).symlink_to(elsewhere)
    assert "is a link that leads out of the folder" in said(run("pull", copy, "--to", tmp_path / "pulled"))
    assert not (tmp_path / "pulled").exists()


def test_the_page_of_another_machine_is_not_installed(copy, tmp_path):
    (copy / "report.html").write_text("<script>alert(1)</script>")
    result = run("pull", copy, "--to", tmp_path / "pulled")
    assert result.exit_code == 0 and "report.html is not installed" in result.stdout
    assert not list((tmp_path / "pulled").rglob("*.html"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "head.safetensors is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4]), "head.safetensors is damaged or cut short"),
        (lambda path: path.write_bytes(b"\x80\x04\x95pickle"), "head.safetensors is a pickle in disguise"),
        (
            lambda path: save_file({"weight": np.ones((3, 4), np.float32)}, path),
            "the head is not one of 4 classes",
        ),
        (
            lambda path: save_file({"weight": np.full((4, 4), np.nan, np.float32)}, path),
            "weight holds a number that is",
        ),
        (
            lambda path: shutil.copy(path, path.with_name("adapter.safetensors")),
            "belongs to another backbone",
        ),
    ],
)
def test_push_opens_every_tuned_file_first(fitted, tmp_path, spoil, message):
    run_folder = shutil.copytree(fitted, tmp_path / "run")
    spoil(run_folder / "strata" / "clip" / "head.safetensors")
    assert message in said(run("push", run_folder, "--to-folder", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_options_of_push_that_would_do_nothing_are_refused(fitted, tmp_path):
    assert "not both" in said(run("push", fitted, "me/x", "--to-folder", tmp_path / "x"))
    assert "are of a repository" in said(run("push", fitted, "--dry-run", "--private"))


def test_mistakes_are_one_line(fitted, shared, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("")
    assert "not an empty folder" in said(run("push", fitted, "--to-folder", tmp_path / "full"))
    assert "not an empty folder" in said(run("pull", shared, "--to", tmp_path / "full"))
    assert "say where to" in said(run("push", fitted))
    assert "no name on the hub" in said(run("push", fitted, "just-a-name"))
    assert "leave them out with --to-folder" in said(
        run("push", fitted, "--to-folder", tmp_path / "x", "--private")
    )
    assert "for a new repository" in said(run("push", fitted, "me/run", "--private", "--update"))
    assert "neither a folder nor OWNER/NAME" in said(run("pull", "gone", "--to", tmp_path / "x"))
    assert "--revision goes with OWNER/NAME" in said(
        run("pull", shared, "--to", tmp_path / "x", "--revision", "v1")
    )
    assert "the run's strata are" in said(run("pull", shared, "--to", tmp_path / "x", "--weights", "clap=x"))
    assert "no such run folder" in said(run("push", tmp_path / "gone", "me/run"))


# --- the network, played by a stand-in ---------------------------------------------------------------------------


class FakeHub:
    """Keeps what is uploaded in a folder, and raises what it is told to."""

    def __init__(self, folder, error=None):
        self.folder, self.error, self.calls = folder, error, []

    def create_repo(self, repo_id, **options):
        self.calls.append(("create_repo", repo_id, options))
        if self.error:
            raise self.error

    def upload_folder(self, *, repo_id, folder_path, **options):
        self.calls.append(("upload_folder", repo_id, options))
        shutil.copytree(folder_path, self.folder)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    def list_repo_files(self, repo_id, **options):
        if self.error:
            raise self.error
        return [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]

    def snapshot_download(self, repo_id, **options):
        self.calls.append(("snapshot_download", repo_id, options))
        return str(self.folder)


def test_push_and_pull_through_the_hub(fitted, photos, tmp_path, monkeypatch):
    hub = FakeHub(tmp_path / "remote")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    result = run("push", fitted, "me/photos", "--private", "--json")
    sent = json.loads(result.stdout)
    assert sent["to"] == "https://hub/me/photos/commit/1"
    assert hub.calls[0] == (
        "create_repo",
        "me/photos",
        {"private": True, "exist_ok": False, "repo_type": "model"},
    )
    assert {p.relative_to(hub.folder).as_posix() for p in hub.folder.rglob("*") if p.is_file()} == set(
        sent["files"]
    )
    assert "causalft pull me/photos --to photos" in (hub.folder / "README.md").read_text()
    assert run("pull", "me/photos", "--to", tmp_path / "pulled", "--revision", "v1").exit_code == 0
    assert hub.calls[-1][0] == "snapshot_download" and hub.calls[-1][2]["revision"] == "v1"
    shown = run("predict", tmp_path / "pulled", photos / "ant" / "000.png", "--json")
    assert shown.stdout == run("predict", fitted, photos / "ant" / "000.png", "--json").stdout


def test_a_repository_with_a_pickle_is_not_fetched(shared, tmp_path, monkeypatch):
    hub = FakeHub(shutil.copytree(shared, tmp_path / "remote"))
    (hub.folder / "strata" / "clip" / "adapter.pt").write_bytes(b"x")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    assert "holds a pickle (strata/clip/adapter.pt)" in said(run("pull", "me/x", "--to", tmp_path / "pulled"))
    assert not hub.calls


def test_a_dry_run_lists_and_sends_nothing(fitted, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: pytest.fail("the hub was asked"))
    shown = run("push", fitted, "me/photos", "--dry-run")
    assert shown.exit_code == 0 and "strata/clip/adapter.safetensors" in shown.stdout
    assert "nothing was sent" in shown.stdout


def refused(status, kind=errors.HfHubHTTPError):
    answer = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind("refused", response=answer)


@pytest.mark.parametrize(
    ("verb", "error", "message"),
    [
        ("push", refused(401), "run `hf auth login`, or set HF_TOKEN"),
        ("push", errors.LocalTokenNotFoundError("no token"), "run `hf auth login`, or set HF_TOKEN"),
        ("push", refused(403), "the token may not write to me/x"),
        ("push", refused(409), "me/x exists already; pass --update"),
        ("push", refused(500), "the hub refused to push me/x"),
        ("push", errors.OfflineModeIsEnabled("off"), "HF_HUB_OFFLINE"),
        (
            "push",
            ConnectionError("no route"),
            "cannot be reached (no route); try again later, or use --to-folder",
        ),
        ("push", errors.HFValidationError("bad"), "'me/x' is no name on the hub"),
        (
            "pull",
            refused(404, errors.RepositoryNotFoundError),
            "no repository me/x on the hub, or it is private",
        ),
        ("pull", refused(403, errors.GatedRepoError), "me/x is gated"),
        ("pull", refused(404, errors.RevisionNotFoundError), "has no such revision"),
        ("pull", ConnectionError(), "cannot be reached (ConnectionError)"),
    ],
)
def test_errors_of_the_hub_are_one_line(fitted, tmp_path, monkeypatch, verb, error, message):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: FakeHub(tmp_path / "remote", error))
    words = ["push", fitted, "me/x"] if verb == "push" else ["pull", "me/x", "--to", tmp_path / "pulled"]
    assert message in said(run(*words))


def test_the_retries_of_the_client_are_not_shown(fitted, tmp_path, monkeypatch):
    """One line for a hub that cannot be reached, not one for each time it was asked; and then as loud as before."""
    seen = []

    class Unreachable:
        def list_repo_files(self, *_, **__):
            seen.append(huggingface_hub.utils.logging.get_verbosity())
            raise ConnectionError("no route")

    before = huggingface_hub.utils.logging.get_verbosity()
    monkeypatch.setattr(huggingface_hub, "HfApi", Unreachable)
    assert "cannot be reached" in said(run("pull", "me/x", "--to", tmp_path / "pulled"))
    assert seen == [logging.ERROR] and huggingface_hub.utils.logging.get_verbosity() == before


# --- small enough to share ---------------------------------------------------------------------------------------


def vit_b_16():
    """The image tower of CLIP ViT-B/16, without numbers in it."""
    text = CLIPTextCfg(context_length=8, vocab_size=20, width=16, heads=2, layers=1)
    vision = CLIPVisionCfg(image_size=224, patch_size=16, width=768, layers=12)
    with torch.device("meta"):
        return open_tower(CLIP(512, vision, text).visual)


@pytest.mark.parametrize(
    ("tuner", "n_classes", "megabytes"),
    [
        ("adaptformer", 1000, 2.40),  # 12 blocks of 2 * 768 * 32 + 32 + 768 numbers
        ("adaptformer", 365, 0.627),
        ("adaptformer", 8142, 18.9),
        ("lora", 1000, 7.08),
        ("bias", 1000, 0.41),
        ("vpt-deep", 1000, 0.369),
        ("last-1", 1000, 28.4),
    ],
)
def test_tuned_files_of_vit_b_16_are_under_ten_megabytes(tuner, n_classes, megabytes):
    tuned = apply_tuner(vit_b_16(), tuner, bottleneck=bottleneck_width(n_classes, 12), seed=0)
    n_bytes = 4 * tuned.n_parameters
    assert n_bytes / 1e6 == pytest.approx(megabytes, rel=0.01)
    assert (n_bytes < ADAPTER_BYTES) == (megabytes < 10)


def test_stratum_above_ten_megabytes_is_refused_with_a_hint(fitted, tmp_path):
    heavy = shutil.copytree(fitted, tmp_path / "run")
    adapter = heavy / "strata" / "openclip" / "adapter.safetensors"
    with safe_open(adapter, framework="np") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({**tensors, "more": np.zeros(ADAPTER_BYTES // 4, np.float32)}, adapter, about)
    line = said(run("push", heavy, "--dry-run"))
    assert "what was tuned of 'openclip' is 10.0 MB, above 10 MB" in line and "--allow-large" in line
    assert run("push", heavy, "--dry-run", "--allow-large").exit_code == 0
    shutil.rmtree(heavy / "strata" / "clip")
    assert "adapter.safetensors is missing; fit it again" in said(run("push", heavy, "--dry-run"))
