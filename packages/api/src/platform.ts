import { DEPLOY_STRATEGIES, TOKEN_KINDS } from '@roost/core'
import { z } from 'zod'
import { machineConfigInput } from './machine-config.ts'
import { regionCode } from './machines.ts'

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

/** Of a process group: what may be part of a host name, since `<group>.process.<app>.internal` is one. */
export const groupName = z
  .string()
  .regex(/^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i, 'a name of a process group')
const scaleByRegion = z.record(regionCode, z.int().min(0).max(500))

/** How many machines, or of which size, by process group; what is not named stays as it is. */
export const setScaleBody = z.object({
  /** Of the default group. */
  scale: scaleByRegion.optional(),
  group_scale: z.record(groupName, scaleByRegion).optional(),
  /** Replaces all machines of these groups. */
  guests: z
    .record(
      groupName,
      z.object({
        cpu_kind: z.enum(['shared', 'performance']).optional(),
        cpus: z.int().min(1).max(128).optional(),
        memory_mb: z.int().min(64).max(1_048_576).optional(),
      }),
    )
    .optional(),
  plan_only: z.boolean().default(false),
})

/** Fly's words, and `recreate` for machines that can't run twice. */
export const deployStrategy = z.enum(DEPLOY_STRATEGIES)

const howToRelease = {
  strategy: deployStrategy.optional(),
  /** Below 1 a fraction of the machines that run, else a number of them. */
  max_unavailable: z.number().min(0).max(500).optional(),
  /** False: refused instead of waiting while another release of the app is at work. */
  wait: z.boolean().default(true),
  /** True: only say what would be done. */
  plan_only: z.boolean().default(false),
}

/**
 * Creates a release and starts rolling it out in the server. `config.image` is a reference that the registry resolves.
 * `scale` gives machines per region; absent: as now, or for a first release two on different hosts (one per region where
 * several are asked for); `ha: false` makes it one.
 */
export const createReleaseBody = z.object({
  /** Of the default process group: `metadata.fly_process_group` is its name, else `app`. */
  config: machineConfigInput,
  /** Of the other process groups, by name. Their image is that of `config`. */
  groups: z.record(groupName, machineConfigInput).optional(),
  primary_region: regionCode.optional(),
  regions: z.array(regionCode).optional(),
  scale: scaleByRegion.optional(),
  /** The same by process group; `scale` is the default group's. */
  group_scale: z.record(groupName, scaleByRegion).optional(),
  ha: z.boolean().default(true),
  /** Seconds to wait for the machines to become ready. */
  wait_timeout: z.number().min(1).max(3600).default(300),
  /** The `fly.toml` as text, kept for rollback and for people. */
  source: z.string().max(200_000).optional(),
  ...howToRelease,
})

/** Back to image, configuration and secrets of an earlier release. Without a version: the one that served before. */
export const rollbackBody = z.object({
  version: z.int().min(1).optional(),
  /** Seconds to wait for the machines to become ready. */
  wait_timeout: z.number().min(1).max(3600).default(300),
  ...howToRelease,
})

export const releasePlanStep = z.object({
  /** `update`: the same machine gets a new version in place, and does not serve meanwhile. */
  kind: z.enum(['create', 'replace', 'update', 'destroy']),
  region: z.string(),
  /** Process group. */
  group: z.string().default('app'),
  /** Name of the host of the new machine. */
  host: z.string().nullable(),
  /** The new machine, or the one that is destroyed. In a plan that is only shown new machines have no lasting ids. */
  machine: z.string().nullable(),
  replaces: z.string().nullable(),
  /** 0, 1, 2 …: those of a wave are replaced together, when the machines of the wave before serve. */
  wave: z.number().default(0),
})

