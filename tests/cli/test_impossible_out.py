"""A place where nothing can be written: every verb says so in one line, before it computes, and makes nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from causalft.errors import CausalFTError
from causalft.runs.folder import atomic_path, check_place, write_text
from tests.command_line import run, said
from tests.pipelines.fitted_runs import fit

VERBS = {
    "fit": "fit --strata clip --zoo ZOO --data PHOTOS --out OUT",
    "verify-confounder": "verify-confounder --quick --out OUT",
    "verify-confounder, all": "verify-confounder --design all --quick --out OUT",
    "generate": "generate --n-per-class 4 --size 16 --out OUT",
    "zoo pretrain": "zoo pretrain --jobs 1 --out OUT",
    "zoo pretrain, own": "zoo pretrain --jobs 1 --data PHOTOS --out OUT",
    "zoo pretrain-diffusion": "zoo pretrain-diffusion --out OUT",
    "experiment run": "experiment run verdict_rates --out OUT",
    "prior estimate": "prior estimate --run RUN --out OUT.csv",
    "export": "export RUN --to single-file --out OUT.safetensors",
    "card": "card RUN --out OUT.md",
    "graph show": "graph show --out OUT.svg",
    "graph design": "graph design confounded --out OUT.svg",
    "predict": "predict RUN PHOTOS --output OUT.jsonl",
    "predict, parquet": "predict RUN PHOTOS --output OUT.parquet",
    "push": "push RUN --to-folder OUT",
    "pull": "pull owner/name --to OUT",
    "weights fetch": "weights fetch clip --to OUT",
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_zoo, photos):
    return fit(tmp_path_factory.mktemp("out") / "run", tiny_zoo, photos)


def words(verb, out, fitted, tiny_zoo, photos):
    places = {"OUT": out, "RUN": fitted, "ZOO": tiny_zoo, "PHOTOS": photos}
    line = VERBS[verb].split()
    return [next((w.replace(k, str(p)) for k, p in places.items() if w.startswith(k)), w) for w in line]


def read_only(tmp_path):
    """A folder that takes no file; root may write everywhere but into the system's own views."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    for place in (folder, Path("/sys"), Path("/proc")):
        if place.is_dir():
            try:
                (place / "trial").touch()
            except OSError:
                return place
            (place / "trial").unlink()
    pytest.skip("every folder can be written here")


@pytest.mark.parametrize("verb", VERBS)
def test_a_path_below_a_file_is_one_line(verb, tmp_path, fitted, tiny_zoo, photos):
    (tmp_path / "note.txt").write_text("x")
    line = said(run(*words(verb, tmp_path / "note.txt" / "a" / "b", fitted, tiny_zoo, photos)))
    assert f"{tmp_path / 'note.txt'} is a file, not a folder; choose another " in line
    assert (tmp_path / "note.txt").read_text() == "x"


@pytest.mark.parametrize("verb", VERBS)
def test_unwritable_folder_is_refused_in_one_line(verb, tmp_path, fitted, tiny_zoo, photos):
    place = read_only(tmp_path)
    line = said(run(*words(verb, place / "a" / "b", fitted, tiny_zoo, photos)))
    assert f"no file can be made in {place} (" in line and line.endswith("; choose another place")
    assert not (place / "a").exists()


def is_pipe(path):
    return stat.S_ISFIFO(os.lstat(path).st_mode)


@pytest.mark.parametrize("verb", VERBS)
def test_special_file_is_refused_and_kept(verb, tmp_path, fitted, tiny_zoo, photos):
    """A pipe stands for a device here: root may replace either by a file, and a device is gone then."""
    given = words(verb, tmp_path / "pipe", fitted, tiny_zoo, photos)
    pipe = Path(next(word for word in given if word.startswith(str(tmp_path / "pipe"))))
    os.mkfifo(pipe)
    line = said(run(*given))
    way_out = "use - for standard output" if verb.startswith("predict") else "choose another"
    assert f"{pipe} is " in line and way_out in line
    assert is_pipe(pipe) and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("verb", [verb for verb, line in VERBS.items() if line.endswith("OUT")])
def test_links_to_a_pipe_or_nothing_are_not_folders(verb, tmp_path, fitted, tiny_zoo, photos):
    os.mkfifo(tmp_path / "pipe")
    for name, end in (("link", "pipe"), ("broken", "gone")):
        (tmp_path / name).symlink_to(tmp_path / end)
        line = said(run(*words(verb, tmp_path / name, fitted, tiny_zoo, photos)))
        assert f"{tmp_path / name} is " in line and "choose another" in line
        assert (tmp_path / name).is_symlink()
    assert is_pipe(tmp_path / "pipe") and not (tmp_path / "gone").exists()


@pytest.mark.parametrize("name", ["pipe", "pipe.jsonl"])
def test_predict_names_standard_output_before_it_asks_for_a_format(name, tmp_path, fitted, photos):
    os.mkfifo(tmp_path / name)
    line = said(run("predict", fitted, photos, "--output", tmp_path / name))
    assert line.endswith(f"{tmp_path / name} is no regular file; use - for standard output")


def test_no_writer_replaces_a_special_file(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for place in (pipe, link):
        with pytest.raises(CausalFTError, match=f"{place.name} is no regular file; choose another place"):
            check_place(place)
        with pytest.raises(CausalFTError, match=f"{place.name} is no regular file"):
            write_text(place, "x")
    with (
        pytest.raises(CausalFTError, match="is no regular file"),
        atomic_path(tmp_path / "late") as temporary,
    ):
        temporary.write_text("x")
        os.mkfifo(tmp_path / "late")
    assert is_pipe(pipe) and is_pipe(tmp_path / "late") and link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["late", "link", "pipe"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system shows no open files")
def test_link_to_an_open_file_is_kept(tmp_path):
    """What /dev/stdout is: with standard output in a file it leads to a regular one, and is itself a link."""
    with open(tmp_path / "shell.txt", "w") as shell:
        (tmp_path / "stdout").symlink_to(f"/proc/self/fd/{shell.fileno()}")
        for write in (check_place, lambda place: write_text(place, "x")):
            with pytest.raises(CausalFTError, match="stdout is no regular file"):
                write(tmp_path / "stdout")
    assert (tmp_path / "stdout").is_symlink() and (tmp_path / "shell.txt").read_text() == ""


def test_link_to_a_regular_file_is_replaced(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    check_place(tmp_path / "link")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").read_text() == "new"


def test_check_place_leaves_a_writable_place_unchanged(tmp_path):
    check_place(tmp_path / "new" / "folder" / "a.csv")
    write_text(tmp_path / "a.csv", "old")
    check_place(tmp_path / "a.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"] and (
        tmp_path / "a.csv"
    ).read_text() == "old"


def test_folders_and_links_to_nothing_are_told_apart(tmp_path):
    with pytest.raises(CausalFTError, match="is a folder; name a file in it"):
        check_place(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(CausalFTError, match="link is a link to nothing, not a folder"):
        check_place(tmp_path / "link" / "a.csv")


def test_a_full_disk_stays_a_full_disk(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(OSError, match="No space left") as caught:
        check_place(tmp_path / "a.csv")
    assert not isinstance(caught.value, CausalFTError)


def test_failed_write_names_the_target_not_the_temporary_file(tmp_path):
    place = read_only(tmp_path)
    with pytest.raises(OSError) as caught:
        write_text(place / "a.txt", "x")
    assert caught.value.filename == str(place / "a.txt")
