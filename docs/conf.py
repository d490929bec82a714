"""How the documentation is built: everything works without a network, and a tutorial that fails stops the build."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import gallery  # noqa: E402
import house  # noqa: E402
import inventories  # noqa: E402
import mathml  # noqa: E402
import tables  # noqa: E402
from sphinx import addnodes  # noqa: E402
from sphinx.util import logging  # noqa: E402

import causalft  # noqa: E402
import causalft.cli  # noqa: E402, F401  notebooks inherit what it sets for PyTorch and OpenMP

project = "CausalFT"
author = "The CausalFT contributors"
copyright = "the CausalFT contributors, Apache-2.0"
version = release = causalft.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
exclude_patterns = ["_build", "_generated"]
templates_path = ["_templates"]

html_theme = "furo"
html_title = "CausalFT"
html_static_path = ["_static"]
html_css_files = ["figures.css"]
html_theme_options = {"navigation_with_keys": True}
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False

smartquotes_action = "qe"  # two hyphens are an option, not a dash
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autosummary_ignore_module_all = False
# A package with ``__all__`` shows what that names. These modules hold further names that users need.
autosummary_context = {
    "further": {
        "causalft.data": ["formats", "creatures", "hidden", "protocol", "unlabelled"],
        "causalft.methods.estimators": [
            "strata",
            "joint",
            "settings",
            "plots",
            "backdoor",
            "adjusted_networks",
            "fusion",
            "mixing",
            "adjustment",
            "gla",
            "probes",
            "member",
            "fitted",
        ],
        "causalft.methods.adaptation.at_test": ["adapting"],
        "causalft.methods.priors": ["misfit"],
        "causalft.methods.semi": [
            "settings",
            "choices",
            "method",
            "tune",
            "pseudo_labels",
            "law",
            "label_shift",
        ],
        "causalft.models.tuning.tuners": ["adapters"],
        "causalft.models.weights": ["libraries"],
    }
}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

intersphinx_mapping = inventories.mapping(HERE / "_generated")
intersphinx_disabled_reftypes = ["std:doc"]

# The tutorials run as a newcomer would run them: in an empty folder, with the command of this environment.
nb_execution_mode = "auto"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ["PYTHONPATH"] = str(HERE)
os.environ["COLUMNS"] = "84"
os.environ["NO_COLOR"] = "1"
# Not the tutorials' business: a debugger's warning about frozen modules would stand in their output.
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"


def keep_bars(app, what, name, obj, options, lines):
    """A pair of bars in a docstring's prose is an absolute value, not a substitution of reStructuredText."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...", "|", "+")):
            lines[number] = re.sub(r"(?<!`)\|(\w[^|`]*)\|(?!`)", r"\\|\1\\|", line)


def skip_member(app, what, name, obj, skip, options):
    """Leave out the metadata-routing setters that scikit-learn adds to every estimator."""
    return True if name.startswith("set_") and name.endswith("_request") else skip


def refuse_unknown_names(app, env, node, contnode):
    """Warn where a page of ours names something of ours that has no entry in the Python API."""
    target = str(node.get("reftarget", ""))
    ours = target.split(".")[0] in ("causalft", "synthetic", "experiments")
    if ours and node.get("refdomain") == "py" and not node["refdoc"].startswith("api/generated"):
        logging.getLogger(__name__).warning("no entry for %s", target, location=node)


def keep_words(app, doctree):
    """The type of an argument may be a plain word, such as path; Sphinx would link it to any attribute of that name."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        target = node.get("reftarget", "")
        if node.get("refdomain") == "py" and node.get("reftype") == "class" and target.isidentifier():
            if target.islower():
                node.replace_self(node.children)


def setup(app):
    """Register the offline formulas and draw the plan of the code before any page is read."""
    mathml.register(app)
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("doctree-read", keep_words)
    app.connect("missing-reference", refuse_unknown_names)
    # The page of commands is made from the code, which Sphinx does not watch: read it in every build.
    app.connect("env-get-outdated", lambda *_: ["cli"])
    app.connect("builder-inited", lambda _: house.draw(HERE / "_generated" / "house.svg"))
    app.connect("builder-inited", lambda _: tables.write(HERE / "_generated"))
    app.connect("builder-inited", lambda _: gallery.draw(HERE / "_generated" / "gallery"))
