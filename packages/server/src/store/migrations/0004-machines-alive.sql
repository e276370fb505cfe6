-- Machines that are gone stay for a week, and may be many times those that are there.
CREATE INDEX machines_by_destruction ON machines (destroyed_at);
