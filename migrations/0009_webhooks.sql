-- Where callers want to hear of their jobs, each with the secret that signs what is sent there.
CREATE TABLE webhook_receivers (
    id               TEXT PRIMARY KEY,
    caller           TEXT NOT NULL,
    url              TEXT NOT NULL,
    secret           TEXT NOT NULL,
    old_secret       TEXT,
    old_until_ms     INTEGER,
    disabled_why     TEXT,
    disabled_at_ms   INTEGER,
    failing_since_ms INTEGER,
    created_at_ms    INTEGER NOT NULL,
    UNIQUE (caller, url)
) STRICT;

-- The outbox: written in the transaction that ends a job, sent afterwards. A lane is a receiver.
-- There is one row a job, and its id is the `webhook-id` of every attempt.
CREATE TABLE webhook_deliveries (
    id             TEXT PRIMARY KEY,
    lane           TEXT NOT NULL,
    priority       INTEGER NOT NULL,
    state          TEXT NOT NULL,
    run_after_ms   INTEGER NOT NULL,
    token          INTEGER NOT NULL,
    worker         TEXT,
    lease_until_ms INTEGER,
    attempts       INTEGER NOT NULL,
    losses         INTEGER NOT NULL,
    deadline_ms    INTEGER NOT NULL,
    started_at_ms  INTEGER,
    job            TEXT NOT NULL UNIQUE,
    body           TEXT NOT NULL,
    created_at_ms  INTEGER NOT NULL,
    ended_at_ms    INTEGER,
    last_status    INTEGER,
    last_error     TEXT
) STRICT;

CREATE INDEX deliveries_waiting ON webhook_deliveries (priority, lane, run_after_ms) WHERE state = 'queued';
CREATE INDEX deliveries_running ON webhook_deliveries (lane) WHERE state = 'running';
CREATE INDEX deliveries_of_receivers ON webhook_deliveries (lane, id);
CREATE INDEX deliveries_ended ON webhook_deliveries (ended_at_ms) WHERE ended_at_ms IS NOT NULL;
