"""What was learned about an account, as JSON: latencies by model, lost pushes, costs of queries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from orchestrator.jobs.latency import BOUNDS, Latency, no_counts
from orchestrator.jobs.latency_store import Tally
from orchestrator.jobs.learning import Learned
from orchestrator.schemas.base import Json
from orchestrator.vendors.contract import Vendor

#: Models that are shown.
MODELS = 50
#: Completions without which a share of losses says nothing.
_FEW = 1.0


def learned_json(learned: Learned, vendor: Vendor, models: int = MODELS) -> Json:
    """Return the fields of an account that status queries are planned with.

    Latencies are those of the models with the most jobs: callers name models.
    """
    name = vendor.account.name
    mine = [(key, one) for key, one in learned.tallies.items() if key.account == name]
    by_model: defaultdict[str, list[Tally]] = defaultdict(list)
    for key, tally in mine:
        by_model[key.model].append(tally)
    samples = {
        model: sum(sum(one.counts) for one in tallies) for model, tallies in by_model.items()
    }
    most = sorted(samples, key=lambda model: (-samples[model], model))[:models]
    ended = sum(sum(tally.counts) for _, tally in mine)
    asked, fixed = sum(one.asked for _, one in mine), sum(one.fixed for _, one in mine)
    loss = learned.loss(name)
    is_adaptive = vendor.account.poll.policy == "adaptive"
    known = vendor.pushes and loss.lost + loss.pushed >= _FEW
    return {
        "latency": {model: _latency(by_model[model]) for model in sorted(most)},
        "push_loss": round(loss.lost / (loss.lost + loss.pushed), 4) if known else None,
        "polls_per_job": round(asked / ended, 3) if ended >= _FEW else None,
        "polls_saved": max(0, round(fixed - asked)) if is_adaptive else 0,
    }


def _latency(tallies: Sequence[Tally]) -> Json:
    counts = no_counts()
    for tally in tallies:
        counts = [one + more for one, more in zip(counts, tally.counts, strict=True)]
    latency = Latency(counts)
    found = {f"p{share}": latency.known_quantile(share / 100) for share in (50, 95, 99)}
    return {
        **{name: None if value is None else round(value, 1) for name, value in found.items()},
        "samples": round(latency.samples),
        "counts": [
            {"le": bound, "count": round(count)}
            for bound, count in zip(BOUNDS, counts, strict=True)
            if count >= 0.5
        ],
    }
