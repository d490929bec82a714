"""Scales: real sets on tiny folders in their layout, a zoo pre-trained once on half of the photographs."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from causalft.errors import CausalFTError
from experiments.frame.scales import get_scale
from experiments.frame.sets import SETS, get_set
from tests.command_line import run, said

KINDS = ("tench", "lynx", "crane")
COUNTS = (12, 6, 3)


def write_image(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


def write_lists(folder: Path, prefix: str, kind_folder: Any, names: list[str]) -> None:
    """Lists of Liu et al. for three classes: a long tail, two validation and two test images of each."""
    for number, (part, count) in enumerate({"train": None, "val": 2, "test": 2}.items()):
        lines = []
        for k, most in enumerate(COUNTS):
            for i in range(count or most):
                path = f"{kind_folder(part, k)}/{part}_{k}_{i}.jpg"
                write_image(folder / path, 1000 * number + 50 * k + i)
                lines.append(f"{path} {k}\n")
        (folder / f"{prefix}_{part}.txt").write_text("".join(lines))
    (folder / "classnames.txt").write_text("".join(f"{line}\n" for line in names))


def write_imagenet(folder: Path) -> None:
    ids = [f"n0000000{k}" for k in range(3)]
    write_lists(
        folder,
        "ImageNet_LT",
        lambda part, k: f"{'val' if part == 'test' else 'train'}/{ids[k]}",
        [f"{ids[k]} {name}" for k, name in enumerate(KINDS)],
    )


def write_places(folder: Path) -> None:
    names = [f"{k} {name}" for k, name in enumerate(KINDS)]
    write_lists(folder, "Places_LT", lambda part, k: f"data_256/{KINDS[k][0]}/{KINDS[k]}", names)


def write_inaturalist(folder: Path) -> None:
    for seed, (part, counts) in enumerate({"train": (12, 6, 4), "val": (2, 2, 2)}.items()):
        images, annotations = [], []
        for k, count in enumerate(counts):
            for i in range(count):
                file = f"train_val2018/Aves/{k}/{part}_{i}.jpg"
                write_image(folder / file, 500 * seed + 50 * k + i)
                images.append({"id": len(images), "file_name": file})
                annotations.append({"id": len(annotations), "image_id": len(annotations), "category_id": k})
        categories = [{"id": k, "name": str(k)} for k in range(3)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{part}2018.json").write_text(json.dumps(document))
    names = [{"id": k, "name": name} for k, name in enumerate(KINDS)]
    (folder / "categories.json").write_text(json.dumps(names))


def write_cifar(folder: Path) -> None:
    """All 100 classes, four training images and one test image of each."""
    rng, names = np.random.default_rng(0), "".join(f"thing {k}\n" for k in range(100))
    inside = folder / "made" / "cifar-100-binary"
    inside.mkdir(parents=True)
    for part, each in (("train", 4), ("test", 1)):
        labels = np.repeat(np.arange(100, dtype=np.uint8), each)
        rows = rng.integers(0, 255, (len(labels), 3072), dtype=np.uint8)
        content = np.column_stack([labels // 5, labels, rows]).astype(np.uint8)
        (inside / f"{part}.bin").write_bytes(content.tobytes())
    (inside / "fine_label_names.txt").write_text(names)
    (inside / "coarse_label_names.txt").write_text("".join(f"kind {k}\n" for k in range(20)))
    with tarfile.open(folder / "cifar-100-binary.tar.gz", "w:gz") as tar:
        tar.add(inside, "cifar-100-binary")


WRITERS = {
    "imagenet-lt": write_imagenet,
    "places-lt": write_places,
    "inaturalist": write_inaturalist,
    "cifar-100-lt": write_cifar,
}


@pytest.mark.parametrize("name", SETS)
def test_a_real_set_opens_in_its_published_layout(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    world = get_scale("full").open(False, tmp_path / "members", {"set": name, "data": str(tmp_path)})
    splits = world.splits(0)
    assert world.roles.strata == ("clip", "openclip", "metaclip")
    assert world.roles.seeds == ("clip", "clip#1", "clip#2") and world.roles.seeds_differ_in == "tuning"
    assert world.settings.tuning.epochs == (20 if name == "inaturalist" else 10)  # LIFT's rule
    assert world.described["set"] == name and SETS[name].source
    if name == "cifar-100-lt":
        counts = splits.train.class_counts
        assert counts[0] == counts.max() and counts[-1] == 1 and len(splits.test) == 100
        assert "thing 0" in splits.class_names
    else:
        assert tuple(splits.class_names) == KINDS and len(splits.test) == 6 and len(splits.validation) > 0
        assert list(splits.train.class_counts) == sorted(splits.train.class_counts, reverse=True)


def test_a_missing_file_is_named_with_its_source(tmp_path: Path) -> None:
    WRITERS["places-lt"](tmp_path)
    (tmp_path / "Places_LT_val.txt").unlink()
    options = ["--scale", "full", "--set", "places-lt", "--data", tmp_path]
    message = said(run("experiment", "run", "tab8", "--out", tmp_path / "x", *options))
    assert f"places-lt needs {tmp_path / 'Places_LT_val.txt'}: the lists of Liu et al." in message
    assert not (tmp_path / "x").exists()
    with pytest.raises(CausalFTError, match="did you mean 'places-lt'"):
        get_set("place-lt")
    assert "tab8 needs --set" in said(run("experiment", "run", "tab8", "--scale", "full", "--data", tmp_path))
    nowhere = ["--scale", "full", "--set", "places-lt", "--data", tmp_path / "none"]
    assert str(tmp_path / "none") in said(run("experiment", "run", "tab8", *nowhere))


def test_orders_along_a_prior_need_a_balanced_set(tmp_path: Path) -> None:
    from experiments.frame.members import Draw

    WRITERS["places-lt"](tmp_path)
    world = get_scale("full").open(True, tmp_path, {"set": "places-lt", "data": str(tmp_path)})
    with pytest.raises(CausalFTError, match="is long-tailed itself"):
        world.splits(0, Draw("reverse", "clip"))


def test_a_set_that_leaves_no_image_out_has_none_without_labels(tmp_path: Path) -> None:
    from experiments.frame.unlabelled import unlabelled

    WRITERS["places-lt"](tmp_path)
    world = get_scale("full").open(True, tmp_path, {"set": "places-lt", "data": str(tmp_path)})
    lab: Any = SimpleNamespace(world=world, quick=True)
    with pytest.raises(CausalFTError, match="is long-tailed itself"):
        unlabelled(lab, 0)


def test_photographs_alone_pretrain_their_zoo_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def pretrain_photos(out: Path, data: str, views: Any, *, jobs: int, say: Any, settings: Any) -> None:
        asked.append((data, views, settings.n_control_seeds))
        out.mkdir(parents=True)
        (out / "metrics.json").write_text("{}")

    # In place of the module, whose import takes seconds.
    workflow = SimpleNamespace(pretrain_photos=pretrain_photos)
    monkeypatch.setitem(sys.modules, "causalft.pipelines.workflows.zoo", workflow)  # type: ignore[arg-type]
    photo, said_lines = get_scale("photo"), []
    brought = {"data": str(tmp_path / "photos")}
    assert photo.prepare(tmp_path / "members", brought) is None and not asked
    first = photo.prepare(tmp_path / "members", brought, said_lines.append)
    again = photo.prepare(tmp_path / "members", brought, said_lines.append)
    assert first is not None and first == again == photo.prepare(tmp_path / "members", brought)
    assert Path(first["zoo"]).parent == tmp_path / "members" and first["data"] == brought["data"]
    assert len(asked) == 1 and asked[0][2] == 2 and "pre-training one on half" in said_lines[0]
    given = {**brought, "zoo": "mine"}
    assert photo.prepare(tmp_path, given) == given
    shown = run("experiment", "show", "tab8", "--scale", "photo", "--data", tmp_path, "--out", tmp_path / "x")
    assert "the first run pre-trains the zoo" in shown.stdout and len(asked) == 1
    other = photo.prepare(tmp_path / "members", {"data": str(tmp_path / "others")}, said_lines.append)
    assert other is not None and other["zoo"] != first["zoo"]
