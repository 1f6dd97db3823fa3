"""Huh Fig. S.I.2: a ReLU network trained from semi-orthogonal weights of smaller and smaller gain, by three rules.

    W_l <- W_l - eta d^{-1/q} (B_l (x) A_{l-1})^{-1/q} grad_l      Huh (19), (21), d = 4 weight matrices

A and B are the exact Gauss-Newton factors of a mini-batch: K-FAC with last="gram" on the whitened signals of the
cross-entropy. q = inf is SGD, q = 1 NGD-d, q = 2 sqrt-NGD-d.
"""

import math
from pathlib import Path

import numpy as np

import refngd as rn
from refngd import datasets
from refngd.cli.output import subplots

from .figure import Figure

POWER = {"SGD": math.inf, "NGD-d": 1, "NGD-d-retuned": 1, "sqrt-NGD-d": 2}
FISHER = rn.KFAC(last="gram", rcond=1e-10)
TRAINED, SADDLE = 0.97, 0.01  # an accuracy, and a relative distance from the loss ln 10 of outputs 0


def images(settings: dict, data: str | None, rng: np.random.Generator) -> datasets.Data:
    """N images to train on and N_validation others, pixels in [0, 1], ten classes one-hot."""
    given, N, rest = data or settings["data"], settings["N"], settings["N_validation"]
    name, _, folder = given.partition(":")
    if name == "mnist":
        parts, top = [datasets.mnist(part, folder or None) for part in ("train", "test")], 255
        chosen = [(x[rows], labels[rows]) for (x, labels), n in zip(parts, (N, rest), strict=True)
                  for rows in [rng.permutation(len(x))[:n]]]  # fmt: skip
    elif given == "digits":
        (x, labels), top = datasets.digits(), 16
        order = rng.permutation(len(x))
        chosen = [(x[rows], labels[rows]) for rows in (order[:N], order[N : N + rest])]
    else:
        raise ValueError(f"--data is {given!r}; expected digits, mnist or mnist:FOLDER")
    (x, labels), (x_validation, labels_validation) = chosen
    one_hot = np.eye(10)
    return datasets.Data(x / top, one_hot[labels], x_validation / top, one_hot[labels_validation])


def trained(settings: dict, rule: str, run: list, seed: int, device: str, data: str | None) -> dict:
    """One run from [gain, eta, rho]: the batches' losses; by epoch, loss on all training samples, and accuracy."""
    gain, eta, rho = run
    data_rng, weight_rng, batch_rng = np.random.default_rng(seed).spawn(3)
    d = images(settings, data, data_rng)
    net = rn.Network((d.x.shape[1], *settings["hidden"], 10), parameterization="standard")
    x, y, x_validation, y_validation, *W = rn.to_device(
        [d.x, d.y, d.x_test, d.y_test, *net.semi_orthogonal(weight_rng, gain)], device
    )
    q, batch, epoch = POWER[rule], settings["batch"], math.ceil(len(x) / settings["batch"])
    eta, steps = eta * len(W) ** (-1 / q), epoch * settings["rules"][rule]["epochs"]
    curve = {"loss": [], "train": [], "accuracy": [], "stopped": None}
    try:
        for step in rn.train(net, W, x, y, FISHER, eta, steps, rho, q, rn.cross_entropy, batch=batch, rng=batch_rng):
            curve["loss"].append(step.loss)
            if step.t % epoch == 0:
                curve["train"].append(rn.cross_entropy.value(net.forward(step.W, x), y))
                curve["accuracy"].append(datasets.accuracy(net.forward(step.W, x_validation), y_validation))
    except (FloatingPointError, np.linalg.LinAlgError) as error:
        curve["stopped"] = str(error)
    return curve


def _runs(settings: dict) -> dict[str, tuple[str, list]]:
    """The rule and [gain, eta, rho] of every part."""
    rules = settings["rules"].items()
    return {f"{rule}-{run[0]:g}": (rule, run) for rule, given in rules for run in given["runs"]}


def _parts(settings: dict) -> list[str]:
    return list(_runs(settings))


