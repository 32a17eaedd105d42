-- What the answer would have cost that was given from the cache.
ALTER TABLE requests ADD COLUMN saved_micro_usd INTEGER NOT NULL DEFAULT 0;
