-- Answers that a run has taken over from others; `samples_done` and `samples_planned` count those that
-- are asked.
ALTER TABLE compat_runs ADD COLUMN samples_reused INTEGER NOT NULL DEFAULT 0;

-- The run that a judge was asked for, and whether it said otherwise in the other order (1): what is
-- reported of a judge is counted here.
ALTER TABLE compat_replies ADD COLUMN run TEXT;
ALTER TABLE compat_replies ADD COLUMN contradicted INTEGER NOT NULL DEFAULT 0;

CREATE INDEX compat_replies_by_run ON compat_replies (run) WHERE run IS NOT NULL;
-- What has drifted is looked up once a minute.
CREATE INDEX compat_runs_drift ON compat_runs (suite, ended_ms) WHERE kind = 'drift';
