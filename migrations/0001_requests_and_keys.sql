-- One row for each request that has ended, in the order in which they ended.
--
-- `id` is the millisecond of the end times 2^20, plus a number that keeps it rising, so that the
-- one tree this table is answers "newest first", "since", "until" and "older than" without a
-- second index, and every insert goes to its right edge.
CREATE TABLE requests (
    id              INTEGER PRIMARY KEY,
    request_id      TEXT NOT NULL,
    started_at_ms   INTEGER NOT NULL,
    caller          TEXT NOT NULL,
    endpoint        TEXT NOT NULL,
    dialect         TEXT NOT NULL,
    model_asked     TEXT,
    route           TEXT,
    target          TEXT,
    provider        TEXT,
    model_served    TEXT,
    streamed        INTEGER NOT NULL,
    outcome         TEXT NOT NULL,
    failure         TEXT,
    error_code      TEXT,
    status          INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    input           INTEGER NOT NULL,
    cached_input    INTEGER NOT NULL,
    cache_write     INTEGER NOT NULL,
    output          INTEGER NOT NULL,
    reasoning       INTEGER NOT NULL,
    usage_estimated INTEGER NOT NULL,
    cost_micro_usd  INTEGER NOT NULL,
    latency_ms      INTEGER NOT NULL,
    first_token_ms  INTEGER,
    overhead_us     INTEGER NOT NULL,
    tags            TEXT
) STRICT;

-- One row for each time the gateway ran, brought up to date in the same transaction as the
-- requests. A run that was killed has no end, and the next one computes what is missing.
CREATE TABLE runs (
    id            INTEGER PRIMARY KEY,
    started_at_ms INTEGER NOT NULL,
    flushed_at_ms INTEGER NOT NULL,
    ended_at_ms   INTEGER,
    accepted      INTEGER NOT NULL,
    written       INTEGER NOT NULL,
    dropped       INTEGER NOT NULL,
    unknown       INTEGER
) STRICT;

-- Callers' keys. A revoked one stays, so that the usage it caused keeps its name.
CREATE TABLE keys (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    hash          BLOB NOT NULL UNIQUE,
    hint          TEXT NOT NULL,
    version       INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    revoked_at_ms INTEGER
) STRICT;

-- Single values, such as the hash of the admin key.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
