-- Runs of some of a suite's cases: of incidents, or with a tag. Null: of all that the depth takes.
ALTER TABLE compat_runs ADD COLUMN only_cases TEXT;
