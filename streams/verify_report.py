"""A verdict as lines of text."""

from headrace.streams.verify import Verdict


def lines_of(verdict: Verdict, repeat: str) -> list[str]:
    """Say what was tried, compared and found wrong; ``repeat`` is the command that a seed is missing from."""
    counts = verdict.counts
    refused = sum(count for name, count in counts.items() if name.startswith("routed.dead."))
    tried = f"{len(verdict.seeds)} seeds" if len(verdict.seeds) != 1 else f"seed {verdict.seeds[0]}"
    rows = {
        "events": f"{counts['events']:,} in {tried}; {counts['routed.keyless']:,} without a key, {refused:,} refused, "
                  f"{counts['routed.duplicate_id']:,} duplicates, {counts['late']:,} too late for a view",
        "disturbed": f"{counts['delayed']:,} events held back, {counts['sent_again']:,} sent again, "
                     f"{counts['duplicate']:,} records delivered again, {counts['restarts']:,} restarts of a shard",
        "replay": f"{counts['values_replay']:,} values of the stream compared with the replay",
        "oracle": f"{counts['values_oracle']:,} values of {counts['keys_oracle']:,} keys compared with the naive "
                  "oracle",
    }
    found = [f"{name:10s} {text}" for name, text in rows.items()]
    for failure in verdict.failures:
        found += failure.lines(f"{repeat} {failure.seed}")
    if verdict.holds:
        return [*found, "ok         all values are equal, bit for bit"]
    if not verdict.failures:
        return [*found, "FAILED     nothing was compared: there are no events that count"]
    return [*found, f"FAILED     {len(verdict.failures)} of {tried}"]
