"""How often does the interval of a corrected share hold the true one?

Simulated atlases know the calls of 8 to 40 cells of each of their subjects, half of whom have
lymphoblasts; sensitivity and specificity vary from subject to subject with the correlation rho.
Then comes a smear of 200 cells of somebody new. For each setting and prevalence are told: how often
the 95 % interval of the corrected share holds the true prevalence and how wide it is, and the same
of Wilson's interval of the share as called.

    python benchmarks/coverage.py                    # a quick look
    python benchmarks/coverage.py --smears 250 --markdown    # the tables of docs/counting.md

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import numpy as np

from cellkin.core.arrays import Bools, Floats, Ints
from cellkin.measures import counting
from cellkin.measures.counting import HeldOutCalls
from cellkin.measures.intervals import wilson
from cellkin.measures.shares import sampled
from cellkin.measures.spread import dirichlet

PREVALENCES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6)
CELLS = 200
CHAINS = 60  # of each smear: 1200 draws
LEAST = 1e-9


@dataclass(frozen=True)
class Setting:
    """Mean calls by true class (the last `blasts` classes are lymphoblasts), and who is known."""

    name: str
    rows: tuple[tuple[float, ...], ...]
    blasts: int
    subjects: int
    rho: float

    @property
    def positive(self) -> Bools:
        return np.arange(len(self.rows)) >= len(self.rows) - self.blasts


def _two(sensitivity: float, specificity: float) -> tuple[tuple[float, ...], ...]:
    return (specificity, 1 - specificity), (1 - sensitivity, sensitivity)


WORSE, BETTER = _two(0.87, 0.80), _two(0.95, 0.95)
FIVE = (
    (0.92, 0.02, 0.02, 0.02, 0.02),
    (0.02, 0.85, 0.05, 0.05, 0.03),
    (0.03, 0.05, 0.85, 0.02, 0.05),
    (0.03, 0.06, 0.03, 0.80, 0.08),
    (0.02, 0.03, 0.05, 0.10, 0.80),
)
SETTINGS = (
    Setting("sensitivity 0.87, specificity 0.80", WORSE, 1, 10, 0.25),
    Setting("sensitivity 0.87, specificity 0.80", WORSE, 1, 20, 0.1),
    Setting("sensitivity 0.87, specificity 0.80", WORSE, 1, 60, 0.05),
    Setting("sensitivity 0.95, specificity 0.95", BETTER, 1, 10, 0.1),
    Setting("sensitivity 0.95, specificity 0.95", BETTER, 1, 20, 0.1),
    Setting("sensitivity 0.95, specificity 0.95", BETTER, 1, 60, 0.05),
    Setting("five classes, two of them lymphoblasts", FIVE, 2, 20, 0.1),
    Setting("five classes, two of them lymphoblasts", FIVE, 2, 60, 0.05),
)


def calls(true: Ints, setting: Setting, rng: np.random.Generator) -> Ints:
    """(K, K) cells by true and called class, of one subject with rows of calls of its own."""
    strength = 1 / setting.rho - 1
    rows = [rng.dirichlet(np.array(row) * strength + LEAST) for row in setting.rows]
    return np.array([rng.multinomial(n, row) for n, row in zip(true, rows, strict=True)])


def atlas(setting: Setting, rng: np.random.Generator) -> HeldOutCalls:
    """Calls of an atlas: of two classes a subject has one; of more, ill subjects have all."""
    counts = []
    for number in range(setting.subjects):
        ill = number % 2 == 1
        present = setting.positive if ill else ~setting.positive
        weights = np.where(present | (ill and len(setting.rows) > 2), 1.0, LEAST)
        true = rng.multinomial(rng.integers(8, 41), rng.dirichlet(weights))
        counts.append(calls(true, setting, rng))
    names = tuple(map(str, range(len(setting.rows))))
    return HeldOutCalls(names, np.array(counts), "subject")


def smear(prevalence: float, setting: Setting, rng: np.random.Generator) -> Ints:
    """(K,) cells called each class, of a new subject's smear."""
    shares = np.zeros(len(setting.rows))
    for group, whole in ((setting.positive, prevalence), (~setting.positive, 1 - prevalence)):
        shares[group] = whole * rng.dirichlet(np.ones(group.sum()))
    return calls(rng.multinomial(CELLS, shares), setting, rng).sum(axis=0)


def measured(
    setting: Setting, prevalence: float, smears: int, rng: np.random.Generator
) -> dict[str, float]:
    """Coverage and mean width of both intervals, each smear with an atlas of its own."""
    group, none = setting.positive, np.zeros(len(setting.rows), np.int64)
    found: list[tuple[float, float, float, float]] = []
    for start in range(0, smears, 50):
        batch = range(start, min(start + 50, smears))
        known = [counting.rows_of_a_new_unit(atlas(setting, rng), rng, CHAINS) for _ in batch]
        rows, called = np.concatenate(known), [smear(prevalence, setting, rng) for _ in batch]
        drawn = sampled(np.repeat(called, CHAINS, axis=0), none, rows, rng)
        fresh = dirichlet(rows, rng)
        for i, n in enumerate(called):
            part = slice(i * CHAINS, (i + 1) * CHAINS)
            plain = wilson(int(n[group].sum()), CELLS)
            ends = counting.ends_of(group, n, none, (drawn[part], fresh[part]), rng)
            found.append((*ends, plain.low or 0.0, plain.high or 0.0))
    table = np.array(found)
    return {
        "coverage": _held(table[:, :2], prevalence),
        "width": float((table[:, 1] - table[:, 0]).mean()),
        "naive_coverage": _held(table[:, 2:], prevalence),
        "naive_width": float((table[:, 3] - table[:, 2]).mean()),
    }


def _held(ends: Floats, truth: float) -> float:
    return float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smears", type=int, default=40, help="per setting and prevalence")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", action="store_true", help="print tables for the docs")
    given = parser.parse_args()
    told = []
    for number, setting in enumerate(SETTINGS):
        title = f"{setting.name}; {setting.subjects} subjects, rho {setting.rho}"
        print(f"\n{title}\n", flush=True)
        if given.markdown:
            print("| true share | corrected: holds it | width | as called: holds it | width |")
            print("|---|---|---|---|---|")
        for prevalence in PREVALENCES:
            rng = np.random.default_rng([given.seed, number, round(1000 * prevalence)])
            row = measured(setting, prevalence, given.smears, rng)
            told.append({"setting": title, "prevalence": prevalence, **row})
            one, two, three, four = (f"{100 * value:.0f} %" for value in row.values())
            line = (f"{100 * prevalence:.0f} %", one, two, three, four)
            print("| " + " | ".join(line) + " |" if given.markdown else "  ".join(line), flush=True)
    lowest = min(row["coverage"] for row in told)
    print(json.dumps({"smears": given.smears, "lowest_coverage": lowest, "rows": told}))


if __name__ == "__main__":
    main()
