-- What became of requests that came with an `Idempotency-Key`. Times are by the store's own clock.
--
-- `token` is the fence: whoever claims a row gets a higher one than anybody before, and writes only
-- while the row still has it. `claims` says how many took the row over from one another.
CREATE TABLE idempotency (
    id             BLOB PRIMARY KEY,
    caller         TEXT NOT NULL,
    fingerprint    BLOB NOT NULL,
    done           INTEGER NOT NULL,
    owner          TEXT NOT NULL,
    token          INTEGER NOT NULL,
    claims         INTEGER NOT NULL,
    lease_until_ms INTEGER NOT NULL,
    expires_at_ms  INTEGER NOT NULL,
    request_id     TEXT NOT NULL,
    status         INTEGER,
    headers        TEXT,
    body           BLOB
) STRICT;

CREATE INDEX idempotency_by_expiry ON idempotency (expires_at_ms);
CREATE INDEX idempotency_by_caller ON idempotency (caller);

-- Where a request got the reply of another: `coalesced` or `replayed`.
ALTER TABLE requests ADD COLUMN reuse TEXT;
