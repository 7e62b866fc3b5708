"""MLflow's own SQLite file, read directly: what is registered, and where the files of a version lie."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from headwise.errors import InputError, NotFound

DELETED = "Deleted_Internal"  # the stage of a version that was deleted: MLflow keeps its row


class MlflowDatabase:
    """A registry (see `headwise.serving.registry`) in MLflow's own SQLite file; never written to."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator["MlflowDatabase"]:
        """The registry in a file, open to be read inside the block.

        Raises:
            NotFound: there is no such file.
            InputError: it is no database of MLflow's.
        """
        if not path.is_file():
            raise NotFound(f"{path}: there is no such registry; train a model first, or set MLFLOW_TRACKING_URI")
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        try:
            yield cls(path, connection)
        except sqlite3.Error as error:
            raise InputError(f"{path}: not an MLflow database that can be read ({error})") from error
        finally:
            connection.close()

    def names(self) -> list[str]:
        """All registered names."""
        return [row[0] for row in self._rows("SELECT name FROM registered_models ORDER BY name")]

    def versions(self, name: str) -> list[str]:
        """The versions of one name, oldest first; none if there is no such name."""
        query = "SELECT version FROM model_versions WHERE name = ? AND current_stage <> ? ORDER BY version"
        return [str(row[0]) for row in self._rows(query, name, DELETED)]

    def aliases(self, name: str) -> dict[str, str]:
        """The aliases of one name, each with its version."""
        rows = self._rows("SELECT alias, version FROM registered_model_aliases WHERE name = ?", name)
        return {alias: str(version) for alias, version in rows}

    def location(self, name: str, version: str) -> str:
        """The URI of a version's artifacts."""
        query = (
            "SELECT coalesce(nullif(storage_location, ''), source) FROM model_versions WHERE name = ? AND version = ?"
        )
        [(uri,)] = self._rows(query, name, version)
        for prefix, query in (
            ("runs:/", "SELECT artifact_uri FROM runs WHERE run_uuid = ?"),
            ("models:/", "SELECT artifact_location FROM logged_models WHERE model_id = ?"),
        ):
            if uri.startswith(prefix):
                key, _, path = uri.removeprefix(prefix).partition("/")
                rows = self._rows(query, key)
                if not rows:
                    raise NotFound(f"models:/{name}/{version}: {self._path} has no {uri} any more; register it again")
                return f"{rows[0][0]}/{path}".rstrip("/")
        return str(uri)

    def _rows(self, query: str, *values: str) -> list[tuple[str, ...]]:
        return self._connection.execute(query, values).fetchall()
