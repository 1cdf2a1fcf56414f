"""Measure the peers and write the tables: `make bench-peers`, some ten minutes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks.hits import CONNECTIONS
from benchmarks.hot_hits import PICTURES
from benchmarks.load import HINT, has_wrk
from benchmarks.machine import cores, raise_open_files
from benchmarks.peers import behaviours, crowd, forwards, hits, report
from benchmarks.peers.hits import ROUNDS
from benchmarks.peers.work import ROUND_S, Provider
from benchmarks.report import RESULTS

_NOTES = f"""\
- Measured by `make bench-peers`: {ROUNDS} alternating runs of {ROUND_S} s, {CONNECTIONS} connections, one worker \
each. The server measured has one core, the load and the demo provider have the rest. Ratios are medians; the figures \
beside them are this machine's, and other work moves both.
- Hits: {PICTURES} pictures asked in turn. That none of them reached the provider is checked on its bill. CPU is user \
and system time of every process of a server.
- Darkroom, as shipped: authentication, two rolling limits, every hit journalled, and its CPU counts until the row is \
in SQL.
- LiteLLM's proxy, forced: `supported_call_types` names pictures, which it does not cache by itself, and \
`enable_caching_on_provider_specific_optional_params` puts size, steps, `num_images` and whatever else only pictures \
have into its key, which leaves them out by itself. The cache is in its own memory and keeps the provider's address of \
a picture. Its settings are those for production, and callers send the master key: the cheapest to check. It has no \
database, so it limits nothing and records no use. Its packages are compiled to bytecode; where they are not, its hits \
cost twice as much. At every call it tries anew to import two packages that its `proxy` extra does not bring, \
OpenTelemetry's SDK and Prisma's client: one to two milliseconds of each hit.
- nginx: `proxy_cache` of POST by address and body. Once as Debian sets it up, with its access log and sendfile; once \
tuned for this work: the log in one write for many, entries kept open, no sendfile. Either way it asks for no key and \
limits nothing. Equal calls wait for the first (`proxy_cache_lock`), 5 s long by default.
- Portkey's gateway, its npm package: checks no key, counts nothing, and caches no pictures (asked for its `simple` \
cache, it answers `DISABLED`). It forwards `prompt` and `model`, and drops `seed` and `image_size`, which OpenAI's API \
does not have.
- LiteLLM's budgets of keys and users need a database, whose client downloads its engine from outside the package \
registries; its budget here is that of a deployment, which does without. Asked one call after the other it bought 11.
- Forwarding is more to Darkroom than to the others: it reserves and settles the money in SQL, and fetches, checks and \
keeps the picture. They pass on the provider's address of it. For the calls open at once it may have all of \
them at the provider (`max_concurrency`), where the default is 64.
- Memory of calls open at once is what a server grew by, divided by all of them, wherever they wait. In a trial \
Portkey had all at the provider at one time, Darkroom some 1,200 and LiteLLM some 300.
"""


def main() -> None:
    started = time.monotonic()
    raise_open_files()
    if not has_wrk():
        print(HINT)
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as name:
        folder = Path(name)
        with Provider(folder / "provider").on(cores()[1]) as provider:
            print("Hits ...", flush=True)
            rows = hits.measure(folder, provider)
            print("Calls forwarded ...", flush=True)
            beside = forwards.measure(folder, provider)
            print("Equal calls, budgets ...", flush=True)
            beside += behaviours.measure(folder, provider)
            print("Calls open at once ...", flush=True)
            beside += crowd.measure(folder, provider)
    text = report.write(rows, beside, f"{_NOTES}- Load: {'wrk' if has_wrk() else HINT}.")
    print(f"\n{text}\n{time.monotonic() - started:.0f} s; written to {os.path.relpath(RESULTS)}/peers.md")


if __name__ == "__main__":
    main()
