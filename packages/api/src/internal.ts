import type {
  App,
  Assignment,
  Certificate,
  Coming,
  Draining,
  Host,
  HostDisk,
  HostId,
  Hostname,
  MachineId,
  MachineService,
  MachineSignal,
  MachineStatics,
  MachineStatus,
  OrderFailure,
  RegionCode,
  Revision,
} from '@roost/core'
import { MACHINE_SIGNALS } from '@roost/core'
import { z } from 'zod'
import { accessLine } from './platform.ts'

/**
 * What programs say to each other, over mTLS: agents and edges to the server on its internal port, the server to agents
 * on theirs. Both ends are of one installation, so shapes are checked for what would do harm, not for every field.
 */

/** What an edge needs to know of a machine. */
export interface MachineView {
  readonly id: MachineId
  readonly app: string
  readonly host: HostId
  readonly region: RegionCode
  readonly privateIpv4: string
  readonly services: readonly MachineService[]
  /** Wanted in rotation (not cordoned, not draining, goal is started). */
  readonly routed: boolean
  readonly status: MachineStatus | null
  /** Not up, but on its way: requests may wait for it. Missing before edges held requests. */
  readonly coming?: Coming | null
  /** Missing: edges serve no files of its image. */
  readonly statics?: MachineStatics
}

/** What concerns everyone. Id is always `settings`. */
export interface Settings {
  /** Apps answer under `<app>.<domain>`. */
  readonly domain: string
  /** Networks whose clients are nearest to a region by the owner's word; goes before any other knowledge. */
  readonly clientNetworks: readonly { readonly cidr: string; readonly region: RegionCode }[]
  /** Numbers of the private networks in use. */
  readonly networks: readonly number[]
  /** Where images are pulled from: mesh URL of the registry and the name that references carry. */
  readonly registry: { readonly name: string; readonly url: string }
  /** Where certificates are ordered; null or missing: nowhere. */
  readonly acme?: AcmeSettings | null
}

export interface AcmeSettings {
  /** URL of the authority's directory (RFC 8555). */
  readonly directory: string
  /** Who is written to before a certificate runs out; null: nobody. */
  readonly email: string | null
  /** PEM that the directory's own certificate is checked with; null: what the system trusts. */
  readonly ca: string | null
}

export interface RecordValues {
  settings: Settings
  host: Host
  app: App
  /** To every edge. */
  machine: MachineView
  hostname: Hostname
  /** By `certificateId`. */
  certificate: Certificate
  /** To the agent of its host alone. */
  assignment: Assignment
}
export type RecordKind = keyof RecordValues

/** A line of the watch stream. `value: null` means that it is gone. */
export type WatchRecord = {
  [K in RecordKind]: {
    readonly type: 'record'
    readonly revision: Revision
    readonly kind: K
    readonly id: string
    readonly value: RecordValues[K] | null
  }
}[RecordKind]

export type WatchEvent =
  | WatchRecord
  /** All that follows up to `synced` is everything there is: forget what is not in it. */
  | { readonly type: 'reset' }
  /** The listing is complete up to this revision; sent after each batch, and every 5 s when nothing happens. */
  | { readonly type: 'synced'; readonly revision: Revision }

/** `GET /internal/v1/watch`: the reader's certificate decides which records it hears. */
export const watchQuery = z.object({ since: z.coerce.number().int().min(0).default(0) })

/** `POST /internal/v1/statuses` by agents. Idempotent: older sequences are ignored. */
export const statusesBody = z.object({
  statuses: z.array(z.custom<MachineStatus>((v) => typeof v === 'object' && v !== null)).max(2000),
})

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null
}

/** `POST /internal/v1/heartbeat` by agents and edges, every 2 s and whenever something in it changed. */
export const heartbeatBody = z.object({
  /** The revision that the program has not only heard but carried out. */
  applied: z.number(),
  /** Edges: machines that left rotation and are still used by somebody. */
  draining: z.array(z.custom<Draining>((v) => typeof v === 'object' && v !== null)).default([]),
  /** Agents: the host's fullest file system. Placement avoids hosts without room. */
  disk: z.custom<HostDisk>((v) => typeof v === 'object' && v !== null).nullish(),
  /** What the program says of itself. */
  program: z
    .object({
      version: z.string().max(100),
      /** Its clock, in milliseconds, as it sent this. */
      clock: z.number(),
      certificate_expires_at: z.number().nullish(),
      /** Edges: records that they can not work with, by kind and id, and why. The last good version of each goes on. */
      refused: z.array(z.string().max(300)).max(20).optional(),
    })
    .nullish(),
})
export type ProgramWord = NonNullable<z.infer<typeof heartbeatBody>['program']>

