"""Folders of weights: fetched with hashes, carried, imported completely or not at all, and verified."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file

from causalft.errors import CausalFTError
from causalft.models.strata.cards import sha256_file
from causalft.models.strata.carry import describe_names, fetch, import_file, import_folder
from causalft.models.strata.zoo import PretrainedZoo, open_zoo
from causalft.models.weights.store import StoredFile, WeightStore, expected_sha256, weights_folder
from tests.command_line import run, said


@pytest.fixture
def carried(tiny_files, known_tag, hub, tmp_path):
    """A folder with the weights of tiny-vit/made, fetched from the hub of files."""
    known_tag()
    hub["maker/tiny"] = {"open_clip_model.safetensors": tiny_files["tiny-vit"]}
    fetch(["tiny-vit/made"], to=tmp_path / "stick")
    return tmp_path / "stick"


@pytest.fixture
def other_machine(tmp_path, monkeypatch):
    """A machine without a cache and without weights."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("CAUSALFT_WEIGHTS", str(tmp_path / "elsewhere"))
    return tmp_path / "elsewhere"


def test_the_local_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("CAUSALFT_WEIGHTS", str(tmp_path / "w"))
    assert weights_folder() == tmp_path / "w"
    monkeypatch.delenv("CAUSALFT_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert weights_folder() == tmp_path / "c" / "causalft" / "weights"


def test_fetch_carry_import_load(carried, tiny_files, other_machine, no_network):
    sha256 = sha256_file(tiny_files["tiny-vit"])
    [line] = WeightStore(carried).files().values()
    assert (line.sha256, line.names, line.licence) == (sha256, ["tiny-vit/made"], "mit")
    assert (line.repository, line.revision, line.bytes) == (
        "maker/tiny",
        "abc123",
        tiny_files["tiny-vit"].stat().st_size,
    )
    with pytest.raises(CausalFTError, match="are not on this machine"):
        open_zoo("pretrained", offline=True).load("tiny-vit/made")
    [file] = import_folder(carried)
    assert file == other_machine / "maker--tiny" / "open_clip_model.safetensors"
    shutil.rmtree(carried)
    assert open_zoo("pretrained", offline=True).load("tiny-vit/made").sha256 == sha256
    [row] = describe_names(["tiny-vit/made"], PretrainedZoo())
    assert (row.here, row.sha256, row.licence) == ("folder", sha256, "mit")


def test_carried_folder_can_be_used_in_place(carried, other_machine, no_network):
    assert PretrainedZoo(offline=True, folder=carried).load("tiny-vit/made").image_size == 16


def test_a_fetch_is_not_repeated_for_what_is_in_the_folder(carried, hub, other_machine):
    hub.asked.clear()
    before = (carried / "manifest.json").read_bytes()
    lines: list[str] = []
    fetch(["tiny-vit/made"], to=carried, say=lines.append)
    assert hub.asked == [] and (carried / "manifest.json").read_bytes() == before
    assert "it was in the folder already" in lines[0]


def test_a_tokenizer_travels_with_the_weights(
    tiny_files, known_tag, hub, words_tokenizer, tmp_path, other_machine, no_network, monkeypatch
):
    known_tag("tiny-sigmoid", hf_hub="maker/sigmoid/")
    hub["maker/sigmoid"] = {"open_clip_model.safetensors": tiny_files["tiny-sigmoid"]}
    hub["maker/tiny-words"] = words_tokenizer
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda r, f: hub_download(hub, r, f))
    fetch(["tiny-sigmoid/made"], to=tmp_path / "stick")
    import_folder(tmp_path / "stick")
    shutil.rmtree(tmp_path / "stick")
    stratum = open_zoo("pretrained", offline=True).load("tiny-sigmoid/made")
    assert stratum.text_features(["cat"]).shape == (1, 64)


def hub_download(hub, repository, filename):
    """The file itself, without a cache."""
    if filename not in hub[repository]:
        raise EntryNotFoundError("404")
    return str(hub[repository][filename])


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_damaged_folder_is_not_imported(carried, other_machine, damage):
    file = carried / "maker--tiny" / "open_clip_model.safetensors"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(
        CausalFTError, match="lacks maker--tiny" if damage == "gone" else "changed or cut short"
    ):
        import_folder(carried)
    assert not other_machine.exists() or not [p for p in other_machine.rglob("*") if p.is_file()]
    # and it can be carried again
    file.write_bytes(content)
    assert import_folder(carried)


