"""A report in words: have the chains converged, and what should be changed if not?

All numbers are those of functions (see `function_convergence` for the reason), and of the sampler's own statistics.
`convergence_report` collects them, applies the thresholds of the field, and distinguishes what thresholds cannot:
disagreement of chains from too few draws, divergences at one place from divergences everywhere, and statistics that
could not be judged from statistics that are good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from posterity.display import panel, paragraph, table
from posterity.inference.arviz import INDEPENDENT, bfmi
from posterity.inference.convergence.statistics import convergence, rhat_explained_by_chance
from posterity.inference.convergence.thresholds import RHAT, RHAT_DRAWS
from posterity.inference.diagnostics.sampling import _findings as find
from posterity.inference.diagnostics.sampling import _findings_of_run as of_run
from posterity.inference.diagnostics.sampling._findings import Finding
from posterity.inference.diagnostics.sampling._functions import Functions, read_functions
from posterity.inference.diagnostics.sampling.divergences import locate_divergences
from posterity.inference.diagnostics.sampling.nested import nested_rhat

NO_CHAINS = ("SVI", "Ensemble")
COMPARED = ("rhat", "ess_bulk", "ess_tail")
ORDER = ("stop", "caution", "unknown", "note")
VERDICTS = {
    "stop": "do not use these draws",
    "caution": "use these draws with care",
    "unknown": "not everything could be judged",
    "note": "no sign of a problem",
}


@dataclass(frozen=True, repr=False)
class ConvergenceReport:
    """The findings of `convergence_report`; printed, they read as text.

    - ``dataset``: over "point" ``rhat``, ``ess_bulk``, ``ess_tail``, with superchains ``nested_rhat``, and if draws
      diverged ``divergent_shift``, ``divergent_spread``, ``divergent_quantile`` and ``divergent_strength`` (see
      `locate_divergences`), nan if a function cannot be judged; over "chain" ``ebfmi``, ``divergences`` and
      ``acceptance_rate``, if the sampler stored them. The coordinate ``label`` names the points, ``x`` holds their
      inputs.
    - ``findings``: evidence and advice, the worst first; see `Finding`.
    - ``ok``: whether everything could be judged and nothing was found.
    """

    dataset: xr.Dataset
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return self.verdict == "note"

    @property
    def verdict(self) -> str:
        """The worst severity; "note" if there is no finding."""
        severities = [finding.severity for finding in self.findings]
        return next((severity for severity in ORDER if severity in severities), "note")

    def __getitem__(self, name: str) -> Finding:
        """The finding of that name; ``KeyError`` with the names of all findings if there is none."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(f"{name!r}: the findings are {[finding.name for finding in self.findings]}")

    def __repr__(self) -> str:
        lines = [f"- {finding.severity.upper()}, {finding.name}: {finding.words}" for finding in self.findings]
        return "\n".join([self._head(), *lines, self._best()])

    def _repr_html_(self) -> str:
        rows = [(finding.severity, finding.name, finding.words) for finding in self.findings]
        found = table(("severity", "finding", "what it means, what to do"), rows) if rows else ""
        return panel(f"Convergence: {VERDICTS[self.verdict]}", paragraph(self._head()), found, paragraph(self._best()))

    def _head(self) -> str:
        attrs = self.dataset.attrs
        method = f" of {attrs['method']}" if attrs["method"] else ""
        sites = f" and {attrs['sites']} elements of sites" if attrs["sites"] else ""
        return (
            f"{attrs['chains']} {'chain' if attrs['chains'] == 1 else 'chains'} of {attrs['draws']} draws{method}, "
            f"judged by {self.dataset.sizes['point'] - attrs['sites']} functions{sites}: {VERDICTS[self.verdict]}."
        )

    def _best(self) -> str:
        """The extreme values of the statistics, and the next step."""
        extremes = []
        for name, function, template in (
            ("rhat", np.nanmax, "R-hat at most {:.3f}"),
            ("nested_rhat", np.nanmax, "nested R-hat at most {:.3f}"),
            ("ess_bulk", np.nanmin, "bulk ESS at least {:.0f}"),
            ("ess_tail", np.nanmin, "tail ESS at least {:.0f}"),
            ("ebfmi", np.nanmin, "E-BFMI at least {:.2f}"),
            ("divergences", np.sum, "{:.0f} divergences"),
        ):
            if name in self.dataset and not bool(self.dataset[name].isnull().all()):
                extremes.append(template.format(float(function(self.dataset[name].values))))
        numbers = f"Numbers: {', '.join(extremes)}. " if extremes else ""
        return f"{numbers}Agreement of chains does not mean that the model fits: look at pulls, PIT and coverage next."


