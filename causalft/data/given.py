"""Images given in Python (paths, PIL images, arrays, an ImageSet), with or without labels, as one `ImageSet`."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from causalft.data.containers import ArrayStore, FolderStore, ImageStore, SliceStore, list_folder
from causalft.data.formats.tar import is_tar, tar_compression, walk_tar
from causalft.data.formats.webdataset import expand_shards, shards_in
from causalft.data.formats.zip import ZipStore, list_zip
from causalft.data.image_set import ImageSet
from causalft.data.images import is_image_name, read_image, upright_rgb
from causalft.data.opening import open_images
from causalft.errors import CausalFTError, escape_name, nearest, short, unescape_name
from causalft.runs.files import parse_json, require_regular
from causalft.runs.folder import refuse_run

__all__ = ["given_images", "labelled_images", "listed_paths", "numbered_labels", "unlabelled_images"]


def unlabelled_images(
    paths: Sequence[str | os.PathLike[str]], listed: Iterable[str] | None = None
) -> ImageSet:
    """Return the images of files, folders (searched to any depth, sorted), zips and tars as one set.

    A folder of tars, or a pattern such as ``shards/{000..004}.tar``, stands for webdataset shards, of which only the
    images are used.

    The path ``"-"`` stands for the lines of ``listed`` (:func:`listed_paths`), whose files are checked on reading. The
    only class is ``unlabelled``; ``files`` are printable paths, inside a zip ``photos.zip/folder/1.jpg``.

    Raises
    ------
    CausalFTError
        For a path that is missing or neither a regular file nor a folder, a damaged zip, or no image.
    """
    files: list[str] = []
    # Runs of rows that lie in an archive; all other rows are plain files.
    archives: list[tuple[int, int, ImageStore]] = []
    notes: list[str] = []
    for path in chain.from_iterable(map(_shards_of, paths)):
        if path == "-" and listed is not None:
            files += [_meant(text) for text in listed_paths(listed)]
            continue
        place = Path(_meant(os.fspath(path)))
        if not os.fspath(path):
            raise CausalFTError("an empty path names no image; give an image, folder or zip")
        if not os.path.lexists(place):
            raise CausalFTError(f"{short(place, 300)}: no such image, folder, zip or tar")
        if place.is_dir():
            refuse_run(place)
            everything, _, left_out = list_folder(place)
            found = sorted(name for name in everything if is_image_name(name))
            if not found:
                raise CausalFTError(f"{place} holds no image; give image files, or a folder with some")
            files += [os.fspath(place / name) for name in found]
            notes += [f"{note} (in {place})" for note in left_out]
            continue
        require_regular(place)
        if not is_image_name(place.name) and is_tar(place):
            names, tar = _open_tar(place)
            archives.append((len(files), len(names), tar))
            files += [os.fspath(place / name) for name in names]
        elif _is_zip(place):
            infos = list_zip(place)[0]
            names = sorted(name for name in infos if is_image_name(name))
            if not names:
                raise CausalFTError(f"{place} holds no image; give a zip with some")
            store = ZipStore(place, tuple(infos[name] for name in names))
            archives.append((len(files), len(names), store))
            files += [os.fspath(place / name) for name in names]
        else:
            files.append(os.fspath(place))
    if not files:
        raise CausalFTError("no image given; name image files, folders or zips, or paths on standard input")
    plain = FolderStore("", tuple(files))
    rows, labels = np.arange(len(files)), np.zeros(len(files), int)
    joined = _Joined(plain, archives) if archives else plain
    shown = [escape_name(file) for file in files]
    return ImageSet(joined, rows, shown, labels, ["unlabelled"], name="unlabelled", notes=notes)


def listed_paths(lines: Iterable[str]) -> list[str]:
    """Read a list of images: one path, or one JSON object with a ``path``, per line.

    Empty lines and a byte order mark are ignored.

    Examples
    --------
    >>> listed_paths(["a b.jpg\\n", "\\n", '{"path": "c.jpg", "id": 7}\\n'])
    ['a b.jpg', 'c.jpg']
    """
    found = []
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n").removeprefix("\ufeff")
        if not text.strip():
            continue
        if text.lstrip().startswith("{"):
            path = _json_path(text, number)
            if not isinstance(path, str) or not path:
                raise CausalFTError(
                    f'line {number} of the list is not a JSON object with a string "path": {short(text, 60)}'
                )
            text = path
        if "\0" in text:
            raise CausalFTError(f"line {number} of the list holds a zero byte; give one path per line")
        found.append(text)
    return found


def _json_path(text: str, number: int) -> Any:
    try:
        found = parse_json(text, f"line {number} of the list")
    except CausalFTError:
        return None
    return found.get("path") if isinstance(found, dict) else None


def _meant(path: str) -> str:
    """A path as written, or with its escapes undone if only that exists."""
    if "\\" not in path or os.path.lexists(path):
        return path
    meant = unescape_name(path)
    return meant if os.path.lexists(meant) else path


def _shards_of(path: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    """The shards of a pattern or folder; any other path as it is."""
    text = os.fspath(path)
    if "{" in text and text.endswith(".tar") and not os.path.lexists(text):
        return list(expand_shards(text))
    if text and os.path.isdir(text):
        return list(shards_in(Path(text))) or [path]
    return [path]


def _open_tar(place: Path) -> tuple[list[str], SliceStore]:
    if (kind := tar_compression(place)) is not None:
        raise CausalFTError(
            f"{place} is compressed by {kind}, so it cannot be read in place; unpack it to a plain .tar"
        )
    members = [member for member in walk_tar(place) if member.kind == "file" and is_image_name(member.name)]
    if not members:
        raise CausalFTError(f"{place} holds no image; give a tar with some")
    names = [member.name for member in members]
    offsets, sizes = [member.offset for member in members], [member.size for member in members]
    return names, SliceStore(os.fspath(place), [os.fspath(place)], [0] * len(names), offsets, sizes, names)


def _is_zip(path: Path) -> bool:
    """A file named ``.zip``, or a zip that is not named like an image."""
    return path.suffix.lower() == ".zip" or (not is_image_name(path.name) and zipfile.is_zipfile(path))


class _Joined:
    """Plain files and archives; ``archives`` are (first row, number of rows, store)."""

    location = ""

    def __init__(self, files: FolderStore, archives: Sequence[tuple[int, int, ImageStore]]) -> None:
        n_rows = len(files.files)
        self._stores: list[ImageStore] = [files, *(store for _, _, store in archives)]
        self._which = np.zeros(n_rows, dtype=np.int32)
        self._inner: NDArray[np.int64] = np.arange(n_rows)
        for number, (first, size, _) in enumerate(archives, 1):
            self._which[first : first + size] = number
            self._inner[first : first + size] = np.arange(size)

    def _at(self, row: int) -> tuple[ImageStore, int]:
        return self._stores[self._which[row]], int(self._inner[row])

    def read(self, row: int) -> bytes:
        store, inner = self._at(row)
        return store.read(inner)

    def size(self, row: int) -> int:
        store, inner = self._at(row)
        return store.size(inner)

    def quick_key(self, row: int) -> tuple[int | bytes, ...]:
        store, inner = self._at(row)
        return store.quick_key(inner)

    def image(self, row: int) -> Image.Image:
        store, inner = self._at(row)
        return store.image(inner)


_KINDS = "paths, PIL images, arrays (H, W, 3) of uint8, or an ImageSet"


def given_images(images: Any, name: str = "images") -> ImageSet:
    """Return images without labels as one set.

    Parameters
    ----------
    images : ImageSet, path, PIL image, array, or a sequence of such
        A path is an image, or a folder or zip of images. An array of uint8 is one image (H, W), (H, W, 3) or
        (H, W, 4), or several (n, H, W, 3).
    name : str
        For messages.

    Returns
    -------
    ImageSet
        An ImageSet unchanged; anything else with the single class ``unlabelled``.

    Raises
    ------
    CausalFTError
        For anything else; the message names the item.

    Examples
    --------
    >>> given_images(np.zeros((8, 9, 3), np.uint8))
    ImageSet('images': 1 images of 1 classes, 1 to 1 per class)
    >>> len(given_images([Image.new("L", (4, 4)), np.zeros((8, 8, 3), np.uint8)]))
    2
    """
    if isinstance(images, ImageSet):
        return images
    items = _items(images, name)
    if all(_is_path(item) for item in items):
        return unlabelled_images([os.fspath(item) for item in items])
    return _set_of(items, np.zeros(len(items), dtype=np.int64), ["unlabelled"], name)


def labelled_images(
    images: Any,
    labels: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "images",
) -> tuple[ImageSet, NDArray[Any]]:
    """Return labelled images as one set, and the label of each of its classes.

    Parameters
    ----------
    images : as `given_images`
        Without ``labels``: an ImageSet, or a path for `causalft.open_images`.
    labels : (n,) array of str or int, optional
    class_names : sequence of K str, optional
        Then labels are class names, or whole numbers from 0 to K - 1. By default the classes are the sorted labels.
    name : str

    Returns
    -------
    images : ImageSet
    classes : (K,) array
        ``class_names`` if given, else the labels.

    Raises
    ------
    CausalFTError
        If the numbers of labels and images differ, a label is missing or unknown, or there is only one class.

    Examples
    --------
    >>> pixels = np.zeros((3, 8, 8, 3), np.uint8)
    >>> images, classes = labelled_images(pixels, ["otter", "lynx", "otter"])
    >>> images.class_names, images.labels.tolist(), classes.tolist()
    (('lynx', 'otter'), [1, 0, 1], ['lynx', 'otter'])
    >>> labelled_images(pixels, [2, 10, 2])[1].tolist()
    [2, 10]
    """
    if labels is None:
        found = _labelled_already(images, class_names, name)
        return found, np.asarray(found.class_names)
    items: Sequence[Any] | None = None
    if isinstance(images, ImageSet):
        n = len(images)
    else:
        items = _items(images, name)
        n = len(items)
    given = np.asarray(labels)
    if given.shape != (n,):
        raise CausalFTError(f"{n} {name} but labels of shape {given.shape}; give one label for each")
    if class_names is None:
        classes, index = _classes_of(given)
        names = [str(label) for label in classes.tolist()]
    else:
        names = _checked_names(class_names)
        classes, index = np.asarray(names), numbered_labels(given, names)
    if len(names) < 2:
        raise CausalFTError(f"all labels are {names[0]!r}; a classifier needs two classes")
    if items is None:
        chosen = images.subset(np.arange(n))
        chosen.labels, chosen.class_names = index, tuple(names)
        return chosen, classes
    return _set_of(items, index, names, name), classes


def numbered_labels(labels: ArrayLike, class_names: Sequence[Any]) -> NDArray[np.int64]:
    """Return the index of each label among the classes: by name, or for whole numbers also by position.

    Examples
    --------
    >>> numbered_labels(["otter", "lynx"], ["lynx", "otter"]).tolist(), numbered_labels([1], ["a", "b"]).tolist()
    ([1, 0], [1])
    """
    given = np.asarray(labels).ravel()
    names = [str(name) for name in class_names]
    place = {name: k for k, name in enumerate(names)}
    whole = given.dtype.kind in "iu"
    by_name = not whole or all(str(label) in place for label in np.unique(given).tolist())
    found = np.empty(len(given), dtype=np.int64)
    for row, label in enumerate(given.tolist()):
        if by_name and str(label) in place:
            found[row] = place[str(label)]
        elif not by_name and 0 <= label < len(names):
            found[row] = label
        else:
            hint = f"0 to {len(names) - 1}" if whole else nearest(str(label), names)
            raise CausalFTError(f"label {label!r} (of image {row}) is no class; {hint}")
    return found


def _labelled_already(images: Any, class_names: Sequence[str] | None, name: str) -> ImageSet:
    if isinstance(images, ImageSet):
        return images if class_names is None else images.align_classes(_checked_names(class_names))
    if _is_path(images):
        return open_images(images, class_names=class_names)
    raise CausalFTError(
        f"these {name} have no labels; give y, one label for each, or the path of a labelled set, or an ImageSet"
    )


def _classes_of(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The sorted distinct labels, and the index of each label among them."""
    if labels.dtype.kind == "f":
        broken = np.flatnonzero(~np.isfinite(labels) | (labels % 1 != 0))
        if len(broken):
            raise CausalFTError(
                f"label {labels[broken[0]]!r} (of image {broken[0]}) is no class; give texts or whole numbers"
            )
        labels = labels.astype(np.int64)
    elif labels.dtype.kind not in "iubUS":
        kinds = {type(label) for label in labels.tolist()}
        if (
            not all(issubclass(kind, (str, int, np.integer)) for kind in kinds)
            or len({issubclass(k, str) for k in kinds}) > 1
        ):
            odd = next(row for row, label in enumerate(labels.tolist()) if not isinstance(label, str))
            raise CausalFTError(
                f"label {labels[odd]!r} (of image {odd}) is no text; give texts or whole numbers"
            )
        labels = np.array(labels.tolist())
    classes, index = np.unique(labels, return_inverse=True)
    return classes, index.astype(np.int64)


