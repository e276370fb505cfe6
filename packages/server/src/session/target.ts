import { PlatformError } from '@roost/base'
import {
  type AppName,
  type Host,
  type MachineId,
  type NamedMachines,
  namedMachines,
} from '@roost/core'
import { appOrThrow } from '../http/apps.ts'
import { shownState } from '../machine/state.ts'
import { getHost, listHosts } from '../store/hosts.ts'
import { getMachine, listMachines, type StoredMachine } from '../store/machines.ts'
import type { Reader } from '../store/store.ts'

export interface Target {
  readonly machine: StoredMachine
  readonly host: Host
}

/** A machine that runs, with its host. Says of any other what would make it run. */
export async function runningTarget(reader: Reader, machine: StoredMachine): Promise<Target> {
  const { id } = machine.assignment
  const state = shownState(machine)
  if (state === 'suspended' || state === 'suspending')
    throw new PlatformError(
      'precondition_failed',
      `machine ${id} is ${state}; resume it first: roost machine resume ${id}`,
    )
  if (state === 'stopped' || state === 'created' || state === 'failed')
    throw new PlatformError(
      'precondition_failed',
      `machine ${id} is ${state}; start it first: roost machine start ${id}`,
    )
  if (state === 'destroyed' || state === 'destroying')
    throw new PlatformError('precondition_failed', `machine ${id} is ${state}`)
  const host = await getHost(reader, machine.assignment.host)
  if (host === null) throw new PlatformError('internal', `host ${machine.assignment.host} is gone`)
  return { machine, host }
}

/** The best machine that answers to a name: one that runs on a host that answers, in the region first that was asked for. */
export async function namedTarget(
  reader: Reader,
  asked: {
    readonly app: string
    readonly host?: string | undefined
    readonly region?: string | undefined
  },
): Promise<Target> {
  const { host: name, region } = asked
  const named = name === undefined ? ANY : namedMachines(name)
  if (named === null)
    throw new PlatformError(
      'invalid',
      `host: "${name}" is no machine, private address or name that ends with .internal`,
    )
  const app = await appOrThrow(reader, named.app ?? asked.app)
  const all = await machinesOf(reader, app.name, named)
  const wanted = region ?? named.region
  const fitting = all.filter(
    ({ assignment }) =>
      (wanted === null || wanted === undefined || assignment.region === wanted) &&
      (named.group === null ||
        (assignment.config.metadata['fly_process_group'] ?? 'app') === named.group),
  )
  const running = fitting.filter((machine) => shownState(machine) === 'started')
  const what = name ?? `app ${app.name}`
  const [only] = fitting
  if (running.length === 0 && fitting.length === 1 && only) return runningTarget(reader, only)
  if (running.length === 0)
    throw new PlatformError(
      'not_found',
      `${what}: no machine of ${app.name}${wanted ? ` in ${wanted}` : ''} runs (roost machine list -a ${app.name})`,
    )
  const hosts = new Map((await listHosts(reader)).map((host) => [host.id, host]))
  const rank = ({ assignment, readySince }: StoredMachine) =>
    (hosts.get(assignment.host)?.status === 'ok' ? 0 : 4) +
    (readySince === null ? 2 : 0) +
    (assignment.region === app.primaryRegion ? 0 : 1)
  const [best] = [...running].sort((a, b) => rank(a) - rank(b))
  return runningTarget(reader, best as StoredMachine)
}

const ANY: NamedMachines = { app: null, machine: null, region: null, group: null, address: null }

async function machinesOf(
  reader: Reader,
  app: AppName,
  named: NamedMachines,
): Promise<readonly StoredMachine[]> {
  if (named.machine !== null) {
    const machine = await getMachine(reader, named.machine as MachineId)
    const fits = machine !== null && !machine.appDestroyed && machine.assignment.app === app
    if (fits) return [machine]
    throw new PlatformError('not_found', `${app} has no machine ${named.machine}`)
  }
  const all = await listMachines(reader, { app })
  if (named.address === null) return all
  const found = all.filter(
    ({ assignment: { privateIpv4, privateIpv6 } }) =>
      privateIpv4 === named.address || privateIpv6 === named.address,
  )
  if (found.length > 0) return found
  throw new PlatformError('not_found', `${app} has no machine with the address ${named.address}`)
}
