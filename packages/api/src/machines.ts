import { z } from 'zod'
import { duration, machineConfigInput } from './machine-config.ts'

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

/** Key of a schema's meta data: under which name of the OpenAPI document its whole form is. */
export const DESCRIBED_AS = 'describedAs'

/** Seconds. Zero is what clients written in Go send for nothing. */
const leaseTtl = z.coerce.number().int().min(0).max(3600)

export const createMachineBody = z.looseObject({
  name: z.string().max(63).optional(),
  region: regionCode.or(z.literal('')).optional(),
  config: machineConfigInput,
  skip_launch: z.boolean().optional(),
  skip_service_registration: z.boolean().optional(),
  skip_secrets: z.boolean().optional(),
  /** Of the app's secrets: at least what a change of them answered with. */
  min_secrets_version: z.int().min(0).nullish(),
  lease_ttl: leaseTtl.optional(),
  /** Refused: there is no such kind of volume. */
  lsvd: z.boolean().nullish(),
})

export const updateMachineBody = createMachineBody.extend({
  current_version: z.string().optional(),
})

export const stopMachineBody = z.looseObject({
  signal: z.string().optional(),
  timeout: duration.optional(),
})

/** A configuration as it is shown: as it can be sent again, with durations as Go strings. */
const shownConfig = z.looseObject({}).meta({ [DESCRIBED_AS]: 'MachineConfig' })

/** One entry of a machine's metadata. */
export const metadataBody = z.looseObject({ value: z.string().max(4_000) })
export const metadataReply = z.record(z.string(), z.string())
export const metadataKey = z.string().min(1).max(200)

export const machineVersion = z.object({
  /** The `instance_id` that it had. */
  version: z.string(),
  user_config: shownConfig,
})

export const signalMachineBody = z.looseObject({
  /** A name, with or without SIG, or a number. */
  signal: z.union([z.string(), z.int()]),
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
  /** Only what happened after that event counts. */
  from_event_id: z.string().optional(),
})

export const machineState = z.enum([
  'created',
  'starting',
  'started',
  'suspending',
  'suspended',
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

const exitEvent = z.object({
  exit_code: z.int(),
  guest_exit_code: z.int(),
  guest_signal: z.int(),
  oom_killed: z.boolean(),
  requested_stop: z.boolean(),
  restarting: z.boolean(),
  signal: z.int(),
  exited_at: z.string(),
})

export const machineEvent = z.looseObject({
  id: z.string(),
  type: z.string(),
  status: z.string(),
  source: z.string(),
  /** Milliseconds. */
  timestamp: z.number(),
  /** Of an exit, and of a start by the restart policy. */
  request: z
    .object({
      exit_event: exitEvent.optional(),
      /** The same again, where older clients look for it. */
      MonitorEvent: z.object({ exit_event: exitEvent }).optional(),
      restart_count: z.int(),
    })
    .optional(),
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
  config: shownConfig,
  events: z.array(machineEvent),
  checks: z.array(checkStatus),
  /** Absent where the machine has none. */
  containers: z.array(z.object({ name: z.string(), state: z.string() })).optional(),
  host_status: z.enum(['ok', 'unknown', 'unreachable']),
  cordoned: z.boolean(),
  /** Of the lease that holds, if any. */
  nonce: z.string().optional(),
  /** Roost's own addition: the name of the host it runs on. */
  host: z.string(),
})
export type MachineReply = z.infer<typeof machineReply>

/** Secrets of an app. A value is never shown. */
export const appSecret = z.object({
  name: z.string(),
  digest: z.string(),
  created_at: z.string(),
  updated_at: z.string(),
})
/** Grows with every change: who gives it back with a request sees at least what it wrote. */
const secretsVersion = z.int()
export const appSecretsQuery = z.looseObject({
  /** At least that version. */
  version: z.coerce.number().int().min(0).optional(),
  show_secrets: z.enum(['true', 'false']).optional(),
})
export const appSecretsReply = z.object({ secrets: z.array(appSecret) })
export const setAppSecretBody = z.looseObject({ value: z.string() })
export const setAppSecretReply = appSecret.extend({ version: secretsVersion })
export const changeAppSecretsBody = z.looseObject({
  /** null removes. */
  values: z.record(z.string(), z.string().nullable()),
})
export const changeAppSecretsReply = appSecretsReply.extend({ version: secretsVersion })
export const secretsVersionReply = z.object({ version: secretsVersion })

const placementGuest = z.looseObject({
  cpu_kind: z.enum(['shared', 'performance']).optional(),
  cpus: z.int().min(0).max(128).optional(),
  memory_mb: z.int().min(0).max(1_048_576).optional(),
})
export const placementsBody = z.looseObject({
  compute: placementGuest.nullish(),
  /** Codes in the order of preference; `any` is every other one. Default any. */
  region: z.string().max(500).nullish(),
  /** 0: as many as fit. */
  count: z.int().min(0).nullish(),
  volume_name: z.string().nullish(),
  volume_size_bytes: z.int().min(0).nullish(),
  weights: z.record(z.string(), z.number()).nullish(),
  org_slug: z.string().nullish(),
})
export const placementsReply = z.object({
  /** Named as Fly's client has them; it reads them in any case. */
  Regions: z.array(z.object({ Region: z.string(), Count: z.int(), Concurrency: z.int() })),
})

export const platformRegionsReply = z.object({
  Regions: z.array(
    z.object({
      code: z.string(),
      name: z.string(),
      latitude: z.number(),
      longitude: z.number(),
      gateway_available: z.boolean(),
      requires_paid_plan: z.boolean(),
      deprecated: z.boolean(),
      /** Megabytes of memory that are free. */
      capacity: z.number(),
      geo_region: z.string(),
      mpg_available: z.boolean(),
    }),
  ),
  /** The first one: the server does not know where its caller is. */
  Nearest: z.string(),
})

export const ipAssignment = z.object({
  ip: z.string(),
  region: z.string(),
  service_name: z.string(),
  shared: z.boolean(),
  created_at: z.string(),
})
export const ipAssignmentsReply = z.object({ ips: z.array(ipAssignment) })
export const ipAssignmentBody = z.looseObject({
  type: z.enum(['', 'v4', 'v6', 'shared_v4', 'private_v6']).nullish(),
  region: z.string().nullish(),
  org_slug: z.string().nullish(),
  network: z.string().nullish(),
  service_name: z.string().nullish(),
})

export const createAppBody = z.looseObject({
  app_name: appName.or(z.literal('')).optional(),
  name: appName.or(z.literal('')).optional(),
  org_slug: z.string().optional(),
  network: z.string().optional(),
  /** Fly's own roles: refused unless empty. */
  app_role_id: z.string().nullish(),
  enable_subdomains: z.boolean().nullish(),
})

export const appReply = z.looseObject({
  id: z.string(),
  name: z.string(),
  status: z.enum(['pending', 'deployed', 'suspended']),
  machine_count: z.number(),
  volume_count: z.number(),
  network: z.string(),
  organization: z.object({
    name: z.string(),
    slug: z.string(),
    internal_numeric_id: z.int().optional(),
  }),
  /** Made of the name: the same for ever, and fits 31 bits. */
  internal_numeric_id: z.int().optional(),
  /** Where a domain of one's own is to point. */
  cname_target: z.string().optional(),
  app_role: z.string().optional(),
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
export type ErrorReply = z.infer<typeof errorReply>
