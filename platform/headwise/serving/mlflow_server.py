"""An MLflow tracking server through its REST API: what is registered, and the files of a version."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

from headwise.errors import InputError, NotFound
from headwise.model_folder import CARD

API = "api/2.0/mlflow"
FILES = "api/2.0/mlflow-artifacts/artifacts"
SCHEME = "mlflow-artifacts"
PATIENCE = 30  # seconds without a byte


class Unreachable(InputError):
    """The server does not answer, or answers that it cannot at the moment."""


class MlflowServer:
    """A registry (see `headwise.serving.registry`) behind http or https.

    Reads MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, as MLflow does.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")

    def names(self) -> list[str]:
        """All registered names."""
        return sorted(model["name"] for model in self._pages("registered-models/search", "registered_models"))

    def versions(self, name: str) -> list[str]:
        """The versions of one name, oldest first; none if there is no such name."""
        quoted = f'"{name}"' if "'" in name else f"'{name}'"
        found = self._pages("model-versions/search", "model_versions", filter=f"name={quoted}")
        return sorted((model["version"] for model in found), key=int)

    def aliases(self, name: str) -> dict[str, str]:
        """The aliases of one name, each with its version."""
        model = self._json(API, "registered-models/get", name=name)["registered_model"]
        return {each["alias"]: each["version"] for each in model.get("aliases", [])}

    def location(self, name: str, version: str) -> str:
        """The URI of a version's artifacts."""
        uri: str = self._json(API, "model-versions/get-download-uri", name=name, version=version)["artifact_uri"]
        if not uri.startswith("runs:/"):
            return uri
        run, _, path = uri.removeprefix("runs:/").partition("/")
        return f"{self._json(API, 'runs/get', run_id=run)['run']['info']['artifact_uri']}/{path}".rstrip("/")

    def keeps(self, location: str) -> bool:
        """Whether this server hands out the files at a location."""
        return urlsplit(location).scheme == SCHEME

    def has_file(self, location: str, path: str) -> bool:
        """Whether a file is among a version's artifacts; `path` is relative to them."""
        folder, _, name = _inside(location, path).rpartition("/")
        files = self._json(FILES, path=folder).get("files", [])
        return any(Path(each["path"]).name == name and not each.get("is_dir") for each in files)

    def fetch_model(self, location: str, inside: str, target: Path) -> None:
        """Fetches `model.json` and the files that it lists, and no others, into a new folder.

        Args:
            location: of the version's artifacts.
            inside: the folder in them where `model.json` lies.
            target: the folder to make.

        Raises:
            InputError: a file cannot be had, or `model.json` is no card.
        """
        target.mkdir(parents=True)
        self._fetch(_inside(location, inside, CARD), target / CARD)
        try:
            names = list(json.loads((target / CARD).read_text(encoding="utf-8"))["files"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.uri}: {location}/{inside}/{CARD} cannot be read ({error}); register again"
            ) from error
        for name in names:
            if Path(name).name != name:
                raise InputError(f"{self.uri}: {location}/{inside}/{CARD} lists {name!r}, which is outside its folder")
            self._fetch(_inside(location, inside, name), target / name)

    def _fetch(self, path: str, target: Path) -> None:
        with self._get(f"{FILES}/{quote(path)}") as response, target.open("wb") as file:
            shutil.copyfileobj(response, file, 1 << 20)

    def _pages(self, call: str, key: str, **query: str) -> Iterator[dict[str, Any]]:
        token = ""
        while True:
            page = self._json(API, call, **query, **({"page_token": token} if token else {}))
            yield from page.get(key, [])
            token = page.get("next_page_token", "")
            if not token:
                return

    def _json(self, *path: str, **query: str) -> dict[str, Any]:
        with self._get("/".join(path), query) as response:
            try:
                answer = json.loads(response.read())
            except ValueError as error:
                raise InputError(f"{self.uri}: answers, but not as an MLflow server does; check the address") from error
        return dict(answer)

    @contextmanager
    def _get(self, path: str, query: dict[str, str] | None = None) -> Iterator[HTTPResponse]:
        url = f"{self.uri}/{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            with urlopen(Request(url, headers=_authorisation()), timeout=PATIENCE) as response:
                yield response
        except HTTPError as error:
            with error:
                raise _refused(self.uri, path, error) from error
        except (URLError, HTTPException, OSError) as error:
            why = getattr(error, "reason", error)
            raise Unreachable(f"{self.uri}: cannot be reached ({why}); start it, or set MLFLOW_TRACKING_URI") from error


def _inside(location: str, *parts: str) -> str:
    path = "/".join([urlsplit(location).path, *parts])
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _authorisation() -> dict[str, str]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _refused(uri: str, path: str, error: HTTPError) -> InputError:
    try:
        message = json.loads(error.read())["message"]
    except (ValueError, KeyError, TypeError, OSError):
        message = error.reason
    if error.code == 404:
        return NotFound(f"{uri}: {path}: {message}")
    hints = {
        401: "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        403: "; the server may not know this host name: see MLFLOW_SERVER_ALLOWED_HOSTS",
    }
    kind = Unreachable if error.code >= 500 else InputError
    return kind(f"{uri}: {path}: {error.code} {message}{hints.get(error.code, '')}")
