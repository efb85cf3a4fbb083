-- Carries the jobs of DJJob, and of Magento's JobQueue, over. Run it in their database, in which Duly has its tables, after
-- their workers have been stopped. A row of theirs holds a PHP object; Duly runs it by its id, by this definition:
--   djjob: {command: [php, run-djjob.php, "{target_id}"], max_attempts: 5, backoff: {initial: 5s, factor: 5, max: 2h}}
-- Locked as below, a row is left alone by their workers; run-djjob.php deletes it once it has been done.
-- Their times are the server's local ones.
START TRANSACTION;
CREATE TEMPORARY TABLE carried AS
SELECT id FROM jobs WHERE locked_at IS NULL AND failed_at IS NULL FOR UPDATE;
INSERT INTO duly_job (name, target_type, target_id, run_at, unique_key)
SELECT 'djjob', 'djjob', id, CONVERT_TZ(run_at, @@session.time_zone, '+00:00'), CONCAT('djjob:', id)
FROM jobs WHERE id IN (SELECT id FROM carried) ORDER BY id;
UPDATE jobs SET locked_at = NOW(), locked_by = 'duly' WHERE id IN (SELECT id FROM carried);
SELECT CONCAT(COUNT(*), ' jobs carried over') FROM carried;
SELECT CONCAT('job ', id, ' is locked by ', COALESCE(locked_by, 'nobody'), ' since ', locked_at, ' and stays; if that worker is gone: ',
    'UPDATE jobs SET locked_at = NULL, locked_by = NULL WHERE id = ', id, '; then run this again')
FROM jobs WHERE locked_at IS NOT NULL AND failed_at IS NULL AND COALESCE(locked_by, '') <> 'duly' ORDER BY id;
COMMIT;
