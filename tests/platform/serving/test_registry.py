import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import urlopen

import pytest

from headwise.errors import InputError, NotFound
from headwise.model_folder import ModelCard, read_card, writing
from headwise.serving.registry import Located, moves, resolve, version_of

# The columns that are read of what MLflow 3.17 writes; test_a_store_that_mlflow_made holds them against MLflow itself.
SCHEMA = """
    CREATE TABLE registered_models (name TEXT);
    CREATE TABLE registered_model_aliases (alias TEXT, version INTEGER, name TEXT);
    CREATE TABLE model_versions (name TEXT, version INTEGER, source TEXT, storage_location TEXT, current_stage TEXT);
    CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT);
    CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT);
"""


@pytest.fixture(name="model")
def model_fixture(tmp_path: Path) -> Path:
    """What MLflow keeps of a registered model: files of its own, and our folder whole in `headwise/`."""
    with writing(tmp_path / "kept/headwise", ModelCard("recommender", "tiny", {}, {}, {}, {})) as draft:
        (draft / "items.json").write_text("[101]")
    (tmp_path / "kept/MLmodel").write_text("flavors:")
    return tmp_path / "kept"


@pytest.fixture(name="database")
def database_fixture(tmp_path: Path, model: Path) -> Path:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO registered_models VALUES (?)", [("recommender",), ("recogniser",)])
        connection.executemany(
            "INSERT INTO model_versions VALUES ('recommender', ?, ?, ?, ?)",
            [
                (1, "models:/m-5", str(model), "None"),
                (2, "runs:/r7/model", "runs:/r7/model", "None"),
                (3, "s3://bucket/model", None, "None"),
                (7, "models:/m-5", "", "None"),
                (10, "models:/m-9", f"file://{model}", "None"),
                (11, "x", "x", "Deleted_Internal"),
            ],
        )
        connection.execute("INSERT INTO registered_model_aliases VALUES ('champion', 2, 'recommender')")
        connection.execute("INSERT INTO runs VALUES ('r7', ?)", [str(model.parent)])
        connection.execute("INSERT INTO logged_models VALUES ('m-5', ?)", [str(model)])
    (model.parent / "model").symlink_to(model)
    return path


def test_a_folder_stands_for_itself(model: Path) -> None:
    assert resolve(str(model / "headwise")) == Located(model / "headwise")
    assert resolve(str(model)) == Located(model / "headwise")


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("models:/recommender@champion", "2"),
        ("models:/recommender/1", "1"),
        ("models:/recommender/007", "7"),
        ("models:/recommender/latest", "10"),
    ],
)
def test_names_in_a_database(database: Path, reference: str, version: str) -> None:
    located = resolve(reference, registry=f"sqlite:///{database}")
    assert (located.name, located.version) == ("recommender", version)
    assert read_card(located.folder).name == "tiny"


def test_the_registry_comes_from_the_environment_or_lies_here(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(database.parent)
    assert resolve("models:/recommender/1").version == "1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///none.db")
    with pytest.raises(NotFound, match=r"none.db: there is no such registry; train a model first"):
        resolve("models:/recommender/1")


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        (
            "models:/recommender@chum",
            NotFound,
            r"no alias 'chum' .*; aliases: champion \(version 2\); versions: 1, 2, 3, 7, 10",
        ),
        ("models:/recommender/4", NotFound, r"no version 4 .*; it has 1, 2, 3, 7, 10"),
        ("models:/recommend@champion", NotFound, r"no model 'recommend' .*; it holds recogniser, recommender"),
        ("models:/recommender/3", InputError, r"lie at s3://bucket/model, .*set MLFLOW_TRACKING_URI"),
        ("models:/recommender", InputError, r"write models:/NAME@ALIAS, models:/NAME/VERSION, or a folder"),
        ("models:/../1", InputError, r"write models:/NAME@ALIAS"),
        ("nowhere", NotFound, r"nowhere: not a model folder, there is no such folder"),
        (".", NotFound, r"not a model folder, it has no model.json"),
    ],
)
def test_what_cannot_be_found(
    database: Path, monkeypatch: pytest.MonkeyPatch, reference: str, error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(database.parent)
    with pytest.raises(error, match=message):
        resolve(reference, registry=f"sqlite:///{database}")


def test_other_registries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="start `mlflow server` in front of it"):
        resolve("models:/a/1", registry="postgresql://host/db")
    (tmp_path / "a.db").write_text("no database, only text, and long enough to be taken for a header of one")
    with pytest.raises(InputError, match=r"a.db: not an MLflow database"):
        resolve("models:/a/1", registry=f"sqlite:///{tmp_path}/a.db")


