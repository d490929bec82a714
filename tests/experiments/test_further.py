"""Answers beyond the logits of separate members: features, joint training, and reading what another run holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from causalft.data.creatures import creatures_longtail
from causalft.methods.adaptation.settings import Tuning
from causalft.methods.adaptation.tuned import TunedStratum
from causalft.models.features.encoder import Crops
from causalft.models.strata.zoo import open_zoo
from causalft.runs.locks import writing
from experiments import joint, tab4
from experiments.frame import further, study
from experiments.frame.claims import judge
from experiments.frame.lab import Lab
from experiments.frame.members import Member
from tests.experiments.made_up import N_CLASSES, ROLES, MadeUpLab


def test_the_head_gives_the_logits_of_the_features() -> None:
    splits = creatures_longtail(n_max=4, imbalance_factor=2, n_validation=2, n_test=1)
    stratum = open_zoo("mini").load("clip")
    dim = 64
    weight = torch.randn(splits.train.n_classes, dim, generator=torch.Generator().manual_seed(0))
    tuned = TunedStratum(stratum, weight, Tuning(precision="fp32"))
    features = further.features_of(tuned, splits.test, batch_size=25)
    with torch.no_grad():
        logits = tuned.head(torch.from_numpy(features)).numpy()
    assert logits == pytest.approx(tuned.logits(Crops(splits.test, stratum)), abs=1e-4)


def test_neighbours_vote_in_the_columns_of_their_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    train = SimpleNamespace(labels=np.repeat([0, 2], 10), n_classes=3)
    test = SimpleNamespace(labels=np.array([2, 0]))
    features = {id(train): np.eye(3)[train.labels], id(test): np.eye(3)[test.labels]}
    monkeypatch.setattr(further, "features_of", lambda tuned, images: features[id(images)])
    lab = MadeUpLab({"LA": (0.0, 0.0)})
    splits = SimpleNamespace(train=train, test=_Sized(test))
    features[id(splits.test)] = features[id(test)]
    fake = SimpleNamespace(
        tuned=lambda member, seed: (lab.prediction(member, seed), None),
        world=SimpleNamespace(splits=lambda seed, draw: splits),
    )
    found = further.neighbours(fake, Member("clip"), 0)  # type: ignore[arg-type]
    assert found.test_logits.argmax(axis=1).tolist() == [2, 0]
    assert (found.test_logits[:, 1] == 0).all()


class _Sized:
    def __init__(self, images: Any) -> None:
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self.labels)


def test_table_4_and_joint_training_are_judged_by_their_own_answers(
    monkeypatch: pytest.MonkeyPatch, fewer_resamples: None
) -> None:
    lab = MadeUpLab({"CE": (1.0, 0.2), "LA": (0.0, 0.2)})
    # Features that forget the loss: their votes are those of LA for both.
    monkeypatch.setattr(further, "neighbours", lambda lab, m, seed: lab.prediction(Member(m.name), seed))
    noise = np.random.default_rng(0).normal(size=(600, N_CLASSES))
    one = 3.0 * np.eye(N_CLASSES)[lab.splits.test.labels] + 1.5 * noise
    monkeypatch.setattr(further, "joint", lambda lab, members, fusion, seed: one)
    for experiment in (tab4, joint):
        metrics = study.study_metrics(experiment.study(ROLES), lab)  # type: ignore[arg-type]
        assert {judge(claim, metrics).verdict for claim in experiment.claims()} == {"supported"}


def test_a_member_that_another_experiment_tunes_is_waited_for_and_a_finished_one_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor, TimeoutError

    from causalft.methods.estimators import member as members

    read = SimpleNamespace(sha256="0")
    monkeypatch.setattr(members, "fit_member", lambda *_, **__: (read, None))
    made = MadeUpLab({})
    settings = SimpleNamespace(tuning=Tuning(), device="cpu", cache=False, data="creatures-lt")
    world = SimpleNamespace(scale="mini", settings=settings, described={}, splits=made.world.splits, zoo=None)
    lab = Lab(None, world, 1, True, tmp_path)  # type: ignore[arg-type]
    member = Member("clip")
    folder = lab.folder(member, 0)
    folder.parent.mkdir(parents=True)
    with ThreadPoolExecutor(1) as other:
        with writing(folder):
            waiting = other.submit(lab.tuned, member, 0)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.3)
        assert waiting.result() == (read, None)
        with writing(folder):
            folder.mkdir()
            (folder / members.PREDICTIONS).touch()
            assert other.submit(lab.prediction, member, 0).result() is read
