DROP TABLE IF EXISTS duly_pause;
DROP TABLE IF EXISTS duly_runner;
DROP TABLE IF EXISTS duly_schedule;
DROP TABLE IF EXISTS duly_dependency;
DROP TABLE IF EXISTS duly_output;
DROP TABLE IF EXISTS duly_attempt;
DROP TABLE IF EXISTS duly_job;
