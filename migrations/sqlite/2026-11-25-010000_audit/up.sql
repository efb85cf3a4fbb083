-- Who did what, on the web page and by the command line: one row for each change that a person made.
CREATE TABLE duly_audit (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  at      TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f000', 'now')),
  who     TEXT NOT NULL,
  via     TEXT NOT NULL,
  did     TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NULL
);
CREATE INDEX duly_audit_subject ON duly_audit (subject, id);
CREATE INDEX duly_audit_at ON duly_audit (at);
