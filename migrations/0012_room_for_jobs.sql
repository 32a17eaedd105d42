-- What is kept of a job's request until it is answered: its body, its metadata, what headers said.
ALTER TABLE jobs ADD COLUMN request_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET request_bytes = COALESCE(
    (SELECT LENGTH(body) FROM job_requests WHERE job_requests.job = jobs.id), 0)
WHERE state IN ('queued', 'running');

-- Added up whenever a job is handed in.
CREATE INDEX jobs_waiting_bytes ON jobs (lane, request_bytes) WHERE state = 'queued';
