"""The documentation covers what there is, what it names exists, and stale generated parts are found."""

import inspect
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from docs import diagrams, generate
from docs.reference_tables import SETTINGS, alert_rules, families, service_routes
from heart.settings import variable
from monitoring.retraining.run import Retrain
from monitoring.retraining.webhook import api as receiver
from serve.batch import __main__ as batch
from stages.params import SECTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# The pages of the site, whose links Sphinx checks, and those beside it.
SITE = sorted(DOCS.glob("*.md"))
BESIDE = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "benchmarks/README.md",
    ROOT / "monitoring/README.md",
]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))
LATER = {"data/production/labelled.csv", "data/production/labelled.csv.dvc", "docs/_build/html"}
FOLDERS = (
    "benchmarks data deploy docs examples heart metrics monitoring requirements serve stages tests"
)


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def headings(text: str) -> set[str]:
    return set(re.findall(r"^#+ (.*)$", text, re.MULTILINE))


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


# What there is, is documented


@pytest.mark.parametrize("program", SETTINGS)
def test_every_setting_is_documented(program: str) -> None:
    kind = SETTINGS[program]

    for name in kind.model_fields:
        assert f"`{variable(kind, name)}`" in page("settings")


def test_every_route_of_the_service_is_documented() -> None:
    for route in service_routes():
        assert f" {route.path}`" in page("api")


def test_every_route_of_the_receiver_is_documented() -> None:
    paths = re.findall(r"@app\.(get|post)\(\"([^\"]+)\"", inspect.getsource(receiver))

    assert paths
    for method, path in paths:
        assert f"`{method.upper()} {path}`" in page("retraining")


@pytest.mark.parametrize("program", ["service", "receiver"])
def test_every_metric_is_documented(program: str) -> None:
    names = {name for name, *_ in families(program)}

    assert len(names) > 3
    for name in names:
        assert re.search(rf"`{name}(_total|_info)?`", page("metrics")), name


def test_every_alert_has_a_section_in_the_runbook() -> None:
    recorded = yaml.safe_load((ROOT / "monitoring/prometheus/rules.yml").read_text())["groups"]
    names = {rule["title"] for rule in alert_rules()}
    names |= {rule["alert"] for group in recorded for rule in group["rules"] if "alert" in rule}

    assert names <= headings(page("runbook"))


def test_every_parameter_is_documented() -> None:
    fields = {section: list(kind.model_fields) for section, kind in SECTIONS.items()}
    fields[Retrain.stage] = list(Retrain.model_fields)

    for section, names in fields.items():
        for name in names:
            assert f"`{section}.{name}" in page("pipeline")


def test_every_option_of_batch_scoring_is_documented() -> None:
    options = set(re.findall(r"\[(--?[a-z-]+)", batch.command_line().format_usage()))

    for option in options - {"-h"}:
        assert f"`{option}" in page("batch_scoring"), option


def test_every_benchmark_is_documented() -> None:
    for target in re.findall(r"^(bench-[a-z-]+):", MAKEFILE, re.MULTILINE):
        assert f"`make {target}`" in page("benchmarks")


# What the documentation names exists


def code(path: Path) -> str:
    """What a page shows as code: only there `make` is a command."""
    text = path.read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)])


def outputs() -> set[str]:
    """What DVC makes: it exists in no fresh clone."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    entries = [e for stage in stages for kind in ("outs", "plots") for e in stage.get(kind, [])]
    return {e if isinstance(e, str) else next(iter(e)) for e in entries}


@pytest.mark.parametrize("path", [*SITE, *BESIDE], ids=label)
def test_every_command_that_a_page_names_exists(path: Path) -> None:
    assert set(re.findall(r"\bmake ([a-z][a-z-]+)", code(path))) <= TARGETS


@pytest.mark.parametrize("path", [*SITE, *BESIDE], ids=label)
def test_every_path_that_a_page_names_exists(path: Path) -> None:
    folders = FOLDERS.replace(" ", "|")
    named = set(re.findall(rf"`((?:{folders})/[\w./-]*)`", path.read_text()))

    for name in named - outputs() - LATER:
        assert (ROOT / name.replace("NAME", "train")).exists(), name


@pytest.mark.parametrize("path", BESIDE, ids=label)
def test_every_link_of_a_page_beside_the_site_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^):]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        linked = path.parent / file

        assert linked.exists(), target
        if anchor:
            anchors = {
                re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
                for heading in headings(linked.read_text())
            }
            assert anchor in anchors, target


def test_every_target_of_the_makefile_has_help() -> None:
    assert set(re.findall(r"^([a-z][a-z-]+):(?!=)", MAKEFILE, re.MULTILINE)) == TARGETS


# The generated parts


def only(page: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only page that is generated, beside the files that are not pages."""
    page.write_text(text)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(generate, "pages", lambda: [page])
    monkeypatch.setattr(generate, "env_file", str)
    monkeypatch.setattr(diagrams, "PICTURES", {})
    return page


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["generate", *arguments])
    generate.main()


STALE = "before\n<!-- generated: settings drift -->\nold\n<!-- end -->\nafter\n"


def test_check_fails_on_a_stale_page_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = only(tmp_path / "page.md", STALE, monkeypatch)

    with pytest.raises(SystemExit, match=r"out of date: .*page\.md"):
        run(monkeypatch, "--check")
    assert path.read_text() == STALE


def test_generate_fills_the_marked_parts_and_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = only(tmp_path / "page.md", STALE, monkeypatch)

    run(monkeypatch)

    filled = path.read_text()
    assert filled.startswith("before\n<!-- generated: settings drift -->\n| variable |")
    assert filled.endswith("|\n<!-- end -->\nafter\n")
    assert "HEART_DRIFT_INTERVAL_SECONDS" in filled
    run(monkeypatch, "--check")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!-- generated: nothing -->\n<!-- end -->\n", "no generated part is named 'nothing'"),
        ("<!-- generated: settings drift -->\n", "has no line <!-- end -->"),
    ],
)
def test_a_part_that_cannot_be_generated_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(SystemExit, match=reason):
        generate.filled(text, "page.md")


def test_the_settings_of_the_example_are_written_anew_and_the_stack_stays() -> None:
    committed = (ROOT / ".env.example").read_text()
    _, start, stack = committed.partition(generate.STACK)

    assert generate.env_file(f"# Old\n{start}{stack}") == committed
    assert stack


def test_an_example_without_the_stack_is_an_error() -> None:
    with pytest.raises(SystemExit, match="has no line '# The stack'"):
        generate.env_file("# Old\n")


def test_a_stage_without_a_place_in_the_picture_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document: dict[str, Any] = {"stages": {"publish": {"deps": []}}}
    monkeypatch.setattr(diagrams, "yaml", SimpleNamespace(safe_load=lambda _: document))
    monkeypatch.chdir(ROOT)

    with pytest.raises(SystemExit, match="no place for publish"):
        diagrams.pipeline()
