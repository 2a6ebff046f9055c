"""orchestrator owns video-generation jobs: it submits them, verifies pushes and polls when needed.

Folders, lowest layer first. A folder imports only from folders above it in this list:

    foundation   errors, states, clock, ids, settings, signing, metrics, logs; no imports of ours
    schemas      the models of the API, and writers that produce the same JSON faster
    database     SQLite or PostgreSQL: store, tables, migrations, the queue of due rows, lists
    egress       HTTP to vendors and subscribers; the only sockets out, behind an address policy
    ingress      HTTP from clients: every connection bounded in bytes and in time
    vendors      the contract of a dialect, and one file for each in `dialects`
    events       transactional outbox, event log, feed, subscribers; one file a destination
    jobs         the ledger, the only writer of job state, and the state machine it applies
    engine       the stages: receive, submit, poll, deliver, replay, retention
    api          one file a resource, authentication, OpenAPI document, callback endpoint
    dashboard    pages for people, made of what the API answers in process
    app          settings in, ASGI application out
    embed, cli   the service inside another application; the command line
    client       the Python client; needs `foundation` and `schemas` alone
    simulator    vendors and a subscriber that misbehave on request; no imports of ours

Public are `orchestrator.client`, `orchestrator.embed`, `orchestrator.schemas`,
`orchestrator.vendors`, `orchestrator.events.destinations` and `orchestrator.events.notification`:
the names in their `__all__`. Everything else is private and may change in any release.
CONTRIBUTING.md has the rules.
"""

__all__ = ["__version__"]
__version__ = "0.1.0"
