-- The queue. Every stored time is UTC with microseconds, written by the database itself.
-- An application may insert (name, params) and no more: every other column has a default.
CREATE TABLE IF NOT EXISTS duly_job (
  id             BIGINT NOT NULL AUTO_INCREMENT,
  name           VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  params         MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  state          ENUM('new','waiting','delayed','pending','running','success','failed','cancelled','stale') NOT NULL DEFAULT 'new',
  queue          VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  priority       SMALLINT NULL,
  priority_order SMALLINT NOT NULL DEFAULT 0,
  run_at         DATETIME(6) NULL,
  target_type    VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  target_id      VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  unique_key     VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  slot_key       VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  name_slot_key  VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  occurrence_key VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  scheduled_for  DATETIME(6) NULL,
  attempts       INT NOT NULL DEFAULT 0,
  max_attempts   INT NULL,
  fence          BIGINT NOT NULL DEFAULT 0,
  owner          VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  host           VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  lease_until    DATETIME(6) NULL,
  created_at     DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
  started_at     DATETIME(6) NULL,
  finished_at    DATETIME(6) NULL,
  duration_ms    BIGINT NULL,
  outcome        VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
  exit_code      INT NULL,
  signal_number  INT NULL,
  reason         VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  cancel_requested_at DATETIME(6) NULL,
  root_id        BIGINT NULL,
  retry_of       BIGINT NULL,
  progress       SMALLINT NULL,
  progress_text  VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  own_end        VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NULL,
  children       INT NOT NULL DEFAULT 0,
  children_ended INT NOT NULL DEFAULT 0,
  time_before_stale_ms BIGINT NULL,
  hooks          VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  noted_at        DATETIME(6) NULL,
  PRIMARY KEY (id),
  UNIQUE KEY duly_job_unique_key (unique_key),
  UNIQUE KEY duly_job_slot_key (slot_key),
  UNIQUE KEY duly_job_name_slot_key (name_slot_key),
  UNIQUE KEY duly_job_occurrence_key (occurrence_key),
  KEY duly_job_claim (state, queue, priority_order, run_at, id),
  KEY duly_job_promote (state, run_at, id),
  KEY duly_job_lease (state, lease_until, id),
  KEY duly_job_clean_up (state, finished_at, id),
  KEY duly_job_name (name, id),
  KEY duly_job_root (root_id, state)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- One row for each attempt that ended.
CREATE TABLE IF NOT EXISTS duly_attempt (
  job_id        BIGINT NOT NULL,
  fence         BIGINT NOT NULL,
  attempt       INT NOT NULL,
  owner         VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  host          VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  started_at    DATETIME(6) NULL,
  finished_at   DATETIME(6) NOT NULL,
  duration_ms   BIGINT NULL,
  outcome       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  exit_code     INT NULL,
  signal_number INT NULL,
  reason        VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  PRIMARY KEY (job_id, fence)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What a command printed, per attempt; no row where it printed nothing.
CREATE TABLE IF NOT EXISTS duly_output (
  job_id     BIGINT NOT NULL,
  fence      BIGINT NOT NULL,
  body       LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  truncated  BIGINT NOT NULL DEFAULT 0,
  updated_at DATETIME(6) NOT NULL,
  PRIMARY KEY (job_id, fence)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS duly_dependency (
  job_id          BIGINT NOT NULL,
  prerequisite_id BIGINT NOT NULL,
  `on`            ENUM('success','failure','always','finished') NOT NULL DEFAULT 'success',
  PRIMARY KEY (job_id, prerequisite_id),
  KEY duly_dependency_prerequisite (prerequisite_id, job_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Per scheduled name: up to where its occurrences have been made, and when to look again.
CREATE TABLE IF NOT EXISTS duly_schedule (
  name        VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  signature   VARCHAR(300) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  mark_at     DATETIME(6) NOT NULL,
  next_at     DATETIME(6) NULL,
  last_job_id BIGINT NULL,
  PRIMARY KEY (name),
  KEY duly_schedule_next (next_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- One row per host that ticks.
CREATE TABLE IF NOT EXISTS duly_runner (
  host             VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  last_tick_at     DATETIME(6) NOT NULL,
  schedules_digest VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL,
  version          VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  PRIMARY KEY (host)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- What is paused: `all`, `queue:NAME` or `job:NAME`. The row `gate` is always there: who claims locks it shared, who
-- pauses locks it alone, so that no claim is under way when a pause has been made.
CREATE TABLE IF NOT EXISTS duly_pause (
  scope     VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  paused_at DATETIME(6) NOT NULL,
  until_at  DATETIME(6) NULL,
  paused_by VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  reason    VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  PRIMARY KEY (scope)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

INSERT IGNORE INTO duly_pause (scope, paused_at) VALUES ('gate', UTC_TIMESTAMP(6));
