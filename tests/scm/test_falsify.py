"""Falsification of a graph: the implied independencies, their tests, the familywise rate, and the power."""

from __future__ import annotations

import itertools
import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalft.errors import CausalFTError
from causalft.scm import PartSCM, as_dag, causal_graph, implied_independencies
from causalft.scm.falsification import falsify, holm
from causalft.scm.independence import independence_test
from causalft.scm.table import Variable, match_columns
from tests.scm.random_scms import dags, joint_table, random_scm

DIAMOND = as_dag([("A", "B"), ("B", "C"), ("A", "D"), ("D", "C"), ("C", "E")])


def category(name, values):
    codes = np.asarray(values, dtype=np.int64)
    return Variable(name, name, codes, tuple(map(str, range(codes.max() + 1))))


def number(name, values):
    return Variable(name, name, np.asarray(values, dtype=float))


def run(x, y, given=(), *, level=0.05, draws=999, seed=0):
    return independence_test(x, y, given, level=level, draws=draws, rng=np.random.default_rng(seed))


# --- what a graph implies


def test_the_papers_graph_implies_two():
    claims, untestable = implied_independencies(causal_graph())
    assert [str(claim) for claim in claims] == ["C _||_ B | X", "X _||_ Y | C, B"] and untestable == ()


def test_a_pair_that_only_a_latent_node_separates_is_named():
    graph = as_dag([("U", "X"), ("U", "Y"), ("X", "Z")], latent=["U"])
    claims, untestable = implied_independencies(graph)
    assert [str(claim) for claim in claims] == ["Y _||_ Z | X"]
    assert untestable == (("X", "Y", ("U",)),)


def test_the_smallest_set_is_found_where_a_minimal_one_is_larger():
    # {A, B} separates X and Y and none of it can be left out; {M} does so alone
    graph = as_dag([("X", "A"), ("X", "B"), ("A", "M"), ("B", "M"), ("M", "Y")])
    claims = {frozenset((c.x, c.y)): c.given for c in implied_independencies(graph)[0]}
    assert claims[frozenset("XY")] == ("M",)


@given(dags(max_nodes=6, latent=True))
@settings(max_examples=80, deadline=None)
def test_every_pair_is_tested_by_a_smallest_set_or_has_none(graph):
    claims, untestable = implied_independencies(graph)
    latent = {name for name, hidden in graph.nodes(data="latent") if hidden}
    observed = [name for name in graph if name not in latent]
    found = {frozenset((c.x, c.y)): set(c.given) for c in claims}
    assert len(found) == len(claims)
    for x, y in itertools.combinations(observed, 2):
        pair, others = frozenset((x, y)), [name for name in observed if name not in (x, y)]
        sets = (set(s) for k in range(len(others) + 1) for s in itertools.combinations(others, k))
        smallest = next((len(s) for s in sets if nx.is_d_separator(graph, x, y, s)), None)
        linked = graph.has_edge(x, y) or graph.has_edge(y, x)
        hidden = [names for a, b, names in untestable if {a, b} == {x, y}]
        if linked:
            assert smallest is None and pair not in found and not hidden
        elif smallest is None:
            assert pair not in found and hidden and set(hidden[0]) and set(hidden[0]) <= latent
        else:
            assert len(found[pair]) == smallest and nx.is_d_separator(graph, x, y, found[pair])


