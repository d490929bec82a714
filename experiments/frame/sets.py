"""The real long-tailed sets of the paper and of its field: what must lie in the folder, and how it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError, nearest

if TYPE_CHECKING:
    from causalft.methods.estimators.settings import FitSettings

__all__ = ["SETS", "RealSet", "get_set"]

_LISTS = "the lists of Liu et al. (CVPR 2019), https://github.com/zhmiao/OpenLongTailRecognition-OLTR"
_INATURALIST = "https://github.com/visipedia/inat_comp/tree/master/2018"
_NAMES = "one line per class, WordNet id or number and name, as https://github.com/shijxcs/LIFT has it"


@dataclass(frozen=True)
class RealSet:
    """A set of images that is brought by the user.

    Attributes
    ----------
    name : str
    n_classes : int
        Of the complete set; decides the epochs of the recipe.
    files : mapping of str to str
        What must lie in the folder, and where it comes from.
    data : tuple of str
        Files or folder to open, relative to the folder.
    options : mapping of str to str
        Of :class:`causalft.data.settings.DataOptions`; a ``.`` and names in ``files`` become paths in the folder.
    split_as : mapping of str to str
    imbalance_factor : float, optional
        A balanced set is drawn to it, in the order of its classes.
    source : str
        Cited.
    """

    name: str
    n_classes: int
    files: Mapping[str, str]
    data: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    split_as: Mapping[str, str] = field(default_factory=dict)
    imbalance_factor: float | None = None
    source: str = ""

    def settings(self, folder: str, quick: bool, **zoo: Any) -> FitSettings:
        """Settings of a fit on the images in a folder, by LIFT's recipe.

        Parameters
        ----------
        folder : path
        quick : bool
            One epoch.
        **zoo
            ``strata``, ``weights``, ``offline`` of FitSettings.

        Raises
        ------
        CausalFTError
            If a file is missing: which, and where it comes from.
        """
        from dataclasses import replace

        from causalft.methods.adaptation.presets import preset
        from causalft.methods.estimators.settings import FitSettings

        place = Path(folder).expanduser().absolute()
        if not place.is_dir():
            raise CausalFTError(
                f"{folder}: no such folder; {self.name} needs one with {', '.join(self.files)}"
            )
        for name, source in self.files.items():
            if not (place / name).exists():
                raise CausalFTError(f"{self.name} needs {place / name}: {source}")
        options: dict[str, Any] = {
            key: str(place / value) if value in self.files else str(place) if value == "." else value
            for key, value in self.options.items()
        }
        if self.split_as:
            options["split_as"] = dict(self.split_as)
        tuning = preset("lift", self.n_classes)
        return FitSettings(
            data=",".join(str(place / name) for name in self.data),
            data_options=options,
            zoo="pretrained",
            imbalance_factor=self.imbalance_factor,
            order="class",
            control="seeds",
            tuning=replace(tuning, epochs=1) if quick else tuning,
            **zoo,
        ).absolute()


SETS = {
    each.name: each
    for each in (
        RealSet(
            name="imagenet-lt",
            n_classes=1000,
            files={
                "ImageNet_LT_train.txt": _LISTS,
                "ImageNet_LT_val.txt": _LISTS,
                "ImageNet_LT_test.txt": _LISTS,
                "classnames.txt": _NAMES,
                "train": "ILSVRC 2012, https://image-net.org, one folder per WordNet id",
                "val": "ILSVRC 2012, https://image-net.org",
            },
            data=("ImageNet_LT_train.txt", "ImageNet_LT_val.txt", "ImageNet_LT_test.txt"),
            options={"root": ".", "class_names": "classnames.txt"},
            source="Liu et al., Large-scale long-tailed recognition in an open world, CVPR 2019",
        ),
        RealSet(
            name="places-lt",
            n_classes=365,
            files={
                "Places_LT_train.txt": _LISTS,
                "Places_LT_val.txt": _LISTS,
                "Places_LT_test.txt": _LISTS,
                "classnames.txt": "one line per class, number or folder and name, as https://github.com/shijxcs/LIFT "
                "has it",
            },
            data=("Places_LT_train.txt", "Places_LT_val.txt", "Places_LT_test.txt"),
            options={"root": ".", "class_names": "classnames.txt"},
            source="Liu et al., CVPR 2019; images of Zhou et al., Places, TPAMI 2018, http://places2.csail.mit.edu",
        ),
        RealSet(
            name="inaturalist",
            n_classes=8142,
            files={
                "train2018.json": _INATURALIST,
                "val2018.json": _INATURALIST,
                "categories.json": _INATURALIST,
            },
            data=("train2018.json", "val2018.json"),
            options={"root": ".", "class_names": "categories.json"},
            split_as={"validation": "test"},  # the labels of its test images are not public
            source="Van Horn et al., The iNaturalist species classification and detection dataset, CVPR 2018",
        ),
        RealSet(
            name="cifar-100-lt",
            n_classes=100,
            files={"cifar-100-binary.tar.gz": "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"},
            data=("cifar-100-binary.tar.gz",),
            imbalance_factor=100.0,
            source="Krizhevsky 2009; long tail of Cao et al., LDAM, NeurIPS 2019",
        ),
    )
}


def get_set(name: str) -> RealSet:
    """Return a set; an unknown name raises a :class:`CausalFTError` with the nearest names."""
    if name not in SETS:
        raise CausalFTError(f"no set is named {name!r}; {nearest(name, SETS)}")
    return SETS[name]
