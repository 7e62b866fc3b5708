"""The server's process: started by the command, small, and stopped in order."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

SCRIPT = """
import sys
from headwise_pipelines.command import main
code = main(["serve", *sys.argv[1:], "--port", "0"])
heavy = {"torch", "torchaudio", "pytorch_lightning", "mlflow", "polars", "pandas", "scipy", "onnx", "matplotlib", "rich"}
print("heavy:", *sorted(heavy & set(sys.modules)), flush=True)
sys.exit(code)
"""


def test_the_server_started_by_the_command_holds_no_torch(recommender_folder, recogniser_folder) -> None:
    command = [sys.executable, "-c", SCRIPT, str(recommender_folder), str(recogniser_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as server:
        try:
            assert server.stdout is not None
            ready = server.stdout.readline()
            assert ready.startswith("headwise is ready at http://127.0.0.1:")
            with urllib.request.urlopen(f"{ready.split()[-1]}/v1/models") as answer:
                kinds = [model["kind"] for model in json.load(answer)["data"]]
            server.send_signal(signal.SIGTERM)
            out, _ = server.communicate(timeout=60)
        finally:
            server.kill()
    assert kinds == ["recommender", "recogniser"]
    assert (out.strip(), server.returncode) == ("heavy:", 0)