@given(dags(max_nodes=5), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_what_is_implied_holds_in_the_exact_law(graph, seed):
    """Property: in every SCM on the graph the conditional mutual information of each claim is zero."""
    scm = random_scm(graph, seed)
    joint, names = joint_table(scm), list(scm.graph)
    for claim in implied_independencies(graph)[0]:
        kept = [names.index(name) for name in (claim.x, claim.y, *claim.given)]
        p = joint.sum(tuple(i for i in range(len(names)) if i not in kept))
        p = np.moveaxis(p, [sorted(kept).index(i) for i in kept], range(len(kept))).reshape(2, 2, -1)
        ratio = p * p.sum((0, 1)) / (p.sum(0, keepdims=True) * p.sum(1, keepdims=True))
        assert (p * np.log(ratio)).sum() == pytest.approx(0, abs=1e-12)


# --- the tests, against closed forms


def test_the_g_test_is_scipys_when_the_table_is_dense():
    table = np.array([[30, 20, 25], [18, 40, 27]])
    x, y = (np.repeat(axis.ravel(), table.ravel()) for axis in np.indices(table.shape))
    reference = stats.chi2_contingency(table, lambda_="log-likelihood", correction=False)
    test = run(category("X", x), category("Y", y))
    assert test.method == "G test" and test.p == pytest.approx(reference.pvalue)
    assert test.estimate == pytest.approx((reference.statistic - 2) / (2 * table.sum()))


def test_strata_add_up():
    rng = np.random.default_rng(1)
    z = rng.integers(0, 3, 900)
    x, y = (z[:, None] + rng.integers(0, 2, (900, 2))).T
    parts = [
        stats.chi2_contingency(
            stats.contingency.crosstab(x[z == k], y[z == k]).count,
            lambda_="log-likelihood",
            correction=False,
        )
        for k in range(3)
    ]
    test = run(category("X", x), category("Y", y), [category("Z", z)])
    assert test.p == pytest.approx(stats.chi2.sf(sum(p.statistic for p in parts), sum(p.dof for p in parts)))


def test_a_sparse_table_gets_the_exact_p():
    """Fisher's margins: 2 x 2 with 3 and 5; the tables with G as large are enumerated."""
    x, y = np.repeat([0, 1], [3, 5]), np.array([1, 1, 1, 0, 0, 0, 0, 1])
    outcomes = np.arange(0, 4)  # how many of the first three have y = 1; four of eight have
    p = stats.hypergeom.pmf(outcomes, 8, 4, 3)

    def g(k):
        t = np.array([[3 - k, k], [1 + k, 4 - k]])
        expected = np.outer(t.sum(1), t.sum(0)) / 8
        return 2 * sum(o * math.log(o / e) for o, e in zip(t.ravel(), expected.ravel()) if o)

    exact = p[[g(k) >= g(3) - 1e-9 for k in outcomes]].sum()
    test = run(category("X", x), category("Y", y), draws=20_000)
    assert test.method == "G test, Monte Carlo"
    assert test.p == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))


def test_a_correlation_without_conditions_is_pearsons():
    rng = np.random.default_rng(2)
    x = rng.normal(size=80)
    y = 0.5 * x + rng.normal(size=80)
    test = run(number("X", x), number("Y", y))
    reference = stats.pearsonr(x, y)
    assert test.component == "X with Y" and test.estimate == pytest.approx(reference.statistic)
    assert test.p == pytest.approx(4 * reference.pvalue)  # Bonferroni over two columns each
    assert test.ci95[0] < test.estimate < test.ci95[1]


def test_a_u_shape_and_a_spread_are_seen():
    rng = np.random.default_rng(3)
    x = rng.normal(size=400)
    assert run(number("X", x), number("Y", x**2 + rng.normal(size=400))).p < 1e-4
    group = rng.integers(0, 2, 400)
    spread = run(category("X", group), number("Y", rng.normal(size=400) * (1 + group)))
    assert spread.p < 1e-4 and spread.component == "X=1 with spread of Y"


def test_conditioning_removes_a_nonlinear_common_cause():
    rng = np.random.default_rng(4)
    z = rng.normal(size=800)
    x, y = np.sin(2 * z) + rng.normal(size=800) / 2, z**2 + z + rng.normal(size=800) / 2
    assert run(number("X", x), number("Y", y)).p < 1e-6
    assert run(number("X", x), number("Y", y), [number("Z", z)]).p > 0.05


def test_no_variation_is_no_evidence():
    z = np.repeat(np.arange(4), 10)
    same = run(category("X", z), category("Y", np.arange(40) % 2), [category("Z", z)])
    assert same.n == 0 and same.p == 1 and math.isinf(same.detectable)
    smooth = run(number("X", z), number("Y", np.arange(40) % 7), [category("Z", z)])
    assert smooth.n == 0 and smooth.p == 1 and math.isinf(smooth.detectable)


