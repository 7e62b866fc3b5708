"""An evaluation as one HTML page that needs nothing else: tables, figures, and what each word means."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib

from headwise import __version__
from headwise_pipelines.recsys.figures import CLEAR, NAMES, every
from headwise_pipelines.recsys.findings import Compared, Findings, Scored, SplitFindings

STYLE = Path(__file__).with_suffix(".css")

CAPTIONS = {
    "accuracy": "Every target is ranked among all items that the history does not hold. The bar is the 95 % interval.",
    "differences": "The same queries, difference by difference. Grey: not clear after the correction for many comparisons.",
    "curve": "How often the next item is among the first k.",
    "slices": "Whom it serves: HR@10 by how well known the target was in training, and by how much is known of the user.",
    "bias": "A line above the dashed one recommends popular items more than people choose them.",
    "order": "What the order of the history is worth: the same model, the same items, shuffled.",
}

MEANING = {
    "HR@k": "share of the queries whose target is among the first k. With one target a query it equals recall.",
    "NDCG@k": "1 / log2(rank + 1) where the target is among the first k, else 0; the mean over queries.",
    "MRR@20": "1 / rank where the target is among the first 20, else 0; the mean over queries.",
    "interval": "95 %, percentile bootstrap over the queries, 2,000 resamples (Efron 1979).",
    "p": "paired randomisation test, two-sided, 10,000 sign patterns (Fisher 1935; Smucker et al. 2007), corrected for all "
    "comparisons of a split together (Holm 1979).",
    "coverage": "share of the catalogue that is among somebody's first ten (Ge et al. 2010).",
    "Gini": "how unevenly the places in all lists fall on the items: 0 all alike, near 1 the same few (Adomavicius and "
    "Kwon 2012).",
    "novelty": "mean self-information of the items in bits: how few users had chosen them (Zhou et al. 2010).",
    "popularity": "mean number of training events of the recommended items, ARP (Yin et al. 2012); lift is that divided by the "
    "same of the histories: above 1 is a bias to the popular (Abdollahpouri et al. 2019).",
    "distance": "how little the items of a list have to do with each other: 1 - cosine of their users, mean over pairs "
    "(Ziegler et al. 2005).",
    "head, tail, new": "targets of the most chosen fifth of the items, of the rest, and without any training event.",
    "ties": "the metric if every tie fell for the target, and if every tie fell against it; figures elsewhere are of the mean "
    "rank.",
    "shuffled": "the items that the model reads in random order, all of them or all but the last (after Klenitskiy et al. 2024).",
    "query-time": "the model is told when the next item was chosen, the baselines are not: figures of a class of their own, "
    "which stand beside no figure of models that know order alone.",
    "sampled": "the target ranked among a few drawn items: orders models differently from the whole catalogue and is here "
    "only to compare with papers that did so (Krichene and Rendle 2020).",
}


def page(findings: Findings) -> str:
    """The page."""
    title = f"Evaluation on {findings.data['name']}"
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = "\n".join(
        [
            f"<header><h1>{escape(title)}</h1>",
            f"<p>{escape(_what(findings))}; headwise {__version__}, {when}</p></header>",
            "<main>",
            *(part for split in findings.splits for part in _split(split)),
            *_missing(findings.missing),
            *_about(findings),
            "</main>",
        ]
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _what(findings: Findings) -> str:
    data, names = findings.data, ", ".join(str(model["name"]) for model in findings.models)
    return f"{names} on {data['users']:,} users, {data['items']:,} items, {data['events']:,} events"


def _split(split: SplitFindings) -> Iterator[str]:
    figures = {name: _image(figure, CAPTIONS[name]) for name, figure in every(split).items()}
    yield f'<section id="{escape(split.split)}"><h2>{escape(split.title.capitalize())} split</h2>'
    yield (
        f"<p>{split.queries:,} queries, {split.training:,} training events before them. The whole catalogue is "
        f"ranked{_history(split)}.</p>"
    )
    if split.query_time:
        yield f'<div class="refused"><p><b>query-time</b>: {escape(MEANING["query-time"])}</p></div>'
    for name in (each.name for each in split.models):
        yield f'<p class="verdict">{escape(_verdict(name, split.compared))}</p>'
    for name, reason in split.refused.items():
        yield f'<div class="refused"><p><b>{escape(name)}</b> has no figure here: {escape(reason)}.</p></div>'
    yield figures["accuracy"] + _accuracy(split)
    if split.models:
        yield f"<h3>Against the others</h3><p>{CAPTIONS['differences']}</p>{figures['differences']}{_compared(split)}"
    yield f"<h3>Longer lists</h3><p>{CAPTIONS['curve']}</p>{figures['curve']}"
    yield f"<h3>For whom</h3><p>{CAPTIONS['slices']}</p>{figures['slices']}"
    yield f"<h3>Beyond accuracy</h3><p>Of the first ten of every list.</p>{_beyond(split)}"
    yield f"<p>{CAPTIONS['bias']}</p>{figures['bias']}"
    if split.models:
        yield f"<h3>Order</h3><p>{CAPTIONS['order']}</p>{figures['order']}{_order(split)}"
    yield f"<h3>Ties</h3><p>What equal scores could make of the figures.</p>{_ties(split)}"
    if any(each.sampled for each in split.scored):
        yield f'<h3>Sampled</h3><p class="no">Not the figures above: {escape(MEANING["sampled"])}</p>{_sampled(split)}'
    yield "</section>"


def _history(split: SplitFindings) -> str:
    if split.again:
        return f", the history too: {split.repeats:.1%} of the targets are in it"
    return ", the history left out" + (
        f"; {split.repeats:.1%} of the targets are in it and cannot be hit" if split.repeats else ""
    )


def _verdict(name: str, compared: Sequence[Compared]) -> str:
    groups: dict[str, list[str]] = {"better than": [], "worse than": [], "not to be told from": []}
    for each in compared:
        if each.metric == "ndcg_10" and each.model == name:
            sign = "better than" if each.difference > 0 else "worse than"
            groups[sign if each.corrected < CLEAR else "not to be told from"].append(each.other)
    said = [
        f"{'clearly ' * (group != 'not to be told from')}{group} {_and(others)}"
        for group, others in groups.items()
        if others
    ]
    return f"By NDCG@10 {name} is {'; '.join(said)}." if said else ""


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _accuracy(split: SplitFindings) -> str:
    columns = ["hr_1", "hr_5", "hr_10", "hr_20", "ndcg_10", "ndcg_20", "mrr_20"]
    rows = [
        (each, [_with_interval(each.metrics[name], each.intervals[name]) for name in columns]) for each in split.scored
    ]
    return _table(["", *map(_label, columns)], rows)


def _beyond(split: SplitFindings) -> str:
    shown = {
        "coverage": "{:.1%}",
        "gini": "{:.3f}",
        "novelty": "{:.2f} bits",
        "popularity": "{:,.0f}",
        "lift": "{:.2f}",
        "distance": "{:.3f}",
    }
    rows = [(each, [form.format(each.beyond[name]) for name, form in shown.items()]) for each in split.scored]
    return _table(["", "coverage", "Gini", "novelty", "popularity", "lift", "distance"], rows)


def _order(split: SplitFindings) -> str:
    rows = [
        (each, [f"{found[name]:.4f}" for name in ("ndcg_10", "hr_10", "lost")] + [_p(found["p"])], what)
        for each in split.models
        for what, found in each.shuffled.items()
    ]
    named = [(f"{each.name}, shuffled: {what}", values) for each, values, what in rows]
    return _plain_table(["", "NDCG@10", "HR@10", "NDCG@10 lost", "p"], named)


def _ties(split: SplitFindings) -> str:
    rows = [
        (
            each,
            [f"{each.ties[end][metric]:.4f}" for metric in NAMES for end in ("worst", "best")],
        )
        for each in split.scored
    ]
    return _table(["", "NDCG@10, at worst", "at best", "HR@10, at worst", "at best"], rows)


def _sampled(split: SplitFindings) -> str:
    columns = list(split.scored[0].sampled)
    rows = [(each, [f"{each.sampled[name]:.4f}" for name in columns]) for each in split.scored]
    return _table(["", *columns], rows)


def _compared(split: SplitFindings) -> str:
    def row(each: Compared) -> tuple[str, list[str]]:
        clear = "clearly " if each.corrected < CLEAR else "not clearly "
        verdict = clear + ("better" if each.difference > 0 else "worse" if each.difference < 0 else "different")
        ends = f"{each.difference:+.4f}<small>{each.low:+.4f} to {each.high:+.4f}</small>"
        return f"{each.model} − {each.other}", [NAMES[each.metric], ends, _p(each.p), _p(each.corrected), verdict]

    heads = ["", "metric", "difference", "p alone", "p corrected", "the model is"]
    return _plain_table(heads, [row(each) for each in split.compared])


def _missing(missing: Mapping[str, str]) -> Iterator[str]:
    for split, reason in missing.items():
        yield f"<section><h2>{escape(split.capitalize())} split</h2><p>Left out: {escape(reason)}.</p></section>"


def _about(findings: Findings) -> Iterator[str]:
    yield "<section><h2>What was evaluated</h2>"
    for model in findings.models:
        yield f"<h3>{escape(str(model['name']))}</h3>{_list(_about_model(model))}"
    yield "<h3>Data</h3>" + _list({key: str(value) for key, value in findings.data.items()})
    yield "</section><section><h2>Leakage</h2><p>Checked before anything was measured; a leak ends the evaluation.</p>"
    yield '<ul class="checks">'
    for check in findings.checks:
        yield f"<li{' class=not' if check.startswith('not ') else ''}>{escape(check)}</li>"
    yield "</ul></section><section><h2>What the words mean</h2>" + _list(MEANING) + "</section>"


def _about_model(model: Mapping[str, Any]) -> dict[str, str]:
    facts = {"model": model["card"], "run": model["run"], "trained on": f"{model['data']}, {model['split']} split"}
    if model["refit"]:
        facts["refit"] = "with the validation events, too, which the baselines were not given"
    if model["start"]:
        facts["started from"] = f"{model['start']}; what that run had seen was not checked"
    if model["knows"] < 1:
        facts["knows"] = f"{model['knows']:.1%} of the items of these data; the others are misses"
    return {key: str(value) for key, value in facts.items() if value}


def _image(figure: Any, caption: str) -> str:
    with BytesIO() as file, matplotlib.rc_context({"svg.hashsalt": "headwise"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
        data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape(caption)}" src="data:image/svg+xml;base64,{data}">'


def _table(heads: Sequence[str], rows: Sequence[tuple[Scored, Sequence[str]]]) -> str:
    lines = [_row(each.name, values, ' class="model"' if each.kind == "model" else "") for each, values in rows]
    return _whole_table(heads, lines)


def _plain_table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    return _whole_table(heads, [_row(name, values) for name, values in rows])


def _whole_table(heads: Sequence[str], lines: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _row(name: str, values: Sequence[str], kind: str = "") -> str:
    breakable = escape(name).replace("/", "/<wbr>")
    return f"<tr{kind}><td>{breakable}</td>{''.join(f'<td>{value}</td>' for value in values)}</tr>"


def _list(facts: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in facts.items())}</dl>"


def _with_interval(value: float, ends: Sequence[float]) -> str:
    return f"{value:.4f}<small>{ends[0]:.4f}–{ends[1]:.4f}</small>"


def _label(metric: str) -> str:
    name, k = metric.split("_")
    return f"{name.upper()}@{k}"


def _p(value: float) -> str:
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"
