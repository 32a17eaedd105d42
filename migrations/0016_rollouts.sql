-- A prompt version or a model of a route that takes another one's place step by step. `state` is the
-- whole state machine (JSON), `consumed` which notes are in it; `version` is raised by every write, and
-- a write is made on the condition that it is still the one read. `revision` is raised by changes that
-- people and nodes care about. `is_live`: requests are steered by it.
CREATE TABLE rollouts (
    id              TEXT PRIMARY KEY,
    kind            TEXT NOT NULL,
    subject         TEXT NOT NULL,
    control         TEXT NOT NULL,
    candidate       TEXT NOT NULL,
    content         TEXT NOT NULL,
    unit            TEXT NOT NULL,
    phase           TEXT NOT NULL,
    share           INTEGER NOT NULL,
    is_shadow       INTEGER NOT NULL,
    is_harm         INTEGER NOT NULL,
    is_live         INTEGER NOT NULL,
    shadow          TEXT,
    spent_micro_usd INTEGER NOT NULL,
    revision        INTEGER NOT NULL,
    version         INTEGER NOT NULL,
    state           TEXT NOT NULL,
    consumed        TEXT NOT NULL,
    created_by      TEXT NOT NULL,
    created_at_ms   INTEGER NOT NULL,
    ended_at_ms     INTEGER
) STRICT;

CREATE UNIQUE INDEX rollouts_live ON rollouts (kind, subject) WHERE is_live = 1;
CREATE INDEX rollouts_ended ON rollouts (ended_at_ms) WHERE ended_at_ms IS NOT NULL;

-- What was decided, by whom and why (`decision`: JSON).
CREATE TABLE rollout_decisions (
    rollout  TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL,
    verdict  TEXT NOT NULL,
    sentence TEXT NOT NULL,
    actor    TEXT NOT NULL,
    decision TEXT NOT NULL,
    PRIMARY KEY (rollout, revision)
) STRICT;

-- What nodes have seen and the leader has not taken into account yet: a batch a row. `seq` counts a
-- node's batches, and a node is one life of a process.
CREATE TABLE rollout_notes (
    rollout TEXT NOT NULL,
    node    TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    notes   TEXT NOT NULL,
    PRIMARY KEY (rollout, node, seq)
) STRICT;

-- Content that was rolled back and may not be rolled out again before `until_ms`.
CREATE TABLE rollout_quarantine (
    content  TEXT PRIMARY KEY,
    rollout  TEXT NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT;

-- Which revision of a rollout a node serves.
CREATE TABLE rollout_nodes (
    node     TEXT NOT NULL,
    name     TEXT NOT NULL,
    rollout  TEXT NOT NULL,
    revision INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (node, rollout)
) STRICT;

-- Who does what only one node does at a time. `token` is raised with each change of holder.
CREATE TABLE leases (
    name     TEXT PRIMARY KEY,
    holder   TEXT NOT NULL,
    token    INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT;