/** `POST /internal/v1/registry-token` by agents: a short-lived token for the image store. */
export const registryTokenBody = z.object({
  repository: z.string(),
  push: z.boolean().default(false),
})
export const registryTokenReply = z.object({ token: z.string(), expires_at: z.string() })

/**
 * `POST /internal/v1/edge-certificate` by edges: a PKCS#10 request in PEM, signed for the domain and every name below it (whatever
 * names the request carries), so that an edge can speak TLS for all apps. The reply is the chain in PEM, own certificate first.
 */
export const edgeCertificateBody = z.object({ csr: z.string().max(10_000) })
export const edgeCertificateReply = z.object({ certificate: z.string() })
export type EdgeCertificateReply = z.infer<typeof edgeCertificateReply>

/**
 * `POST /internal/v1/certificates` by edges: what they ordered or sealed for others, and what came of orders. Idempotent: the server
 * keeps of each what counts, and forgets what belongs to no name that it knows.
 */
export const certificateReportBody = z.object({
  certificates: z.array(z.custom<Certificate>(isObject)).max(1000).default([]),
  /** By host name; null: the last order worked. */
  failures: z.record(z.string(), z.custom<OrderFailure>(isObject).nullable()).default({}),
})
export type CertificateReport = z.input<typeof certificateReportBody>

/** `POST /edge/v1/lease` by other edges: who asks wants to be the only one that orders a name. `end`: no longer. */
export const orderLeaseBody = z.object({ hostname: z.string().max(300), end: z.boolean() })
export const orderLeaseReply = z.object({ granted: z.boolean(), by: z.string() })

/** `POST /edge/v1/challenge` by other edges: what authorities must find here, too, for a while. `end`: no longer. */
export const presentBody = z.object({
  hostname: z.string().max(300),
  challenge: z.enum(['http-01', 'tls-alpn-01', 'dns-01']),
  token: z.string().regex(/^[A-Za-z0-9_-]{1,200}$/),
  keyAuthorization: z.string().regex(/^[A-Za-z0-9_.-]{1,400}$/),
  end: z.boolean(),
})
export type Presented = z.infer<typeof presentBody>

/** `POST /edge/v1/certificates` by other edges: what the server may not be there to tell. */
export const edgeCertificatesBody = z.object({
  certificates: z.array(z.custom<Certificate>(isObject)).max(1000),
})

/** An app that was seen to replay, last at that time by the clock of the edge that saw it, in the release that served then. */
const replayedApp = z.object({ app: z.string(), at: z.number() })
export type ReplayedApp = z.infer<typeof replayedApp>

/** `GET /edge/v1/alive` by other edges. */
export const edgeAliveReply = z.object({
  host: z.string(),
  region: z.string(),
  /** Its HAProxy serves. */
  serving: z.boolean(),
  /** What it measured to others, by host id. */
  round_trip_ms: z.record(z.string(), z.number()),
  /** Apps that it knows to replay requests. Missing before edges told when. */
  replayed: z.array(replayedApp).optional(),
  /** Requests that it has at work, by key of the route and machine: of apps in several regions, where there are any. */
  at_work: z.record(z.string(), z.record(z.string(), z.number())).optional(),
  /** The same with those that wait, of apps with a hard limit, where edges together might be above it. Missing before edges shared these. */
  wanted: z.record(z.string(), z.record(z.string(), z.number())).optional(),
})
export type EdgeAliveReply = z.infer<typeof edgeAliveReply>

/** `GET /edge/v1/traffic` by the server: what an edge answered for one app of late. `GET /edge/v1/metrics`: all it counts. */
export const edgeTrafficQuery = z.object({ app: z.string() })
export const edgeTrafficReply = z.object({
  /** Of which it tells. */
  minutes: z.number(),
  sources: z.array(
    z.object({
      /** null: no machine was asked. */
      machine: z.string().nullable(),
      /** Requests and connections on it now. */
      concurrency: z.number(),
      /** Answers by status; 0: the client left before there was one. */
      responses: z.record(z.string(), z.number()),
      bytes_in: z.number(),
      bytes_out: z.number(),
      /** Answers by time, in the buckets of `DURATIONS_MS`. */
      durations: z.array(z.number()),
    }),
  ),
})
export type EdgeTrafficReply = z.infer<typeof edgeTrafficReply>

