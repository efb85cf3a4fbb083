-- Prints the cron commands of Oro as definitions for jobs.yaml: mariadb -N -r oro < oro-schedules.sql
-- Oro's consumers go on with its message queue: messages are for its own processors. Take the line with oro:cron out of
-- the crontab when these are in.
-- A command that is there several times has its arguments' hash behind its name, or else its id. One without a definition
-- never runs there either; here it is started by hand.
SELECT CONCAT(
    '  ', command, CASE WHEN JSON_LENGTH(args) = 0 THEN '' ELSE CONCAT('.', LEFT(args_hash, 6)) END,
    CASE WHEN EXISTS (
        SELECT 1 FROM oro_cron_schedule other
        WHERE other.command = this.command AND LEFT(other.args_hash, 6) = LEFT(this.args_hash, 6) AND other.id < this.id
    ) THEN CONCAT('.', id) ELSE '' END, ':\n',
    '    command: ', JSON_MERGE_PRESERVE(JSON_ARRAY('php', 'bin/console', command), args),
    CASE WHEN COALESCE(TRIM(definition), '') = '' THEN '' ELSE CONCAT(
        '\n    schedule: ', JSON_QUOTE(definition), '\n',
        '    catch_up: none'
    ) END
)
FROM oro_cron_schedule this
ORDER BY command, args_hash, id;
