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
