"""The work of ``causalft predict``: classify a stream of images with a fitted run."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from causalft.data.image_set import ImageSet
from causalft.errors import CausalFTError, as_bytes, several
from causalft.methods.adaptation.at_test import check_adapt
from causalft.methods.estimators.fitted import FittedStrata, Predicting, load_fitted, stored_settings
from causalft.methods.estimators.stored_logits import MANY_CLASSES
from causalft.models.features.engines import Launched, open_engine
from causalft.models.features.parts import Part
from causalft.models.tuning.precision import int8_pays
from causalft.models.tuning.team import current_team
from causalft.pipelines.workflows.agreement import precision_note
from causalft.pipelines.workflows.int8_agreement import Int8Agreement, int8_agreement, int8_if_alike
from causalft.pipelines.workflows.merged_agreement import MergedAgreement, merged_agreement
from causalft.pipelines.workflows.predict_adapted import AdaptedStrata
from causalft.pipelines.workflows.prediction_files import (
    Questions,
    most_likely,
    open_rows,
    require_room_for_rows,
)
from causalft.runs.files import sha256_file
from causalft.runs.folder import Run

if TYPE_CHECKING:
    from causalft.analysis.uncertainty.conformal import PredictionSets

__all__ = ["Prediction"]

CHECKED, CHECKED_SHARE = 64, 0.05

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows (b,), probabilities of the strata (n_strata, b, K) and fused (b, K)."""