class FakeMlflow(BaseHTTPRequestHandler):
    """The calls of MLflow's REST API that are used, over a folder; test_a_server_of_mlflow holds them against MLflow."""

    root: ClassVar[Path]
    seen: ClassVar[list[str]]
    model_id: ClassVar[str]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.seen.append(url.path)
        match url.path.removeprefix("/api/2.0/").split("/", 2):
            case ["mlflow", "registered-models", "search"]:
                first = {"registered_models": [{"name": "recommender"}], "next_page_token": "more"}
                self._json({"registered_models": [{"name": "recogniser"}]} if "page_token" in query else first)
            case ["mlflow", "model-versions", "search"]:
                known = query["filter"] == "name='recommender'"
                self._json({"model_versions": [{"version": "10"}, {"version": "9"}]} if known else {})
            case ["mlflow", "registered-models", "get"]:
                self._json({"registered_model": {"aliases": [{"alias": "champion", "version": "9"}]}})
            case ["mlflow", "model-versions", "get-download-uri"]:
                uri = f"mlflow-artifacts:/{self.model_id}" if query["version"] == "9" else "runs:/r7/kept"
                self._json({"artifact_uri": uri})
            case ["mlflow", "runs", "get"]:
                self._json({"run": {"info": {"artifact_uri": "mlflow-artifacts:/runs"}}})
            case ["mlflow-artifacts", "artifacts"]:
                folder = self._path(query.get("path", ""))
                files = sorted(folder.iterdir()) if folder.is_dir() else []
                self._json({"files": [{"path": file.name, "is_dir": file.is_dir()} for file in files]})
            case ["mlflow-artifacts", "artifacts", path]:
                self._send(200, self._path(unquote(path)).read_bytes())
            case _:
                self._json({"message": "no such call"}, 404)

    def _path(self, artifact: str) -> Path:
        return self.root / artifact.replace("runs/", "").replace(self.model_id, "kept")

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(name="server")
def server_fixture(model: Path) -> Iterator[str]:
    FakeMlflow.root, FakeMlflow.seen, FakeMlflow.model_id = model.parent, [], "m-5"
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeMlflow) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def fetches() -> int:
    return sum(path.startswith("/api/2.0/mlflow-artifacts/artifacts/") for path in FakeMlflow.seen)


def test_a_model_is_fetched_once_and_only_its_own_files(server: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    located = resolve("models:/recommender@champion", registry=server, cache=cache)
    assert located == Located(cache / "recommender/9", "recommender", "9")
    assert read_card(located.folder).name == "tiny"
    assert {file.name for file in located.folder.iterdir()} == {"model.json", "items.json", "origin.txt"}
    assert fetches() == 2
    resolve("models:/recommender@champion", registry=server, cache=cache)
    assert fetches() == 2
    FakeMlflow.model_id = "m-6"  # another model under the same name and version: the server was set up anew
    resolve("models:/recommender/9", registry=server, cache=cache)
    assert fetches() == 4


def test_a_model_that_a_run_logged(server: str, tmp_path: Path) -> None:
    located = resolve("models:/recommender/latest", registry=server, cache=tmp_path / "cache")
    assert located.version == "10"
    assert read_card(located.folder).name == "tiny"


def test_a_fetch_that_breaks_leaves_nothing(server: str, tmp_path: Path, model: Path) -> None:
    (model / "headwise/items.json").unlink()
    with pytest.raises(InputError, match="cannot be reached"):
        resolve("models:/recommender/9", registry=server, cache=tmp_path / "cache")
    assert not list((tmp_path / "cache/recommender").iterdir())


def test_a_card_that_points_elsewhere_is_refused(server: str, tmp_path: Path, model: Path) -> None:
    (model / "headwise/model.json").write_text(json.dumps({"files": {"../../evil": {}}}))
    with pytest.raises(InputError, match=r"lists '../../evil', which is outside its folder"):
        resolve("models:/recommender/9", registry=server, cache=tmp_path / "cache")


def test_what_a_server_does_not_have(server: str, tmp_path: Path, model: Path) -> None:
    with pytest.raises(NotFound, match=r"no model 'x' .*; it holds recogniser, recommender"):
        resolve("models:/x/1", registry=server, cache=tmp_path)
    (model / "headwise/model.json").unlink()
    with pytest.raises(NotFound, match=r"registered without a headwise model folder"):
        resolve("models:/recommender/9", registry=server, cache=tmp_path)
    with pytest.raises(NotFound, match=r"no such call"):
        resolve("models:/recommender/9", registry=f"{server}/elsewhere", cache=tmp_path)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"http://127.0.0.1:1: cannot be reached .*set MLFLOW_TRACKING_URI"):
        resolve("models:/recommender/9", registry="http://127.0.0.1:1", cache=tmp_path)


