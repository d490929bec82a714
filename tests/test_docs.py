"""What the documentation promises exists: commands and options in shell blocks, make targets, links, doctests."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import click
import pytest
import yaml

from causalft.cli import VERBS, main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "bench" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [
    page for folder in ("tutorials", "extend") for page in sorted((ROOT / "docs" / folder).glob("*.md"))
]
PAGES += [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


def shell_lines(text):
    """Yield the command lines of sh blocks and of ``%%bash`` cells, continued lines joined."""
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"^%%bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    # A command in the middle of a sentence counts too, if it names a verb.
    blocks += [line for line in re.findall(r"`(causalft [a-z][^`\n]*)`", text) if "..." not in line]
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                yield line.strip()


LINES = [(page, line) for page in PAGES for line in shell_lines(page.read_text(encoding="utf-8"))]
CAUSALFT = [(page, line) for page, line in LINES if re.match(r"(\.venv/bin/)?causalft\b", line)]
MAKE = [(page, line) for page, line in LINES if line.startswith("make ")]


def check_command(line):
    """Walk a command line through the click tree; return what does not exist, or None."""
    words = shlex.split(re.split(r" [|>&]", line)[0], comments=True)[1:]
    command: click.Command = main
    while words and not words[0].startswith("-") and isinstance(command, click.Group):
        child = command.get_command(click.Context(command), words[0])
        if child is None:
            return f"no command {words[0]!r}"
        command, words = child, words[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"--help", "-h"}
    for word in words:
        if word.startswith("--") and word.split("=")[0] not in options:
            return f"no option {word} of {command.name}"
    return None


def test_there_are_commands_to_check():
    assert {line.split()[1] for _, line in CAUSALFT if " " in line} >= {
        "verify-confounder",
        "fit",
        "predict",
        "zoo",
    }
    assert len(MAKE) >= 4


@pytest.mark.parametrize("line", sorted({line for _, line in CAUSALFT}))
def test_commands_of_the_pages_exist(line):
    assert check_command(line) is None, f"{[page.name for page, found in CAUSALFT if found == line]}: {line}"


def test_a_wrong_command_is_noticed():
    assert "no command" in check_command("causalft fitt --out x")
    assert "no option" in check_command("causalft fit --no-such-option x")


def test_the_array_example_of_the_readme_does_what_it_says():
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    [block] = [block for block in blocks if "BackdoorClassifier" in block]
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    seen, done = names["seen"], names["done"]
    assert seen[1] - seen[0] > 0.4
    assert abs(done[1] - done[0]) < 0.2


def test_python_blocks_of_the_readme_import_what_exists():
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("from causalft")]
    assert len(lines) >= 2
    for line in lines:
        exec(line, {})


def defined_names(module):
    """The names at the top level of a module, read without importing it; None if there is no such module."""
    base = ROOT.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not path.exists():
        return None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        for alias in getattr(node, "names", [])
        if isinstance(alias, ast.alias)
    }
    names |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    names |= {
        name.id
        for node in tree.body
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    # Names that a package imports on first use are the keys of a table.
    return names | {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def test_modules_and_names_that_the_pages_mention_exist():
    imports = re.compile(r"from ((?:causalft|synthetic|experiments)[\w.]*) import (?:\()?([\w, ]+)")
    roles = re.compile(r"\{(?:func|class|data|mod)\}`~?([\w.]+)`")
    elsewhere = {
        name
        for _, objects in inventories().LIBRARIES.values()
        for names in objects.values()
        for name in names
    }
    wrong = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = {
            f"{module}.{name.split()[0]}"
            for module, names in imports.findall(text)
            for name in names.split(",")
            if name.strip()
        } | set(roles.findall(text))
        for path in found - elsewhere:
            module, _, name = path.rpartition(".")
            if defined_names(path) is None and name not in (defined_names(module) or ()):
                wrong.append(f"{page.name}: {path}")
    assert not wrong


def inventories():
    """The module docs/inventories.py."""
    spec = importlib.util.spec_from_file_location("inventories", ROOT / "docs" / "inventories.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_inventories_of_other_libraries_can_be_read_and_name_what_is_used(tmp_path):
    module = inventories()
    sources = [
        path for package in ("causalft", "docs", "synthetic") for path in (ROOT / package).rglob("*.*")
    ]
    used = "".join(
        path.read_text(encoding="utf-8")
        for path in sources
        if path.suffix in (".py", ".md") and "_" != path.parts[-2][0]
    )
    for library, (base, objects) in module.LIBRARIES.items():
        head, packed = module.write(library, tmp_path).read_bytes().split(b"zlib.\n", 1)
        assert head.startswith(b"# Sphinx inventory version 2\n") and base.endswith("/")
        lines = zlib.decompress(packed).decode().splitlines()
        assert len(lines) == sum(map(len, objects.values()))
        for line in lines:
            name, role, priority, page, title = line.split(" ")
            assert (role[:3], priority, title) == ("py:", "1", "-") and page.endswith(
                name.rpartition(".")[2]
            ), line
            assert used.count(name.rpartition(".")[2]) > 1, f"{name} is not used"


def test_make_targets_of_the_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    for page, line in MAKE:
        assert line.split()[1] in targets or "=" in line.split()[1], f"{page.name}: {line}"
    assert {"demo", "test", "bench", "docs", "lint"} <= targets


def test_links_between_pages_lead_somewhere():
    pattern = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
    links = [(page, link) for page in PAGES for link in pattern.findall(page.read_text(encoding="utf-8"))]
    assert len(links) >= 10
    for page, link in links:
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^([a-z][\w/-]*)$", index, flags=re.MULTILINE))
    below = (ROOT / "docs" / "extend" / "index.md").read_text(encoding="utf-8")
    listed |= {f"extend/{name}" for name in re.findall(r"^([a-z][\w/-]*)$", below, flags=re.MULTILINE)}
    pages = {
        str(page.relative_to(ROOT / "docs").with_suffix(""))
        for folder in ("", "tutorials", "extend", "api")
        for page in (ROOT / "docs" / folder).glob("*.md")
    } - {"index"}
    assert pages == listed


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    command = main.get_command(None, verb)
    assert command.help
    silent = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
    assert not silent, f"options of {verb} without help: {silent}"


def test_doctests_are_part_of_the_default_run():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
        "ini_options"
    ]
    assert "--doctest-modules" in options["addopts"]
    assert {"causalft", "synthetic", "experiments"} <= set(options["testpaths"])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "causalft/errors.py",
        "-p",
        "no:cacheprovider",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "causalft.errors.nearest" in result.stdout


def test_one_version_everywhere():
    version = importlib.import_module("causalft").__version__
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_pages_name_no_machine():
    for page in [
        *PAGES,
        ROOT / "Makefile",
        ROOT / "setup.cfg",
        ROOT / "pyproject.toml",
        ROOT / ".ci" / "run",
    ]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"(^|[\s(`'\"])/(home|root|work|tmp|Users)/", text), page.name


def strings_of_the_program():
    """Every text in the sources, with a zero byte for each hole of an f-string."""
    found = set()
    for package in ("causalft", "synthetic"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                    found.add("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


def quoted_messages():
    """The messages of the troubleshooting page: the first cells of its tables that are code."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^\| (?:`` (.+?) ``|`([^`]+)`) \| ", text, flags=re.MULTILINE)


