"""Where a model lies: a folder, or a name in an MLflow registry, read without MLflow so that the server stays small.

    models:/recommender@champion    the version that an alias points to
    models:/recommender/3           one version; `latest` is the highest
    some/folder                     a model folder as it is

A registry is a tracking server (http, https), asked through its REST API, or MLflow's own SQLite file, read directly.
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from headwise.errors import InputError, NotFound
from headwise.files import replacing
from headwise.model_folder import CARD
from headwise.serving.mlflow_database import MlflowDatabase
from headwise.serving.mlflow_server import MlflowServer, Unreachable

DEFAULT = "sqlite:///mlflow.db"
CACHE = Path(".headwise/models")
ORIGIN = "origin.txt"  # beside a fetched model's files: where they came from, since a new registry counts from 1 again
LAST = "last "  # and a reference: the version that was fetched for it last
INSIDE = ("headwise", ".")  # where our folder lies in a registered model's own

log = logging.getLogger(__name__)

REFERENCE = re.compile(r"models:/(?P<name>[^/:@.][^/:@]*)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+|latest))")


@dataclass(frozen=True)
class Located:
    """A model folder on this machine, and what the registry calls it (None for a plain folder)."""

    folder: Path
    name: str | None = None
    version: str | None = None


class Registry(Protocol):
    """A place where models are registered."""

    def names(self) -> list[str]:
        """All names."""

    def versions(self, name: str) -> list[str]:
        """The versions of one name, oldest first; none if there is no such name."""

    def aliases(self, name: str) -> dict[str, str]:
        """The aliases of one name, each with its version."""

    def location(self, name: str, version: str) -> str:
        """The URI of a version's artifacts."""


def moves(reference: str) -> bool:
    """Whether the version that a reference names can become another one: an alias moves, and so does `latest`."""
    match = REFERENCE.fullmatch(reference)
    return match is not None and (match["alias"] is not None or match["version"] == "latest")


def version_of(reference: str, *, registry: str | None = None) -> str:
    """The version that a reference of a registry names now.

    Raises:
        NotFound: there is no such name, alias or version.
        InputError: the registry cannot be read.
    """
    match, uri = _parsed(reference), _uri(registry)
    with _opened(uri) as store:
        return _version(store, uri, match["name"], match["alias"], match["version"])


def resolve(reference: str, *, registry: str | None = None, cache: Path = CACHE) -> Located:
    """The local folder of the model that a reference names, fetched if it lies on a tracking server.

    A server that cannot be reached is no reason not to start: the version that was fetched last for this reference is taken.

    Args:
        reference: `models:/name@alias`, `models:/name/version` or a folder.
        registry: an MLflow tracking URI; by default MLFLOW_REGISTRY_URI, MLFLOW_TRACKING_URI, or `mlflow.db` here.
        cache: where fetched models are kept, by name and version.

    Raises:
        NotFound: there is no such folder, name, alias or version; the text lists those that there are.
        InputError: the reference or the registry cannot be read.
    """
    if not reference.startswith("models:"):
        return Located(_model_folder(Path(reference)))
    match, uri = _parsed(reference), _uri(registry)
    try:
        return _located(match, uri, cache)
    except Unreachable as error:
        kept = _last(match, uri, cache)
        if kept is None:
            raise
        log.warning("%s: %s is served, the last one that was fetched", error, f"{kept.name}/{kept.version}")
        return kept


def _parsed(reference: str) -> re.Match[str]:
    match = REFERENCE.fullmatch(reference)
    if not match:
        raise InputError(f"{reference}: not a model; write models:/NAME@ALIAS, models:/NAME/VERSION, or a folder")
    return match


def _uri(registry: str | None) -> str:
    return registry or os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT


def _located(match: re.Match[str], uri: str, cache: Path) -> Located:
    reference = match[0]
    with _opened(uri) as store:
        name = match["name"]
        version = _version(store, uri, name, match["alias"], match["version"])
        location = store.location(name, version)
        if isinstance(store, MlflowServer) and store.keeps(location):
            folder = _fetched(store, location, _kept(cache, name, version), reference)
            with replacing(_kept(cache, name, LAST + quote(reference, safe=""))) as draft:
                draft.write_text(version, encoding="utf-8")
        else:
            folder = _model_folder(_local_path(location, reference))
    return Located(folder, name, version)


def _last(match: re.Match[str], uri: str, cache: Path) -> Located | None:
    """What was fetched last for a reference from a server that cannot be reached now."""
    note = _kept(cache, match["name"], LAST + quote(match[0], safe=""))
    if not note.is_file():
        return None
    version = note.read_text(encoding="utf-8")
    folder = _kept(cache, match["name"], version)
    origin = folder / ORIGIN
    if not origin.is_file() or not origin.read_text(encoding="utf-8").startswith(f"{uri.rstrip('/')} "):
        return None
    return Located(folder, match["name"], version)


def _kept(cache: Path, name: str, what: str) -> Path:
    return cache / quote(name, safe="") / what


@contextmanager
def _opened(uri: str) -> Iterator[Registry]:
    if uri.startswith(("http://", "https://")):
        yield MlflowServer(uri)
    elif uri.startswith("sqlite:///"):
        with MlflowDatabase.opened(Path(unquote(uri.removeprefix("sqlite:///")))) as registry:
            yield registry
    else:
        raise InputError(
            f"MLFLOW_TRACKING_URI {uri}: models are read from an http(s) server or a sqlite:/// file; "
            "start `mlflow server` in front of it and give its address"
        )


def _version(store: Registry, uri: str, name: str, alias: str | None, version: str | None) -> str:
    versions = store.versions(name)
    if not versions:
        raise NotFound(f"no model {name!r} in {uri}; it holds {', '.join(store.names()) or 'none'}")
    if version == "latest":
        return versions[-1]
    if version is not None:
        if str(int(version)) not in versions:
            raise NotFound(f"{name} has no version {version} in {uri}; it has {', '.join(versions)}")
        return str(int(version))
    aliases = store.aliases(name)
    if alias not in aliases:
        known = ", ".join(f"{each} (version {number})" for each, number in sorted(aliases.items())) or "none"
        raise NotFound(f"{name} has no alias {alias!r} in {uri}; aliases: {known}; versions: {', '.join(versions)}")
    return aliases[alias]


def _fetched(server: MlflowServer, location: str, folder: Path, reference: str) -> Path:
    origin = f"{server.uri} {location}\n"
    mark = folder / ORIGIN
    if mark.is_file() and mark.read_text(encoding="utf-8") == origin:
        return folder
    inside = next((path for path in INSIDE if server.has_file(location, f"{path}/{CARD}")), None)
    if inside is None:
        raise NotFound(
            f"{reference}: registered without a headwise model folder ({CARD}); export and register it again"
        )
    with replacing(folder) as draft:
        server.fetch_model(location, inside, draft)
        (draft / ORIGIN).write_text(origin, encoding="utf-8")
    return folder


def _local_path(location: str, reference: str) -> Path:
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    if parts.scheme:
        raise InputError(
            f"{reference}: its files lie at {location}, which cannot be read from here; set MLFLOW_TRACKING_URI to the "
            "address of an `mlflow server` that serves artifacts"
        )
    return Path(location)


def _model_folder(path: Path) -> Path:
    for inside in INSIDE:
        if (path / inside / CARD).is_file():
            return path / inside
    why = f"it has no {CARD}" if path.is_dir() else "there is no such folder"
    raise NotFound(f"{path}: not a model folder, {why}; give one made by `headwise export`, or models:/NAME@ALIAS")
