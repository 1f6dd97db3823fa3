"""A suite that any implementation of the two papers can be run against, with the certified vectors of data/vectors.

    refngd check --implementation my_module[:function]
    refngd check --results DIR

An implementation is a function `run(op, inputs, attrs) -> outputs`, dicts of NumPy arrays of the dtype of the inputs
(data/vectors/README.md says which for every operation). NotImplementedError says that it does not have this operation
or attribute. In any other language it writes one file <case id>.json for each case, which holds {"outputs": {name:
{"shape": [..], "data": [..]}}}, or {"error": ".."} where it refuses, or {"unsupported": ".."}. A refusal, raised or
returned as {"error": ".."}, names the input or attribute that is bad.

    --dtype float32          the default is float64
    --operations OP ..       only these
    --known-failures FILE    lines `case-id  reason`: these may fail, and must
    --report FILE            all verdicts as JSON
    -- ..                    pytest's own options: -k picks cases by id, -x stops early, --junitxml writes JUnit

Modules: `vectors` reads the cases, `compare` judges outputs, `suspects` says which bug a failure looks like, `bugs`
has those that ports had, `implementations` loads a function or a folder of results, `plugin` is the pytest side,
`adapters` has implementations.
"""
