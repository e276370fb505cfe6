import { z } from 'zod'
import { machineConfigInput, regionCode } from './machines.ts'

/** Roost's own API under `/api/v1`: what the Machines API has no word for. Times are RFC 3339. */

export const regionReply = z.object({
  code: z.string(),
  name: z.string(),
  latitude: z.number().nullable(),
  longitude: z.number().nullable(),
  hosts: z.number(),
  free_memory_mb: z.number(),
})

export const hostReply = z.object({
  id: z.string(),
  name: z.string(),
  region: z.string(),
  number: z.number(),
  status: z.enum(['ok', 'unreachable']),
  availability: z.enum(['active', 'draining']),
  public_address: z.string(),
  mesh_address: z.string(),
  cpus: z.number(),
  memory_mb: z.number(),
  free_memory_mb: z.number(),
  machines: z.number(),
  builder: z.boolean(),
  /** Its fullest file system; null until its agent has said. */
  disk: z
    .object({
      path: z.string(),
      state: z.enum(['ok', 'low', 'full']),
      bytes: z.number(),
      free_bytes: z.number(),
    })
    .nullable(),
  agent_seen_at: z.string().nullable(),
  edge_seen_at: z.string().nullable(),
})

/**
 * Creates a release and starts rolling it out in the server. `config.image` is a reference that the registry resolves.
 * `scale` gives machines per region; absent: as now, or for a first release two on different hosts (one per region where
 * several are asked for); `ha: false` makes it one.
 */
export const createReleaseBody = z.object({
  config: machineConfigInput,
  primary_region: regionCode.optional(),
  regions: z.array(regionCode).optional(),
  scale: z.record(regionCode, z.int().min(0).max(500)).optional(),
  ha: z.boolean().default(true),
  /** Seconds to wait for the machines to become ready. */
  wait_timeout: z.number().min(1).max(3600).default(300),
  /** The `fly.toml` as text, kept for rollback and for people. */
  source: z.string().max(200_000).optional(),
  /** True: only say what would be done. */
  plan_only: z.boolean().default(false),
})

export const releasePlanStep = z.object({
  /** `create`, `replace` or `destroy`. */
  kind: z.enum(['create', 'replace', 'destroy']),
  region: z.string(),
  /** Name of the host of the new machine. */
  host: z.string().nullable(),
  /** The new machine, or the one that is destroyed. In a plan that is only shown new machines have no lasting ids. */
  machine: z.string().nullable(),
  replaces: z.string().nullable(),
})

export const releaseReply = z.object({
  app: z.string(),
  version: z.number(),
  status: z.enum(['pending', 'starting', 'draining', 'complete', 'reverting', 'failed']),
  /** What made it: a deploy, a change of secrets, or a change of scale. */
  cause: z.enum(['deploy', 'secrets', 'scale']),
  image: z.string(),
  reason: z.string().nullable(),
  created_at: z.string(),
  updated_at: z.string(),
  created_by: z.string(),
  plan: z.array(releasePlanStep),
})
export type ReleaseReply = z.infer<typeof releaseReply>

/** A line of the live progress of a release; the last one has a final status. */
export const releaseEvent = z.object({
  at: z.string(),
  status: releaseReply.shape.status,
  /** For a person: `machine 3d8d… in ams started`. */
  message: z.string(),
  machine: z.string().nullable(),
  region: z.string().nullable(),
})
export type ReleaseEvent = z.infer<typeof releaseEvent>

/** In the header `roost-build` as base64 JSON; the body is a gzipped TAR of the context. */
export const buildRequest = z.object({
  /** Path of the Dockerfile inside the context. */
  dockerfile: z.string().default('Dockerfile'),
  target: z.string().nullish(),
  args: z.record(z.string(), z.string()).default({}),
  no_cache: z.boolean().default(false),
})
export type BuildRequest = z.infer<typeof buildRequest>

export const buildEvent = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('step'), name: z.string() }),
  z.object({ kind: z.literal('output'), text: z.string() }),
  /** `image` has a digest: `registry.internal/shop@sha256:…`. Times in milliseconds. */
  z.object({
    kind: z.literal('done'),
    image: z.string(),
    size_bytes: z.number(),
    build_ms: z.number(),
    push_ms: z.number(),
  }),
  z.object({ kind: z.literal('failed'), code: z.string(), message: z.string() }),
])
export type BuildEvent = z.infer<typeof buildEvent>

export const logLine = z.object({
  /** RFC 3339 with milliseconds. */
  timestamp: z.string(),
  machine: z.string(),
  region: z.string(),
  host: z.string(),
  message: z.string(),
})
export type LogLine = z.infer<typeof logLine>

export const secretReply = z.object({
  name: z.string(),
  digest: z.string(),
  created_at: z.string(),
  updated_at: z.string(),
})
/** null removes. Names: `[A-Za-z_][A-Za-z0-9_]*`. Setting them rolls out a release unless `stage`. */
export const setSecretsBody = z.object({
  values: z.record(
    z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'a shell variable name'),
    z.string().max(100_000).nullable(),
  ),
  stage: z.boolean().default(false),
})

/** `roost status`: one answer with all that a person asks first. */
export const appStatusReply = z.object({
  name: z.string(),
  hostname: z.string(),
  release: releaseReply.nullable(),
  machines: z.array(
    z.object({
      id: z.string(),
      state: z.string(),
      region: z.string(),
      host: z.string(),
      image: z.string(),
      checks: z.array(z.object({ name: z.string(), status: z.string(), output: z.string() })),
      private_ip: z.string(),
      updated_at: z.string(),
      /** Why it is failed or waited for; null when all is well. */
      reason: z.string().nullable(),
    }),
  ),
})
export type AppStatusReply = z.infer<typeof appStatusReply>

export const joinTokenReply = z.object({ token: z.string(), expires_at: z.string() })

/** What a new host tells of itself. Requests for certificates are PKCS#10 in PEM, one for each program. */
export const joinBody = z.object({
  token: z.string(),
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/),
  region: regionCode,
  public_address: z.string(),
  wireguard: z.object({ endpoint: z.string(), public_key: z.string() }),
  sealing_key: z.string(),
  cpus: z.number(),
  memory_mb: z.number(),
  builder: z.boolean(),
  agent_csr: z.string(),
  edge_csr: z.string(),
})

/** Certificates and all that agent and edge need to find the others without asking again. */
export const joinReply = z.object({
  host_id: z.string(),
  number: z.number(),
  ca: z.string(),
  agent_certificate: z.string(),
  edge_certificate: z.string(),
  /** Mesh URL of the server's internal API. */
  server_url: z.string(),
  /** The hosts that exist, as `host` records of the watch stream. */
  hosts: z.array(z.unknown()),
})

export const whoamiReply = z.object({
  name: z.string(),
  actions: z.array(z.string()),
  apps: z.array(z.string()).nullable(),
  expires_at: z.string().nullable(),
  version: z.string(),
  domain: z.string(),
})
