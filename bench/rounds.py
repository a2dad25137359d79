"""Rounds: everyone runs once in each, in an order that alternates, and ratios are taken within a round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from bench.cases import Case, Pair, Run
from bench.cost import Cost
from bench.errors import CannotMeasure, WrongCopy
from bench.results import Row

Tell = Callable[[str], None]


def measure(case: Case, runs: Mapping[str, Run], rounds: int, tell: Tell) -> list[Row]:
    """Run a case.

    Args:
        case: what to compare.
        runs: as the case prepared them.
        rounds: how often.
        tell: takes a line after each run.

    Raises:
        WrongCopy: a copy is not what it has to be; the text names who made it.
        CannotMeasure: a run failed.
    """
    costs: dict[str, list[Cost]] = {who: [] for who in runs}
    for turn in range(rounds):
        for who in order_of(list(runs), turn):
            where = f"{case.name}, round {turn + 1} of {rounds}, {who}"
            try:
                cost = runs[who](turn)
            except (WrongCopy, CannotMeasure) as error:
                raise type(error)(f"{where}: {error}") from None
            tell(f"{where}: {cost.wall:.3f} s, CPU {cost.user:.2f} + {cost.system:.2f} + {cost.server:.2f} s")
            costs[who].append(cost)
    return [row_of(pair, case.target, costs) for pair in case.pairs]


def order_of(names: Sequence[str], turn: int) -> list[str]:
    """Of any two, each is before the other in every second round, and nobody is always at the same place."""
    shift = turn // 2 % len(names)
    turned = [*names[shift:], *names[:shift]]
    return turned[::-1] if turn % 2 else turned


def row_of(pair: Pair, target: str, costs: Mapping[str, Sequence[Cost]]) -> Row:
    """The comparison of two runs over all rounds."""
    ours, theirs = costs[pair.ours], costs[pair.peer]
    ratios = [mine.wall / other.wall for mine, other in zip(ours, theirs, strict=True)]
    return Row(
        name=pair.name,
        peer=pair.peer,
        target=target,
        ratio_median=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        rounds=len(ratios),
        ours=median(ours),
        theirs=median(theirs),
    )


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each kind of cost by itself, but the largest memory."""
    return Cost(
        wall=statistics.median(cost.wall for cost in costs),
        user=statistics.median(cost.user for cost in costs),
        system=statistics.median(cost.system for cost in costs),
        server=statistics.median(cost.server for cost in costs),
        memory=max(cost.memory for cost in costs),
    )