/**
 * `GET /edge/v1/access` by the server: requests of one app as they end, for as long as the server listens. A line `{}` says that all are told
 * from now on, and comes again at least every 10 s.
 */
export const edgeAccessQuery = z.object({
  app: z.string(),
  /** Only what this machine answered. */
  machine: z.string().optional(),
  /** Paths with what follows their `?`. */
  query: z.enum(['true', 'false']).default('false'),
})
export const edgeAccessLine = z.object({
  request: accessLine.optional(),
  /** How many were not told since the last of these. */
  left_out: z.number().optional(),
})
export type EdgeAccessLine = z.infer<typeof edgeAccessLine>

/**
 * `GET /agent/v1/machines/:id/logs` by the server. The answer is a `logLine` a line, oldest first. With `follow` it goes on
 * after that: a line `{}` says that what there was is told, and comes again at least every 10 s, so that a reader knows that
 * the host is there. `after`: only lines with a later time, with which a reader goes on after a break. 404 for a machine
 * that has never said anything here.
 */
export const agentLogsQuery = z.object({
  lines: z.coerce.number().int().min(0).max(10_000).default(100),
  follow: z.enum(['true', 'false']).default('false'),
  after: z.string().optional(),
  /** Only what that one said. */
  container: z.string().optional(),
})

/** `POST /agent/v1/machines/:id/signal` by the server. */
export const agentSignalBody = z.object({
  signal: z.enum(Object.keys(MACHINE_SIGNALS) as [MachineSignal, ...MachineSignal[]]),
})

/** What a host keeps on its disks. */
export const STORED_KINDS = [
  'images',
  'snapshots',
  /** Files of images that edges serve. */
  'statics',
  'build-cache',
  'logs',
  'machine-files',
  'agent-database',
] as const
export type StoredKind = (typeof STORED_KINDS)[number]

/** `GET /agent/v1/usage` by the server: what takes room on a host, and what of it could go. Measured at most a minute ago. */
export const agentUsageReply = z.object({
  /** Id of the host. */
  host: z.string(),
  measured_at: z.string(),
  /** Each once, however many kinds lie on it. */
  file_systems: z.array(
    z.object({
      /** Where it is mounted. */
      path: z.string(),
      bytes: z.number(),
      /** Left for ordinary users. */
      free_bytes: z.number(),
      /** Both 0 where the file system counts none. */
      inodes: z.number(),
      free_inodes: z.number(),
      state: z.enum(['ok', 'low', 'full']),
      holds: z.array(z.enum(STORED_KINDS)),
    }),
  ),
  kinds: z.array(
    z.object({
      kind: z.enum(STORED_KINDS),
      /** The folder that it lies in. */
      path: z.string(),
      /** `path` of its file system above. */
      file_system: z.string(),
      bytes: z.number(),
      /** Images, snapshots, layers and caches, files of logs, machines, databases. */
      count: z.number(),
      oldest_at: z.string().nullable(),
      /** What nothing uses: it would go now if the disk were low. */
      freeable_bytes: z.number(),
      freeable_count: z.number(),
    }),
  ),
  /** The last lap that removed something. */
  last_collection: z
    .object({
      at: z.string(),
      freed_bytes: z.number(),
      removed: z.number(),
      /** In words, a line a thing, largest first; at most 20. */
      why: z.array(z.string()),
    })
    .nullable(),
  /** Deeds that failed for want of room in the last hour, newest first; at most 20. */
  refused: z.array(z.object({ at: z.string(), what: z.string(), path: z.string() })),
  /** What else is wrong with the host's storage, with what mends it: swap in clear, a database that can't be written. */
  warnings: z.array(z.string()),
})
export type AgentUsage = z.infer<typeof agentUsageReply>

/** Ports on a host's mesh address. */
export const PORTS = {
  api: 4280,
  internal: 4281,
  agent: 4282,
  edge: 4283,
  /** 4284 to 4289: see `servicePorts` of the edge's configuration. */
  files: 4290,
  registry: 5000,
} as const

/**
 * Who a certificate speaks for: a URI in its subject alternative names.
 * `roost://server`, `roost://agent/<host id>`, `roost://edge/<host id>`.
 */
export type Peer =
  | { readonly program: 'server' }
  | { readonly program: 'agent' | 'edge'; readonly host: HostId }