def convergence_report(
    source: Any, *inputs: Any, var_names: Sequence[str] | None = None, superchains: int | None = None
) -> ConvergenceReport:
    """Have the chains converged, and what should be changed if not? ``print`` the result.

    Three kinds of quantities of a `Posterior` are judged: E[y|x, w] or class probabilities at each x, the log density,
    and each element of the named sites except the weights of a network. Such weights may be permuted from chain to
    chain, so chains that agree on functions disagree on weights (`posterity.inference.program.weights` lists them). Of
    ArviZ data the variables of ``posterior`` are judged, and ``lp`` of ``sample_stats``; the result means little for
    the weights of a network.

    Findings are: R-hat of 1.01 or more (and whether chance explains it with so few draws); bulk or tail ESS below 100
    for each chain (Vehtari et al. 2021, arXiv:1903.08008); nested R-hat 0.01 above that of independent draws
    (Margossian et al. 2024, arXiv:2110.13017) or total ESS below 400; E-BFMI below 0.3 (Betancourt 2016,
    arXiv:1604.00695); any divergence, and its place in function space (`locate_divergences`); chains that do not move;
    functions that are not finite; and trees of maximum depth. A single chain, and draws of SVI or an ensemble, are not
    judged, and the report says what to look at instead.

    Args:
        source: a `Posterior`, or ArviZ data.
        inputs: arguments of the model without y, for a `Posterior`: a grid of x that covers the data and the region of
            interest; not used for a model with several observed sites or with factors alone, whose functions are not
            judged.
        var_names: variables of ArviZ data, by default all.
        superchains: number of groups of chains that start from the same point, by default that of the run
            (``HMC(superchains=...)``).

    Raises:
        ValueError: if a `Posterior` has no inputs, ArviZ data have inputs or no group ``posterior``, or variables do
            not exist.

    >>> from posterity.inference.arviz import from_groups
    >>> draws = np.random.default_rng(0).normal(size=(4, 1000, 2))
    >>> posterior = xr.Dataset({"f": (("chain", "draw", "x"), draws)}, coords={"x": [0.5, 1.5]})
    >>> convergence_report(from_groups({"posterior": posterior}), var_names=["f"]).ok
    True
    >>> draws[3, :, 1] += 2
    >>> report = convergence_report(from_groups({"posterior": posterior}), var_names=["f"])
    >>> report.ok, report.verdict, report["rhat"].words[:67]
    (False, 'stop', 'The chains do not agree: R-hat is 1.314 at f[1.5], and 1.01 or more')
    """
    functions = read_functions(source, inputs, var_names)
    if superchains is None:
        setting = functions.setting("superchains")
        superchains = None if setting is None or setting < 2 else int(setting)
    independent = functions.method in NO_CHAINS or functions.attrs.get("sampling") == INDEPENDENT
    dataset, findings = (_without_chains if independent else _with_chains)(functions, superchains)
    coords = {"label": ("point", np.asarray(functions.labels, dtype=str)), **functions.coords}
    attrs = {
        "method": functions.method,
        "chains": functions.chains,
        "draws": functions.draws,
        "superchains": superchains or 0,
        "sites": functions.sites,
    }
    dataset = dataset.assign_coords(coords).assign_attrs(attrs)
    ordered = sorted(findings, key=lambda finding: ORDER.index(finding.severity))
    return ConvergenceReport(dataset, tuple(ordered))


def _without_chains(functions: Functions, superchains: int | None) -> tuple[xr.Dataset, list[Finding]]:
    unknown = ("point", np.full(len(functions.labels), np.nan))
    return xr.Dataset(dict.fromkeys(COMPARED, unknown)), list(of_run.no_chains(functions))


