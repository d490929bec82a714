"""Run every experiment of a scale, one after another, in folders side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalft.errors import CausalFTError, first_few
from causalft.runs.folder import CONFIG, METRICS, Run
from causalft.version import __version__
from experiments import LONG_MINUTES

if TYPE_CHECKING:
    from experiments import Experiment

__all__ = ["given_of", "needed_of", "outlook", "run_all", "run_name"]

_LATE = f"takes over {LONG_MINUTES} minutes; add --long"


def run_name(name: str, scale: str, brought: Mapping[str, Any] | None = None) -> str:
    """Name of a run's folder.

    Examples
    --------
    >>> run_name("tab8", "mini"), run_name("tab8", "photo"), run_name("tab8", "full", {"set": "places-lt"})
    ('tab8', 'tab8-photo', 'tab8-full-places-lt')
    """
    words = [] if scale == "mini" else [scale]
    words += [str(brought["set"])] if brought and brought.get("set") else []
    return "-".join([name, *words])


def needed_of(experiment: Experiment, scale: str, brought: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that are given and that the experiment takes at a scale.

    Raises
    ------
    CausalFTError
        For inputs that are missing, and those it does not use.
    """
    given = given_of(experiment, scale, brought)
    for what in experiment.needed_at(scale):
        if what not in given:
            raise CausalFTError(f"{experiment.name} needs --{what}: {experiment.command_at(scale)}")
    return given


