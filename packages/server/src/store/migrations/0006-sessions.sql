-- Who was in which machine. ended_at NULL: it goes on, or its server was killed before it could say how it ended.
CREATE TABLE sessions (
  id TEXT PRIMARY KEY,
  app TEXT NOT NULL,
  machine TEXT,
  begun_at BIGINT NOT NULL,
  ended_at BIGINT,
  value TEXT NOT NULL
);
CREATE INDEX sessions_by_app ON sessions (app, begun_at);
CREATE INDEX sessions_by_time ON sessions (begun_at);