def test_a_server_that_goes_away_leaves_the_last_version_that_was_fetched(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    resolve("models:/recommender/latest", registry=server, cache=cache)
    champion = resolve("models:/recommender@champion", registry=server, cache=cache)

    def away(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError("nobody listens")

    monkeypatch.setattr("headwise.serving.mlflow_server.urlopen", away)
    assert resolve("models:/recommender@champion", registry=server, cache=cache) == champion
    assert resolve("models:/recommender/latest", registry=server, cache=cache).version == "10"
    assert "nobody listens" in caplog.text
    assert "recommender/9 is served, the last one that was fetched" in caplog.text
    for reference, registry in (("models:/recommender@new", server), ("models:/recommender@champion", f"{server}0")):
        with pytest.raises(InputError, match="cannot be reached"):
            resolve(reference, registry=registry, cache=cache)


REGISTER = """
import sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
client.create_registered_model("recommender")
with mlflow.start_run() as run:
    mlflow.log_artifacts(sys.argv[2], "model")
logged = mlflow.initialize_logged_model(name="model")
client.log_model_artifacts(logged.model_id, sys.argv[2])
client.finalize_logged_model(logged.model_id, "READY")
client.create_model_version("recommender", f"runs:/{run.info.run_id}/model", run.info.run_id)
client.create_model_version("recommender", f"models:/{logged.model_id}", model_id=logged.model_id)
client.set_registered_model_alias("recommender", "champion", "2")
"""


def register(uri: str, model: Path, environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-c", REGISTER, uri, model], check=True, cwd=model.parent, env=environment, timeout=120
    )


def check_both_versions(uri: str, tmp_path: Path) -> None:
    for reference, version in (("models:/recommender@champion", "2"), ("models:/recommender/1", "1")):
        located = resolve(reference, registry=uri, cache=tmp_path / "cache")
        assert located.version == version
        assert read_card(located.folder).name == "tiny"
    with pytest.raises(NotFound, match=r"no model 'x' .*; it holds recommender"):
        resolve("models:/x@champion", registry=uri, cache=tmp_path / "cache")
    with pytest.raises(NotFound, match=r"aliases: champion \(version 2\); versions: 1, 2"):
        resolve("models:/recommender@chum", registry=uri, cache=tmp_path / "cache")


@pytest.fixture(name="quiet")
def quiet_fixture() -> dict[str, str]:
    settings = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "OMP_NUM_THREADS": "1",
    }
    return {**os.environ, **settings}


@pytest.mark.slow
def test_a_store_that_mlflow_made(model: Path, tmp_path: Path, quiet: dict[str, str]) -> None:
    uri = f"sqlite:///{tmp_path}/made.db"
    register(uri, model, quiet)
    check_both_versions(uri, tmp_path)


@pytest.mark.slow
def test_a_server_of_mlflow(model: Path, tmp_path: Path, quiet: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/served.db",
        "--artifacts-destination",
        str(tmp_path / "files"),
    ]
    quiet_process = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    with subprocess.Popen(command, cwd=tmp_path, env=quiet, **quiet_process) as server:  # type: ignore[call-overload]
        try:
            uri = f"http://127.0.0.1:{port}"
            wait_for(f"{uri}/health")
            register(uri, model, quiet)
            check_both_versions(uri, tmp_path)
            assert (tmp_path / "cache/recommender/2/items.json").is_file()
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # its workers too


def wait_for(url: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    pytest.fail(f"{url} did not answer within a minute")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("models:/recommender@champion", True),
        ("models:/recommender/latest", True),
        ("models:/recommender/3", False),
        ("some/folder", False),
    ],
)
def test_what_can_name_another_version_later(reference: str, expected: bool) -> None:
    assert moves(reference) is expected


def test_the_version_alone(database: Path) -> None:
    registry = f"sqlite:///{database}"
    assert version_of("models:/recommender@champion", registry=registry) == "2"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE registered_model_aliases SET version = 7")
    assert version_of("models:/recommender@champion", registry=registry) == "7"