def given_of(experiment: Experiment, scale: str, brought: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that are given, needed or not.

    Raises
    ------
    CausalFTError
        For an input that the experiment does not use at the scale, or an unknown set.
    """
    from experiments.frame.sets import get_set

    given = {what: value for what, value in brought.items() if value}
    takes = experiment.taken_at(scale)
    for what in given:
        if what not in takes:
            raise CausalFTError(
                f"--{what} does nothing for {experiment.name} at the scale {scale}, which brings its own; leave it out"
            )
    if "set" in given:
        get_set(given["set"])
    return given


def run_all(
    root: Path,
    scale: str,
    quick: bool,
    seeds: int | None,
    brought: Mapping[str, Any],
    say: Callable[..., object] = lambda *_, **__: None,
    jobs: int | None = None,
    long: bool = False,
) -> dict[str, dict[str, Any]]:
    """Run the experiments of a scale that have what they need; those that are complete are kept.

    Parameters
    ----------
    root : path
        Folder of the runs.
    scale : str
    quick : bool
    seeds : int, optional
        Default: each experiment's own; complete runs with more are kept too.
    brought : mapping
        ``data``, ``zoo``, ``set``, ``weights`` and ``offline``, as far as they are given.
    say : callable
        Prints a line.
    jobs : int
        Processes that train side by side; default: :func:`experiments.frame.side_by_side.usual_jobs`.
    long : bool
        Also those over :data:`experiments.LONG_MINUTES`.

    Returns
    -------
    dict of str to dict
        Per name: ``state`` (``made``, ``kept``, ``left out`` or ``failed``), ``folder``, and ``why`` of the last two.

    Raises
    ------
    CausalFTError
        For an unknown scale, missing data, or complete results of another version, scale, size or data.
    """
    from experiments import EXPERIMENTS
    from experiments.frame.scales import get_scale
    from experiments.frame.side_by_side import usual_jobs

    for what in get_scale(scale).needs:
        if not brought.get(what):
            some = next(each for each in EXPERIMENTS.values() if each.study is not None)
            raise CausalFTError(f"the scale {scale} needs --{what}: {some.command_at(scale, 'all')}")
    chosen = {}
    found: dict[str, dict[str, Any]] = {}
    for name, experiment in EXPERIMENTS.items():
        why = _left_out(root, experiment, scale, quick, brought, long)
        if why:
            found[name] = {"state": "left out", "folder": None, "why": why}
            say(f"{name}: left out, {why}: {_command(experiment, scale)}", soft_wrap=True)
            continue
        chosen[name] = {what: brought[what] for what in experiment.taken_at(scale) if brought.get(what)}
    for what in brought:
        if brought[what] and not any(what in needed for needed in chosen.values()):
            late = [name for name, row in found.items() if row["why"] == _LATE]
            takers = [name for name in late if what in EXPERIMENTS[name].taken_at(scale)]
            if takers:
                raise CausalFTError(
                    f"--{what} is for {first_few(takers)}, left out without --long; add --long"
                )
            raise CausalFTError(
                f"--{what} does nothing at the scale {scale}, which brings its own; leave it out"
            )
    for name, needed in chosen.items():  # before anything is computed
        experiment, folder = EXPERIMENTS[name], root / run_name(name, scale, needed)
        if _complete(folder):
            _check_same(folder, experiment, scale, quick, seeds, needed)
    for number, (name, needed) in enumerate(chosen.items(), 1):
        experiment, folder = EXPERIMENTS[name], root / run_name(name, scale, needed)
        n_seeds = seeds or (1 if quick else experiment.seeds)
        state = "kept" if _complete(folder) else "made"
        if state == "made":
            say(
                f"{number} of {len(chosen)}  {name}: {experiment.reproduces}: {experiment.claim}",
                soft_wrap=True,
            )
            try:
                experiment.run(folder, quick, n_seeds, scale, jobs=jobs or usual_jobs(scale), **needed)
            except CausalFTError as error:  # the others may still run
                found[name] = {"state": "failed", "folder": None, "why": str(error)}
                say(f"{name}: failed, {error}", soft_wrap=True)
                continue
        found[name] = {"state": state, "folder": str(folder)}
        say(f"{name}: {state}, {folder / 'report.html'}", soft_wrap=True)
    return found


def outlook(
    root: Path, scale: str, quick: bool, brought: Mapping[str, Any], long: bool = False
) -> dict[str, Any]:
    """What :func:`run_all` would do, with minutes.

    Parameters
    ----------
    root, scale, quick, brought, long
        As in :func:`run_all`; what every experiment of the scale needs counts as given.

    Returns
    -------
    dict
        ``scale``; ``experiments``: rows of ``name``, ``state`` (``to run``, ``kept`` or ``left out``), ``why`` if left
        out, ``minutes`` and ``command``; ``minutes``: sum of those to run, which counts models that several share more
        than once. Minutes are None where they are not known: of quick runs, and at other scales than ``mini``.

    Raises
    ------
    CausalFTError
        For an unknown scale.
    """
    from experiments import EXPERIMENTS
    from experiments.frame.scales import get_scale

    given = {
        **dict.fromkeys(get_scale(scale).needs, True),
        **{key: value for key, value in brought.items() if value},
    }
    timed = scale == "mini" and not quick
    rows: list[dict[str, Any]] = []
    for name, experiment in EXPERIMENTS.items():
        why = _left_out(root, experiment, scale, quick, given, long)
        state = "kept" if _complete(root / run_name(name, scale, brought)) else "to run"
        minutes = experiment.minutes if timed else None
        row = {"name": name, "state": "left out" if why else state, "why": why, "minutes": minutes}
        rows.append(row | {"command": _command(experiment, scale)})
    total = sum(row["minutes"] for row in rows if row["state"] == "to run") if timed else None
    return {"scale": scale, "experiments": rows, "minutes": total}


def _left_out(
    root: Path, experiment: Experiment, scale: str, quick: bool, brought: Mapping[str, Any], long: bool
) -> str:
    """Why an experiment is left out; "" if it is not. A long one that is complete is not."""
    why = _lacks(experiment, scale, brought)
    if why or not experiment.is_long or long or quick:
        return why
    return "" if _complete(root / run_name(experiment.name, scale, brought)) else _LATE


def _command(experiment: Experiment, scale: str) -> str:
    return experiment.command_at("mini" if experiment.study is None else scale)


def _lacks(experiment: Experiment, scale: str, brought: Mapping[str, Any]) -> str:
    if experiment.study is None and scale != "mini":
        return "has one scale of its own"
    lacking = [what for what in experiment.needed_at(scale) if not brought.get(what)]
    return f"needs --{', --'.join(lacking)}" if lacking else ""


def _complete(folder: Path) -> bool:
    return (folder / CONFIG).is_file() and (folder / METRICS).is_file()


def _check_same(
    folder: Path,
    experiment: Experiment,
    scale: str,
    quick: bool,
    seeds: int | None,
    needed: Mapping[str, Any],
) -> None:
    """Refuse complete results that this command would not make; without ``seeds``, more than usual are kept."""
    run = Run.open(folder, "experiment")
    made = run.metrics.get("made", {}).get("version")
    if made != __version__:
        raise CausalFTError(
            f"{folder} holds results of version {made}, this is {__version__}; remove it or choose another --out"
        )
    usual = 1 if quick else experiment.seeds
    seeds = seeds or max(usual, run.config.get("seeds", usual))
    asked: dict[str, Any] = {"name": experiment.name, "quick": quick, "seeds": seeds}
    if experiment.study is not None:
        from experiments import MEMBERS
        from experiments.frame.scales import get_scale

        world = get_scale(scale).open(quick, folder.absolute().parent / MEMBERS, needed)
        asked |= {"scale": scale, **world.described}
    weights = asked.pop("sha256", {})
    for key, value in asked.items():
        if run.config.get(key) != value:
            raise CausalFTError(
                f"{folder} holds results of {key} {run.config.get(key)!r}, not {value!r}; remove it or choose another "
                "--out"
            )
    made_with = run.config.get("sha256", {})
    for name, sha in weights.items():
        if made_with.get(name) != sha:
            raise CausalFTError(
                f"{folder} holds results of other weights of {name}; remove it or choose another --out"
            )
