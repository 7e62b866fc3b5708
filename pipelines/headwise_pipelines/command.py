"""The `headwise` command.

    headwise quickstart                              the whole job on generated data
    headwise train recsys|speech PRESET --data PATH  from raw data to a registered ONNX model
    headwise sweep recsys|speech PRESET --data PATH  the best values of a preset, by trials on validation
    headwise evaluate MODEL... --data PATH           models beside baselines, as a page with tests and plots
    headwise export RUN --out DIR                    the model folder of a run
    headwise extend RUN --items FILE --out DIR       the same, with new items that it knows by their features
    headwise promote NAME VERSION                    make a version the champion, if it is shown to be better
    headwise rollback NAME                           make the version before it the champion again
    headwise serve MODEL...                          answer requests over HTTP
    headwise recommend MODEL ITEM...                 ask a recommender; with --users PATH --out FILE, for everybody
    headwise transcribe MODEL FILE...                ask a recogniser
    headwise align MODEL AUDIO TEXT                  when the words of a known text were said
    headwise ui                                      the MLflow pages
    headwise doctor                                  what is installed, and what is missing

Progress and logs go to standard error, answers to standard output; with --json the last line there is one JSON object.
Exit codes: 0 done, 1 a failure of ours, 2 the input or the command line is wrong, 130 stopped by the user.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headwise import __version__
from headwise.errors import HeadwiseError, InputError

DONE, FAILED, WRONG, STOPPED = 0, 1, 2, 130
TRANSCRIPTS = ("text", "json", "srt", "vtt", "ctm", "textgrid")
WORK = Path(".headwise")  # prepared data and runs, in the working directory


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line; the exit code."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.run not in (_train, _sweep):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        answer = options.run(options)
    except InputError as error:
        return _fail(error, WRONG)
    except (HeadwiseError, OSError) as error:
        return _fail(error, FAILED)
    except KeyboardInterrupt as stop:
        return _fail(stop if str(stop) else "stopped", STOPPED)
    if options.json and answer is not None:
        print(json.dumps(answer, ensure_ascii=False), flush=True)
    return DONE


def _fail(error: object, code: int) -> int:
    print(f"headwise: {error}", file=sys.stderr)
    return code


# Each command imports what it needs when it is called: `headwise --help` answers at once.


def _quickstart(options: argparse.Namespace) -> Mapping[str, Any]:
    from headwise_pipelines.quickstart import quickstart

    return quickstart(options.folder, work=WORK, port=options.port)


def _train(options: argparse.Namespace) -> Mapping[str, Any] | None:
    from headwise_pipelines.training import train

    if options.product is None or options.preset is None:
        _explain_train(options)
        return None
    return train(
        options.product,
        options.preset,
        options.rest,
        data=options.data,
        name=options.name,
        work=WORK,
        again=options.from_run,
        init_from=options.init_from,
        freeze=options.freeze,
        quiet=options.json,
    )


def _explain_train(options: argparse.Namespace) -> None:
    from headwise_pipelines.training import NAMES, presets_of

    options.parser.print_help()
    for product in NAMES:
        print(f"\npresets of {product}:")
        for name, preset in presets_of(product).items():
            print(f"  {name:10} {preset.__doc__.splitlines()[0]}")
    if not {"-h", "--help"} & set(options.rest):
        raise InputError("train what? name a product and one of its presets")


def _sweep(options: argparse.Namespace) -> Mapping[str, Any]:
    from headwise_pipelines.space import read_space
    from headwise_pipelines.sweep import sweep

    lines = [] if options.space is None else read_space(options.space)
    return sweep(
        options.product,
        options.preset,
        options.rest,
        data=options.data,
        search=[*lines, *options.search],
        trials=options.trials,
        seed=options.seed,
        work=WORK,
        quiet=options.json,
    )


def _evaluate(options: argparse.Namespace) -> Mapping[str, Any]:
    from headwise_pipelines.evaluation import evaluate

    return evaluate(
        options.model,
        options.data,
        split=options.split,
        report=options.report,
        sampled=options.sampled,
        other_data=options.other_data,
        work=WORK,
        quiet=options.json,
    )


def _export(options: argparse.Namespace) -> Mapping[str, Any]:
    from headwise_pipelines.models import export

    return export(options.model, options.out)


def _extend(options: argparse.Namespace) -> Mapping[str, Any]:
    from headwise_pipelines.recsys.extend import extend

    return extend(options.model, options.items, options.out, data=options.data, work=WORK)


def _promote(options: argparse.Namespace) -> Mapping[str, Any]:
    from headwise_pipelines.models import promote

    return promote(options.name, options.version, alias=options.alias, force=options.force, latency=options.latency)


def _rollback(options: argparse.Namespace) -> Mapping[str, Any]:
    from headwise_pipelines.models import rollback

    return rollback(options.name, alias=options.alias, reason=options.reason)


def _serve(options: argparse.Namespace) -> None:
    from headwise_pipelines.serve import serve

    serve(
        options.model,
        host=options.host,
        port=options.port,
        threads=options.threads,
        max_seconds=options.max_seconds,
        deadline=options.deadline,
        key_file=options.api_keys,
        origins=options.cors,
        shadows=options.shadow,
    )


def _recommend(options: argparse.Namespace) -> Mapping[str, Any]:
    if bool(options.item) == bool(options.users) or bool(options.users) != bool(options.out):
        raise InputError("give items, or a table of events with --users and a file to write with --out")
    if options.users:
        from headwise_pipelines.recsys.batch import recommend_all

        return recommend_all(options.model, options.users, options.out, k=options.k, work=WORK, at=options.at)
    from headwise_pipelines.serve import recommend

    return recommend(
        options.model,
        options.item,
        k=options.k,
        exclude=options.exclude,
        explain=options.explain,
        quiet=options.json,
    )


def _transcribe(options: argparse.Namespace) -> Mapping[str, Any]:
    from headwise_pipelines.speech.transcribe import Output, transcribe

    output = Output(options.format, options.out, options.resume, options.explain, options.json)
    return transcribe(options.model, options.file, output, hotwords=options.hotwords, pcm=options.pcm)


def _align(options: argparse.Namespace) -> Mapping[str, Any]:
    from headwise_pipelines.speech.align import align

    return align(options.model, options.audio, options.text, format=options.format, out=options.out, quiet=options.json)


def _ui(options: argparse.Namespace) -> None:
    from headwise_pipelines.ui import ui

    ui(host=options.host, port=options.port)


def _doctor(options: argparse.Namespace) -> Mapping[str, Any]:
    from headwise_pipelines.doctor import doctor

    return doctor(quiet=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headwise", description="Train, track, export and serve a recommender and a speech recogniser."
    )
    parser.add_argument("--version", action="version", version=f"headwise {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, text: str, **more: Any) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, **more)
        added.add_argument("--json", action="store_true", help="one JSON object as the last line of standard output")
        added.set_defaults(run=run)
        return added

    quick = command(
        "quickstart", _quickstart, "The whole job on generated data: prepare, train, track, export, serve, ask."
    )
    quick.add_argument(
        "--folder", type=Path, default=Path("quickstart"), help="for the generated data (default: %(default)s)"
    )
    quick.add_argument("--port", type=_port, default=0, help="of the server that is asked; 0 takes a free one")

    train = command(
        "train",
        _train,
        "One run, from raw data to a registered ONNX model.",
        add_help=False,
        allow_abbrev=False,
        usage="headwise train recsys|speech PRESET --data PATH [--name NAME] [--init-from RUN [--freeze]] [--from-run ID] "
        "[--json] [--model.width N ...]",
        epilog="With a product and a preset, --help lists every value that can be changed.",
    )
    train.add_argument("product", choices=("recsys", "speech"), nargs="?", help="what to train")
    train.add_argument("preset", nargs="?", help="the run to start from")
    train.add_argument("--data", type=Path, metavar="PATH", help="a file or folder of raw data")
    train.add_argument("--name", help="registered name (default: recommender or recogniser)")
    train.add_argument("--from-run", metavar="ID", help="repeat the configuration of an earlier run")
    train.add_argument(
        "--init-from",
        metavar="RUN",
        help="start from the weights of an earlier run: its id or folder, or models:/NAME@ALIAS",
    )
    train.add_argument("--freeze", action="store_true", help="do not train what was taken into the encoder's blocks")
    train.set_defaults(parser=train)

    sweep = command(
        "sweep",
        _sweep,
        "The best values of a preset, by many trials that are judged on validation. Given again, it goes on.",
        allow_abbrev=False,
        epilog="What `headwise train` takes, such as --fit.epochs 10, is the same for all trials.",
    )
    sweep.add_argument("product", choices=("recsys", "speech"), help="what to train")
    sweep.add_argument("preset", help="the run to start from")
    sweep.add_argument("--data", type=Path, metavar="PATH", help="a file or folder of raw data")
    sweep.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="model.width=32,64 or model.blocks=1..4 or optimizer.rate=1e-4..1e-2:log; once for each value",
    )
    sweep.add_argument("--space", type=Path, metavar="FILE", help="a YAML file of the same: model.width: [32, 64]")
    sweep.add_argument("--trials", type=_count, default=20, metavar="N", help="in all (default: %(default)s)")
    sweep.add_argument("--seed", type=int, default=1, help="of what is drawn (default: %(default)s)")

    evaluate = command("evaluate", _evaluate, "Models on a data set's test part, beside baselines: a page, and MLflow.")
    evaluate.add_argument(
        "model",
        nargs="+",
        metavar="MODEL",
        help="models:/NAME@ALIAS, models:/NAME/VERSION, runs:/ID, or a model folder; several recommenders are compared",
    )
    evaluate.add_argument("--data", type=Path, required=True, help="a file or folder of raw data")
    evaluate.add_argument(
        "--split", choices=("both", "leave-one-out", "temporal"), help="recommenders only (default: both)"
    )
    evaluate.add_argument("--report", type=Path, metavar="FOLDER", help="of the page (default: one in .headwise)")
    evaluate.add_argument(
        "--sampled",
        type=_count,
        default=0,
        metavar="N",
        help="also rank targets among N drawn items, which is not comparable with ranking all (default: do not)",
    )
    evaluate.add_argument(
        "--other-data", action="store_true", help="the data are not those of training, and hold nothing of them"
    )

    export = command("export", _export, "The model folder of a run: ONNX graph and all that is needed to use it.")
    export.add_argument("model", metavar="RUN", help="an MLflow run id, or models:/NAME@ALIAS")
    export.add_argument("--out", type=Path, required=True, help="folder to write; must not exist")

    extend = command(
        "extend", _extend, "A recommender's model folder with new items, known by their features, without training."
    )
    extend.add_argument(
        "model", metavar="RUN", help="of a model with features: an MLflow run id, or models:/NAME@ALIAS"
    )
    extend.add_argument("--items", type=Path, required=True, metavar="FILE", help="a table of items, old and new")
    extend.add_argument("--data", type=Path, required=True, metavar="PATH", help="what the run was trained on")
    extend.add_argument("--out", type=Path, required=True, help="folder to write; must not exist")

    promote = command("promote", _promote, "Make a version the champion, if it is shown to be better.")
    promote.add_argument("name", metavar="NAME")
    promote.add_argument("version", metavar="VERSION")
    promote.add_argument("--alias", default="champion")
    promote.add_argument("--force", metavar="REASON", help="promote whatever the test says; the reason is recorded")
    promote.add_argument(
        "--latency", type=float, metavar="MS", help="milliseconds that a request may take its graph, at most"
    )

    rollback = command("rollback", _rollback, "Make the version champion again that was it before.")
    rollback.add_argument("name", metavar="NAME")
    rollback.add_argument("--alias", default="champion")
    rollback.add_argument("--reason", default="no reason given", help="is recorded on both versions")

    serve = command("serve", _serve, "Answer requests over HTTP.")
    serve.add_argument(
        "model", nargs="+", metavar="MODEL", help="models:/NAME@ALIAS, models:/NAME/VERSION, or a model folder"
    )
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=_port, default=8000)
    serve.add_argument("--threads", type=int, default=1, help="of one run of a graph (default: %(default)s)")
    serve.add_argument(
        "--max-seconds", type=float, default=60.0, help="longest recording to accept (default: %(default)s)"
    )
    serve.add_argument(
        "--deadline", type=float, default=60.0, help="seconds until a request is given up (default: %(default)s)"
    )
    serve.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help="who has a key of this file (a key a line) may ask; or HEADWISE_API_KEYS",
    )
    serve.add_argument(
        "--shadow",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="candidates that are asked the same, unseen; see /metrics",
    )
    serve.add_argument("--cors", nargs="+", default=[], metavar="ORIGIN", help="whose pages may ask from a browser")

    recommend = command("recommend", _recommend, "What comes next after these items, oldest first.")
    _add_model(recommend)
    recommend.add_argument("item", nargs="*", metavar="ITEM", help="your own item ids")
    recommend.add_argument(
        "--users", type=Path, metavar="PATH", help="a table of events: recommend to each of its users"
    )
    recommend.add_argument("--out", type=Path, metavar="FILE", help="the .parquet file to write for --users")
    recommend.add_argument("--at", type=int, metavar="SECONDS", help="when --users are asked (default: now)")
    recommend.add_argument("-k", type=int, default=10, help="how many (default: %(default)s)")
    recommend.add_argument("--exclude", nargs="+", default=[], metavar="ITEM")
    recommend.add_argument("--explain", action="store_true", help="what carried each, and where the model looked")

    transcribe = command("transcribe", _transcribe, "The words in recordings.")
    _add_model(transcribe)
    transcribe.add_argument("file", nargs="+", metavar="FILE", help="recordings, folders of them, - for standard input")
    transcribe.add_argument("--format", choices=TRANSCRIPTS, default="text", help="(default: %(default)s)")
    transcribe.add_argument("--out", type=Path, metavar="FOLDER", help="write a file for each recording there")
    transcribe.add_argument("--resume", action="store_true", help="skip recordings that have their file already")
    transcribe.add_argument("--hotwords", type=Path, metavar="FILE", help="phrases to expect, one a line")
    transcribe.add_argument(
        "--pcm", type=_count, metavar="RATE", help="standard input is raw mono 16-bit samples, so many a second"
    )
    transcribe.add_argument(
        "--explain", action="store_true", help="when each word was said, and the frames that carried it"
    )

    align = command("align", _align, "When the words of a known text were said in a recording.")
    _add_model(align)
    align.add_argument("audio", type=Path, metavar="AUDIO", help="the recording")
    align.add_argument("text", metavar="TEXT", help="what is said in it, or a file that holds it")
    align.add_argument("--format", choices=TRANSCRIPTS[1:], default="json", help="(default: %(default)s)")
    align.add_argument("--out", type=Path, metavar="FILE", help="a file to write")

    ui = command("ui", _ui, "The MLflow pages over what was trained here.")
    ui.add_argument("--host", default="127.0.0.1")
    ui.add_argument("--port", type=_port, default=5000)

    command("doctor", _doctor, "What is installed, what is missing, and what that means.")
    return parser


def _port(text: str) -> int:
    # The system would take 99999 for 34463.
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="models:/NAME@ALIAS, models:/NAME/VERSION, or a model folder")


if __name__ == "__main__":
    sys.exit(main())
