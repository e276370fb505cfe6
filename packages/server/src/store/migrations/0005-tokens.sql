-- id: the first characters of the hash. parent: the id of the token with which it was made; NULL: the server made it.
ALTER TABLE tokens ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN kind TEXT NOT NULL DEFAULT 'admin';
ALTER TABLE tokens ADD COLUMN parent TEXT;
ALTER TABLE tokens ADD COLUMN last_used_at BIGINT;
ALTER TABLE tokens ADD COLUMN revoked_at BIGINT;
UPDATE tokens SET id = substr(hash, 1, 12);
CREATE UNIQUE INDEX tokens_by_id ON tokens (id);
