-- Teams of callers. A deleted one stays, so that what its keys used keeps its name. `terms` is JSON:
-- limits, allowed routes and models, tags.
CREATE TABLE teams (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    terms         TEXT NOT NULL,
    version       INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    deleted_at_ms INTEGER
) STRICT;

ALTER TABLE keys ADD COLUMN team TEXT;
ALTER TABLE keys ADD COLUMN terms TEXT NOT NULL DEFAULT '{}';
ALTER TABLE keys ADD COLUMN expires_at_ms INTEGER;
-- The secret before the last rotation, and until when it is valid.
ALTER TABLE keys ADD COLUMN previous_hash BLOB;
ALTER TABLE keys ADD COLUMN previous_until_ms INTEGER;

CREATE INDEX keys_by_team ON keys (team);
