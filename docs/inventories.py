"""Links to the documentation of other libraries: small inventories, written in each build, so that it needs no network.

An inventory maps the name of an object to its page. Those that libraries publish would have to be downloaded; here are
the names that these pages and docstrings use. A new name is one line; one that is missing stays plain text.
"""

from __future__ import annotations

import zlib
from pathlib import Path

__all__ = ["LIBRARIES", "mapping", "write"]

# ``$`` is the name of the object.
SKLEARN = "modules/generated/$.html#$"

LIBRARIES: dict[str, tuple[str, dict[str, dict[str, str]]]] = {
    "python": (
        "https://docs.python.org/3/",
        {"class": {"pathlib.Path": "library/pathlib.html#$"}},
    ),
    "numpy": (
        "https://numpy.org/doc/stable/",
        {
            "class": {
                "numpy.ndarray": "reference/generated/$.html#$",
                "numpy.random.Generator": "reference/random/generator.html#$",
            }
        },
    ),
    "pandas": (
        "https://pandas.pydata.org/docs/",
        {"class": {"pandas.DataFrame": "reference/api/$.html#$"}},
    ),
    "pillow": (
        "https://pillow.readthedocs.io/en/stable/",
        {"class": {"PIL.Image.Image": "reference/Image.html#$"}},
    ),
    "matplotlib": (
        "https://matplotlib.org/stable/",
        {
            "class": {
                "matplotlib.axes.Axes": "api/_as_gen/$.html#$",
            }
        },
    ),
    "torch": (
        "https://docs.pytorch.org/docs/stable/",
        {
            "class": {
                "torch.Generator": "generated/$.html#$",
                "torch.Tensor": "tensors.html#$",
                "torch.device": "tensor_attributes.html#$",
                "torch.dtype": "tensor_attributes.html#$",
                "torch.nn.Linear": "generated/$.html#$",
                "torch.nn.Module": "generated/$.html#$",
                "torch.nn.ModuleList": "generated/$.html#$",
                "torch.nn.modules.module.Module": "generated/torch.nn.Module.html#torch.nn.Module",
            }
        },
    ),
    "sklearn": (
        "https://scikit-learn.org/stable/",
        {
            "class": {
                "sklearn.base.BaseEstimator": SKLEARN,
                "sklearn.base.ClassifierMixin": SKLEARN,
            },
            "function": {"sklearn.base.clone": SKLEARN},
        },
    ),
    "networkx": (
        "https://networkx.org/documentation/stable/",
        {
            "class": {"networkx.DiGraph": "reference/classes/digraph.html#$"},
        },
    ),
    "dowhy": (
        "https://www.pywhy.org/dowhy/main/",
        {
            "function": {
                "dowhy.causal_identifier.identify_effect_auto": "dowhy.causal_identifier.html#$",
                "dowhy.gcm.falsify.falsify_graph": "dowhy.gcm.html#$",
            },
        },
    ),
}
"""Name of a library to the address of its documentation, and role to object to page below that address."""


def write(library: str, folder: Path) -> Path:
    """Write the inventory of a library, in version 2 of Sphinx's format, and return its path.

    The format is four lines of text, then the compressed lines ``name domain:role priority page title``, in which a
    title ``-`` is the name itself.
    """
    _, objects = LIBRARIES[library]
    lines = [
        f"{name} py:{role} 1 {page.replace('$', name)} -\n"
        for role, pages in objects.items()
        for name, page in pages.items()
    ]
    head = (
        f"# Sphinx inventory version 2\n# Project: {library}\n# Version: \n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{library}.inv"
    path.write_bytes(head.encode() + zlib.compress("".join(lines).encode()))
    return path


def mapping(folder: Path) -> dict[str, tuple[str, str]]:
    """Write every inventory into a folder and return Sphinx's ``intersphinx_mapping``."""
    return {name: (base, str(write(name, folder))) for name, (base, _) in LIBRARIES.items()}
