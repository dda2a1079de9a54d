"""The documents keep up with the code: keys, options, commands, links."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli
import typer
from pydantic import BaseModel

from companion.cli.main import app
from companion.config import Config, ConfigSection, OpensipsSection, Rule
from companion.dashboard.markup.call import VERDICTS
from companion.query.readiness import REASONS
from companion.store.keys import Keys
from companion.usrloc.contact import STATUSES

PROJECT = Path(__file__).parents[2]
DOCUMENTS = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
PERSONAS = [PROJECT / "docs" / name for name in ("operator.md", "support.md", "web-phone.md")]
"""The pages for one kind of reader."""
TABLES_OF_MANY = {"opensips": OpensipsSection, "rules": Rule}
WORDS = {
    "device": "DEVICE",
    "contact": "ID",
    "aor": "AOR",
    "instance": "INSTANCE",
    "cluster": "CLUSTER",
    "address": "IP:PORT",
    "node": "NODE",
    "day": "DAY",
    "minute": "MINUTE",
    "at": "AT",
    "part": "PART",
    "shard": 0,
    "ref": "REF",
    "call_id": "CALLID",
    "group": "GROUP",
    "name": "JOB",
}
"""What docs/redis.md writes for the arguments of a key."""


def _key_methods() -> list[str]:
    methods = inspect.getmembers(Keys, inspect.isfunction)
    return [
        name
        for name, method in methods
        if name != "shard" and not name.startswith("_") and inspect.signature(method).return_annotation in (str, "str")
    ]


@pytest.mark.parametrize("name", _key_methods())
def test_keys(name: str) -> None:
    """Every key there may be in Redis is in docs/redis.md, written as it is."""
    method = getattr(Keys("companion:", 1), name)
    key = method(*(WORDS[argument] for argument in inspect.signature(method).parameters))
    assert f"`{key}`" in (PROJECT / "docs/redis.md").read_text(encoding="utf-8")


def test_configuration_says_the_defaults() -> None:
    """config.toml as it is delivered changes nothing: every value in it is the default."""
    assert Config() == Config.model_validate(tomli.loads(_config_toml()))


def test_configuration_is_complete() -> None:
    """Every option there is stands in config.toml with its default, those of [[tables]] as comments."""
    example = tomli.loads(_uncommented(_config_toml()))
    assert set() == set(_options(Config)) - set(_leaf_paths(example))


def test_example_tables_are_valid() -> None:
    """What config.toml shows as a comment can be taken as it stands."""
    Config.model_validate(tomli.loads(_uncommented(_config_toml())))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist(document: Path) -> None:
    """Each `companion …` that a document tells to type is a command, with options it has."""
    for words, options in _commands(document.read_text(encoding="utf-8")):
        parameters = _parameters(words)
        assert parameters is not None, words
        assert set(options) <= parameters, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links(document: Path) -> None:
    """Each link to a file leads to one."""
    links = re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8"))
    assert all((document.parent / link).exists() for link in links), links


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_anchors(document: Path) -> None:
    """Each link to a section leads to a heading."""
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", document.read_text(encoding="utf-8"))
    targets = [((document.parent / path) if path else document, anchor) for path, anchor in links]
    assert [(path.name, anchor) for path, anchor in targets if anchor not in _anchors(path)] == []


def test_the_readme_leads_to_every_document() -> None:
    """Whoever begins with the README finds all there is to read."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    documents = [
        *(path.relative_to(PROJECT) for path in (PROJECT / "docs").glob("*.md")),
        "ops/README.md",
        "opensips/README.md",
    ]
    assert [str(document) for document in documents if f"]({document})" not in text] == []


def test_the_source_distribution_has_what_documents_lead_to() -> None:
    """Each document, and each file that one links to, is in the source distribution; tests stay in the repository."""
    project = tomli.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    included = [PROJECT / name.lstrip("/") for name in project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]]
    linked = [
        (document.parent / link).resolve()
        for document in DOCUMENTS
        for link in re.findall(r"\]\(([^)#:]+)[)#]", document.read_text(encoding="utf-8"))
    ]
    assert [path for path in (*DOCUMENTS, *linked) if not any(path.is_relative_to(folder) for folder in included)] == []


