-- The best priority that requests with a key may have, from 0 (highest) to 4.
ALTER TABLE keys ADD COLUMN priority INTEGER NOT NULL DEFAULT 2;
