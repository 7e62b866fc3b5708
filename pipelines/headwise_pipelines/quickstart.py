"""`headwise quickstart`: the whole job for both products, on data made here, in minutes.

Raw data is generated, prepared, trained on, tracked, exported, proved, registered, served over HTTP and asked.
"""

import csv
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console

from headwise.errors import HeadwiseError
from headwise_pipelines.configuration import plain
from headwise_pipelines.launch import Order, Outcome, say
from headwise_pipelines.recsys.presets import shopping as shopping_run
from headwise_pipelines.recsys.report import SPLITS, test_metrics
from headwise_pipelines.recsys.train import train as train_recommender
from headwise_pipelines.summary import figures
from headwise_recsys import shopping
from headwise_recsys.prepare import prepare

READY = "headwise is ready at "
PATIENCE = 60  # seconds that the server may take to start
HISTORY = 5  # items of the question


def quickstart(folder: Path, *, work: Path, port: int) -> Mapping[str, Any]:
    """Does the main job for both products and prints one summary.

    Args:
        folder: where the generated data are kept.
        work: where prepared data and runs are kept.
        port: of the server that is asked; 0 takes a free one.

    Returns:
        Both outcomes, the best possible figures and the server's answers, as plain JSON values.
    """
    began = time.monotonic()
    recommender, best = _recommender(folder / "shopping", work)
    recogniser = _recogniser(folder / "spelled", work)
    models = [outcome.model for outcome in (recommender, recogniser) if outcome]
    with _served(models, port) as address:
        say(f"asking the server at {address}")
        question, recommendation = _ask_recommender(address, folder / "shopping")
        recording, transcription = _ask_recogniser(address, folder / "spelled") if recogniser else (None, None)
    _print(recommender, best, recogniser, time.monotonic() - began)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"\n[bold]asked over HTTP[/bold]\nPOST /v1/recommendations      after {', '.join(question)}:")
    for item in recommendation["items"][:3]:
        console.print(f"    {item['title']}  ({item['id']}, score {item['score']:.2f})")
    if recording and transcription:
        console.print(
            f"POST /v1/audio/transcriptions {recording['audio']}, in which a voice says {recording['text']!r}:"
        )
        console.print(f"    {transcription['text']}")
    console.print("\n[bold]go on[/bold]")
    console.print("follow   headwise ui                  then open http://127.0.0.1:5000")
    console.print(f"serve    headwise serve {' '.join(models)}")
    console.print("train    headwise train recsys ml-1m --data PATH      headwise train speech an4 --data PATH")
    return {
        "recommender": recommender.plain(),
        "best_possible": best,
        "recogniser": recogniser.plain() if recogniser else None,
        "recommendation": recommendation,
        "transcription": transcription,
        "seconds": round(time.monotonic() - began, 1),
    }


def _recommender(folder: Path, work: Path) -> tuple[Outcome, Mapping[str, float]]:
    say("\n1. a recommender, on shopping histories from a known process")
    if not (folder / shopping.WORLD).is_file():
        shopping.write(folder)
    config = shopping_run()
    outcome = train_recommender(Order("recsys", "shopping", plain(config), folder, "recommender", work), config)
    data = prepare(folder, work / "data", min_count=config.min_count)
    split = SPLITS[config.split](data)
    return outcome, test_metrics(shopping.best_possible(folder), data, split)


def _recogniser(folder: Path, work: Path) -> Outcome | None:
    say("\n2. a recogniser, on digits and letters spoken by a synthesiser")
    missing = [package for package in ("torchaudio", "soundfile", "espeakng_loader") if find_spec(package) is None]
    if missing:
        say(f"left out: {', '.join(missing)} not installed; pip install 'headwise[speech,synth]' brings it")
        return None
    from headwise_pipelines.speech.presets import spelled
    from headwise_pipelines.speech.train import train as train_recogniser
    from headwise_speech import synthesis

    if not (folder / "test.jsonl").is_file():
        synthesis.generate(folder)
    config = spelled()
    return train_recogniser(Order("speech", "spelled", plain(config), folder, "recogniser", work), config)


@contextmanager
def _served(models: list[str], port: int) -> Iterator[str]:
    say(f"\n3. serving {' '.join(models)}")
    command = [sys.executable, "-m", "headwise_pipelines.command", "serve", *models, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stderr is not None
            line = server.stdout.readline()
            if not line.startswith(READY):
                server.terminate()
                raise HeadwiseError(f"the server did not start: {server.stderr.read().strip()}")
            yield line.removeprefix(READY).strip()
        finally:
            server.terminate()


def _ask_recommender(address: str, folder: Path) -> tuple[list[str], Any]:
    rows = (folder / "events.csv").read_text(encoding="utf-8").splitlines()[1:]
    someone = rows[0].split(",")[0]
    history = [item for user, item, _ in (row.split(",") for row in rows) if user == someone][:HISTORY]
    with (folder / "items.csv").open(encoding="utf-8", newline="") as file:
        titles = {row["item"]: row["title"] for row in csv.DictReader(file)}
    body = json.dumps({"history": history, "k": 5}).encode()
    answer = _post(f"{address}/v1/recommendations", body, "application/json")
    return [titles[item] for item in history], answer


def _ask_recogniser(address: str, folder: Path) -> tuple[Any, Any]:
    lines = (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()
    recording = max((json.loads(line) for line in lines), key=lambda entry: len(entry["text"].split()))
    boundary = uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="recording.wav"\r\n\r\n'
    body = head.encode() + (folder / recording["audio"]).read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    return recording, _post(f"{address}/v1/audio/transcriptions", body, f"multipart/form-data; boundary={boundary}")


def _post(url: str, body: bytes, kind: str) -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return json.load(response)


def _print(recommender: Outcome, best: Mapping[str, float], recogniser: Outcome | None, seconds: float) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"\n[bold]headwise quickstart, done in {seconds / 60:.1f} min[/bold]\n")
    for outcome, bound in ((recommender, best), (recogniser, None)):
        if outcome is None:
            continue
        console.print(figures(outcome, bound))
        champion = "the champion" if outcome.champion else f"not the champion: {outcome.reason}"
        console.print(f"the model is {outcome.model}, {champion}")
        console.print(f"run {outcome.run}: {outcome.where}\n")