def test_broken_import_resumes(carried, other_machine, tmp_path):
    second = tmp_path / "second.safetensors"
    save_file({"x": torch.zeros(1)}, second)
    lines = WeightStore(carried).files()
    [line] = lines.values()
    shutil.copy(second, carried / "maker--tiny" / "z.safetensors")
    lines["maker--tiny/z.safetensors"] = replace(line, sha256="0" * 64, names=[])
    WeightStore(carried).write(lines)
    with pytest.raises(CausalFTError, match=r"z\.safetensors is not the file of its manifest"):
        import_folder(carried)
    lines["maker--tiny/z.safetensors"] = replace(line, sha256=sha256_file(second), names=[])
    WeightStore(carried).write(lines)
    spoken: list[str] = []
    import_folder(carried, say=spoken.append)
    assert ["it was here already" in text for text in spoken] == [True, False]
    assert set(WeightStore().files()) == set(lines)


@pytest.mark.parametrize(
    "place", ["../outside/w.safetensors", "/tmp/w.safetensors", "w.safetensors", "a\\..\\b/w"]
)
def test_a_manifest_cannot_name_a_place_outside_its_folder(carried, other_machine, place):
    found = json.loads((carried / "manifest.json").read_text())
    [line] = found["files"].values()
    (carried / "manifest.json").write_text(json.dumps(found | {"files": {place: line}}))
    with pytest.raises(CausalFTError, match="is not a place in this folder"):
        import_folder(carried)


@pytest.mark.parametrize(
    "content", ['{"files": {}}', "[1]", '{"format": "causalft weights 1", "files": {"a/b": 3}}']
)
def test_another_manifest_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CausalFTError, match="is not a manifest of weights|files.a/b is 3, not an object"):
        WeightStore(tmp_path).files()


def test_a_manifest_beside_a_given_file_is_believed(carried, tiny_files):
    file = carried / "maker--tiny" / "open_clip_model.safetensors"
    assert expected_sha256(file) == (sha256_file(tiny_files["tiny-vit"]), "its manifest")
    tensors = load_file(file)
    tensors["logit_scale"] += 1
    save_file(tensors, file)
    with pytest.raises(CausalFTError, match="but its manifest says"):
        PretrainedZoo({"tiny-vit/made": file}).load("tiny-vit/made")


def test_one_file_is_imported_for_a_name_of_ones_own(tiny_files, other_machine, no_network):
    file = import_file(tiny_files["tiny-vit"], "tiny-vit/my-own")
    assert file.read_bytes() == tiny_files["tiny-vit"].read_bytes()
    stratum = open_zoo("pretrained", offline=True).load("tiny-vit/my-own")
    assert stratum.sha256 == sha256_file(tiny_files["tiny-vit"])
    with pytest.raises(CausalFTError, match="do not fit tiny-wide: "):
        import_file(tiny_files["tiny-vit"], "tiny-wide/my-own")
    assert list(WeightStore().files()) == ["imported/tiny-vit--my-own/weights.safetensors"]


def test_the_tensors_of_a_pickle_are_kept_as_safetensors(tiny_files, other_machine, tmp_path):
    tensors = load_file(tiny_files["tiny-vit"])
    torch.save(
        {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}, tmp_path / "epoch_1.pt"
    )
    with pytest.raises(CausalFTError, match="is a pickle"):
        import_file(tmp_path / "epoch_1.pt", "tiny-vit/trained")
    file = import_file(tmp_path / "epoch_1.pt", "tiny-vit/trained", allow_pickle=True)
    found = load_file(file)
    assert found.keys() == tensors.keys() and all(torch.equal(found[k], tensors[k]) for k in tensors)
    [line] = WeightStore().files().values()
    assert line.converted_from == sha256_file(tmp_path / "epoch_1.pt") != line.sha256 == sha256_file(file)
    assert open_zoo("pretrained", offline=True).load("tiny-vit/trained").sha256 == line.sha256


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_fetches_checks_imports_and_lists(tiny_files, known_tag, hub, tmp_path, other_machine):
    known_tag()
    hub["maker/tiny"] = {"open_clip_model.safetensors": tiny_files["tiny-vit"]}
    sha256 = sha256_file(tiny_files["tiny-vit"])
    [row] = json.loads(run("weights", "list", "tiny-vit/made", "--json").stdout)
    assert row["here"] == "no" and row["repository"] == "maker/tiny" and row["sha256"] is None
    fetched = run("weights", "fetch", "tiny-vit/made", "--to", tmp_path / "stick")
    assert fetched.exit_code == 0 and "causalft weights import" in fetched.output
    [row] = json.loads(run("weights", "check", tmp_path / "stick", "--json").stdout)
    assert row == {"name": "maker--tiny/open_clip_model.safetensors", "sha256": sha256, "problem": ""}
    imported = json.loads(run("weights", "import", tmp_path / "stick", "--json").stdout)
    assert imported["folder"] == str(other_machine)
    for place in ([], ["tiny-vit/made"], [other_machine]):
        [row] = json.loads(run("weights", "check", *place, "--json").stdout)
        assert row["sha256"] == sha256 and row["problem"] == ""
    listed = json.loads(run("weights", "list", "--json").stdout)
    assert [row["name"] for row in listed] == ["clip", "openclip", "metaclip", "tiny-vit/made"]
    assert [row["here"] for row in listed] == ["no", "no", "no", "folder"]
    assert sha256[:12] in run("weights", "list", "tiny-vit/made").output
    patterns = json.loads(run("weights", "list", "ViT-L-14/datacomp*", "timm:test_vit.*", "--json").stdout)
    assert [row["name"] for row in patterns] == ["ViT-L-14/datacomp_xl_s13b_b90k", "timm:test_vit.r160_in1k"]


