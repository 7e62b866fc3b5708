"""Recommendations for every user of an event table, into one Parquet file, at the speed of all cores."""

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl

from headwise.errors import InputError
from headwise.files import replacing
from headwise.files import sha256 as digest_of
from headwise.model_folder import CARD
from headwise.serving.registry import resolve
from headwise_pipelines.recsys.served import Served
from headwise_recsys.ids import Id
from headwise_recsys.interactions import Interactions
from headwise_recsys.prepare import prepare
from headwise_recsys.splits import Queries

USERS = 2048  # of one part: what is lost when the work is stopped, on each core
EVERY = 2.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Batch:
    """What is asked for.

    Attributes:
        served: the model beside the data.
        data: the users' events.
        k: items for each user, at most.
        at: when it is asked, in seconds, for a model that knows it.
    """

    served: Served
    data: Interactions
    k: int
    at: int

    @property
    def parts(self) -> int:
        """How many parts the users are divided into."""
        return -(-self.data.users // USERS)

    def part(self, number: int) -> pl.DataFrame:
        """The rows of one part: user, rank, item, score; none for a user without an item that the model knows."""
        users = slice(number * USERS, min((number + 1) * USERS, self.data.users))
        starts, stops = self.data.offsets[users], self.data.offsets[1:][users]
        lists = self.served.recommended(self.data, Queries(starts, stops, stops - 1), k=self.k, at=self.at)
        asked = zip(self.data.user_ids[users], lists, strict=True)
        rows = [(user, range(1, len(items) + 1), items, scores.tolist()) for user, (items, scores) in asked if items]
        schema = {
            "user": _kind(self.data.user_ids),
            "rank": pl.List(pl.UInt32),
            "item": pl.List(_kind(self.served.ids)),
            "score": pl.List(pl.Float32),
        }
        return pl.DataFrame(rows, schema=schema, orient="row").explode("rank", "item", "score")


def _kind(ids: Sequence[Id]) -> pl.DataType:
    return pl.Series(ids[:1]).dtype  # ids of one data set are all numbers or all text


def recommend_all(
    model: str, users: Path, out: Path, *, k: int, work: Path, at: int | None = None
) -> Mapping[str, Any]:
    """Writes the k best next items of every user.

    A run that was stopped goes on where it was when the same is asked again: finished parts lie in a hidden folder beside `out`.

    Args:
        model: `models:/name@alias`, `models:/name/version` or a model folder.
        users: their events, in any form that training reads.
        out: a `.parquet` file that does not exist yet, with the columns user, rank, item and score.
        k: items for each user.
        work: where prepared data are kept.
        at: when it is asked, in seconds since 1970, for a model that knows the query's time; now by default.

    Returns:
        The file, and how many users, users without an answer, and seconds there were.

    Raises:
        NotFound: there is no such model or file.
        InputError: `out` exists or is no Parquet file, k is out of bounds, or the model knows none of the items.
    """
    if out.suffix != ".parquet":
        raise InputError(f"--out {out}: a name that ends with .parquet is needed")
    if out.exists():
        raise InputError(f"--out {out}: exists already; choose another name, or remove it")
    began = time.monotonic()
    located = resolve(model)
    data = prepare(users, work / "data", min_count=1)
    served = Served(located.folder, data, threads=1)
    asked = {"model": digest_of(located.folder / CARD), "data": data.fingerprint, "k": k, "at": at}
    parts = out.with_name(f".{out.name}.{sha256(json.dumps(asked).encode()).hexdigest()[:12]}")
    parts.mkdir(parents=True, exist_ok=True)
    batch = Batch(served, data, k, int(time.time()) if at is None else at)
    _write(batch, parts)
    answered = _join(parts, out)
    seconds = time.monotonic() - began
    _say(f"{out}: up to {k} items for {answered:,} of {data.users:,} users, in {seconds:.1f} s")
    return {"file": str(out), "users": data.users, "answered": answered, "k": k, "seconds": round(seconds, 2)}


def _write(batch: Batch, folder: Path) -> None:
    left = [number for number in range(batch.parts) if not _path(folder, number).is_file()]
    if len(left) < batch.parts:
        _say(f"continued: {batch.parts - len(left)} of {batch.parts} parts are there")
    began = told = time.monotonic()

    def write(number: int) -> None:
        with replacing(_path(folder, number)) as draft:
            batch.part(number).write_parquet(draft)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="part") as pool:
        try:
            for done, future in enumerate(as_completed([pool.submit(write, number) for number in left]), 1):
                future.result()
                if time.monotonic() - told > EVERY:
                    told = time.monotonic()
                    rate = done / (told - began)
                    _say(
                        f"part {done:,} of {len(left):,}, {rate * USERS:,.0f} users/s, {(len(left) - done) / rate:,.0f} s left"
                    )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _join(folder: Path, out: Path) -> int:
    parts = pl.scan_parquet(sorted(folder.glob("*.parquet")))
    with replacing(out) as draft:
        parts.sink_parquet(draft)
    shutil.rmtree(folder)
    return int(pl.scan_parquet(out).filter(pl.col("rank") == 1).select(pl.len()).collect().item())


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:07}.parquet"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
