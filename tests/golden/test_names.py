"""Public names of `causalft`, `causalft.scm` and `synthetic` with their parameters. Refresh: see `tests.golden.stored`.

Annotations are left out: they may become more precise.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from functools import cached_property

import causalft
import causalft.scm
import synthetic
from tests.golden.stored import stored_json


def parameters(thing):
    """The parameters of a callable with their defaults, as text; what anything else is."""
    if not callable(thing):
        return type(thing).__name__
    try:
        signature = inspect.signature(thing)
    except ValueError:  # of a built-in
        return "(...)"
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.Signature(bare)))


def described(thing):
    """A function by its parameters, a class by those of its maker and of its public methods."""
    if not inspect.isclass(thing):
        return parameters(thing)
    found = {"": parameters(thing)}
    for name in sorted(name for name in vars(thing) if not name.startswith("_")):
        member = inspect.getattr_static(thing, name)
        if isinstance(member, property | cached_property):
            found[name] = "property"
        elif isinstance(member, classmethod | staticmethod):
            found[name] = parameters(member.__func__)
        elif inspect.isfunction(member):
            found[name] = parameters(member)
    return found


def modules_of(package):
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def test_public_names_and_parameters_are_unchanged():
    found = {
        "causalft": {name: described(getattr(causalft, name)) for name in sorted(causalft.__all__)},
        "causalft.scm": {
            name: described(getattr(causalft.scm, name)) for name in sorted(causalft.scm.__all__)
        },
    }
    # A name of `synthetic` may move between its modules.
    names = {name: module for module in modules_of(synthetic) for name in getattr(module, "__all__", ())}
    found["synthetic"] = {name: described(getattr(names[name], name)) for name in sorted(names)}
    assert found == stored_json("names.json", found)
