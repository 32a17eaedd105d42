-- Runs of compatibility suites. `baseline` and `candidate` are sides (JSON), `..._prompt`
-- and `candidate_model` what is looked up of them, `candidate_hash` all of it as one number.
-- `text` names what in `compat_texts` the run keeps to. `worked_ms` is how long it has
-- asked, on all nodes one after another. `judge`: who judged (JSON). `seed` holds the 64 bits of
-- a number without a sign.
CREATE TABLE compat_runs (
    id                 TEXT PRIMARY KEY,
    kind               TEXT NOT NULL,
    suite              TEXT NOT NULL,
    suite_hash         TEXT NOT NULL,
    text               TEXT NOT NULL,
    baseline           TEXT NOT NULL,
    candidate          TEXT NOT NULL,
    baseline_prompt    TEXT NOT NULL,
    candidate_prompt   TEXT NOT NULL,
    candidate_model    TEXT NOT NULL,
    candidate_hash     TEXT NOT NULL,
    depth              TEXT NOT NULL,
    samples            INTEGER NOT NULL,
    seed               INTEGER NOT NULL,
    max_cost_micro_usd INTEGER NOT NULL,
    state              TEXT NOT NULL,
    reason             TEXT,
    created_by         TEXT NOT NULL,
    created_ms         INTEGER NOT NULL,
    ended_ms           INTEGER,
    swept_ms           INTEGER,
    worked_ms          INTEGER NOT NULL,
    samples_done       INTEGER NOT NULL,
    samples_planned    INTEGER NOT NULL,
    cost_micro_usd     INTEGER NOT NULL,
    judge              TEXT,
    verdict            TEXT,
    judgement          TEXT
) STRICT;

CREATE INDEX compat_runs_open ON compat_runs (created_ms) WHERE ended_ms IS NULL;
CREATE INDEX compat_runs_by_time ON compat_runs (created_ms, id);
CREATE INDEX compat_runs_verdicts ON compat_runs (candidate_prompt, candidate_model, ended_ms)
    WHERE verdict IS NOT NULL;
CREATE INDEX compat_runs_history ON compat_runs (suite, candidate_hash, ended_ms);
CREATE INDEX compat_runs_kept ON compat_runs (ended_ms) WHERE swept_ms IS NULL;

-- What a run keeps to, by its hash.
CREATE TABLE compat_texts (
    hash TEXT PRIMARY KEY,
    text TEXT NOT NULL
) STRICT;

-- One answer of one side (0: the baseline, 1: the candidate) to one case, graded. `answer` and `grade`
-- are JSON. `reuse_key` tells the case, the side and what the prompt says as one number: where it is
-- the same in another run, the answer is one to the same question. `passed` is NULL where there is no
-- answer. `spent_micro_usd` is what the run paid for it: nothing for one that was taken over.
CREATE TABLE compat_samples (
    run                TEXT NOT NULL,
    side               INTEGER NOT NULL,
    case_id            TEXT NOT NULL,
    sample             INTEGER NOT NULL,
    reuse_key          TEXT NOT NULL,
    at_ms              INTEGER NOT NULL,
    passed             INTEGER,
    output_tokens      INTEGER NOT NULL,
    cost_micro_usd     INTEGER NOT NULL,
    latency_ms         INTEGER NOT NULL,
    judging_micro_usd  INTEGER NOT NULL,
    spent_micro_usd    INTEGER NOT NULL,
    preference         TEXT,
    reused_from        TEXT,
    answer             TEXT NOT NULL,
    grade              TEXT,
    PRIMARY KEY (run, case_id, sample, side)
) STRICT;

CREATE INDEX compat_samples_reuse ON compat_samples (reuse_key, at_ms);

-- Suites that were pushed.
CREATE TABLE compat_suites (
    id         TEXT PRIMARY KEY,
    prompt     TEXT,
    hash       TEXT NOT NULL,
    text       TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    created_by TEXT NOT NULL
) STRICT;

-- What judges and embedders have said (`reply`: JSON), so that nobody is asked twice.
CREATE TABLE compat_replies (
    ask      TEXT NOT NULL,
    judge    TEXT NOT NULL,
    protocol TEXT NOT NULL,
    reply    TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (ask, judge, protocol)
) STRICT;

CREATE INDEX compat_replies_by_time ON compat_replies (at_ms);

-- How far judges agree with people (`found`: JSON); the latest of each.
CREATE TABLE compat_calibrations (
    judge    TEXT NOT NULL,
    protocol TEXT NOT NULL,
    found    TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (judge, protocol)
) STRICT;

-- Up to when a schedule has been kept: what was due until `until_ms` has been begun, by `expression`.
CREATE TABLE compat_schedules (
    name       TEXT PRIMARY KEY,
    expression TEXT NOT NULL,
    until_ms   INTEGER NOT NULL
) STRICT;
