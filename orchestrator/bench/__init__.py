"""Benches: every figure beside its limit, measured in the same run, since machines are noisy and ratios are not.

    python -m orchestrator.bench ingest      durable acknowledgements beside a bare handler that parses the same body,
                                              on uvicorn's defaults (plain) and on what `serve` runs on (fast)
    python -m orchestrator.bench deliver     recorded deliveries beside one shared httpx.AsyncClient
    python -m orchestrator.bench latency     push -> delivered at low load
    python -m orchestrator.bench isolation   other subscribers' delay beside one that hangs and one that trickles
    python -m orchestrator.bench missed      what it costs when every push is lost

Servers run in processes of their own on loopback; every loop is bounded and ends by itself.
"""