def _checked_names(class_names: Sequence[str]) -> list[str]:
    names = [str(name) for name in class_names]
    if len(set(names)) < len(names):
        raise CausalFTError(f"class_names holds {next(n for n in names if names.count(n) > 1)!r} twice")
    return names


def _is_path(item: Any) -> bool:
    return isinstance(item, (str, os.PathLike))


def _items(images: Any, name: str) -> Any:
    """The images one by one."""
    if _is_path(images) or isinstance(images, (Image.Image, bytes)):
        return [images]
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUS":
        if images.ndim in (2, 3):
            return [images]
        if images.ndim != 4:
            raise CausalFTError(
                f"{name} are an array of shape {images.shape}; give (n, H, W, 3) or (H, W, 3)"
            )
        return images
    if not isinstance(images, Iterable):
        raise CausalFTError(f"{name} are {type(images).__name__}; give {_KINDS}")
    items = list(images)
    if not items:
        raise CausalFTError(f"no {name} given; give {_KINDS}")
    return items


def _set_of(
    items: Sequence[Any], labels: NDArray[np.int64], class_names: Sequence[str], name: str
) -> ImageSet:
    rows = np.arange(len(items))
    if isinstance(items, np.ndarray) and items.ndim == 4:
        if items.shape[3] == 3 and items.dtype == np.uint8:
            files = [f"{name}/{row:06d}" for row in rows]
            return ImageSet(ArrayStore(items, name), rows, files, labels, class_names, name=name)
        items = list(items)
    if all(_is_path(item) for item in items):
        files = [os.fspath(item) for item in items]
        folder = next((file for file in files if os.path.isdir(file) or not is_image_name(file)), None)
        if folder is not None and (os.path.isdir(folder) or not os.path.exists(folder)):
            what = "is a folder" if os.path.isdir(folder) else "no such file"
            raise CausalFTError(f"{folder}: {what}; with labels, give one image file for each")
        return ImageSet(
            FolderStore("", tuple(files)), rows, files, labels, class_names, name=name, format="paths"
        )
    files = [os.fspath(item) if _is_path(item) else f"{name}/{row:06d}" for row, item in enumerate(items)]
    return ImageSet(_GivenStore(items, files), rows, files, labels, class_names, name=name)


