-- Carries EspoCRM's pending jobs over that name a job and hold no data of their own, as those for a target do. Run it in
-- Espo's database, in which Duly has its tables. What a schedule has made ahead stays: Duly's schedules make their own.
-- What has data or a class is Espo's own, and `php cron.php` goes on with it until there is none left.
START TRANSACTION;
CREATE TEMPORARY TABLE carried AS
SELECT id FROM job
WHERE status = 'Pending' AND deleted = 0 AND scheduled_job_id IS NULL AND job IS NOT NULL AND class_name IS NULL
  AND (data IS NULL OR data IN ('', '{}', '[]', 'null'));
INSERT INTO duly_job (name, target_type, target_id, run_at, unique_key)
SELECT job, target_type, target_id, execute_time, CONCAT('espo:', id) FROM job WHERE id IN (SELECT id FROM carried)
ORDER BY number;
UPDATE job SET deleted = 1 WHERE id IN (SELECT id FROM carried);
SELECT CONCAT(COUNT(*), ' jobs carried over') FROM carried;
SELECT CONCAT(COUNT(*), ' pending jobs stay with EspoCRM: they have data or a class, or no job')
FROM job WHERE status = 'Pending' AND deleted = 0 AND scheduled_job_id IS NULL HAVING COUNT(*) > 0;
SELECT CONCAT('job ', id, ' is ', status, ' since ', COALESCE(started_at, execute_time, 'an unknown time'), '; let it end')
FROM job WHERE status IN ('Ready', 'Running') AND deleted = 0 ORDER BY number;
COMMIT;