export const releaseReply = z.object({
  app: z.string(),
  version: z.number(),
  status: z.enum(['pending', 'starting', 'draining', 'complete', 'reverting', 'failed']),
  /** What made it: a deploy, a change of secrets or of scale, or the wish to go back. */
  cause: z.enum(['deploy', 'secrets', 'scale', 'rollback']),
  // What older servers don't say has a value that claims nothing.
  strategy: deployStrategy.default('rolling'),
  /** It is what runs now. */
  serving: z.boolean().default(false),
  /** Of a rollback: the release whose image, configuration and secrets it brings back. */
  rollback_of: z.number().nullable().default(null),
  /** Of one that failed: everything runs as before it. False: not everything; `reason` says what. Else null. */
  returned: z.boolean().nullable().default(null),
  /** The release that serves on after a failure, or that served before it; null: none. */
  before: z.number().nullable().default(null),
  image: z.string(),
  /** Its process groups, the default group first. */
  groups: z.array(z.string()).default(['app']),
  reason: z.string().nullable(),
  created_at: z.string(),
  updated_at: z.string(),
  created_by: z.string(),
  plan: z.array(releasePlanStep),
})
export type ReleaseReply = z.infer<typeof releaseReply>

/** What a rollback changes of what runs, in words and names; never a secret's value. */
export const rollbackReply = z.object({
  release: releaseReply,
  changes: z.object({
    image: z.object({ from: z.string(), to: z.string() }).nullable(),
    /** Keys of the configuration: `env.LOG_LEVEL`, `services`. */
    config: z.array(z.string()),
    secrets: z.array(
      z.object({ name: z.string(), change: z.enum(['set', 'removed', 'another value']) }),
    ),
  }),
})
export type RollbackReply = z.infer<typeof rollbackReply>

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
  /** RFC 3339 with microseconds: no two lines of a machine have the same. */
  timestamp: z.string(),
  machine: z.string(),
  /** Of a machine that has several: which one said it. */
  container: z.string().optional(),
  region: z.string(),
  host: z.string(),
  message: z.string(),
})
export type LogLine = z.infer<typeof logLine>

/** A request, told when its answer is complete or its client has left. */
export const accessLine = z.object({
  timestamp: z.string(),
  /** Of the edge that answered it, and the name of its host. */
  region: z.string(),
  host: z.string(),
  client: z.string(),
  method: z.string(),
  /** Without what follows its `?`, unless that was asked for; at most 400 bytes. */
  path: z.string(),
  /** 0: the client left before there was one. */
  status: z.number(),
  bytes_in: z.number(),
  bytes_out: z.number(),
  /** From its first byte to the last of its answer. */
  duration_ms: z.number(),
  /** null: no machine answered. */
  machine: z.string().nullable(),
  request_id: z.string(),
})
export type AccessLine = z.infer<typeof accessLine>
/** What a reader of requests must know: who tells of them, and what is missing. */
export const accessNotice = z.object({ timestamp: z.string(), notice: z.string() })
export const accessEvent = z.union([accessLine, accessNotice])
export type AccessEvent = z.infer<typeof accessEvent>

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
      group: z.string().default('app'),
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

const trafficNumbers = z.object({
  requests: z.number(),
  per_second: z.number(),
  /** Answered with 5xx. */
  failed: z.number(),
  /** Within which half of all answers began, and 99 of a hundred; null: none did. */
  p50_ms: z.number().nullable(),
  p99_ms: z.number().nullable(),
  bytes_in: z.number(),
  bytes_out: z.number(),
  /** Answers by status; 0: the client left before there was one. */
  responses: z.record(z.string(), z.number()),
  /** Requests and connections now. */
  concurrency: z.number(),
})
/** As the edges have counted it. */
export const appTrafficReply = z.object({
  minutes: z.number(),
  total: trafficNumbers,
  /** By machine, those that are gone among them; id null: no machine could be asked. */
  machines: z.array(trafficNumbers.extend({ id: z.string().nullable() })),
  /** Names of hosts whose edge did not say anything: what they answered is missing. */
  silent: z.array(z.string()),
})
export type AppTrafficReply = z.infer<typeof appTrafficReply>

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
  /** As in the list of tokens. What older servers don't say is null. */
  id: z.string().nullable().default(null),
  kind: z.enum(TOKEN_KINDS).nullable().default(null),
  actions: z.array(z.string()),
  apps: z.array(z.string()).nullable(),
  expires_at: z.string().nullable(),
  version: z.string(),
  domain: z.string(),
})