class _GivenStore:
    """Images of several kinds, in memory or as paths, converted to RGB on access."""

    location = ""

    def __init__(self, items: Sequence[Any], files: Sequence[str]) -> None:
        self._files = files
        self._items = [_checked(item, file) for item, file in zip(items, files, strict=True)]

    def image(self, row: int) -> Image.Image:
        item, name = self._items[row], self._files[row]
        if not isinstance(item, Image.Image):
            return read_image(item, name)
        try:
            item.load()
            return upright_rgb(item, name)
        except CausalFTError:
            raise
        except Exception as error:  # a lazily opened file is decoded here; decoders raise anything
            raise CausalFTError(
                f"cannot read {name}: it is damaged ({' '.join(str(error).split())})"
            ) from None

    def read(self, row: int) -> bytes:
        item = self._items[row]
        if isinstance(item, bytes):
            return item
        if isinstance(item, Image.Image):
            return self.image(row).tobytes()
        return FolderStore("", (os.fspath(item),)).read(0)

    def size(self, row: int) -> int:
        item = self._items[row]
        if isinstance(item, bytes):
            return len(item)
        if isinstance(item, Image.Image):
            return 3 * item.width * item.height
        return FolderStore("", (os.fspath(item),)).size(0)

    def quick_key(self, row: int) -> tuple[int | bytes, ...]:
        return (self.size(row),)


def _checked(item: Any, name: str) -> Any:
    """A path, bytes or a PIL image; an array becomes one."""
    if _is_path(item) or isinstance(item, (bytes, Image.Image)):
        return item
    if item is None or isinstance(item, (int, float)):
        raise CausalFTError(f"{name} is {item!r}; give {_KINDS}")
    array = np.asarray(item)
    if array.dtype != np.uint8:
        raise CausalFTError(
            f"{name} is an array of {array.dtype}; give uint8 from 0 to 255 (of numbers from 0 to 1: "
            "(255 * image).round().astype('uint8'))"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if 0 in array.shape or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise CausalFTError(f"{name} is an array of shape {array.shape}; give (H, W, 3), the channels last")
    return Image.fromarray(array)