def test_the_interval_of_mutual_information_covers():
    """200 tables of one law, with I known: the 95 % interval covers it in about 95 %, and the estimate is centred."""
    law = np.array([[0.22, 0.10, 0.08], [0.10, 0.20, 0.30]])
    truth = float((law * np.log(law / np.outer(law.sum(1), law.sum(0)))).sum())
    rng, inside, estimates = np.random.default_rng(5), 0, []
    for _ in range(200):
        cells = rng.choice(6, size=300, p=law.ravel())
        test = run(category("X", cells // 3), category("Y", cells % 3))
        inside += test.ci95[0] <= truth <= test.ci95[1]
        estimates.append(test.estimate)
    assert inside >= 182
    assert np.mean(estimates) == pytest.approx(truth, abs=0.005)


def test_the_detectable_effect_is_found_with_the_power_it_says():
    rng, n = np.random.default_rng(6), 300
    reach = run(category("X", rng.integers(0, 2, n)), category("Y", rng.integers(0, 2, n))).detectable
    q = 0.5  # P(Y = X) with that mutual information: log 2 - H(q) = reach
    while math.log(2) + q * math.log(q) + (1 - q) * math.log(1 - q) < reach:
        q += 1e-4
    found = 0
    for _ in range(300):
        x = rng.integers(0, 2, n)
        found += run(category("X", x), category("Y", x ^ (rng.random(n) > q))).p <= 0.05
    assert 0.72 <= found / 300 <= 0.88


def test_holm_is_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(7).random(9) ** 3
    assert holm(list(p)) == pytest.approx(list(multipletests(p, method="holm")[1]))
    assert holm([]) == []


# --- the whole: level and power


def rate(draw, graph, repetitions, **options):
    """Return the share of repetitions in which the graph is falsified."""
    return np.mean(
        [falsify(graph, draw(seed), **options).verdict == "falsified" for seed in range(repetitions)]
    )


@pytest.mark.parametrize("n", [60, pytest.param(400, marks=pytest.mark.slow)])
def test_a_true_discrete_graph_is_rejected_in_at_most_alpha(n):
    def draw(seed):
        return random_scm(DIAMOND, seed, 3).sample(n, np.random.default_rng(seed))

    # 0.05 and three standard errors of 100 repetitions
    assert rate(draw, DIAMOND, 100, discrete="ABCDE") <= 0.115


@pytest.mark.parametrize("n", [150, 600])
def test_a_true_part_world_is_rejected_in_at_most_alpha(n):
    world = PartSCM(reading_error=0.2)

    def draw(seed):
        sample = world.sample(n, np.random.default_rng(seed))
        return {name: sample[name] for name in "CXBY"}

    assert rate(draw, world.graph, 60, discrete="CXBY", continuous=()) <= 0.135


def continuous_world(seed, n=300):
    rng = np.random.default_rng(seed)
    noise = iter(rng.normal(size=(5, n)))
    a = next(noise)
    b, d = np.tanh(a) + next(noise) * (0.3 + abs(a)) / 2, a + next(noise) * (0.3 + abs(a)) / 2
    c = b + d + next(noise)
    return {"A": a, "B": b, "C": c, "D": d, "E": c + next(noise)}


def mixed_world(seed, n=300):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, n)
    b = a + rng.normal(size=n)
    d = (rng.random(n) < 0.2 + 0.5 * a).astype(int)
    c = (rng.random(n) < 1 / (1 + np.exp(0.5 - b - d))).astype(int)
    return {"A": a, "B": b, "C": c, "D": d, "E": c + rng.normal(size=n)}


@pytest.mark.parametrize("draw", [continuous_world, mixed_world])
def test_a_true_continuous_or_mixed_graph_is_rejected_in_at_most_alpha(draw):
    assert rate(draw, DIAMOND, 100) <= 0.115


@pytest.mark.parametrize("draw", [continuous_world, mixed_world])
def test_a_missing_arrow_is_found(draw):
    wrong = as_dag([edge for edge in DIAMOND.edges if edge != ("C", "E")] + [("A", "E")])
    assert rate(draw, wrong, 20) == 1


def test_a_missing_arrow_of_the_paper_is_found():
    """Without C -> Y the graph says that the factor carries nothing beyond the content; the part world says it does."""
    graph = causal_graph()
    graph.remove_edge("C", "Y")
    world = PartSCM(imbalance=20.0)

    def draw(seed):
        sample = world.sample(1500, np.random.default_rng(seed))
        return {name: sample[name] for name in "CXBY"}

    found = [falsify(graph, draw(seed), discrete="CXBY") for seed in range(10)]
    assert all(each.verdict == "falsified" for each in found)
    assert all("add C -> Y" in [change.words for change in each.changes] for each in found)


def test_a_reversed_collider_is_found_and_turned_back():
    truth, wrong = as_dag([("X", "Z"), ("Y", "Z")]), as_dag([("X", "Z"), ("Z", "Y")])
    hits = chance = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, 2, (2, 300))
        table = {"X": x, "Y": y, "Z": (x & y) ^ (rng.random(300) < 0.1)}
        chance += falsify(truth, table).verdict == "falsified"
        found = falsify(wrong, table)
        assert found.verdict == "falsified"
        hits += found.changes[0].words == "turn Z -> Y into Y -> Z"
    assert (
        chance <= 3 and hits == 20 - chance
    )  # where the truth is rejected by chance it is no explanation either


