-- Counts the changes of something that every node keeps in memory, so that each sees with one cheap
-- look whether it has to read again.
CREATE TABLE revisions (
    name     TEXT PRIMARY KEY,
    revision INTEGER NOT NULL
) STRICT;
