-- Requests whose answers are fetched later. A lane is whose they are: the id of the caller.
--
-- Jobs and deliveries of webhooks (0009) are queues with the same columns up to `started_at_ms`; one
-- piece of code serves both. `token` rises whenever a worker takes a row, and every write of a
-- worker names the token it took, so that one that was given up for dead cannot overwrite anything.
CREATE TABLE jobs (
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
    failures       INTEGER NOT NULL,
    endpoint       TEXT NOT NULL,
    wishes         TEXT NOT NULL,
    metadata       TEXT NOT NULL,
    receiver       TEXT,
    created_at_ms  INTEGER NOT NULL,
    ended_at_ms    INTEGER,
    error_code     TEXT,
    error_message  TEXT
) STRICT;

CREATE INDEX jobs_waiting ON jobs (priority, lane, run_after_ms) WHERE state = 'queued';
CREATE INDEX jobs_waiting_until ON jobs (deadline_ms) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (lane) WHERE state = 'running';
CREATE INDEX jobs_of_callers ON jobs (lane, id);
CREATE INDEX jobs_ended ON jobs (ended_at_ms) WHERE ended_at_ms IS NOT NULL;

-- Bodies stand by themselves, because a row is written whenever its job changes hands.
CREATE TABLE job_requests (
    job  TEXT PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

-- The primary key is what rules out a second result.
CREATE TABLE job_results (
    job     TEXT PRIMARY KEY,
    status  INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body    BLOB NOT NULL
) STRICT;
