-- The part of a request in a rollout: which, on which side (`control`, `candidate`), at which share of
-- the candidate (hundredths of a percent), and what tells its unit from others. All absent where it
-- had none.
ALTER TABLE requests ADD COLUMN rollout TEXT;
ALTER TABLE requests ADD COLUMN arm TEXT;
ALTER TABLE requests ADD COLUMN share INTEGER;
ALTER TABLE requests ADD COLUMN unit INTEGER;
