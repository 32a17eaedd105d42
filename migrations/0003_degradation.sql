-- How far an answer was degraded, from 0 (what was asked for) to 4 (a fixed text).
ALTER TABLE requests ADD COLUMN degradation INTEGER NOT NULL DEFAULT 0;