@dataclass
class Prediction:
    """Classification of images by a run; each method reads them once.

    Attributes
    ----------
    run : path
        Folder of the fit.
    images : ImageSet
    device : str
    batch_size : int
        Images per batch.
    on_error : {"stop", "skip"}
        Whether an unreadable image stops the call, or is reported on standard error and skipped.
    engine : {"local", "ray"}
        Who predicts: this process, or those of a launcher; or the workers of a Ray cluster.
    workers : int, optional
        Of Ray.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}, optional
        Of the layers; by default that of the run.
    may_round : bool
        Whether ``auto`` may take int8: where bf16 is of no use to this CPU, int8 is faster, and at least 99 % of
        `CHECKED` images keep their class.
    coverage : float, optional
        In (0, 1): give each image a set of classes that holds the true one this often, in each D and P group
        (:func:`causalft.analysis.uncertainty.conformal.fit_sets`). Needs the validation logits that ``fit`` keeps.
    adapt : str, optional
        Let each stratum adapt to the images while it predicts them, in their order: a name of
        :data:`causalft.methods.adaptation.at_test.AT_TEST`. The run is not changed.
    stored_images : float, optional
        What stored statistics are worth while adapting (:func:`causalft.methods.adaptation.at_test.adaptation`).
    save_adapted : path, optional
        Where :meth:`write_adapted` is going to write, so that a folder that is taken is refused first.
    merge_tokens : int
        Patch tokens that each block of a ViT merges (:mod:`causalft.models.tuning.merging`); 0: none.
    skipped : list of (int, str)
        Row and message of each skipped image.
    """

    run: str | Path
    images: ImageSet
    device: str = "auto"
    batch_size: int = 64
    on_error: str = "stop"
    engine: str = "local"
    workers: int | None = None
    coverage: float | None = None
    adapt: str | None = None
    save_adapted: str | Path | None = None
    precision: str | None = None
    stored_images: float | None = None
    merge_tokens: int = 0
    may_round: bool = False
    skipped: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sets: PredictionSets | None = None
        if self.coverage is not None:
            from causalft.pipelines.workflows.stored_run import (
                StoredRun,
                sets_of_run,
            )  # brings scipy.optimize

            self.sets = sets_of_run(StoredRun.open(self.run), self.coverage)
        if self.save_adapted is not None:
            if self.adapt is None:
                raise CausalFTError("--save-adapted goes with --adapt")
            Run.check(self.save_adapted, kind="classifier", option="--save-adapted")
        if self.merge_tokens and self.adapt is not None:
            raise CausalFTError("--adapt needs every token; leave --merge-tokens out")
        self._engine = open_engine(self.engine, self.workers)
        if isinstance(self._engine, Launched):
            self.model: FittedStrata = load_fitted(
                self.run, device=self.device, precision=self.precision, merge_tokens=self.merge_tokens
            )
        else:
            # The workers of Ray get the models from here, move them to their own device and choose the precision:
            # layers in bf16 are laid out for one processor and cannot be sent.
            self.model = load_fitted(self.run, device="cpu", precision="fp32", merge_tokens=self.merge_tokens)
        self.rounding: Int8Agreement | str | None = None
        if self._may_round():
            self.model, self.rounding = int8_if_alike(
                self.model, self.run, self.images, n_images=CHECKED, merge_tokens=self.merge_tokens
            )
        self.classes: list[str] = self.model.classes_.tolist()
        self.adapted: AdaptedStrata | None = None
        if self.adapt is not None:
            check_adapt(
                self.adapt,
                self.engine,
                self.batch_size,
                self.coverage,
                current_team().count,
                self.stored_images,
            )
            self.adapted = AdaptedStrata(self.model, self.adapt, self.stored_images)

    def stream(self, rows: range | None = None) -> Iterator[Batch]:
        """Yield batches of all rows, or of some, without unreadable images.

        Of processes that work together, the first one gets them.
        """
        for piece in self._pieces(rows):
            if not isinstance(piece[1], str):
                yield piece

    def _pieces(self, rows: range | None = None) -> Iterator[Any]:
        """Yield batches, and (row, message) of skipped images, in the order of the images."""
        team = current_team()
        if team.count > 1:
            names = hashlib.sha256(as_bytes("\0".join(self.images.files))).hexdigest()
            team.agree(
                {
                    "run": self._run_hashes(),
                    "images": names,
                    "settings": [self.batch_size, self.on_error, self.merge_tokens],
                }
            )
        chosen = range(len(self.images)) if rows is None else rows
        wanted = chosen.start
        if self.adapted is not None:  # what is resumed depends on all images before
            chosen = range(chosen.stop)
        work = Predicting(
            self.model if self.adapted is None else self.adapted,
            self.batch_size,
            self.on_error,
            f"predicting {several(chosen, 'image', 'images')}",
            device=self.device,
            precision=self._precision(),
        )
        for part in self._engine.parts(self.images, chosen, self.batch_size, work):
            if part.skipped and self.on_error == "stop":
                raise CausalFTError(part.skipped[0][1])
            if self.adapted is not None:
                for line in self.adapted.follow(part.rows, self.images.files):
                    tqdm.write(f"causalft: {line}", file=sys.stderr)
                part = _from(part, wanted)
            for row, message in part.skipped:
                self.skipped.append((row, message))
                tqdm.write(f"causalft: skipped: {message}", file=sys.stderr)
            yield from _in_order(part)

    def adapted_strata(self, row: int) -> list[str]:
        """Return the strata that had adapted when they predicted an image."""
        return [] if self.adapted is None else self.adapted.adapted_strata(row)

    def adaptation_notes(self) -> list[str]:
        """What each stratum did, a line each; after the stream."""
        return [] if self.adapted is None else self.adapted.notes()

    def write_adapted(self, folder: Path) -> None:
        """Write the classifier as it has adapted to the stream; `causalft predict` reads it.

        Raises
        ------
        CausalFTError
            If the folder is taken, or no stratum has adapted.
        """
        if self.adapted is None:
            raise CausalFTError("nothing has adapted; give adapt")
        self.adapted.save(folder)

    def _precision(self) -> str:
        """The precision asked for here, or by the run."""
        if self.precision is not None:
            return self.precision
        tuning = stored_settings(self.model.config, ["tuning"]).get("tuning")
        return "auto" if tuning is None else tuning.precision

    def precision_note(self) -> str:
        """Which strata are computed in another precision than was asked for; empty if none is."""
        return "" if self.engine != "local" else precision_note(self.model.members_, self.precision)

    def int8_note(self) -> str:
        """How far int8 agrees with fp32 on `CHECKED` of the images, where it was asked for, and what ``auto`` did.

        Empty where they are more than `CHECKED_SHARE` of all, which would cost what int8 saves, in several processes,
        and where the strata adapt.
        """
        if isinstance(self.rounding, str):
            return f"auto stays in fp32: {self.rounding}"
        if self.rounding is not None:
            taken = self._rounded()
            what = "auto takes int8, which is faster here" if taken else "auto stays in fp32"
            way = "; --precision fp32 computes exactly" if taken else ""
            return f"{what}: {self.rounding.sentence()}{way}"
        if self.precision != "int8" or self._is_dear():
            return ""
        found = int8_agreement(self.run, self.images, n_images=CHECKED, merge_tokens=self.merge_tokens)
        return found.sentence()

    def _rounded(self) -> bool:
        """Whether ``auto`` has taken int8."""
        members = self.model.members_.values()
        return self.rounding is not None and any(member.precision == "int8" for member in members)

    def _may_round(self) -> bool:
        """Whether ``auto`` asks if int8 would do: it stays in fp32, and a layer is faster in int8."""
        if not self.may_round or self._precision() != "auto" or self._is_dear():
            return False
        members = self.model.members_.values()
        return all(member.precision == "fp32" for member in members) and any(
            member.tower.kind.endswith("ViT") and int8_pays(member.tower.width, member.stratum.device)
            for member in members
        )

    def merged_agreement(self) -> MergedAgreement | None:
        """What merging tokens changes on `CHECKED` of the images; None without it, and as for int8."""
        if not self.merge_tokens or self._is_dear():
            return None
        return merged_agreement(
            self.run,
            self.images,
            self.merge_tokens,
            n_images=CHECKED,
            device=self.device,
            precision="int8" if self._rounded() else self.precision,
        )

    def _is_dear(self) -> bool:
        """Whether a comparison would cost too much, or has no single process to run in."""
        alone = self.engine == "local" and current_team().count == 1 and self.adapt is None
        return not alone or CHECKED > CHECKED_SHARE * len(self.images)

    def _run_hashes(self) -> list[str]:
        return [sha256_file(Path(self.run) / name) for name in ("config.json", "metrics.json")]

    def document(self, top: int | None = None) -> list[dict[str, Any]]:
        """Return one entry per image with the probabilities of all classes, fused and per stratum.

        Of more than 200 classes, ``top`` limits them to the most likely, most likely first.
        """
        n = len(self.classes)
        questions = self.questions(top)
        keep = n if n <= MANY_CLASSES or top is None else min(top, n)
        document: dict[int, dict[str, Any]] = {}
        for rows, strata, fused in self.stream():
            for i, row in enumerate(rows.tolist()):
                each = {name: self._answer(strata[c, i], keep) for c, name in enumerate(self.model.members_)}
                document[row] = {"file": self.images.files[row], **self._answer(fused[i], keep)}
                if questions.sets:
                    document[row]["set"] = questions.set_of(fused[i : i + 1])[0]
                if self.adapted is not None:
                    document[row]["adapted"] = self.adapted_strata(row)
                document[row]["strata"] = each
        for row, message in self.skipped:
            document[row] = {"file": self.images.files[row], "error": message}
        return [document[row] for row in sorted(document)]

    def questions(self, top: int | None) -> Questions:
        """What a row holds."""
        threshold = None if self.sets is None else self.sets.threshold
        return Questions(self.classes, list(self.model.members_), top, threshold, self.adapt is not None)

    def _answer(self, probabilities: np.ndarray, keep: int) -> dict[str, Any]:
        shown = np.arange(len(probabilities))
        if keep < len(probabilities):
            shown = most_likely(probabilities[None], keep)[0]
        named = {self.classes[k]: float(probabilities[k]) for k in shown}
        return {"prediction": self.classes[int(probabilities.argmax())], "probabilities": named}

    def to_file(self, output: str, kind: str, top: int | None, say: Callable[[str], None]) -> None:
        """Write one row per image; an interrupted call resumes.

        Parameters
        ----------
        output : str
            A file, or ``-`` for standard output.
        kind : {"jsonl", "csv", "parquet"}
        top : int, optional
            Number of classes per image; all by default.
        say : callable
            Called with progress messages.

        Raises
        ------
        CausalFTError
            If no image could be read, or the file cannot be written.
        """
        images, team = self.images, current_team()
        if not team.is_main:
            start = team.from_main(lambda: 0)
            for _ in self._pieces(range(start, len(images))):
                pass
            return
        questions = self.questions(top)
        require_room_for_rows(output, kind, questions, images.files)
        started, written = time.perf_counter(), 0
        adapts = [] if self.adapt is None else [f"--adapt {self.adapt} --batch-size {self.batch_size}"]
        if self.adapted is not None and self.adapted.method.objective is None:
            adapts.append(f"--stored-images {self.adapted.method.stored_images}")
        adapts += [f"--merge-tokens {self.merge_tokens}"] if self.merge_tokens else []
        precision = "int8" if self._rounded() else self.precision
        adapts += [f"--precision {precision}"] if precision is not None else []
        with open_rows(output, kind, questions, [*self._run_hashes(), *adapts, *images.files]) as place:
            team.from_main(lambda: place.start)
            if place.start:
                say(f"{place.start:,} of {len(images):,} images are there already; going on")
            rows = range(place.start, len(images))
            for piece in self._pieces(rows):
                if isinstance(piece[1], str):
                    place.rows.fail(images.files[piece[0]], piece[1])
                    place.done = piece[0] + 1
                else:
                    found, strata, fused = piece
                    files = [images.files[row] for row in found]
                    place.rows.add(files, strata, fused, self.adapted_strata(int(found[0])))
                    place.done, written = int(found[-1]) + 1, written + len(found)
                place.save()
            if rows and not written:
                raise CausalFTError(f"none of {len(rows):,} images could be read (they are named above)")
        seconds = time.perf_counter() - started
        where = "standard output" if output == "-" else output
        done = f"{written:,} image{'' if written == 1 else 's'}"
        rate = f"{written / max(seconds, 1e-9):,.0f} a second"
        bad = f"; {len(self.skipped):,} could not be read" if self.skipped else ""
        say(f"{done} in {seconds:,.1f} s ({rate}) to {where}{bad}")


def _from(part: Part, row: int) -> Part:
    """The part without what lies before a row."""
    kept = part.rows >= row
    values = {name: value[kept] for name, value in part.values.items()}
    return Part(part.rows[kept], values, tuple(each for each in part.skipped if each[0] >= row))


def _in_order(part: Part) -> Iterator[Any]:
    """Yield pieces of a batch between the skipped images, and (row, message) of these, in order."""
    found, start = part.rows, 0
    for row, message in part.skipped:
        end = int(np.searchsorted(found, row))
        if end > start:
            yield _batch(part, start, end)
        yield row, message
        start = end
    if len(found) > start:
        yield _batch(part, start, len(found))


def _batch(part: Part, start: int, end: int) -> Batch:
    strata, fused = part.values["strata"][start:end], part.values["fused"][start:end]
    return part.rows[start:end], strata.transpose(1, 0, 2), fused