def test_the_command_finds_what_is_wrong(carried, tiny_files, other_machine, known_tag, tmp_path):
    file = carried / "maker--tiny" / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    result = run("weights", "check", carried, "--json")
    [row] = json.loads(result.stdout)
    assert "it was changed or cut short" in row["problem"]
    assert "1 of 1 are not as they should be; maker--tiny/open_clip_model.safetensors" in said(result)
    # The hash is right, but the weights are of another architecture.
    shutil.copy(tiny_files["tiny-wide"], file)
    [line] = WeightStore(carried).files().values()
    WeightStore(carried).write(
        {"maker--tiny/open_clip_model.safetensors": replace(line, sha256=sha256_file(file))}
    )
    assert "do not fit tiny-vit: " in said(run("weights", "check", carried))
    lost = run("weights", "check", "tiny-vit/made")
    assert "are not on this machine" in said(lost)
    assert " ".join(lost.output.split()).count("are not on this machine") == 1  # not in a table as well


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "clop"], "did you mean 'clip'"),
        (["list", "ViT-Z*"], "no weights match 'ViT-Z*'"),
        (["fetch", "clop"], "did you mean 'clip'"),
        (["fetch", "clip", "--to", "FILE"], "is a file, not a folder; choose another place"),
        (["check"], "has no manifest of weights"),
        (["check", "EMPTY"], "has no manifest of weights"),
        (["check", "clop"], "did you mean 'clip'"),
        (["import", "nowhere"], "nowhere does not exist"),
        (
            ["import", "EMPTY"],
            "has no manifest of weights; `causalft weights fetch NAME --to FOLDER` writes one",
        ),
        (["import", "FILE"], "say what it holds with --name NAME"),
        (["import", "EMPTY", "--name", "clip"], "--name goes with a FILE"),
        (["import", "FILE", "--name", "clip"], "is not a file of weights"),
        (["import", "PICKLES"], "is a pickle, which can run code when it is read; pass --allow-pickle"),
    ],
)
def test_command_errors_are_one_line(arguments, message, empty_places, tmp_path):
    (tmp_path / "FILE").write_bytes(b"something")
    (tmp_path / "EMPTY").mkdir()
    store = WeightStore(tmp_path / "PICKLES")
    (tmp_path / "PICKLES" / "maker--tiny").mkdir(parents=True)
    torch.save({}, tmp_path / "PICKLES" / "maker--tiny" / "w.bin")
    store.write({"maker--tiny/w.bin": StoredFile("maker/tiny", "w.bin", "", "0" * 64, 1, [])})
    places = {word: tmp_path / word for word in ("FILE", "EMPTY", "PICKLES", "nowhere")}
    assert message in said(run("weights", *(places.get(word, word) for word in arguments)))


def test_fetching_where_the_hub_is_forbidden_says_so(tmp_path, empty_places, monkeypatch, no_network):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    line = said(run("weights", "fetch", "clip", "--to", tmp_path / "stick"))
    assert "HF_HUB_OFFLINE is set" in line and "timm/vit_base_patch16_clip_224.openai" in line


@pytest.mark.slow
def test_a_tokenizer_is_read_without_the_network_where_nothing_forbids_it(words_tokenizer):
    """In a fresh process without the switches of the test suite; a connection would end it."""
    folder = words_tokenizer["tokenizer.json"].parent
    code = f"""
import socket
def refuse(*arguments, **_): raise SystemExit(f"asked the network for {{arguments}}")
socket.socket.connect = socket.getaddrinfo = refuse
from causalft.models.weights.libraries import HubTokenizer
from causalft.models.weights import WeightName
from pathlib import Path
what = WeightName("x/y", "open_clip", "x", "y", tokenizer_repository="maker/tiny-words")
tokenizer = HubTokenizer(what, {{"context_length": 4}}, lambda repository, name: Path({str(folder)!r}))
print(tokenizer(["a cat"]).tolist())
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[[2, 5, 0, 0]]"
