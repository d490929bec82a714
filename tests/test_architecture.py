"""The code keeps to the plan of docs/architecture.md: imports go down, in no circle, and nothing heavy comes early."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load_house():
    spec = importlib.util.spec_from_file_location("house", ROOT / "docs" / "house.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


house = load_house()
ROOMS = house.floors()
MODULES = house.imports()
ARROWS = house.rooms_imports(MODULES, ROOMS)


def test_the_plan_and_the_code_name_the_same_rooms():
    assert len(ROOMS) == 13
    doors = {"causalft", "causalft.__main__"}
    homeless = [module for module in set(MODULES) - doors if house.room_of(module, ROOMS) is None]
    assert not homeless, f"modules outside every room of docs/architecture.md: {homeless}"
    empty = [room for room in ROOMS if not any(house.room_of(module, ROOMS) == room for module in MODULES)]
    assert not empty, f"rooms drawn without code: {empty}"


def test_imports_go_down():
    upward = [lines for (start, end), lines in ARROWS.items() if ROOMS[end] >= ROOMS[start]]
    assert not upward, f"imports that go up, or to a room on the same floor: {upward}"


def test_a_floor_is_one_above_the_highest_that_the_room_imports():
    assert house.derived_floors(set(ARROWS), ROOMS) == ROOMS, "write these floors into docs/architecture.md"


def test_few_arrows_join_the_rooms():
    assert len(ARROWS) <= 70


def test_no_cycle_between_rooms_or_modules():
    rooms = {room: {end for start, end in ARROWS if start == room} for room in ROOMS}
    assert house.cycle(rooms) == []
    inside = {module: {name for name in names if name in MODULES} for module, names in MODULES.items()}
    assert house.cycle(inside) == []


def test_no_circle_between_the_folders_of_a_room():
    def folder(module):
        parts = module.split(".")
        inside = len(parts) > 2 and ROOT.joinpath(*parts[:3]).is_dir()
        return ".".join(parts[:3]) if inside else None

    folders = {}
    for module, names in MODULES.items():
        if (start := folder(module)) is not None:
            ends = {
                folder(name) for name in names if house.room_of(name, ROOMS) == house.room_of(module, ROOMS)
            }
            folders.setdefault(start, set()).update(ends - {start, None})
    assert len(folders) > 10
    assert house.cycle(folders) == []


def test_the_kit_of_pages_knows_no_answer():
    below = {end for start, end in ARROWS if start == "causalft.report"}
    assert below <= {"causalft.runs", "causalft.errors"}, f"causalft.report imports {below}"


def test_who_may_know_the_part_world():
    allowed = {"causalft.scm", "causalft.runs", "causalft.errors"}
    beyond = {end for start, end in ARROWS if start == "synthetic"} - allowed
    assert not beyond, f"synthetic imports {beyond}"
    users = {
        module
        for module, names in MODULES.items()
        if any(name.split(".")[0] == "synthetic" for name in names) and not module.startswith("synthetic")
    }
    rooms = {house.room_of(module, ROOMS) for module in users}
    assert rooms <= {
        "causalft.data",
        "causalft.models",
        "causalft.analysis",
        "causalft.pipelines",
        "causalft.cli",
        "experiments",
    }
    assert {module for module in users if module.startswith("causalft.data")} <= {"causalft.data.creatures"}


def test_the_graph_needs_no_torch():
    heavy = {"torch", "torchvision", "open_clip"}
    guilty = [
        module
        for module, names in MODULES.items()
        if module.startswith("causalft.scm") and {name.split(".")[0] for name in names} & heavy
    ]
    assert not guilty


@pytest.mark.parametrize("module", ["causalft", "causalft.cli", "causalft.errors", "causalft.runs.folder"])
def test_light_modules_load_nothing_heavy(module):
    heavy = (
        "{'torch', 'torchvision', 'dowhy', 'pgmpy', 'matplotlib', 'open_clip', 'pandas', 'sklearn', 'scipy'}"
    )
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from causalft.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(sorted({'torch', 'dowhy', 'pgmpy', 'matplotlib', 'open_clip', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "verify-confounder" in result.stdout
    assert result.stdout.strip().splitlines()[-1] == "[]"


def source_of(module):
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"


def calls(module):
    """Return the names of the functions and methods that a module calls, as written: ``torch.load``, ``x.backward``."""
    tree = ast.parse(source_of(module).read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_one_training_loop():
    trainers = {module for module in MODULES if any(name.endswith(".backward") for name in calls(module))}
    # steps on a batch of a stream, at test time, have no epochs and no labels
    assert trainers == {"causalft.models.tuning.train", "causalft.methods.adaptation.at_test.adapting"}


def test_no_pickle():
    for module, names in MODULES.items():
        assert not {"pickle", "joblib", "dill", "cloudpickle"} & {name.split(".")[0] for name in names}, (
            module
        )
        forbidden = {"torch.save", "torch.load", "np.load", "np.save"}
        if module == "causalft.models.weights.file":  # on request only, and then tensors and nothing else
            assert source_of(module).read_text().count("torch.load(") == 1
            assert "weights_only=True" in source_of(module).read_text()
            forbidden -= {"torch.load"}
        assert not forbidden & calls(module), module


def test_every_imported_package_is_declared():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = config["options.extras_require"]
    lines = config["options"]["install_requires"] + "".join(
        extras[extra] for extra in extras if extra not in ("dev", "docs")
    )
    declared = {
        re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0].lower() for line in lines.split("\n") if line.strip()
    }
    declared = {name.replace("_", "-") for name in declared}
    owners = packages_distributions()
    missing = {}
    for module, names in MODULES.items():
        for top in {name.split(".")[0] for name in names}:
            if top in sys.stdlib_module_names or top in house.PACKAGES or top == "__future__":
                continue
            if not {owner.lower().replace("_", "-") for owner in owners.get(top, [top])} & declared:
                missing.setdefault(top, []).append(module)
    assert not missing, f"imported but not in setup.cfg: {missing}"


def test_every_data_file_is_packaged():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    packaged = set()
    for package, patterns in config["options.package_data"].items():
        for pattern in patterns.split():
            packaged |= set((ROOT / package).glob(pattern))
    data = {
        path
        for package in house.PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"} and not path.name.startswith(".")
    }
    assert data <= packaged, f"files that an installed package would lack: {sorted(data - packaged)}"


def test_every_module_says_what_it_is_for():
    for module in MODULES:
        source = source_of(module)
        tree = ast.parse(source.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{source.relative_to(ROOT)} has no opening sentence"
        length = len(source.read_text(encoding="utf-8").splitlines())
        assert length <= 500, f"{source.relative_to(ROOT)} has {length} lines; a file is one idea"


def test_a_cycle_is_found():
    assert house.cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert house.cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    diamond = {"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}
    assert house.cycle(diamond) == []


def test_only_implied_arrows_are_left_out_of_the_figure():
    arrows = {("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}
    assert house.essential(arrows) == {("a", "b"), ("b", "c"), ("a", "d")}


def test_a_figure_of_rooms_in_a_circle_is_refused_with_its_name():
    arrows = {("a", "b"), ("b", "c"), ("c", "b"), ("a", "c")}
    with pytest.raises(ValueError, match="in a circle: c -> b -> c"):
        house.essential(arrows)
