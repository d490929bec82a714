"""What the A/B experiment says in the end: the gaps, the path X <- C -> Y and the graph, put into one verdict."""

from __future__ import annotations

from collections.abc import Mapping

from causalft.confounding.evidence import Evidence
from causalft.confounding.tests import Estimate, conclude
from causalft.scm.identify import identify
from synthetic.designs import Design

__all__ = ["PATH_TESTS", "VERDICTS", "blocks_backdoor", "judge"]

VERDICTS = {
    "verified": "C confounds: it acts on the picture, it goes with the label, and training on B pays for it on A",
    "shift of C": "C is independent of the label in B: what hurts is that its law changes between training and test",
    "selection": "C goes with the label through sampling only: training on B hurts, but C is no cause of the label",
    "not detected": "an effect of the size that matters is excluded",
    "inconclusive": "the data cannot tell",
}
"""Each verdict and what it says."""

PATH_TESTS = ("c_to_x", "c_to_y", "open_backdoor_path")
"""The tests of the path X <- C -> Y; all of them must be significant (Holm) before C is called a confounder."""


def blocks_backdoor(design: Design) -> bool:
    """Whether the graph of the design has a backdoor path from X to Y that C blocks.

    Examples
    --------
    >>> from synthetic.designs import make_design
    >>> blocks_backdoor(make_design("confounded")), blocks_backdoor(make_design("selection"))
    (True, False)
    """
    if not {"C", "X", "Y"} <= set(design.graph):
        return False
    return any("C" in found.variables for found in identify(design.graph, "X", "Y").backdoor)


def judge(
    design: Design,
    cells: Mapping[str, Estimate],
    gaps: Mapping[str, Estimate],
    path: Mapping[str, Evidence],
    p_holm: Mapping[str, float],
    *,
    n_seeds: int,
    smallest_group: int,
) -> tuple[str, str]:
    """Judge.

    First the gaps (`causalft.confounding.tests.conclude`): without a clear drop the answer is ``not detected`` or
    ``inconclusive``. With one, the reason for it is sought: a sample that was selected on C and Y (``selection``), a
    C that is independent of Y in B (``shift of C``), or an open backdoor path, seen in the rows by all of
    `PATH_TESTS` and present in the design's graph (``verified``). Data alone cannot tell selection from confounding:
    the graph does.

    Parameters
    ----------
    cells, gaps : estimates of `CELLS` and `CONTRASTS`.
    path : test name -> Evidence, with `PATH_TESTS` in it.
    p_holm : test name -> adjusted p-value.
    n_seeds, smallest_group : as in `conclude`.

    Returns
    -------
    (verdict, reason)
    """
    verdict, reason = conclude(
        cells,
        gaps,
        n_classes=len(design.classes),
        n_seeds=n_seeds,
        smallest_group=smallest_group,
        best=design.best_accuracy(),
    )
    if verdict != "verified":
        return verdict, reason
    if design.selected:
        return "selection", (
            f"{reason}; but in this design rows were kept by C and Y, and C is no cause of Y: adjusting for C "
            "does not give P(Y | do(X)), and the rows alone could not tell this from confounding"
        )
    if design.dependence("B") < 1e-6:
        if abs(design.joint("A").sum((1, 2, 3)) - design.joint("B").sum((1, 2, 3))).max() > 1e-6:
            return "shift of C", (
                f"{reason}; C and Y are independent in B, so this is the price of a change of P(C) between "
                "training and test, and not confounding"
            )
        return "inconclusive", (
            f"{reason}; but C has the same law in A and B and is independent of Y in both, so C cannot be the reason"
        )
    missing = [name for name in PATH_TESTS if not p_holm.get(name, 1.0) <= 0.05]
    if missing or not blocks_backdoor(design):
        why = (
            f"{', '.join(missing)} not significant: {'; '.join(path[name].words for name in missing if name in path)}"
            if missing
            else "the design's graph has no backdoor path through C"
        )
        return "inconclusive", f"{reason}; but the path X <- C -> Y was not seen ({why})"
    return "verified", f"{reason}; and the path X <- C -> Y is open ({path['open_backdoor_path'].words})"