def test_two_wrongs_that_no_single_change_explains():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 500))
    table = {"A": a, "B": a ^ (rng.random(500) < 0.1), "C": b, "D": b ^ (rng.random(500) < 0.1)}
    found = falsify(as_dag([("A", "C"), ("B", "D")]), table)
    assert found.verdict == "falsified" and found.changes == ()
    assert "No single arrow" in " ".join(found.words())
    assert {str(line.claim) for line in found.lines if line.verdict == "rejected"} == {"A _||_ B", "C _||_ D"}


def test_too_few_rows_are_inconclusive_and_never_not_falsified():
    scm = random_scm(DIAMOND, 0)
    found = falsify(DIAMOND, scm.sample(25, np.random.default_rng(0)))
    assert found.verdict == "inconclusive"
    assert "Too few rows for" in " ".join(found.words()) and "no proof" not in " ".join(found.words())


def test_a_graph_with_every_arrow_has_nothing_to_test():
    graph = as_dag([("A", "B"), ("A", "C"), ("B", "C")])
    found = falsify(graph, random_scm(graph, 0).sample(100, np.random.default_rng(0)), permutations=5)
    assert found.verdict == "nothing to test" and found.lines == () and found.relabelings is None


def test_a_latent_node_with_a_column_is_taken_as_observed():
    sample = PartSCM().sample(500, np.random.default_rng(0))
    found = falsify(causal_graph(), sample, discrete="CXBYDU")
    assert {line.claim.key for line in found.lines} >= {(frozenset("CU"), frozenset())}
    assert len(found.variables) == 6


def test_the_same_seed_gives_the_same_answer_whatever_the_names():
    scm = random_scm(DIAMOND, 3, 4)
    sample = scm.sample(80, np.random.default_rng(3))
    first, again = (falsify(DIAMOND, sample, discrete="ABCDE").to_dict() for _ in range(2))
    assert first == again
    other = nx.relabel_nodes(DIAMOND, str.lower)
    renamed = falsify(other, sample, columns={name.lower(): name for name in sample}, discrete="abcde")
    assert [line.p_holm for line in renamed.lines] == [test["p_holm"] for test in first["tests"]]


# --- relabelings


