"""BackdoorClassifier: scikit-learn's contract, and P(y|do(x)) of data whose law is known."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    LeaveOneOut,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.naive_bayes import CategoricalNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from causalft.errors import CausalFTError
from causalft.methods.estimators.backdoor import BackdoorClassifier
from causalft.methods.estimators.fusion import fit_temperature


@parametrize_with_checks([BackdoorClassifier(), BackdoorClassifier(DecisionTreeClassifier(random_state=0))])
def test_the_whole_contract_of_scikit_learn(estimator, check) -> None:  # type: ignore[no-untyped-def]
    check(estimator)


def discrete_world(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """C -> X, C -> Y, X -> Y, all binary; returns X (n, 1), y, c. P(c=1) = .3."""
    rng = np.random.default_rng(seed)
    c = (rng.random(n) < 0.3).astype(int)
    x = (rng.random(n) < np.where(c == 1, 0.8, 0.25)).astype(int)
    y = (rng.random(n) < P_Y[c, x]).astype(int)
    return x[:, None], y, c


P_Y = np.array([[0.1, 0.3], [0.6, 0.9]])  # P(y=1 | c, x)
P_C = np.array([0.7, 0.3])


def test_adjusted_probabilities_are_the_interventional_ones() -> None:
    X, y, c = discrete_world(200_000)
    tree = DecisionTreeClassifier()
    done = BackdoorClassifier(tree).fit(X, y, stratum=c).predict_proba([[0], [1]])[:, 1]
    seen = BackdoorClassifier(tree).fit(X, y).predict_proba([[0], [1]])[:, 1]
    np.testing.assert_allclose(done, P_C @ P_Y, atol=0.01)
    p_x_c = np.array([0.25, 0.8])
    given_1 = (P_C * p_x_c) / (P_C @ p_x_c)
    assert seen[1] == pytest.approx(given_1 @ P_Y[:, 1], abs=0.01)
    assert seen[1] - done[1] > 0.1


def test_uniform_mapping_and_array_priors() -> None:
    X, y, c = discrete_world(20_000)
    names = np.array(["head", "tail"])[c]
    tree = DecisionTreeClassifier()
    fitted = BackdoorClassifier(tree, stratum_prior="uniform").fit(X, y, stratum=names)
    conditional = fitted.stratum_proba([[0], [1]])
    assert conditional.shape == (2, 2, 2) and fitted.strata_.tolist() == ["head", "tail"]
    np.testing.assert_allclose(fitted.predict_proba([[0], [1]]), conditional.mean(0))
    by_name = BackdoorClassifier(tree, stratum_prior={"tail": 0.9, "head": 0.1}).fit(X, y, stratum=names)
    by_order = BackdoorClassifier(tree, stratum_prior=[0.1, 0.9]).fit(X, y, stratum=names)
    np.testing.assert_allclose(by_name.predict_proba([[1]]), by_order.predict_proba([[1]]))
    np.testing.assert_allclose(by_name.predict_proba([[1]])[0], [0.1, 0.9] @ conditional[:, 1])


def test_calibration_counts_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from causalft.methods.estimators import backdoor

    X, y, c = discrete_world(500)
    seen, fit_temperature = [], backdoor.fit_temperature

    def spy(probs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
        seen.append(weights)
        return fit_temperature(probs, labels, weights)

    monkeypatch.setattr(backdoor, "fit_temperature", spy)
    model = BackdoorClassifier(calibrate="temperature", cv=2)
    model.fit(X, y, stratum=c, sample_weight=1 + c)
    np.testing.assert_array_equal(seen[0], 1 + c)


def test_weights_shift_the_strata_like_repeated_samples() -> None:
    X, y, c = discrete_world(500)
    weights = 1 + c
    repeated = np.repeat(np.arange(500), weights)
    weighted = BackdoorClassifier().fit(X, y, stratum=c, sample_weight=weights)
    doubled = BackdoorClassifier().fit(X[repeated], y[repeated], stratum=c[repeated])
    np.testing.assert_allclose(weighted.stratum_prior_, doubled.stratum_prior_)
    np.testing.assert_allclose(weighted.predict_proba(X), doubled.predict_proba(X), atol=1e-4)
    with pytest.raises(CausalFTError, match="KNeighborsClassifier takes no sample_weight"):
        BackdoorClassifier(KNeighborsClassifier()).fit(X, y, sample_weight=np.ones(500))


def test_the_default_graph_is_the_papers_and_is_asked() -> None:
    X, y, c = discrete_world(500)
    assert BackdoorClassifier().fit(X, y, stratum=c).estimand_ == "P(y | do(x)) = sum_c P(y | x, c) P(c)"
    assert BackdoorClassifier().fit(X, y).estimand_ is None


@pytest.mark.parametrize(
    "edges, message",
    [
        ([("C", "X"), ("C", "Y"), ("X", "Y"), ("W", "X"), ("W", "Y")], "X <- W -> Y"),
        ([("X", "C"), ("C", "Y")], "C is a descendant of the treatment"),
        ([("Z", "X"), ("Z", "C"), ("W", "C"), ("W", "Y"), ("X", "Y")], "open"),
        ([("X", "Y")], "C"),
    ],
)
def test_a_graph_in_which_c_does_not_block_is_refused_before_fitting(edges: list, message: str) -> None:
    X, y, c = discrete_world(200)
    classifier = BackdoorClassifier(graph=nx.DiGraph(edges))
    with pytest.raises(CausalFTError, match=message):
        classifier.fit(X, y, stratum=c)
    assert not hasattr(classifier, "estimators_")


def test_another_graph_with_other_names() -> None:
    X, y, c = discrete_world(200)
    graph = nx.DiGraph([("age", "dose"), ("age", "cure"), ("dose", "cure")])
    classifier = BackdoorClassifier(graph=graph, treatment="dose", outcome="cure", stratum_node="age")
    assert "age" in str(classifier.fit(X, y, stratum=c).estimand_)


def test_empty_cells_are_named_or_taken_as_zero() -> None:
    X, y, c = np.arange(8.0)[:, None], np.array(list("aabbabcc")), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    with pytest.raises(CausalFTError, match=r"\(0, c\): P\(y\|x,c\) cannot be learnt"):
        BackdoorClassifier().fit(X, y, stratum=c)
    with pytest.warns(UserWarning, match=r"\(0, c\).*taken as 0"):
        fitted = BackdoorClassifier(positivity="warn").fit(X, y, stratum=c)
    assert (fitted.stratum_proba(X)[0, :, 2] == 0).all()
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1)
    np.testing.assert_array_equal(fitted.cell_weights_, [[2, 2, 0], [1, 1, 2]])


def test_a_stratum_with_one_class_is_certain_of_it() -> None:
    X, y, c = np.arange(6.0)[:, None], np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 0, 1, 1])
    with pytest.warns(UserWarning, match=r"\(1, 0\)"):
        fitted = BackdoorClassifier(positivity="warn").fit(X, y, stratum=c)
    assert (fitted.stratum_proba(X)[1] == [0, 1]).all()


def test_calibration_corrects_an_overconfident_estimator() -> None:
    rng = np.random.default_rng(3)
    c = rng.integers(0, 2, 3000)
    x = rng.integers(0, 2, 3000)
    y = (rng.random(3000) < P_Y[c, x]).astype(int)
    X = np.repeat(x[:, None], 12, axis=1)  # naive Bayes counts the same evidence twelve times
    plain = BackdoorClassifier(CategoricalNB()).fit(X, y, stratum=c)
    calibrated = clone(plain).set_params(calibrate="temperature").fit(X, y, stratum=c)
    truth = np.array([0.5, 0.5]) @ P_Y
    grid = np.repeat([[0], [1]], 12, axis=1)
    error_before = np.abs(plain.predict_proba(grid)[:, 1] - truth).max()
    error_after = np.abs(calibrated.predict_proba(grid)[:, 1] - truth).max()
    assert calibrated.temperature_ > 1.5 and error_after < error_before / 1.5
    assert plain.temperature_ == 1


def test_calibration_without_enough_samples_in_a_cell_is_refused() -> None:
    X, y, c = discrete_world(200)
    few = np.flatnonzero((c == 1) & (y == 0))[3:]
    keep = np.setdiff1d(np.arange(200), few)
    with pytest.raises(CausalFTError, match=r"\(1, 0\) has 3 samples, calibrate needs cv=5"):
        BackdoorClassifier(calibrate="temperature").fit(X[keep], y[keep], stratum=c[keep])


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"calibrate": "temprature"}, "did you mean 'temperature'"),
        ({"positivity": "ignore"}, "positivity='ignore' is unknown"),
        ({"stratum_prior": "unifrom"}, "use None, 'uniform'"),
        ({"stratum_prior": {0: 1.0}}, "disagree on stratum 1"),
        ({"stratum_prior": [0.5, 0.6]}, "sum to 1"),
        ({"estimator": Perceptron()}, "Perceptron has no predict_proba"),
    ],
)
def test_bad_parameters_are_named(parameters: dict, message: str) -> None:
    X, y, c = discrete_world(200)
    with pytest.raises(CausalFTError, match=message):
        BackdoorClassifier(**parameters).fit(X, y, stratum=c)


def test_bad_strata_are_named() -> None:
    X, y, c = discrete_world(50)
    with pytest.raises(CausalFTError, match="stratum has 49 entries, y has 50"):
        BackdoorClassifier().fit(X, y, stratum=c[1:])
    with pytest.raises(CausalFTError, match="stratum of sample 7 is missing"):
        BackdoorClassifier().fit(X, y, stratum=np.where(np.arange(50) == 7, np.nan, c))


def test_it_nests_in_other_scikit_learn_tools() -> None:
    X, y, _ = discrete_world(300)
    wrapped = CalibratedClassifierCV(BackdoorClassifier(LogisticRegression()), cv=2).fit(X, y)
    assert wrapped.predict_proba(X).shape == (300, 2)


@pytest.mark.parametrize(
    "cv",
    [
        3,
        np.int64(3),
        StratifiedKFold(3),
        StratifiedKFold(3, shuffle=True, random_state=1),
        KFold(4, shuffle=True, random_state=0),
        RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0),
        ShuffleSplit(2, random_state=0),
        [(np.arange(300), np.arange(300, 500)), (np.arange(200, 500), np.arange(200))],
        [(np.arange(500) < 300, np.arange(500) >= 300)],
    ],
    ids=lambda cv: type(cv).__name__,
)
def test_calibration_takes_every_kind_of_cv(cv) -> None:  # type: ignore[no-untyped-def]
    X, y, c = discrete_world(500)
    model = clone(BackdoorClassifier(calibrate="temperature", cv=cv)).fit(X, y, stratum=c)
    assert model.temperature_ == pytest.approx(1, abs=0.3)


def test_the_temperature_of_given_folds_is_that_of_the_held_out_samples() -> None:
    X, y, c = discrete_world(400)
    train, test = np.arange(250), np.arange(250, 400)
    model = BackdoorClassifier(calibrate="temperature", cv=[(train, test)]).fit(X, y, stratum=c)
    held_out = np.zeros((150, 2))
    for stratum in (0, 1):
        rows, shown = train[c[train] == stratum], c[test] == stratum
        held_out[shown] = LogisticRegression().fit(X[rows], y[rows]).predict_proba(X[test][shown])
    assert model.temperature_ == pytest.approx(fit_temperature(held_out, y[test]))


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (1, "cv=1 gives no held-out fold"),
        ("five", "cv='five' gives no folds"),
        ([(np.arange(500), np.arange(0))], "holds out no sample"),
        ([(np.arange(400), [700])], "gives no folds"),
        (LeaveOneOut, "gives no folds"),
    ],
)
def test_a_cv_that_cannot_be_used_is_named(cv, message) -> None:  # type: ignore[no-untyped-def]
    X, y, c = discrete_world(500)
    with pytest.raises(CausalFTError, match=message):
        BackdoorClassifier(calibrate="temperature", cv=cv).fit(X, y, stratum=c)


def test_a_fold_without_a_cell_is_named() -> None:
    X, y, c = discrete_world(500)
    rows = np.flatnonzero((c == 1) & (y == 0))
    with pytest.raises(CausalFTError, match=r"has \(stratum, class\) \(1, 0\) among its test samples only"):
        BackdoorClassifier(calibrate="temperature", cv=[(np.setdiff1d(np.arange(500), rows), rows)]).fit(
            X, y, stratum=c
        )


def test_the_tools_of_scikit_learn_pass_the_stratum_on() -> None:
    X, y, c = discrete_world(600)
    names = np.array(["no", "yes"])[y]
    model = BackdoorClassifier(calibrate="temperature", cv=StratifiedKFold(3))
    plain = cross_val_score(model, X, names, cv=3, params={"stratum": c})
    search = GridSearchCV(
        BackdoorClassifier(LogisticRegression()),
        {"estimator__C": [0.1, 1.0], "stratum_prior": [None, "uniform"]},
        cv=3,
    ).fit(X, names, stratum=c)
    assert search.best_estimator_.strata_.tolist() == [0, 1] and search.classes_.tolist() == ["no", "yes"]
    steps = make_pipeline(StandardScaler(), BackdoorClassifier())
    piped = steps.fit(X, names, backdoorclassifier__stratum=c)
    by_hand = BackdoorClassifier().fit(StandardScaler().fit_transform(X), names, stratum=c)
    np.testing.assert_allclose(
        piped.predict_proba(X), by_hand.predict_proba(StandardScaler().fit_transform(X)), rtol=1e-6
    )
    with config_context(enable_metadata_routing=True):
        asked = BackdoorClassifier(calibrate="temperature", cv=StratifiedKFold(3)).set_fit_request(
            stratum=True
        )
        routed = cross_val_score(asked, X, names, cv=3, params={"stratum": c})
        inside = make_pipeline(StandardScaler(), asked).fit(X, names, stratum=c)
    np.testing.assert_allclose(routed, plain)
    assert inside[-1].strata_.tolist() == [0, 1]