def test_every_message_of_the_troubleshooting_page_is_one_that_the_program_prints():
    messages = [one or other for one, other in quoted_messages()]
    assert len(messages) > 30
    strings = strings_of_the_program()
    unknown = []
    for message in messages:
        # A hole of the message is a hole of the text, which may go on after it.
        pattern = re.compile(r".*\0.*".join(re.escape(part) for part in message.split("...")), re.DOTALL)
        if not any(pattern.search(string) for string in strings):
            unknown.append(message)
    assert not unknown


def test_the_glossary_is_in_order_and_names_what_the_pages_and_results_name():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^(\S.*)\n: ", text, flags=re.MULTILINE)
    assert terms == sorted(terms, key=str.casefold) and len(terms) == len(set(terms)) > 40
    for term in (
        "stratum",
        "zoo",
        "P group",
        "D group",
        "own gap",
        "backdoor path",
        "front door",
        "logit adjustment",
    ):
        assert term in terms
    for term, meaning in re.findall(r"^(\S.*)\n: (.+(?:\n  .+)*)", text, flags=re.MULTILINE):
        assert len(meaning) < 420, f"{term}: a glossary has a line or two"


def test_no_page_names_a_placeholder_for_the_repository():
    for path in (*PAGES, ROOT / "CITATION.cff", ROOT / "setup.cfg"):
        text = path.read_text(encoding="utf-8")
        found = re.search(
            r"\bgit clone\b|\bREPOSITORY\b|your-org|<(URL|url|repo\w*)>|example\.(com|org)", text
        )
        assert found is None, f"{path.name}: {found[0] if found else ''}"


def test_hooks_and_hosted_checks_run_what_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    [hooks] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert hooks["repo"] == "local"
    for hook in hooks["hooks"]:
        command = hook["entry"].removesuffix(" --force-exclude")
        assert re.search(rf"^step \w+ {re.escape(command)}( |$)", ci, flags=re.MULTILINE), command
    hosted = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert [step["run"] for step in hosted["jobs"]["check"]["steps"] if "run" in step] == [".ci/run"]


def draw_formulas(text):
    """Refuse what the docs build cannot draw."""
    from docutils.utils.math.latex2mathml import tex2mathml

    found = re.findall(
        r"\$\$(.+?)\$\$|(?<![\\\w$])\$([^$\n](?:[^$]*?[^$\s])?)\$(?!\d)", text, flags=re.DOTALL
    )
    for block, inline in found:
        tex2mathml((block or inline).strip(), as_block=bool(block))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_formulas_are_drawn_by_the_docs_build(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    draw_formulas(re.sub(r"`[^`]*`", "", text))


def test_formulas_of_the_tables_are_drawn_by_the_docs_build():
    """Records write them, and the tables of docs/tables.py show them: no dollar opens in the middle of a word."""
    from causalft.methods.adaptation.at_test import AT_TEST
    from causalft.models.tuning.choices import HEADS, LOSSES

    for record in (*LOSSES.values(), *HEADS.values(), *AT_TEST.values()):
        parts = record.formula.split("$")
        assert len(parts) % 2, record.name
        draw_formulas(" ".join(f"${each}$" for each in parts[1::2]))


def test_what_the_paper_tutorial_found_is_computed_from_the_stored_verdict(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "tutorials" / "the-paper-claim-by-claim.md").read_text(encoding="utf-8")
    section = page.partition("## What we found")[2].partition("\n## ")[0]
    (tmp_path / "full.json").write_bytes((ROOT / "docs" / "verdict.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    seen = {"json": json}
    for cell in re.findall(r"```\{code-cell\} ipython3\n(.*?)```", section, re.DOTALL):
        exec(cell, seen)
    assert "Fig. 2" in seen["table"].index and seen["table"]["supported"].sum() > 0
    assert "Under LA a P gap remains:\n    mini +" in capsys.readouterr().out
