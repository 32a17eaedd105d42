-- The priority of a request, from 0 (highest) to 4. Absent where it was refused before that was known,
-- and of requests before this column.
ALTER TABLE requests ADD COLUMN priority INTEGER;
