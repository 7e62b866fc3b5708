import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from headwise.errors import InputError
from headwise.serving.server import run

ROOT = Path(__file__).parents[3]
SOURCES = [str(ROOT / source) for source in ("platform", "recsys", "speech")]
SERVE = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from headwise.serving.app import create_app
from headwise.serving.registry import resolve
from headwise.serving.server import run
from headwise_recsys import service as recommender
from headwise_speech import service as recogniser
app = create_app([recommender.load(Path(sys.argv[1])), recogniser.load(Path(sys.argv[2]))])
heavy = {"torch", "torchaudio", "pytorch_lightning", "mlflow", "polars", "pandas", "scipy", "onnx"} & set(sys.modules)
print("heavy:", *heavy, flush=True)
run(app, port=0)
"""


@contextmanager
def serving(*folders: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    command = [sys.executable, "-c", SERVE, *map(str, folders), *SOURCES]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().split() == ["heavy:"]  # the server loads neither torch nor mlflow
            line = process.stdout.readline()
            assert line.startswith("headwise is ready at http://127.0.0.1:")
            yield process, line.split()[-1]
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_both_products_without_torch_and_stops_in_order(
    recommender_folder: Path, recogniser_folder: Path, number: signal.Signals
) -> None:
    with serving(recommender_folder, recogniser_folder) as (process, address):
        answer = httpx.post(f"{address}/v1/recommendations", json={"history": [101]}, headers={"x-request-id": "q-1"})
        assert answer.status_code == 200
        process.send_signal(number)
        out, log = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == ""
    [line] = map(json.loads, log.splitlines())
    assert (line["path"], line["status"], line["request_id"]) == ("/v1/recommendations", 200, "q-1")


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127.0.0.1, port {port} .*choose another --port"):
            run(app=None, port=port)  # type: ignore[arg-type]


def test_a_host_that_is_none() -> None:
    with pytest.raises(InputError, match=r"--host nowhere.invalid: not an address"):
        run(app=None, host="nowhere.invalid")  # type: ignore[arg-type]
