-- What a request's attempts took that its caller does not pay for: losers of races, attempts that
-- failed after their provider had begun, empty answers in whose place another was sent.
ALTER TABLE requests ADD COLUMN waste_input INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN waste_output INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN waste_micro_usd INTEGER NOT NULL DEFAULT 0;
-- Whether any of it was counted by us because the provider did not say.
ALTER TABLE requests ADD COLUMN waste_estimated INTEGER NOT NULL DEFAULT 0;
