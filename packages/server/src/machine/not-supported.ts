import { type MachineConfigInput, machineConfigInput } from '@roost/api'
import { PlatformError } from '@roost/base'
import type { z } from 'zod'

interface Row {
  /** Of a key below `config`: `[]` is each of a list, `*` each of a record. */
  readonly path: string
  /** What is not done, or what does the same. */
  readonly why: string
  /** Values that ask for nothing. Empty ones never do. */
  readonly unless?: readonly unknown[]
}

/**
 * Keys that the Machines API has and no program of Roost acts on: each is refused by name, so that nothing is ignored in silence.
 * Who implements one takes its row out.
 */
export const NOT_SUPPORTED: readonly Row[] = [
  {
    path: 'init.tty',
    why: 'what a machine prints goes to its log, which is no terminal; roost ssh console opens one beside it',
  },
  { path: 'init.kernel_args', why: 'machines share the kernel of their host' },
  { path: 'guest.kernel_args', why: 'machines share the kernel of their host' },
  { path: 'guest.max_memory_mb', why: 'memory_mb is all that a machine gets' },
  { path: 'guest.gpus', why: 'there are no GPUs' },
  { path: 'guest.gpu_kind', why: 'there are no GPUs' },
  { path: 'guest.host_dedication_id', why: 'every host is your own' },
  {
    path: 'guest.persist_rootfs',
    why: 'the root file system is new at each start',
    unless: ['none', 'never', 1],
  },
  {
    path: 'rootfs.persist',
    why: 'the root file system is new at each start',
    unless: ['none', 'never', 1],
  },
  { path: 'rootfs.size_gb', why: 'the root file system has the room that its host has' },
  { path: 'cache_drive', why: 'machines have no cache drive' },
  { path: 'spot', why: 'no machine has a price' },
  { path: 'services[].force_instance_key', why: 'sessions are not bound to machines' },
  { path: 'services[].force_instance_description', why: 'sessions are not bound to machines' },
  {
    path: 'services[].checks[].kind',
    why: 'the checks of services always decide about requests',
    unless: ['readiness'],
  },
  {
    path: 'services[].ports[].http_options.headers_read_timeout',
    why: 'edges wait 10 s for the headers of a request',
  },
  {
    path: 'volumes[].image',
    why: 'only temp_dir is there: mount the files by an image of its own',
  },
  { path: 'dns.dns_forward_rules', why: 'the resolver of a host forwards all names to the same' },
  { path: 'metrics', why: 'metrics are not collected yet' },
  {
    path: 'statics[].tigris_bucket',
    why: 'there are no buckets: files are served from the image',
  },
  { path: 'statics[].index_document', why: 'the full path of a file is asked for' },
  { path: 'mounts', why: 'there are no volumes that outlive a machine yet' },
]

/** Throws `unsupported`, with the path of the key. */
export function refuseUnsupported(input: MachineConfigInput): void {
  refuseUnknown(machineConfigInput, input, 'config')
  for (const { path, why, unless = [] } of NOT_SUPPORTED)
    for (const [at, value] of valuesAt(input, path.split('.'), 'config'))
      if (!isEmpty(value) && !unless.includes(value))
        throw new PlatformError('unsupported', `${at} is not supported: ${why}`)
}

/** Keys that the Machines API does not have, or that came to it later. */
function refuseUnknown(schema: z.core.$ZodType, value: unknown, path: string): void {
  const { def } = schema._zod as unknown as { def: Def }
  switch (def.type) {
    case 'optional':
    case 'nullable':
    case 'default':
      if (def.innerType !== undefined) refuseUnknown(def.innerType, value, path)
      return
    case 'array':
      if (Array.isArray(value) && def.element !== undefined)
        for (const [n, one] of value.entries()) refuseUnknown(def.element, one, `${path}[${n}]`)
      return
    case 'record':
      for (const [key, one] of entriesOf(value))
        if (def.valueType !== undefined) refuseUnknown(def.valueType, one, `${path}.${key}`)
      return
    case 'object':
      for (const [key, one] of entriesOf(value)) {
        const inside = def.shape?.[key]
        if (inside !== undefined) refuseUnknown(inside, one, `${path}.${key}`)
        else if (!isEmpty(one))
          throw new PlatformError('unsupported', `${path}.${key} is not supported`)
      }
      return
    default:
      return
  }
}

/** What of a schema's description is looked at. */
interface Def {
  readonly type: string
  readonly innerType?: z.core.$ZodType
  readonly element?: z.core.$ZodType
  readonly valueType?: z.core.$ZodType
  readonly shape?: Readonly<Record<string, z.core.$ZodType>>
}

function valuesAt(
  value: unknown,
  [key = '', ...rest]: readonly string[],
  path: string,
): (readonly [path: string, value: unknown])[] {
  if (key === '') return [[path, value]]
  if (key === '*')
    return entriesOf(value).flatMap(([name, one]) => valuesAt(one, rest, `${path}.${name}`))
  const name = key.replace(/\[\]$/, '')
  const inside = entriesOf(value).find(([one]) => one === name)?.[1]
  if (inside === undefined) return []
  if (name === key) return valuesAt(inside, rest, `${path}.${name}`)
  if (!Array.isArray(inside)) return []
  return inside.flatMap((one, n) => valuesAt(one, rest, `${path}.${name}[${n}]`))
}

function entriesOf(value: unknown): [string, unknown][] {
  return typeof value === 'object' && value !== null ? Object.entries(value) : []
}

/** Go clients send empty values for what was never set. */
function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === false || value === 0)
    return true
  if (Array.isArray(value)) return value.length === 0
  return typeof value === 'object' && Object.values(value).every(isEmpty)
}
