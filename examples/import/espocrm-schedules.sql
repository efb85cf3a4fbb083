-- Prints the scheduled jobs of EspoCRM as definitions for jobs.yaml: mariadb -N -r espocrm < espocrm-schedules.sql
-- Times are in Espo's own zone: put it in place of UTC unless jobForceUtc is set. `* * * * *` and shorter forms mean
-- `as soon as possible` there, which is `@tick` here. Espo's own queue processors stay with Espo.
-- Of several schedules of one job the first has its name, the others their id behind it. One without an expression never
-- runs there either; it becomes a definition that is started by hand.
SELECT CONCAT(
    '  ', job, CASE WHEN EXISTS (
        SELECT 1 FROM scheduled_job other
        WHERE other.job = this.job AND other.deleted = 0 AND other.id < this.id
    ) THEN CONCAT('.', id) ELSE '' END, ':\n',
    CASE WHEN name IS NULL THEN '' ELSE CONCAT('    label: ', JSON_QUOTE(name), '\n') END,
    '    command: [php, command.php, run-job, ', job, ']\n',
    CASE WHEN COALESCE(TRIM(scheduling), '') = '' THEN '' ELSE CONCAT(
        '    schedule: ', JSON_QUOTE(CASE WHEN scheduling REGEXP '^[* ]+$' THEN '@tick' ELSE scheduling END), '\n',
        '    timezone: UTC\n'
    ) END,
    '    max_attempts: 2',
    CASE WHEN status = 'Active' THEN '' ELSE '\n    enabled: false' END
)
FROM scheduled_job this
WHERE deleted = 0 AND job NOT LIKE 'ProcessJob%' AND job NOT IN ('Dummy', '')
ORDER BY job, id;
