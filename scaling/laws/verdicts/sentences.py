"""The sentences of a verdict."""

from collections.abc import Sequence

from scaling.laws.verdicts.effects import Effect
from scaling.laws.verdicts.shape import Peak
from scaling.laws.verdicts.sites import AcrossSites


def verdict_sentence(
    task: str,
    metric: str,
    effects: Sequence[Effect],
    additive: Effect | None,
    sites: AcrossSites | None,
    peaks: Sequence[Peak],
    smallest: float,
    relative: bool,
    confidence: float,
) -> str:
    """The whole verdict on a task in words, the decision first."""
    main = effects[0]
    if main.low is None:
        return (
            f"{task}: undetermined. From the smallest to the largest budget {metric} changes by "
            f"{amount(main.estimate, relative)} (positive is better), but nothing tells how much "
            "runs differ by chance: repeat the smallest and the largest budget with other seeds."
        )
    scope = ""
    if sites is not None and sites.decides == "these":
        scope = f" at {_these_sites(sites)}"
    elif sites is not None:
        scope = f" on average over sites like these {sites.sites}"
    interval = f"{confidence:.0%} interval {ends(main, relative)}"
    parts = [
        f"{task}: {claim(main, metric, smallest, relative)}{scope}: "
        f"{amount(main.estimate, relative)} ({interval})."
    ]
    parts += [peak.sentence for peak in peaks]
    for effect in effects[1:]:
        name = f"{effect.name.capitalize()} alone"
        parts.append(f"{name}: {with_interval(effect, relative)}.")
    if additive is not None:
        parts.append(f"If size and duration add up: {with_interval(additive, relative)}.")
    if sites is not None:
        parts += site_sentences(sites, relative)
    if main.decision == "undetermined":
        parts.append(what_would_settle(main))
    return " ".join(parts)


def _these_sites(sites: AcrossSites) -> str:
    if sites.sites == 1:
        return f"this one site ({sites.names[0]})"
    return f"these {sites.sites} sites"


def claim(effect: Effect, metric: str, smallest: float, relative: bool) -> str:
    """The decision as a claim about more budget."""
    worth = f"what is worth having ({amount(smallest, relative, signed=False)})"
    if effect.decision == "improves, slightly":
        below = effect.high is not None and effect.high < smallest
        by = "by" if below else "but perhaps by"
        return f"more budget improves {metric}, {by} less than {worth}"
    beyond = f"beyond {worth}"
    return {
        "improves": f"more budget improves {metric}, by more than {worth}",
        "no worthwhile improvement": f"more budget brings no improvement of {metric} {beyond}",
        "harms": f"more budget harms {metric}",
        "undetermined": f"undetermined whether more budget helps {metric}",
    }[effect.decision]


def site_sentences(sites: AcrossSites, relative: bool) -> list[str]:
    """The other estimands, and why the decision is about the one it is about."""
    parts = []
    if sites.decides == "these":
        parts.append("With fewer than 5 sites the decision is about these sites only.")
        if sites.mean is not None:
            parts.append(f"Over sites like these: {with_interval(sites.mean, relative)}.")
    else:
        parts.append(f"Over the cases of these sites: {with_interval(sites.these, relative)}.")
    if sites.new is None:
        parts.append("Nothing tells what to expect at a new site.")
        return parts
    basis = ""
    if sites.prior:
        basis = ", if sites differ as much as the AUROC of clinical models usually does (sd .055)"
    parts.append(f"At a new site: {ends(sites.new, relative)}{basis}.")
    return parts


def what_would_settle(effect: Effect) -> str:
    """How many more seeds or cases would end in a decision."""
    ways = []
    if effect.seeds_needed:
        ways.append(f"{effect.seeds_needed} seeds per cell")
    if effect.cases_needed:
        ways.append(f"{effect.cases_needed} test cases")
    if not ways:
        return "Neither more seeds nor more cases alone would settle it."
    return f"About {' or '.join(ways)} would settle it."


def amount(x: float, relative: bool, signed: bool = True) -> str:
    """A change: in percent if relative, else with three decimals."""
    sign = "+" if signed else ""
    if relative:
        return f"{100 * x + 0.0:{sign}.1f} %"
    return f"{round(x, 3) + 0.0:{sign}.3f}"


def ends(effect: Effect, relative: bool) -> str:
    """Low to high."""
    assert effect.low is not None
    assert effect.high is not None
    return f"{amount(effect.low, relative)} to {amount(effect.high, relative)}"


def with_interval(effect: Effect, relative: bool) -> str:
    """An estimate and its interval, or that it has none."""
    if effect.low is None:
        return f"{amount(effect.estimate, relative)}, no interval without repeated runs"
    return f"{amount(effect.estimate, relative)} ({ends(effect, relative)})"
