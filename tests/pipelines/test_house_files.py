"""What stands at the root keeps its word: the pins, the compose file, the commands and paths that the pages name."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from headwise.serving.telemetry import Metrics
from headwise_pipelines.command import main
from headwise_pipelines.training import presets_of

ROOT = Path(__file__).parents[2]
SOURCES = ("platform", "recsys", "speech", "pipelines")
PAGES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")
LOCKS = ("train.txt", "serve.txt")
HEAVY = {
    "torch",
    "torchaudio",
    "torchmetrics",
    "pytorch-lightning",
    "polars",
    "mlflow",
    "mlflow-skinny",
    "scipy",
    "onnx",
}
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
NAMES = re.compile(r"\b(?:headwise|process)_\w+")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(lock: str) -> list[Requirement]:
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8").replace("\\\n", "")
    return [Requirement(line.split(" --hash")[0]) for line in text.splitlines() if line and not line.startswith("#")]


def code(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [*lines, *re.findall(r"`((?:headwise|make) [^`]+)`", text)]


def asked(page: str, program: str) -> list[list[str]]:
    commands = [re.sub(r"\s+#.*", "", line) for line in code(page)]
    found = [re.match(rf"(?:[A-Z_]+=\S+ )*{program} (.+)", command) for command in commands]
    return [match[1].split() for match in found if match]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_names_versions_markers_and_hashes_alone(lock: str) -> None:
    pin = re.compile(r"[a-z0-9-]+==[\w.]+( ; [\w .<>=!'()]+)? \\")  # goes on: at least one hash follows
    hashed = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    lines = (ROOT / "requirements" / lock).read_text(encoding="utf-8").splitlines()
    odd = [line for line in lines if not (line.startswith("#") or pin.fullmatch(line) or hashed.fullmatch(line))]
    assert odd == []


def test_lock_is_of_the_present_pyproject() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = [
        Requirement(each) for each in (*PROJECT["dependencies"], *(item for extra in extras.values() for item in extra))
    ]
    locked = {canonicalize_name(pin.name): pin for pin in pins("train.txt")}
    for need in wanted:
        if need.name != "headwise":
            pin = locked[canonicalize_name(need.name)]
            assert need.specifier.contains(str(pin.specifier).removeprefix("==")), f"{need}: run make lock"


def test_server_holds_what_it_needs_as_tested_and_nothing_that_trains() -> None:
    serve, train = ({str(pin) for pin in pins(lock)} for lock in ("serve.txt", "train.txt"))
    names = {canonicalize_name(pin.name) for pin in pins("serve.txt")}
    assert serve <= train
    assert not names & HEAVY
    assert names >= {canonicalize_name(Requirement(each).name) for each in PROJECT["optional-dependencies"]["serve"]}


def test_no_source_root_is_a_package() -> None:
    roots = [ROOT / name for name in SOURCES]
    assert [path for root in roots if (path := root / "__init__.py").exists()] == []
    assert list((ROOT / "tests").rglob("__init__.py")) == [], "a package named platform shadows Python's own module"


def test_compose_file_is_valid_and_its_images_can_be_found() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout
    builds = {(each["build"]["dockerfile"], each["build"]["target"]) for each in COMPOSE.values() if "build" in each}
    assert {target for _, target in builds} == {"mlflow", "train", "server"}
    for dockerfile, target in builds:
        assert re.search(rf"^FROM \S+ AS {target}$", (ROOT / dockerfile).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", COMPOSE)
def test_every_service_is_pinned_read_only_and_watched(name: str) -> None:
    service = COMPOSE[name]
    once = service["restart"] == "no"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert once or service["healthcheck"]["test"][0] == "CMD"
    assert "build" in service or re.search(r":v?\d+(\.\d+)*(-alpine)?$", service["image"])
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


def test_example_of_the_secrets_names_all_that_must_be_chosen() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    example = (ROOT / "deploy/example.env").read_text(encoding="utf-8")
    given = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert needed <= given.keys()
    assert [name for name in needed if given[name]] == []  # a secret that stands in a repository is none


def test_every_file_that_a_service_mounts_is_there() -> None:
    mounts = [mount.split(":")[0] for service in COMPOSE.values() for mount in service.get("volumes", [])]
    assert [mount for mount in mounts if mount.startswith("./deploy") and not (ROOT / mount).exists()] == []


def test_dashboard_asks_for_metrics_that_the_server_has() -> None:
    board = json.loads((ROOT / "deploy/grafana/dashboards/headwise.json").read_text(encoding="utf-8"))
    asked = {name for panel in board["panels"] for target in panel["targets"] for name in NAMES.findall(target["expr"])}
    told = {metric.name for metric in Metrics().registry.collect()}
    assert len(asked) > 10
    assert {re.sub("_(total|bucket|sum|count)$", "", name) for name in asked} <= told


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {word for words in asked(page, "make") for word in words if "=" not in word}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_headwise_command_that_a_page_names_exists(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, *words in asked(page, "headwise"):
        if name == "train":
            product, preset = words[:2]
            assert product == "PRODUCT" or preset == "PRESET" or preset in presets_of(product)
            continue
        if not name.startswith("--"):
            with pytest.raises(SystemExit, match=r"^0$"):
                main([name, "--help"])
            known = capsys.readouterr().out
            assert [word for word in words if word.startswith("--") and word not in known] == [], name


def test_every_folder_of_the_readme_tree_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = next(block for block in readme.split("```") if "platform/headwise/" in block)
    room, missing = ROOT, []
    for line in tree.splitlines():
        if match := re.match(r"(\s*)([\w./-]+/)(?:\s|$)", line):
            folder = (room if match[1] else ROOT) / match[2]
            room = room if match[1] else folder
            missing += [] if folder.is_dir() else [match[2]]
    assert missing == []


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("platform/headwise/files.py", "import torch", "What answers requests needs numpy and ONNX Runtime alone"),
        ("recsys/headwise_recsys/losses/softmax.py", "import headwise_speech.text", "Imports point down"),
        ("platform/headwise/export/onnx.py", "import headwise.serving.session", "do not know each other"),
    ],
)
def test_an_import_in_the_wrong_direction_breaks_its_contract(
    tmp_path: Path, file: str, line: str, contract: str
) -> None:
    for source in SOURCES:
        shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")
    paths = os.pathsep.join(str(tmp_path / source) for source in SOURCES)
    ran = subprocess.run(
        [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 1, ran.stdout
    rows = [row for row in ran.stdout.splitlines() if row.endswith("BROKEN")]
    assert len(rows) == 1
    assert contract in rows[0]
