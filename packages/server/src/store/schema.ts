/** The tables of `migrations/*.sql`, for the compiler. */
export interface Schema {
  counters: { name: 'revision' | 'forgotten' | 'secret_version'; value: number }
  records: {
    kind: string
    id: string
    audience: string
    revision: number
    value: string | null
  }
  settings: { name: string; value: string }
  networks: { number: number; organization: string; name: string }
  apps: {
    name: string
    organization: string
    network: number
    created_at: number
    primary_region: string | null
    release: number
  }
  hosts: {
    id: string
    number: number
    name: string
    region: string
    next_slot: number
    value: string
  }
  machines: {
    id: string
    app: string
    app_destroyed: number
    name: string
    host: string
    region: string
    slot: number
    goal: string
    cpus_reserved: number
    memory_mb_reserved: number
    created_at: number
    updated_at: number
    destroyed_at: number | null
    assignment: string
  }
  machine_versions: {
    machine: string
    instance_id: string
    created_at: number
    image_digest: string
    config: string
  }
  statuses: {
    machine: string
    sequence: number
    ready_since: number | null
    started_since: number | null
    failed_since: number | null
    ready_revision: number | null
    value: string
  }
  machine_leases: { machine: string; expires_at: number; value: string }
  machine_events: { machine: string; number: number; value: string }
  releases: { app: string; version: number; status: string; value: string }
  release_events: { app: string; version: number; number: number; value: string }
  secrets: {
    app: string
    name: string
    version: number
    created_at: number
    updated_at: number
  }
  secret_versions: {
    app: string
    name: string
    version: number
    sealed: string
    digest: string
    created_at: number
  }
  tokens: {
    hash: string
    id: string
    kind: string
    name: string
    policy: string
    parent: string | null
    created_at: number
    last_used_at: number | null
    revoked_at: number | null
  }
  join_tokens: { hash: string; created_at: number; expires_at: number; used_by: string | null }
  hostnames: { name: string; app: string; value: string }
  certificates: { hostname: string; source: string; value: string }
  sessions: {
    id: string
    app: string
    machine: string | null
    begun_at: number
    ended_at: number | null
    value: string
  }
}
