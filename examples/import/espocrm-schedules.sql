-- Prints the scheduled jobs of EspoCRM as definitions for jobs.yaml: mariadb -N -r espocrm < espocrm-schedules.sql
-- Times are in Espo's own zone: put it in place of UTC unless jobForceUtc is set. `* * * * *` and shorter forms mean
-- `as soon as possible` there, which is `@tick` here. Espo's own queue processors stay with Espo.
SELECT CONCAT(
    '  ', job, ':\n',
    '    label: ', JSON_QUOTE(name), '\n',
    '    command: [php, command.php, run-job, ', job, ']\n',
    '    schedule: ', JSON_QUOTE(CASE WHEN scheduling REGEXP '^[* ]+$' THEN '@tick' ELSE scheduling END), '\n',
    '    timezone: UTC\n',
    '    max_attempts: 2',
    CASE WHEN status = 'Active' THEN '' ELSE '\n    enabled: false' END
)
FROM scheduled_job
WHERE deleted = 0 AND job NOT LIKE 'ProcessJob%' AND job <> 'Dummy'
ORDER BY job;