def _compute(settings: dict, part: str, device: str, data: str | None) -> dict:
    rule, run = _runs(settings)[part]
    seeds = range(settings["rules"][rule]["seeds"])
    return {"curves": [trained(settings, rule, run, seed, device, data) for seed in seeds]}


def _of(settings: dict, results: dict[str, dict], rule: str) -> dict[float, list[dict]]:
    """The curves of a rule by gain."""
    return {run[0]: results[f"{rule}-{run[0]:g}"]["curves"] for run in settings["rules"][rule]["runs"]}


def _end(curves: list[dict], what: str = "accuracy") -> float:
    """Mean over seeds of the last value; nan, which fails every claim, where a run stopped."""
    return float(np.mean([math.nan if c["stopped"] else c[what][-1] for c in curves]))


def _from_saddle(curves: list[dict]) -> float:
    """The largest relative distance of the training loss from ln 10 in the course of the runs."""
    if any(c["stopped"] for c in curves):
        return math.inf
    return max(abs(loss / math.log(10) - 1) for c in curves for loss in c["train"])


def _epochs(curves: list[dict], level: float = 0.95) -> float:
    """After how many epochs all runs have had this accuracy; inf if not all have."""
    return max(next((t for t, a in enumerate(c["accuracy"]) if a >= level), math.inf) for c in curves)


def _words(numbers: dict[float, float], form: str) -> str:
    return ", ".join(f"{value:{form}} at gain {gain:g}" for gain, value in numbers.items())


def _verdicts(settings: dict, results: dict[str, dict]) -> list[tuple[str, bool]]:
    sgd, plain, retuned, root = (_of(settings, results, rule) for rule in POWER)
    rules, gains = settings["rules"], settings["gains"]
    first, small, tiny = gains[0], gains[1:], gains[2:]
    accuracy, loss = {g: _end(root[g]) for g in gains}, {g: _end(root[g], "train") for g in small}
    losses = np.array(list(loss.values()))
    spread = float(losses.max() / losses.min()) - 1  # nan, unlike Python's, if one of them is
    stuck, stuck_plain = ({g: _from_saddle(curves[g]) for g in small} for curves in (sgd, plain))
    later, soon = _epochs(retuned[small[0]]), {g: _epochs(root[g]) for g in gains}
    behind, rest = {g: _end(retuned[g]) for g in tiny}, {g: _end(retuned[g], "train") for g in tiny}
    return [
        (f"sqrt-NGD-d trains at every gain with one learning rate and no damping: validation accuracy after "
         f"{rules['sqrt-NGD-d']['epochs']} epochs {_words(accuracy, '.3f')} (limit {TRAINED})",
         all(a > TRAINED for a in accuracy.values())),
        (f"sqrt-NGD-d trains alike at all gains below 1: training losses "
         f"{_words(loss, '.4f')}, {100 * spread:.0f} % apart (limit 20 %)", spread < 0.2),
        (f"SGD trains at gain {first:g}, slowly: validation accuracy {_end(sgd[first]):.3f} after "
         f"{rules['SGD']['epochs']} epochs (limit .93)", _end(sgd[first]) > 0.93),
        (f"SGD stays at the loss ln 10 at the other gains, for {rules['SGD']['epochs']} epochs: training losses are "
         f"off by {_words(stuck, '.1e')} (limit {SADDLE})", max(stuck.values()) < SADDLE),
        (f"NGD-d trains at gain {first:g}: validation accuracy {_end(plain[first]):.3f} (limit {TRAINED})",
         _end(plain[first]) > TRAINED),
        (f"NGD-d with the same damping and learning rate stays at ln 10 at the other gains: training losses are off by "
         f"{_words(stuck_plain, '.1e')} in {rules['NGD-d']['epochs']} epochs (limit {SADDLE})",
         max(stuck_plain.values()) < SADDLE),
        (f"NGD-d retuned for gain {small[0]:g} trains, but later: validation accuracy {_end(retuned[small[0]]):.3f}; "
         f".95 after {later} epochs, by sqrt-NGD-d after {', '.join(f'{t}' for t in soon.values())}",
         _end(retuned[small[0]]) > TRAINED and later > max(soon.values())),
        (f"NGD-d retuned for smaller gains is far behind after {rules['NGD-d-retuned']['epochs']} epochs: validation "
         f"accuracy {_words(behind, '.3f')}, training loss {_words(rest, '.2f')} (limit 10 times that of sqrt-NGD-d)",
         all(rest[g] > 10 * loss[g] for g in tiny)),
    ]  # fmt: skip