def _with_chains(functions: Functions, superchains: int | None) -> tuple[xr.Dataset, list[Finding]]:
    finite = np.isfinite(functions.values).all((0, 1))
    moves = finite.copy()
    moves[finite] = np.ptp(functions.values[..., finite], axis=(0, 1)) > 0
    values = functions.values if moves.all() else functions.values[..., moves]
    labels = [label for label, judged in zip(functions.labels, moves, strict=True) if judged]
    columns = {name: np.full(len(labels), np.nan) for name in COMPARED}
    findings = [*find.broken(functions, finite, moves)]
    if labels or finite.all():
        findings += find.stuck(functions, values)
    if labels:
        of_sites = int(moves[len(moves) - functions.sites :].sum())
        findings += _compared(functions, values, labels, superchains, columns, len(labels) - of_sites)
    elif finite.all() and not findings:
        findings += find.nothing_moves(functions)
    dataset, of_sampler = _sampler(functions, values, labels, columns)
    for name, column in columns.items():
        full = np.full(len(functions.labels), np.nan)
        full[moves] = column
        dataset[name] = ("point", full)
    return dataset, [*findings, *of_sampler]


def _compared(
    functions: Functions, values: np.ndarray, labels: list[str], superchains: int | None,
    columns: dict[str, np.ndarray], split: int,
) -> Iterator[Finding]:  # fmt: skip
    """Findings from comparing chains, and superchains if there are any; statistics are added to ``columns``.

    Points before ``split`` are functions, the others are elements of named sites, judged separately.
    """
    apart = False
    if functions.draws >= RHAT_DRAWS:
        columns |= convergence(values)
    if functions.draws >= RHAT_DRAWS and functions.chains > 1:
        for finding, serious in _disagreements(functions, values, labels, columns["rhat"], split):
            apart = apart or serious
            if serious or not superchains:
                yield finding
    elif not superchains:
        yield from find.not_compared(functions, values, labels)
    if superchains:
        nested = nested_rhat(values, superchains)
        columns["nested_rhat"] = nested["nested_rhat"].values
        for name, part in (("nested_rhat", slice(split)), ("site_nested_rhat", slice(split, None))):
            if labels[part]:
                of_part = nested.isel(point=part)
                disagreement = find.nested_disagreement(values[..., part], labels[part], of_part, functions)
                if disagreement:
                    yield disagreement._replace(name=name)
    if functions.draws >= RHAT_DRAWS:
        yield from find.few_draws(functions, labels, columns, apart, superchains is not None)


def _disagreements(
    functions: Functions, values: np.ndarray, labels: list[str], rhat: np.ndarray, split: int
) -> Iterator[tuple[Finding, bool]]:
    """Findings on functions and on sites, each with whether R-hat is larger than chance explains."""
    finding = None
    if split:
        chance = rhat_explained_by_chance(values[..., :split], rhat[:split])
        finding = find.disagreement(functions, values[..., :split], labels[:split], rhat[:split], chance)
        if finding:
            yield finding, bool(rhat[:split].max() >= max(chance, RHAT))
    if split < len(labels):
        chance = rhat_explained_by_chance(values[..., split:], rhat[split:])
        on_sites = find.disagreement_on_sites(functions, labels[split:], rhat[split:], chance, finding is None)
        if on_sites:
            yield on_sites, bool(rhat[split:].max() >= max(chance, RHAT))


def _sampler(
    functions: Functions, values: np.ndarray, labels: list[str], columns: dict[str, np.ndarray]
) -> tuple[xr.Dataset, list[Finding]]:
    """Statistics of the sampler, and the findings from them."""
    stats, dataset = functions.stats, xr.Dataset()
    findings: list[Finding] = []
    if "energy" in stats and functions.draws > 1:
        with np.errstate(divide="ignore", invalid="ignore"):  # a constant chain has no E-BFMI
            dataset["ebfmi"] = bfmi(xr.DataArray(np.asarray(stats["energy"], float), dims=("chain", "draw")))
        findings += of_run.energies(functions, dataset["ebfmi"].values)
    if "acceptance_rate" in stats:
        dataset["acceptance_rate"] = ("chain", np.asarray(stats["acceptance_rate"], float).mean(1))
    if "diverging" in stats:
        hit = np.asarray(stats["diverging"], bool)
        dataset["divergences"] = ("chain", hit.sum(1))
        located = locate_divergences(values, hit) if labels and hit.any() and not hit.all() else None
        if located is not None:
            columns |= {
                f"divergent_{name}": located[name].values for name in ("shift", "spread", "quantile", "strength")
            }
            dataset["divergent_p_value"] = located["p_value"]
        findings += of_run.divergences(functions, hit, labels, located)
    for check in (of_run.deep_trees, of_run.no_statistics, of_run.interrupted):
        findings += check(functions)
    return dataset, findings