def test_relabelings_agree_with_dowhy():
    """On a chain, where the local Markov condition is our only claim, DoWhy counts the same relabelings."""
    from dowhy.gcm.falsify import FalsifyConst, falsify_graph

    graph = as_dag([("A", "B"), ("B", "C")])
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    b = a + rng.normal(size=300)
    table = {"A": a, "B": b, "C": b + rng.normal(size=300)}

    def p(x, y, z=None):
        given = [] if z is None else [number(str(i), column) for i, column in enumerate(np.atleast_2d(z.T))]
        return run(number("X", x.ravel()), number("Y", y.ravel()), given).p

    import pandas as pd

    theirs = falsify_graph(
        graph,
        pd.DataFrame(table),
        independence_test=p,
        conditional_independence_test=p,
        n_permutations=-1,
        n_jobs=1,
        show_progress_bar=False,
    )
    ours = falsify(graph, table, permutations=100).relabelings
    assert ours.all and ours.n == 5
    # theirs counts the graph itself among its six
    assert theirs.summary[FalsifyConst.VALIDATE_LMC][FalsifyConst.P_VALUE] == (ours.as_good + 1) / 6
    assert len(theirs.summary[FalsifyConst.MEC]) == ours.equivalent + 1 == 2


def test_random_relabelings_leave_out_the_graph_and_follow_the_seed():
    scm = random_scm(DIAMOND, 1)
    sample = scm.sample(500, np.random.default_rng(1))
    first, same, other = (
        falsify(DIAMOND, sample, permutations=20, seed=seed).relabelings for seed in (1, 1, 2)
    )
    assert first == same and first.n == 20 and not first.all
    assert other.n == 20 and first.as_good < 20


# --- columns


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"Y": None}, {}, "no column 'Y' for the node Y"),
        ({"Y": [1] * 40}, {}, "has one value only (1)"),
        ({"Y": [1, np.nan] * 20}, {}, "has 20 missing values (first in row 2)"),
        ({"Y": [1.5, np.inf] * 20}, {}, "infinite"),
        ({"Y": [f"file{i}.png" for i in range(40)]}, {}, "an identifier"),
        ({"Y": ["1", "2", "3", "NA"] * 10}, {}, "text 'NA' among numbers"),
        ({}, {"discrete": ["Q"]}, "'Q' is not a node"),
        ({}, {"discrete": ["X"], "continuous": ["X"]}, "both discrete and continuous"),
        ({}, {"columns": {"Y": "X"}}, "column 'X' stands for X, Y"),
        ({}, {"columns": {"Y": "Yes"}}, "no column 'Yes'"),
    ],
)
def test_columns_that_cannot_be_tested_are_named(change, options, message):
    rng = np.random.default_rng(0)
    table = {"X": rng.integers(0, 2, 40), "Y": rng.normal(size=40), **change}
    with pytest.raises(CausalFTError) as caught:
        match_columns(as_dag([("X", "Y")]), {k: v for k, v in table.items() if v is not None}, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_counts_as_categories():
    table = {
        "A": [True, False] * 20,
        "B": ["cat", "None"] * 20,
        "C": [1.0, 2.0] * 20,
        "D": np.arange(40),
        "E": np.arange(40) % 20,
        "F": np.linspace(0, 1, 40),
    }
    graph = as_dag([("A", name) for name in "BCDEF"])
    kinds = {name: each.discrete for name, each in match_columns(graph, table).items()}
    assert kinds == {"A": True, "B": True, "C": True, "D": False, "E": True, "F": False}
    assert not match_columns(graph, table, continuous=["E"])["E"].discrete


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha is 0"),
        ({"alpha": 0.9}, "alpha is 0.9"),
        ({"permutations": -1}, "permutations"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(CausalFTError, match=message):
        falsify(DIAMOND, random_scm(DIAMOND, 0).sample(50, np.random.default_rng(0)), **options)


def test_a_large_graph_gets_minimal_sets_in_bounded_time(monkeypatch):
    from causalft.scm import separation

    graph = as_dag([(f"V{i}", f"V{j}") for i in range(12) for j in range(i + 1, 12) if (i * j + i + j) % 3])
    smallest = {(claim.x, claim.y): claim for claim in implied_independencies(graph)[0]}
    monkeypatch.setattr(separation, "MAX_VISITS", 1)
    claims, _ = implied_independencies(graph)
    assert {(claim.x, claim.y) for claim in claims} == set(smallest)
    for claim in claims:
        assert nx.is_d_separator(graph, claim.x, claim.y, set(claim.given))
        assert len(claim.given) >= len(smallest[claim.x, claim.y].given)
