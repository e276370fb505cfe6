import { z } from 'zod'

/**
 * The Machines API as Fly publishes it: same paths, fields, states and status codes, so that existing clients work.
 * Durations come in as Go strings (`"15s"`) or nanoseconds and go out as Go strings.
 */

export const appName = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
    'lower-case letters, digits and dashes, at most 63',
  )
export const machineId = z.string().regex(/^[0-9a-f]{14}$/, '14 hex characters')
export const regionCode = z.string().regex(/^[a-z][a-z0-9]{1,11}$/, 'a region code such as ams')

/** Go duration string or nanoseconds → milliseconds. */
export const duration = z.union([z.string(), z.number()]).transform((value, context): number => {
  if (typeof value === 'number') return value / 1_000_000
  let rest = value
  let totalMs = 0
  const unitMs: Record<string, number> = {
    ns: 1e-6,
    us: 1e-3,
    µs: 1e-3,
    ms: 1,
    s: 1_000,
    m: 60_000,
    h: 3_600_000,
  }
  while (rest !== '') {
    const match = /^(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/.exec(rest)
    if (!match) {
      context.addIssue({ code: 'custom', message: `not a duration such as "15s": ${value}` })
      return z.NEVER
    }
    totalMs += Number(match[1]) * (unitMs[match[2] ?? ''] ?? 0)
    rest = rest.slice(match[0].length)
  }
  return totalMs
})

const stopSignal = z.enum([
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGKILL',
  'SIGUSR1',
  'SIGUSR2',
  'SIGTERM',
])

const check = z.object({
  /** Fly's: a check that decides about requests though it belongs to no service. */
  kind: z.enum(['informational', 'readiness']).nullish(),
  type: z.enum(['tcp', 'http']).default('tcp'),
  port: z.int().min(1).max(65535).optional(),
  interval: duration.optional(),
  timeout: duration.optional(),
  grace_period: duration.optional(),
  method: z.string().optional(),
  path: z.string().optional(),
  protocol: z.enum(['http', 'https']).optional(),
  tls_skip_verify: z.boolean().optional(),
  tls_server_name: z.string().optional(),
  headers: z.array(z.object({ name: z.string(), values: z.array(z.string()) })).optional(),
})

const port = z.looseObject({
  port: z.int().min(1).max(65535).optional(),
  start_port: z.int().min(1).max(65535).optional(),
  end_port: z.int().min(1).max(65535).optional(),
  handlers: z.array(z.string()).nullish(),
  force_https: z.boolean().optional(),
})

const service = z.looseObject({
  protocol: z.enum(['tcp', 'udp']),
  internal_port: z.int().min(1).max(65535),
  autostop: z.union([z.enum(['off', 'stop', 'suspend']), z.boolean()]).nullish(),
  autostart: z.boolean().nullish(),
  min_machines_running: z.int().min(0).nullish(),
  ports: z.array(port).nullish(),
  checks: z.array(check).nullish(),
  concurrency: z
    .object({
      type: z.string().default('connections'),
      soft_limit: z.int().min(0).optional(),
      hard_limit: z.int().min(0).optional(),
    })
    .nullish(),
})

/** A `config` as clients send it. Keys that Roost can't honour are refused by the server with the key's name. */
export const machineConfigInput = z.looseObject({
  image: z.string().min(1),
  env: z.record(z.string(), z.string()).nullish(),
  init: z
    .looseObject({
      exec: z.array(z.string()).nullish(),
      entrypoint: z.array(z.string()).nullish(),
      cmd: z.array(z.string()).nullish(),
    })
    .nullish(),
  guest: z
    .looseObject({
      cpu_kind: z.enum(['shared', 'performance']).optional(),
      cpus: z.int().min(1).max(128).optional(),
      memory_mb: z.int().min(64).max(1_048_576).optional(),
    })
    .nullish(),
  /** Deprecated by Fly for `guest`, still sent: `shared-cpu-1x`. */
  size: z.string().nullish(),
  services: z.array(service).nullish(),
  checks: z.record(z.string(), check).nullish(),
  restart: z
    .object({
      policy: z.enum(['no', 'always', 'on-failure']).optional(),
      max_retries: z.int().min(0).optional(),
    })
    .nullish(),
  stop_config: z.object({ signal: stopSignal.nullish(), timeout: duration.nullish() }).nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
  auto_destroy: z.boolean().nullish(),
})
export type MachineConfigInput = z.infer<typeof machineConfigInput>

/** Seconds. Zero is what clients written in Go send for nothing. */
const leaseTtl = z.coerce.number().int().min(0).max(3600)

export const createMachineBody = z.looseObject({
  name: z.string().max(63).optional(),
  region: regionCode.or(z.literal('')).optional(),
  config: machineConfigInput,
  skip_launch: z.boolean().optional(),
  skip_service_registration: z.boolean().optional(),
  lease_ttl: leaseTtl.optional(),
})

export const updateMachineBody = createMachineBody.extend({
  current_version: z.string().optional(),
})

export const stopMachineBody = z.looseObject({
  signal: z.string().optional(),
  timeout: duration.optional(),
})

export const restartQuery = z.looseObject({
  /** Kills it at once. */
  force_stop: z.enum(['true', 'false']).optional(),
  timeout: z
    .string()
    .transform((text) => (/^\d+$/.test(text) ? Number(text) : text))
    .pipe(duration)
    .optional(),
  signal: z.string().optional(),
})

export const leaseQuery = z.looseObject({ ttl: leaseTtl.optional() })
export const leaseBody = z.looseObject({
  description: z.string().max(500).nullish(),
  ttl: leaseTtl.nullish(),
})
export const leaseReply = z.object({
  status: z.literal('success'),
  data: z.object({
    nonce: z.string(),
    /** Unix seconds. */
    expires_at: z.int(),
    owner: z.string(),
    description: z.string(),
    /** The machine's `instance_id`. */
    version: z.string(),
  }),
})
export type LeaseReply = z.infer<typeof leaseReply>
export const leaseReleasedReply = z.object({
  status: z.literal('success'),
  data: z.object({ ok: z.literal(true) }),
})

export const waitQuery = z.object({
  /** Repeatable; `settled` is any lasting state. Default `started`. */
  state: z.union([z.string(), z.array(z.string())]).optional(),
  /** Seconds, 1–60. Default 60. */
  timeout: z.coerce.number().optional(),
  instance_id: z.string().optional(),
  version: z.string().optional(),
})

export const machineState = z.enum([
  'created',
  'starting',
  'started',
  'stopping',
  'stopped',
  'failed',
  'destroying',
  'destroyed',
  'replacing',
  'updating',
  'restarting',
])

export const checkStatus = z.object({
  name: z.string(),
  status: z.enum(['passing', 'warning', 'critical']),
  output: z.string(),
  updated_at: z.string(),
})

export const machineEvent = z.looseObject({
  id: z.string(),
  type: z.string(),
  status: z.string(),
  source: z.string(),
  timestamp: z.number(),
})

export const machineReply = z.looseObject({
  id: z.string(),
  name: z.string(),
  state: machineState,
  region: z.string(),
  image_ref: z.object({
    registry: z.string(),
    repository: z.string(),
    tag: z.string(),
    digest: z.string(),
    labels: z.record(z.string(), z.string()).nullable(),
  }),
  instance_id: z.string(),
  version: z.string(),
  private_ip: z.string(),
  created_at: z.string(),
  updated_at: z.string(),
  config: z.looseObject({}),
  events: z.array(machineEvent),
  checks: z.array(checkStatus),
  host_status: z.enum(['ok', 'unknown', 'unreachable']),
  cordoned: z.boolean(),
  /** Of the lease that holds, if any. */
  nonce: z.string().optional(),
  /** Roost's own addition: the name of the host it runs on. */
  host: z.string(),
})
export type MachineReply = z.infer<typeof machineReply>

export const createAppBody = z.looseObject({
  app_name: appName.or(z.literal('')).optional(),
  name: appName.or(z.literal('')).optional(),
  org_slug: z.string().optional(),
  network: z.string().optional(),
})

export const appReply = z.looseObject({
  id: z.string(),
  name: z.string(),
  status: z.enum(['pending', 'deployed', 'suspended']),
  machine_count: z.number(),
  volume_count: z.number(),
  network: z.string(),
  organization: z.object({ name: z.string(), slug: z.string() }),
})
export type AppReply = z.infer<typeof appReply>

export const appListReply = z.object({ total_apps: z.number(), apps: z.array(appReply) })
export const okReply = z.object({ ok: z.literal(true) })
/** `code` is one of `ERRORS`; `status` the same, or what the Machines API calls it. */
export const errorReply = z.looseObject({
  error: z.string(),
  status: z.string().optional(),
  code: z.string().optional(),
  request_id: z.string().optional(),
})
