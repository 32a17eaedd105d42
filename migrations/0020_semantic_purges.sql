-- Purges that have to be carried out among `semantic_entries`, whoever is there to do it: what is to be
-- forgotten (`purge`: JSON), and when that was said, in milliseconds since 1970.
CREATE TABLE semantic_purges (
    id    INTEGER PRIMARY KEY,
    purge TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
