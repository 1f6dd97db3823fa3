"""The JSON files: keys in a fixed order, one array a line, shortest decimals, so that a difference can be read."""

import hashlib
import json
import math
from pathlib import Path

from .arrays import flatten, shape

FORMAT = 1


def array(value):
    data = [("inf" if x > 0 else "-inf") if math.isinf(x) else x for x in map(float, flatten(value))]
    return json.dumps({"shape": shape(value), "data": data})


def group(arrays):
    lines = ",\n".join(f"    {json.dumps(name)}: {array(value)}" for name, value in arrays.items())
    return f"{{\n{lines}\n   }}" if lines else "{}"


def attributes(attrs):
    return {name: "inf" if isinstance(v, float) and math.isinf(v) else v for name, v in attrs.items()}


def case_text(case, record):
    """One case; `record` is what `certify.certified` made of it."""
    lines = {
        "id": json.dumps(case.id),
        "class": json.dumps(case.kind),
        "title": json.dumps(case.title),
        "equation": json.dumps(case.equation),
        "pins": json.dumps(list(case.pins)),
        "catches": json.dumps(case.catches),
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
    return f'{{\n "format": {FORMAT},\n "files": [\n{lines}\n ]\n}}\n'