def _draw(settings: dict, results: dict[str, dict], path: Path) -> None:
    figure, axes = subplots(1, 3, figsize=(11, 5), sharey=True)
    titles = {"SGD": r"SGD, $q = \infty$", "NGD-d": "NGD-d, $q = 1$, damped"}
    titles |= {"sqrt-NGD-d": r"$\sqrt{\mathrm{NGD}}$-d, $q = 2$, no damping"}
    for axis, (rule, title) in zip(axes.flat, titles.items(), strict=True):
        axis.axhline(math.log(10), color="0.7", linewidth=1, linestyle=":")
        axis.set_title(title, fontsize=10)
        axis.set(yscale="log", ylim=(3e-4, 10), xlabel="update")
        retuned = rule == "NGD-d"
        _plot(axis, settings, results, rule, "--" if retuned else "-")
        if retuned:
            _plot(axis, settings, results, "NGD-d-retuned", "-")
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15), "ncols": 2}
        axis.legend(fontsize=7, title="gain: validation accuracy at the end", title_fontsize=7, **below)
    axes.flat[0].set_ylabel("training loss of the batch")
    figure.savefig(path)


def _plot(axis, settings: dict, results: dict[str, dict], rule: str, style: str) -> None:
    """A line a run, a colour a gain, thinner from gain to gain: many coincide."""
    for gain, curves in _of(settings, results, rule).items():
        for seed, c in enumerate(curves):
            label = None if seed else f"{gain:g}: {_end(curves):.3f}" + " retuned" * rule.endswith("retuned")
            k = settings["gains"].index(gain)
            axis.plot(c["loss"], style, color=f"C{k}", linewidth=2.2 - 0.5 * k, label=label)


_GAINS = [1.0, 1e-2, 1e-4, 1e-6]
_BOTH = {"hidden": [300, 100, 30], "batch": 128, "gains": _GAINS}


def _rules(retuned: list[list[float]], epochs: list[int], seeds: int) -> dict:
    """Settings of each rule; its runs are [gain, eta, rho]."""
    runs = {
        "SGD": [[g, 0.2, 0.0] for g in _GAINS],
        "NGD-d": [[g, 0.16, 0.03] for g in _GAINS],
        "NGD-d-retuned": retuned,
        "sqrt-NGD-d": [[g, 0.2, 0.0] for g in _GAINS],
    }
    many = {"sqrt-NGD-d": seeds}
    given = zip(runs.items(), epochs, strict=True)
    return {rule: {"runs": run, "epochs": n, "seeds": many.get(rule, 1)} for (rule, run), n in given}


_RETUNED = [[1e-2, 0.08, 2e-3], [1e-4, 1.2e-4, 1e-7], [1e-6, 4e-5, 1e-9]]
# the paper gives eps of I eps + B (x) A, not its learning rates
_CAPTION = [[g, 0.16, eps**0.5] for g, eps in zip(_GAINS[1:], (1e-3, 1e-6, 1e-7), strict=True)]
_SMALL = {"data": "digits", "N": 1437, "N_validation": 360, "rules": _rules(_RETUNED, [30, 6, 10, 4], 3)}
_PAPER = {"data": "mnist", "N": 60_000, "N_validation": 10_000, "rules": _rules(_CAPTION, [10, 4, 4, 4], 1)}

FIGURES = {
    "huh-s2": Figure(
        "Huh Fig. S.I.2: training loss of a ReLU network from semi-orthogonal weights, by gain and rule",
        {"small": _BOTH | _SMALL, "paper": _BOTH | _PAPER},
        _parts,
        _compute,
        _verdicts,
        _draw,
    ),
}