const fileSystem = z.object({
  path: z.string(),
  bytes: z.number(),
  free_bytes: z.number(),
  inodes: z.number(),
  free_inodes: z.number(),
  state: z.enum(['ok', 'low', 'full']),
})

/** What lies in the image store, and what of it nothing needs. */
export const imageStoreReply = z.object({
  file_system: fileSystem,
  /** Of all images and unfinished uploads. What several images share counts once. */
  bytes: z.number(),
  repositories: z.array(
    z.object({
      name: z.string(),
      images: z.number(),
      /** Of those, what machines run and releases can return to. */
      needed: z.number(),
      /** What this repository alone has, and its share of what others have too, as if it were alone. */
      bytes: z.number(),
      newest_at: z.string().nullable(),
    }),
  ),
  uploads: z.object({ count: z.number(), bytes: z.number() }),
  /** What `collect` would remove now. */
  collectable: z.object({ images: z.number(), bytes: z.number() }),
  last_collection: z
    .object({ at: z.string(), freed_bytes: z.number(), images: z.number() })
    .nullable(),
})
export type ImageStoreReply = z.infer<typeof imageStoreReply>

export const collectImagesBody = z.object({
  /** True: only say what would go. */
  dry_run: z.boolean().default(false),
})
export const collectImagesReply = z.object({
  dry_run: z.boolean(),
  bytes: z.number(),
  images: z.array(
    z.object({
      repository: z.string(),
      digest: z.string(),
      tags: z.array(z.string()),
      why: z.string(),
    }),
  ),
  /** Whole repositories, of apps that are gone. */
  repositories: z.array(z.string()),
  uploads: z.number(),
  /** Repositories that were left alone. */
  passed_over: z.array(z.object({ repository: z.string(), why: z.string() })),
  file_system: fileSystem,
})
export type CollectImagesReply = z.infer<typeof collectImagesReply>

/** Something that is wrong, and the commands that mend it, likeliest first. */
export const findingReply = z.object({
  severity: z.enum(['error', 'warning']),
  /** `server`, `image store`, `host ams-1`, `app shop`, `dns`. */
  about: z.string(),
  problem: z.string(),
  why: z.string().nullable(),
  fixes: z.array(z.string()),
})
export type FindingReply = z.infer<typeof findingReply>

export const doctorReply = z.object({
  checked_at: z.string(),
  version: z.string(),
  /** Worst first. Empty: all is well. */
  findings: z.array(findingReply),
  /** What takes room where. `freeable_bytes`: what would go if room were short. */
  usage: z.array(
    z.object({
      /** `server`, `image store`, or the name of a host. */
      where: z.string(),
      file_systems: z.array(fileSystem),
      kinds: z.array(
        z.object({
          kind: z.string(),
          path: z.string(),
          bytes: z.number(),
          count: z.number(),
          freeable_bytes: z.number(),
        }),
      ),
    }),
  ),
  hosts: z.array(
    z.object({
      name: z.string(),
      region: z.string(),
      status: z.enum(['ok', 'unreachable']),
      agent_seen_at: z.string().nullable(),
      edge_seen_at: z.string().nullable(),
      /** Its clock less the server's; null: not said. */
      clock_offset_ms: z.number().nullable(),
      /** `agent`, `edge`, `containerd`. */
      versions: z.record(z.string(), z.string()),
    }),
  ),
})
export type DoctorReply = z.infer<typeof doctorReply>
