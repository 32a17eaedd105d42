-- One row for each change that an operator made, in the order of their ids: the millisecond times
-- 2^20, plus a random number. `old` and `new` are JSON and hold no secrets.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY,
    actor      TEXT NOT NULL,
    address    TEXT,
    request_id TEXT,
    action     TEXT NOT NULL,
    resource   TEXT NOT NULL,
    old_value  TEXT,
    new_value  TEXT
) STRICT;
