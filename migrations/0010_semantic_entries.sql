-- Answers that are found by what a question means. `vector` holds 32-bit floats, little-endian, of
-- the embedder `space`; `answer` is what the cache keeps. What was removed stays for a while with
-- `gone` = 1 and nothing in it, so that other nodes hear of it. Times are by the store's own clock.
CREATE TABLE semantic_entries (
    id            INTEGER PRIMARY KEY,
    namespace     TEXT NOT NULL,
    space         TEXT NOT NULL,
    caller        TEXT NOT NULL,
    route         TEXT NOT NULL,
    vector        BLOB NOT NULL,
    answer        BLOB NOT NULL,
    gone          INTEGER NOT NULL,
    changed_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX semantic_entries_by_change ON semantic_entries (changed_at_ms, id);
CREATE INDEX semantic_entries_by_expiry ON semantic_entries (expires_at_ms);
CREATE INDEX semantic_entries_by_namespace ON semantic_entries (namespace);
CREATE INDEX semantic_entries_by_caller ON semantic_entries (caller);
CREATE INDEX semantic_entries_by_route ON semantic_entries (route);
