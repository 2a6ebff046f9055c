-- What this program made of a SQLite file before schemas had numbers, word for word.
CREATE TABLE job (
    id VARCHAR NOT NULL,
    account VARCHAR NOT NULL,
    vendor VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    capability VARCHAR NOT NULL,
    input TEXT NOT NULL,
    external_task_id VARCHAR NOT NULL,
    vendor_task_id VARCHAR,
    state VARCHAR NOT NULL,
    vendor_status VARCHAR,
    progress INTEGER,
    output TEXT,
    error TEXT,
    callback_url VARCHAR,
    callback_events TEXT,
    callback_lane VARCHAR,
    metadata TEXT NOT NULL,
    api_key VARCHAR NOT NULL,
    idempotency_key VARCHAR,
    fingerprint VARCHAR,
    retry_of VARCHAR,
    attempt INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    asks INTEGER NOT NULL,
    misses INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    due_at BIGINT,
    version INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    vendor_updated_at BIGINT,
    outputless_since BIGINT,
    created_at BIGINT NOT NULL,
    submitted_at BIGINT,
    finished_at BIGINT,
    deadline_at BIGINT NOT NULL,
    resolved_by VARCHAR,
    PRIMARY KEY (id),
    UNIQUE (account, external_task_id)
);
CREATE UNIQUE INDEX ix_job_vendor_task ON job (account, vendor_task_id);
CREATE INDEX ix_job_deadline ON job (deadline_at) WHERE due_at IS NOT NULL;
CREATE UNIQUE INDEX ix_job_idempotency ON job (api_key, idempotency_key);
CREATE INDEX ix_job_due ON job (account, state, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE push (
    id VARCHAR NOT NULL,
    account VARCHAR NOT NULL,
    job_id VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    received_at BIGINT NOT NULL,
    dedupe_key VARCHAR NOT NULL,
    verified BOOLEAN NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    outcome VARCHAR NOT NULL,
    copies INTEGER NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (account, dedupe_key)
);
CREATE INDEX ix_push_job ON push (job_id);
CREATE TABLE event (
    id VARCHAR NOT NULL,
    job_id VARCHAR,
    sequence INTEGER NOT NULL,
    type VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    body BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX ix_event_job ON event (job_id, sequence);
CREATE TABLE subscriber (
    id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    callback_origin VARCHAR,
    address VARCHAR NOT NULL,
    shown VARCHAR NOT NULL,
    secrets TEXT NOT NULL,
    types TEXT NOT NULL,
    description VARCHAR NOT NULL,
    headers VARCHAR,
    options TEXT NOT NULL,
    rate_limit FLOAT,
    max_in_flight INTEGER NOT NULL,
    state VARCHAR NOT NULL,
    reason VARCHAR,
    resting_until BIGINT,
    failing_since BIGINT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (callback_origin)
);
CREATE TABLE delivery (
    id VARCHAR NOT NULL,
    event_id VARCHAR NOT NULL,
    subscriber_id VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    due_at BIGINT,
    lease INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    last_status INTEGER,
    last_error VARCHAR,
    created_at BIGINT NOT NULL,
    done_at BIGINT,
    PRIMARY KEY (id),
    UNIQUE (event_id, subscriber_id)
);
CREATE INDEX ix_delivery_subscriber ON delivery (subscriber_id, id);
CREATE INDEX ix_delivery_due ON delivery (subscriber_id, due_at) WHERE due_at IS NOT NULL;
CREATE TABLE attempt (
    delivery_id VARCHAR NOT NULL,
    n INTEGER NOT NULL,
    at BIGINT NOT NULL,
    status INTEGER,
    ms INTEGER NOT NULL,
    error VARCHAR,
    response VARCHAR,
    PRIMARY KEY (delivery_id, n)
);
CREATE TABLE trace (
    id INTEGER NOT NULL,
    job_id VARCHAR NOT NULL,
    at BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_trace_job ON trace (job_id, id);
CREATE TABLE account_state (
    account VARCHAR NOT NULL,
    paused_until BIGINT,
    crowded INTEGER NOT NULL,
    pushes INTEGER NOT NULL,
    pushes_missed INTEGER NOT NULL,
    polls INTEGER NOT NULL,
    silent INTEGER NOT NULL,
    degraded BOOLEAN NOT NULL,
    last_push_at BIGINT,
    PRIMARY KEY (account)
);
CREATE TABLE api_key (
    id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    prefix VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    scope VARCHAR NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT,
    PRIMARY KEY (id),
    UNIQUE (digest)
);
