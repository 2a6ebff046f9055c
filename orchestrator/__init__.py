"""orchestrator owns video-generation jobs: it submits them, hears of them, asks when nobody speaks, and tells.

The way of one job, door -> stage -> ledger -> store:

    caller ──POST /v1/jobs──> api/intake ─> ledger.open            queued
                                submit  ─> vendor                  submitting, then submitted
    vendor ──POST /callbacks─> receive ─┐
                                poll   ─┴> ledger.apply            processing ... succeeded | failed
                                              │ one transaction: the move, its event, what is owed
                                deliver <─────┘─> subscriber's door

Six files tell the whole story: `states` (what a job can be), `decide` (what a report changes), `ledger` (the only
writer of job state), `claims` (the row is the queue), `vendors/__init__` (the contract of a dialect), `runtime` (what
every stage is given).

The floors; a module imports only from those below it, and `tests/test_architecture.py` holds the law:

    outside   client/ (Python, of the API alone), cli/ over it, embed/ (the service inside another application),
              simulator/ (a misbehaving world), bench/
    roof      app (puts everything together) over running (loops and ticks)
    doors     api/ (JSON for callers, its OpenAPI document, and the vendors' door in front)
    stages    submit, receive, poll, deliver, replay: none imports another, they meet in committed rows
    truth     ledger over decide, fanout, silence; runtime, workers; turns, outcomes; subscribers, keyring, timeline,
              selection (of what a replay is about), checks (of accounts); lists over ways (the index that leads to
              them); tail (the log as it grows) over journal (in the order of commits); metrics, gauges
    plug-ins  vendors/ (one dialect a file), destinations/ (one kind of address a file)
    database  store over databases: sqlite (statements on the loop, writer commits beside it) or postgres (its dial
              hangs up on silence, its wakes reach other replicas); schema; units, claims. Internet: internet over
              transport, spelling and guard, the only way out
    facts     tables over columns, indexes; bulk; wire and shapes (what outsiders see); signing, pings, order, form,
              report, refusal, account, official
    ground    errors, states, clock, deadlines, ids, values, settings, logs

Words: a Job is work we ask a Vendor for, on an Account; a Push is a request it sends us; a Report is what it says; a
Move is a job changing state; an Event is the fact that it did; a Delivery is one event owed to one Subscriber, and an
Attempt is one try at it. Due is when the next step is ours; a Lane shares a limit; a Lease is the number of a claim.
"""

__version__ = "0.1.0"
