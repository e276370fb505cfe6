-- Who may change a machine alone for a while. Rows that have expired mean nothing.
CREATE TABLE machine_leases (
  machine TEXT PRIMARY KEY REFERENCES machines (id) ON DELETE CASCADE,
  expires_at BIGINT NOT NULL,
  value TEXT NOT NULL
);
