-- What semantic caches have learnt: the labels and audits of one tenant's requests of one route, under
-- one embedder and one judge (`terms`, `state`: JSON). Every change raises `version`. Times are by the
-- store's own clock.
CREATE TABLE semantic_calibrations (
    id            TEXT PRIMARY KEY,
    terms         TEXT NOT NULL,
    state         TEXT NOT NULL,
    version       INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL
) STRICT;
