-- What callers say of answers: one row for each request, caller and kind, with the latest word.
--
-- `place` is the millisecond of that word times 2^20 and something random, as ids of requests are, and
-- puts words in order. `waits` is 1 as long as the journal has not written the request; the columns
-- after it are those of the request.
CREATE TABLE feedback (
    request_id       TEXT NOT NULL,
    caller           TEXT NOT NULL,
    kind             TEXT NOT NULL,
    place            INTEGER NOT NULL,
    score_millionths INTEGER,
    words            TEXT,
    changes          INTEGER NOT NULL,
    waits            INTEGER NOT NULL,
    route            TEXT,
    prompt           TEXT,
    provider         TEXT,
    model            TEXT,
    rollout          TEXT,
    arm              TEXT,
    PRIMARY KEY (request_id, caller, kind)
) STRICT;

CREATE INDEX feedback_by_place ON feedback (place);
CREATE INDEX feedback_waiting ON feedback (caller) WHERE waits = 1;

-- Ids of requests begin with the time, so that this index grows at its right edge, as the table does.
CREATE INDEX requests_by_request_id ON requests (request_id);
