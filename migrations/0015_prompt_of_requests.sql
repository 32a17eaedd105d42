-- The registered prompt of a request, `id@version`. Absent where none was used.
ALTER TABLE requests ADD COLUMN prompt TEXT;
