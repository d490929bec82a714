"""Teacher and student on the page of a distilled run: accuracy, gap, cost, and the share of the gain that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from causalft.report.html import Section, Table
from causalft.runs.intervals import interval_text

__all__ = ["COLUMNS", "distilled_rows", "distilled_section", "distilled_sentences"]

COLUMNS = ("model", "accuracy (%)", "gap (points)", "MFLOPs", "ms")
"""Per image, the last two."""

_WHO = {"teacher": "teacher", "student": "student", "best_single": "best single stratum by validation"}


def distilled_rows(distilled: Mapping[str, Any]) -> list[list[str]]:
    """Rows of :data:`COLUMNS` for teacher, student and best single stratum."""
    rows = []
    for who, words in _WHO.items():
        found, cost = distilled[who], distilled[who]["cost_per_image"]
        name = ", ".join(found["strata"]) if who == "teacher" else found["name"]
        rows.append(
            [
                f"{words}: {name}",
                interval_text(found["accuracy"], found["ci95"]),
                _points(found["gap"]),
                f"{cost['flops'] / 1e6:,.1f}",
                f"{1000 * cost['seconds']:.2f}",
            ]
        )
    return rows


def distilled_sentences(distilled: Mapping[str, Any]) -> list[str]:
    """What the numbers say."""
    images, student, share = distilled["images"], distilled["student"], distilled["gain_share"]
    taught = f"{images['labelled']:,} labelled"
    taught += f" and {images['unlabelled']:,} unlabelled images" if images["unlabelled"] else " images"
    flops = {who: distilled[who]["cost_per_image"]["flops"] for who in _WHO}
    single, teacher = flops["student"] / flops["best_single"], flops["student"] / flops["teacher"]
    if share["ci95"] is None:
        kept = f"What share of the teacher's gain the student keeps cannot be told: {share['reason']}."
    else:
        kept = (
            f"The student keeps {interval_text(share['estimate'], share['ci95'])} % of the teacher's gain over the "
            "best single stratum by validation."
        )
    sentences = [
        kept,
        f"It learnt from {taught}, and costs {single:.2f} times the operations of the best single stratum and "
        f"{teacher:.2f} times those of the teacher.",
        f"Its accuracy is {_points(distilled['student_minus_teacher'])} points from that of the teacher and "
        f"{_points(distilled['student_minus_best_single'])} from that of the best single stratum.",
    ]
    if student["own_gap"]["ci95"] is not None:
        sentences.append(
            f"Its gap along the prior of its own pre-training is {_points(student['own_gap'])} points beyond class "
            "difficulty."
        )
    return sentences


def distilled_section(distilled: Mapping[str, Any]) -> Section:
    """The section of the page."""
    caption = (
        "gap: P-many minus P-few accuracy beyond class difficulty; of teacher and student the mean over the priors of "
        "all strata, of the best single stratum by its own. Operations and time are of a prediction, per image, "
        "measured where it was distilled."
    )
    table = Table(list(COLUMNS), distilled_rows(distilled), caption)
    return Section("Teacher and student", distilled_sentences(distilled), [table])


def _points(value: Mapping[str, Any]) -> str:
    if value["estimate"] is None or value["estimate"] != value["estimate"]:
        return "-"
    return interval_text(value["estimate"], value["ci95"], value.get("reason", ""))
