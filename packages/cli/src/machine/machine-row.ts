import type { MachineReply } from '@roost/api'
import { GUEST_SIZES, guestPreset } from '../config/guest.ts'

/** What `--json` gives of a machine: its answer in the Machines API is much longer. */
export function machineRow(machine: MachineReply) {
  const { image_ref: ref } = machine
  const name = [ref.registry, ref.repository].filter((part) => part !== '').join('/')
  return {
    id: machine.id,
    name: machine.name,
    state: machine.state,
    group: groupOf(machine.config['metadata']),
    region: machine.region,
    host: machine.host,
    image: ref.digest === '' ? `${name}:${ref.tag}` : `${name}@${ref.digest}`,
    size: sizeOf(machine.config['guest']),
    checks: machine.checks.map(({ name, status, output }) => ({ name, status, output })),
    private_ip: machine.private_ip,
    version: machine.version,
    created_at: machine.created_at,
    updated_at: machine.updated_at,
  }
}

/** `shared-cpu-1x`, with its memory where that is not the size's own. */
function sizeOf(guest: unknown): string {
  const { cpu_kind, cpus, memory_mb } = (guest ?? {}) as Partial<Record<string, unknown>>
  const size = GUEST_SIZES.find((name) => {
    const preset = guestPreset(name)
    return preset?.cpu_kind === cpu_kind && preset?.cpus === cpus
  })
  if (size === undefined) return typeof memory_mb === 'number' ? `${memory_mb} MB` : '-'
  return guestPreset(size)?.memory_mb === memory_mb ? size : `${size}:${memory_mb}MB`
}

/** Of Fly's metadata; machines made by hand may be in none. */
function groupOf(metadata: unknown): string {
  const name = (metadata as Partial<Record<string, unknown>> | undefined)?.['fly_process_group']
  return typeof name === 'string' && name !== '' ? name : 'app'
}