def test_every_module_has_its_sentence() -> None:
    """docs/architecture.md has each file and folder of the companion in its table, and no other."""
    text = (PROJECT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    files = {
        path.stem
        for path in (PROJECT / "companion").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(files - {"__init__", "__main__"}) == sorted(names)


def test_make_targets() -> None:
    """Each `make …` that a document tells to type is a target."""
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        lines = _code(document.read_text(encoding="utf-8"))
        assert {match[1] for line in lines if (match := re.match(r" *make ([a-z-]+)", line))} <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_options_exist(document: Path) -> None:
    """Each `[section] option` that a document names is one."""
    options = set(_options(Config))
    names = re.findall(r"`\[+([a-z.]+)\]+ ([a-z_]+)\b", document.read_text(encoding="utf-8"))
    pairs = {f"{section}.{name}" for section, name in names}
    assert {pair for pair in pairs if pair.removesuffix("_file") not in options and pair not in options} == set()


@pytest.mark.parametrize("document", PERSONAS, ids=lambda path: path.name)
def test_words_of_pages(document: Path) -> None:
    """What a page for a reader writes in bold is on the dashboard, to the letter."""
    text = document.read_text(encoding="utf-8")
    constants = "\n".join(_constants(PROJECT / "companion/dashboard"))
    assert [words for words in re.findall(r"\*\*(.+?)\*\*", text) if words not in constants] == []


def test_tables_of_situations() -> None:
    """docs/support.md says what to tell the caller for each status and each verdict."""
    text = (PROJECT / "docs/support.md").read_text(encoding="utf-8")
    situations = [*STATUSES, *(f"**{name}**" for name, *_ in VERDICTS.values())]
    assert [word for word in situations if f"\n| {word} |" not in text] == []


@pytest.mark.parametrize("document", PERSONAS, ids=lambda path: path.name)
def test_metrics_exist(document: Path) -> None:
    """Each metric that a page for a reader names is in docs/metrics.md."""
    metrics = (PROJECT / "docs/metrics.md").read_text(encoding="utf-8")
    names = re.findall(r"opensips_companion_(\w+)", document.read_text(encoding="utf-8"))
    assert [name for name in names if f"`{name}" not in metrics] == []


def test_reasons_and_alerts_are_in_operations() -> None:
    """docs/operations.md has each reason of /readyz and each alert, and no other, with what to do."""
    text = (PROJECT / "docs/operations.md").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)", (PROJECT / "ops/prometheus/alerts.yml").read_text(encoding="utf-8"))
    reasons = re.findall(r"^\| `([a-z-]+)` \| \S[^|]* \| \[(\w+)\]", text, re.MULTILINE)
    assert [reason for reason, _ in reasons] == [*REASONS]
    assert {alert for _, alert in reasons} <= set(alerts)
    steps = re.findall(r"^\| \[(\w+)\]\(alerts\.md#\w+\) \| \S", text, re.MULTILINE)
    assert sorted(steps) == sorted(alerts)


def _constants(folder: Path) -> Iterator[str]:
    """Each text in the code of a folder, those between the values of f-strings too."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def _anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _config_toml() -> str:
    return (PROJECT / "config.toml").read_text(encoding="utf-8")


def _uncommented(text: str) -> str:
    """With the example tables in it: lines such as `# key = value` and `# [[table]]`."""
    return re.sub(r"^# (\[\[[a-z.]+\]\]|[a-z_]+ = )", r"\1", text, flags=re.MULTILINE)


def _options(model: type[BaseModel], path: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = TABLES_OF_MANY.get(name, field.annotation)
        if inspect.isclass(inner) and issubclass(inner, ConfigSection):
            yield from _options(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def _leaf_paths(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaf_paths(inner, f"{path}.{name}".lstrip("."))
    else:
        yield path


def _code(text: str) -> Iterator[str]:
    """Each line of a block of code, and what is between backticks."""
    for n, part in enumerate(re.split(r"^```.*$", text, flags=re.MULTILINE)):
        if n % 2:
            yield from part.splitlines()
        else:
            yield from re.findall(r"^    .*$", part, re.MULTILINE)
            yield from re.findall(r"`([^`\n]+)`", part)


def _commands(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """(words, options) of each `companion …` in code: its name, that of a command within it, arguments."""
    for line in _code(text):
        if match := re.match(r" *(?:\S*/)?companion ([a-z][a-z-]*[^#]*)", line):
            yield match[1].split(), re.findall(r"(?<!\S)--?[a-z][a-z-]*", match[1])


def _parameters(words: list[str]) -> set[str] | None:
    """The options of the command that these words begin with; None when there is none."""
    command: Any = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        command = command.commands.get(word)
    return command and {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("page", ["sipjs", "jssip"])
def test_web_phones(page: str) -> None:
    """What docs/media.md shows of a web phone is what the acceptance test's page does, to the letter."""
    script = (PROJECT / "tests/acceptance/web" / f"{page}.js").read_text(encoding="utf-8")
    excerpt = script.partition("// What docs/media.md shows\n")[2].partition("// So far docs/media.md")[0].strip()
    assert f"```js\n{excerpt}\n```" in (PROJECT / "docs/media.md").read_text(encoding="utf-8")
