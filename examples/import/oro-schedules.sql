-- Prints the cron commands of Oro as definitions for jobs.yaml: mariadb -N -r oro < oro-schedules.sql
-- Oro's consumers go on with its message queue: messages are for its own processors. Take the line with oro:cron out of
-- the crontab when these are in.
SELECT CONCAT(
    '  ', command, CASE WHEN JSON_LENGTH(args) = 0 THEN '' ELSE CONCAT('.', LEFT(args_hash, 6)) END, ':\n',
    '    command: ', JSON_MERGE_PRESERVE(JSON_ARRAY('php', 'bin/console', command), args), '\n',
    '    schedule: ', JSON_QUOTE(definition), '\n',
    '    catch_up: none'
)
FROM oro_cron_schedule
ORDER BY command, args_hash;
