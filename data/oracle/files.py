"""The JSON files: keys in a fixed order, one array a line, shortest decimals, so that a difference can be read."""

import hashlib
import json
import math
from functools import cache
from pathlib import Path

from .arrays import flatten, shape

FORMAT = 1
SHOWN = 4  # bugs that `catches` has in words


def array(value):
    data = [("inf" if x > 0 else "-inf") if math.isinf(x) else x for x in map(float, flatten(value))]
    return json.dumps({"shape": shape(value), "data": data})


def group(arrays):
    lines = ",\n".join(f"    {json.dumps(name)}: {array(value)}" for name, value in arrays.items())
    return f"{{\n{lines}\n   }}" if lines else "{}"


def attributes(attrs):
    return {name: "inf" if isinstance(v, float) and math.isinf(v) else v for name, v in attrs.items()}


BUGS = Path(__file__).with_name("bugs.json")  # by `python -m bench.flags`: see `claims`


@cache
def claims():
    """The bugs that an implementation may have, in words, and those that each case catches, the rarest first."""
    claimed = json.loads(BUGS.read_text("utf-8"))
    return claimed["bugs"], claimed["flags"]


def catches(case):
    """In words: of a refusal what it says, of others the rarest bugs that they catch."""
    words, flags = claims()
    return case.catches or "; ".join(words[name] for name in flags.get(case.id, [])[:SHOWN])


def case_text(case, record):
    """One case; `record` is what `certify.certified` made of it."""
    lines = {
        "id": json.dumps(case.id),
        "class": json.dumps(case.kind),
        "title": json.dumps(case.title),
        "equation": json.dumps(case.equation),
        "pins": json.dumps(list(case.pins)),
        "catches": json.dumps(catches(case)),
        "flags": json.dumps(sorted(claims()[1].get(case.id, []))),
        "attrs": json.dumps(attributes(case.attrs)),
        "inputs": group(case.inputs),
    }
    for name in ("outputs", "intermediates"):
        if name in record:
            lines[name] = group(record[name])
    for name in ("kappa", "kappa_gram", "digits", "error"):
        if name in record:
            lines[name] = json.dumps(record[name])
    return "  {\n" + ",\n".join(f"   {json.dumps(name)}: {text}" for name, text in lines.items()) + "\n  }"


@cache
def _records(path):
    return {case["id"]: case for case in json.loads(path.read_text("utf-8"))["cases"]} if path.exists() else {}


def record(case, folder):
    """What `certify.certified` made of the case, from the file in a folder; None if that has not this case."""
    old = _records(Path(folder) / f"{case.operation}.json").get(case.id, {})
    if "outputs" not in old or case.error:
        return None
    groups = {
        name: {key: decoded(a) for key, a in old[name].items()} for name in ("outputs", "intermediates") if name in old
    }
    found = {**groups, **{name: old[name] for name in ("kappa", "kappa_gram", "digits")}}
    now = json.loads(case_text(case, found))
    return found if all(now[name] == old[name] for name in ("attrs", "inputs")) else None


def decoded(a):
    """Nested lists of {"shape": .., "data": ..}."""

    def fill(dims, numbers):
        return [fill(dims[1:], numbers) for _ in range(dims[0])] if dims else float(next(numbers))

    return fill(a["shape"], iter(a["data"]))


def operation_text(operation, about, texts):
    cases = ",\n".join(texts)
    return f'{{\n "operation": {json.dumps(operation)},\n "about": {json.dumps(about)},\n "cases": [\n{cases}\n ]\n}}\n'


def manifest_text(folder):
    """The manifest of the operation files in a folder."""
    entries = []
    for path in sorted(Path(folder).glob("*.json")):
        if path.name != "manifest.json":
            content = path.read_bytes()
            record = json.loads(content)
            entries.append(
                {
                    "file": path.name,
                    "operation": record["operation"],
                    "cases": len(record["cases"]),
                    "sha256": hashlib.sha256(content).hexdigest(),
                }
            )
    lines = ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
    bugs = ",\n".join(f"  {json.dumps(name)}: {json.dumps(words)}" for name, words in claims()[0].items())
    return f'{{\n "format": {FORMAT},\n "bugs": {{\n{bugs}\n }},\n "files": [\n{lines}\n ]\n}}\n'
