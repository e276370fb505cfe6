import { PlatformError } from '@roost/base'
import {
  type App,
  activeLease,
  describePlacementRefusal,
  type Host,
  type HostId,
  type Instant,
  type MachineConfig,
  type MachineId,
  type MachineState,
  type PlacementRefusal,
  place,
  type RegionCode,
  reservedBy,
  type StopSignal,
} from '@roost/core'
import type { Deps } from '../deps.ts'
import { commandMachine } from '../machine/command.ts'
import { machineConfig } from '../machine/config.ts'
import { listEvents } from '../machine/events.ts'
import { insertNewMachine } from '../machine/insert.ts'
import { refuseTakenPorts } from '../machine/refuse-taken-ports.ts'
import { machineReply } from '../machine/reply.ts'
import { resolveImages } from '../machine/resolve-images.ts'
import { signalMachine } from '../machine/signal.ts'
import { shownState } from '../machine/state.ts'
import { waitForMachine } from '../machine/wait.ts'
import { imagesFor } from '../registry/images-for.ts'
import { getHost, listHosts } from '../store/hosts.ts'
import {
  getMachine,
  listMachines,
  reservedByHost,
  type StoredMachine,
  siblingsOf,
} from '../store/machines.ts'
import type { Reader, Tx } from '../store/store.ts'
import { refuseLaterSecrets } from './app-secrets.ts'
import { appOrThrow } from './apps.ts'
import type { Call, Handlers } from './handler.ts'
import { leaseMachine, nonceOf } from './machine-leases.ts'

const STOP_SIGNALS: readonly StopSignal[] = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGKILL',
  'SIGUSR1',
  'SIGUSR2',
  'SIGTERM',
]
const WAITABLE = new Set([
  'created',
  'started',
  'suspended',
  'stopped',
  'failed',
  'destroyed',
  'settled',
])

type MachineRoutes =
  | 'listMachines'
  | 'createMachine'
  | 'getMachine'
  | 'updateMachine'
  | 'deleteMachine'
  | 'startMachine'
  | 'stopMachine'
  | 'suspendMachine'
  | 'restartMachine'
  | 'signalMachine'
  | 'cordonMachine'
  | 'uncordonMachine'
  | 'listMachineEvents'
  | 'waitMachine'

/** The Machines API. */
export function machineHandlers(deps: Deps): Pick<Handlers, MachineRoutes> {
  const { store, clock } = deps
  const byUser = (headers: Call<'getMachine'>['headers']) =>
    ({ now: clock.now(), source: 'user', nonce: nonceOf(headers) }) as const

  /** With the lease that a client may ask for beside a change. */
  const leased = async (
    tx: Tx,
    machine: StoredMachine,
    ttl: number | undefined,
    by: { readonly nonce?: string | null; readonly owner: string },
  ): Promise<StoredMachine> => {
    if (!ttl) return machine
    // An expired nonce takes a new lease: the change itself went through without one.
    const nonce = activeLease(machine.lease, clock.now()) === null ? null : (by.nonce ?? null)
    const ask = { nonce, owner: by.owner, description: null, ttlMs: ttl * 1000 }
    return { ...machine, lease: await leaseMachine(tx, deps, machine, ask) }
  }

  return {
    listMachines: ({ params, query }) =>
      store.read(async (reader) => {
        const app = await appOrThrow(reader, params.app)
        const destroyed = query.include_deleted === 'true'
        const machines = await listMachines(reader, { app: app.name, destroyed })
        return replies(reader, machines.filter(matching(query)), clock.now())
      }),

    createMachine: async ({ params, body, caller, signal }) => {
      refuseLsvd(body)
      const images = imagesFor(deps, params.app, caller)
      const { config, ...digests } = await resolveImages(images, machineConfig(body.config), signal)
      return store.transaction(async (tx) => {
        const app = await appOrThrow(tx, params.app)
        await refuseLaterSecrets(tx, body.min_secrets_version ?? null, 'min_secrets_version')
        if (body.name) await refuseTakenName(tx, app, body.name)
        await refuseTakenPorts(tx, app.name, [config])
        const machine = await insertNewMachine(
          tx,
          { ...deps, now: clock.now() },
          {
            app: app.name,
            host: await chooseHost(tx, app, body.region || null, config),
            config,
            ...digests,
            launch: body.skip_launch !== true && config.standbys === undefined,
            cordoned: body.skip_service_registration === true,
            withoutSecrets: body.skip_secrets === true,
            source: 'user',
            ...(body.name ? { name: body.name } : {}),
          },
        )
        return reply(
          tx,
          await leased(tx, machine, body.lease_ttl, { owner: caller.name }),
          clock.now(),
        )
      })
    },

    getMachine: ({ params }) =>
      store.read(async (reader) =>
        reply(reader, await machineOrThrow(reader, params), clock.now()),
      ),

    updateMachine: async ({ params, body, headers, caller, signal }) => {
      refuseLsvd(body)
      const images = imagesFor(deps, params.app, caller)
      const { config, ...digests } = await resolveImages(images, machineConfig(body.config), signal)
      return store.transaction(async (tx) => {
        const machine = await machineOrThrow(tx, params)
        refuseImmutable(machine, body)
        await refuseLaterSecrets(tx, body.min_secrets_version ?? null, 'min_secrets_version')
        await refuseNoRoom(tx, machine, config)
        const { assignment } = machine
        await refuseTakenPorts(tx, assignment.app, [config])
        const host = await hostOrThrow(tx, assignment.host)
        const updated = await commandMachine(
          tx,
          machine,
          {
            kind: 'update',
            config,
            ...digests,
            instanceId: deps.ids.instanceId(clock.now()),
            launch: body.skip_launch !== true,
            sealedSecrets:
              body.skip_secrets === true
                ? null
                : await deps.secrets.sealForHost(tx, assignment.app, host, assignment.id),
          },
          byUser(headers),
        )
        const nonce = nonceOf(headers)
        return reply(
          tx,
          await leased(tx, updated, body.lease_ttl, { nonce, owner: caller.name }),
          clock.now(),
        )
      })
    },

    deleteMachine: ({ params, query, headers }) =>
      store.transaction(async (tx) => {
        const machine = await machineOrThrow(tx, params)
        const force = query.force === 'true' || query.kill === 'true'
        // A host that was never heard has nothing to stop: what is wanted says how far it is.
        const state: MachineState = machine.status?.state ?? 'created'
        await commandMachine(
          tx,
          machine,
          force ? { kind: 'destroy', force } : { kind: 'destroy', state },
          byUser(headers),
        )
        return { ok: true }
      }),

    startMachine: ({ params, headers }) =>
      store.transaction(async (tx) => {
        const machine = await machineOrThrow(tx, params)
        const previous_state = shownState(machine)
        // It runs, or is about to: asking again must not start anew what ended meanwhile by itself.
        const under = machine.assignment.goal === 'started' && !ended(machine)
        if (!under) await commandMachine(tx, machine, { kind: 'start' }, byUser(headers))
        return { previous_state, migrated: false, new_host: '' }
      }),

    stopMachine: ({ params, body, headers }) =>
      store.transaction(async (tx) => {
        const machine = await machineOrThrow(tx, params)
        const signal = stopSignalOf(body?.signal)
        await commandMachine(
          tx,
          machine,
          {
            kind: 'stop',
            ...(signal === null ? {} : { signal }),
            // Clients written in Go send zero for what was not set.
            ...(body?.timeout ? { timeoutMs: Math.round(body.timeout) } : {}),
          },
          byUser(headers),
        )
        return { ok: true }
      }),

    suspendMachine: ({ params, headers }) =>
      store.transaction(async (tx) => {
        const machine = await machineOrThrow(tx, params)
        const state = shownState(machine)
        // Asked again, it is as asked.
        if (machine.assignment.goal !== 'suspended') refuseSuspension(machine, state)
        await commandMachine(tx, machine, { kind: 'suspend' }, byUser(headers))
        return { ok: true }
      }),

    restartMachine: ({ params, query, headers }) =>
      store.transaction(async (tx) => {
        const machine = await machineOrThrow(tx, params)
        const signal = stopSignalOf(query.signal)
        await commandMachine(
          tx,
          machine,
          {
            kind: 'restart',
            force: query.force_stop === 'true',
            ...(signal === null ? {} : { signal }),
            ...(query.timeout ? { timeoutMs: Math.round(query.timeout) } : {}),
          },
          byUser(headers),
        )
        return { ok: true }
      }),

    signalMachine: async ({ params, body, signal }) => {
      const at = await store.read(async (reader) => {
        const machine = await machineOrThrow(reader, params)
        return { machine, host: await hostOrThrow(reader, machine.assignment.host) }
      })
      await signalMachine(deps, at, body.signal, signal)
      return { ok: true }
    },

    cordonMachine: ({ params, headers }) =>
      store.transaction(async (tx) => {
        const machine = await machineOrThrow(tx, params)
        await commandMachine(tx, machine, { kind: 'cordon' }, byUser(headers))
        return { ok: true }
      }),

    uncordonMachine: ({ params, headers }) =>
      store.transaction(async (tx) => {
        const machine = await machineOrThrow(tx, params)
        await commandMachine(tx, machine, { kind: 'uncordon' }, byUser(headers))
        return { ok: true }
      }),

    listMachineEvents: ({ params }) =>
      store.read(async (reader) => {
        const { assignment } = await machineOrThrow(reader, params)
        const events = await listEvents(reader, [assignment.id])
        return (events.get(assignment.id) ?? []).map((event) => ({ ...event }))
      }),

    waitMachine: async ({ params, query, signal }) => {
      const asked = query.state === undefined || query.state === '' ? 'started' : query.state
      const states = typeof asked === 'string' ? [asked] : asked
      const unknown = states.find((state) => !WAITABLE.has(state))
      if (unknown !== undefined)
        throw new PlatformError(
          'invalid',
          `state: ${unknown} can not be waited for; one of ${[...WAITABLE].join(', ')} can`,
        )
      const { assignment } = await store.read((reader) => machineOrThrow(reader, params))
      await waitForMachine(
        deps,
        {
          machine: assignment.id,
          states,
          timeoutMs: Math.min(60, Math.max(1, query.timeout ?? 60)) * 1000,
          instanceId: query.instance_id || query.version || null,
          afterEvent: afterEvent(query.from_event_id),
        },
        signal,
      )
      return { ok: true }
    },
  }
}

export async function machineOrThrow(
  reader: Reader,
  params: { readonly app: string; readonly id: string },
): Promise<StoredMachine> {
  await appOrThrow(reader, params.app)
  const machine = await getMachine(reader, params.id as MachineId)
  if (machine === null || machine.assignment.app !== params.app || machine.appDestroyed)
    throw new PlatformError('not_found', 'machine not found')
  return machine
}

async function hostOrThrow(reader: Reader, id: HostId): Promise<Host> {
  const host = await getHost(reader, id)
  if (host === null) throw new PlatformError('internal', `host ${id} is gone`)
  return host
}

async function chooseHost(
  tx: Tx,
  app: App,
  region: string | null,
  config: MachineConfig,
): Promise<Host> {
  const hosts = await listHosts(tx)
  const wanted = region ?? app.primaryRegion ?? hosts[0]?.region
  if (wanted === undefined) throw new PlatformError('unknown_region', 'no host has joined yet')
  const placement = place(
    {
      region: wanted as RegionCode,
      siblings: await siblingsOf(tx, app.name),
      ...reservedBy(config.guest),
    },
    hosts,
    await reservedByHost(tx),
  )
  if (placement.kind !== 'placed')
    throw new PlatformError(placementCode(placement.kind), describePlacementRefusal(placement))
  return hostOrThrow(tx, placement.host)
}

function placementCode(kind: PlacementRefusal['kind']): string {
  if (kind === 'unknown-region') return 'unknown_region'
  return kind === 'disk-full' ? 'disk_full' : 'no_room'
}

/** A machine stays on its host, so a larger one must fit there beside the others. */
async function refuseNoRoom(tx: Tx, machine: StoredMachine, config: MachineConfig): Promise<void> {
  const { assignment } = machine
  const host = await hostOrThrow(tx, assignment.host)
  const used = (await reservedByHost(tx)).get(host.id) ?? { cpus: 0, memoryMb: 0 }
  const [before, after] = [reservedBy(assignment.config.guest), reservedBy(config.guest)]
  const grows = after.memoryMb > before.memoryMb || after.cpus > before.cpus
  const memoryMb = used.memoryMb - before.memoryMb + after.memoryMb
  const cpus = used.cpus - before.cpus + after.cpus
  if (grows && (memoryMb > host.capacity.memoryMb || cpus > host.capacity.cpus))
    throw new PlatformError(
      'no_room',
      `could not reserve resource for machine: host ${host.name} has no room for ${config.guest.memory_mb} MB`,
    )
}

async function refuseTakenName(tx: Tx, app: App, name: string): Promise<void> {
  const same = (await listMachines(tx, { app: app.name })).find(
    ({ assignment }) => assignment.name === name && assignment.goal !== 'destroyed',
  )
  if (same !== undefined)
    throw new PlatformError(
      'conflict',
      `unique machine name violation: machine ${same.assignment.id} already exists with name "${name}"`,
    )
}

function refuseLsvd(body: Call<'createMachine'>['body']): void {
  if (body.lsvd)
    throw new PlatformError('unsupported', 'lsvd is not supported: there are no volumes yet')
}

function refuseImmutable(machine: StoredMachine, body: Call<'updateMachine'>['body']): void {
  const { assignment } = machine
  if (body.current_version && body.current_version !== assignment.instanceId)
    throw new PlatformError(
      'conflict',
      `current_version: the machine is at version ${assignment.instanceId}, not ${body.current_version}`,
    )
  if (body.region && body.region !== assignment.region)
    throw new PlatformError('invalid', 'region: the region of a machine can not be changed')
  if (body.name && body.name !== assignment.name)
    throw new PlatformError('invalid', 'name: the name of a machine can not be changed')
}

function refuseSuspension({ assignment }: StoredMachine, state: string): void {
  const { id, app, config } = assignment
  if (config.schedule !== undefined)
    throw new PlatformError(
      'precondition_failed',
      `unable to suspend machine: it runs by a schedule (${config.schedule}); stop it instead: roost machine stop ${id} -a ${app}`,
    )
  if (state !== 'started')
    throw new PlatformError(
      'precondition_failed',
      `unable to suspend machine from current state: '${state}'${state === 'stopped' || state === 'created' ? `; start it first: roost machine start ${id} -a ${app}` : ''}`,
    )
}

/** Ids of events are their machine's and a number that grows. */
function afterEvent(id: string | undefined): number | null {
  if (!id) return null
  const number = /^[0-9a-f]{14}-(\d{1,15})$/.exec(id)?.[1]
  if (number === undefined)
    throw new PlatformError('invalid', `from_event_id: ${id} is no id of an event`)
  return Number(number)
}

function ended({ status }: StoredMachine): boolean {
  return status !== null && (status.state === 'stopped' || status.state === 'failed')
}

function stopSignalOf(signal: string | undefined): StopSignal | null {
  if (!signal) return null
  const name = signal.toUpperCase().replace(/^(?!SIG)/, 'SIG')
  const known = STOP_SIGNALS.find((one) => one === name)
  if (known !== undefined) return known
  throw new PlatformError('invalid', `signal: ${signal} is not one of ${STOP_SIGNALS.join(', ')}`)
}

function matching(query: Call<'listMachines'>['query']): (machine: StoredMachine) => boolean {
  const states = query.state?.split(',').filter((state) => state !== '') ?? []
  const metadata = Object.entries(query).flatMap(([key, value]) =>
    key.startsWith('metadata.') ? [[key.slice('metadata.'.length), String(value)] as const] : [],
  )
  return (machine) => {
    const { region, config } = machine.assignment
    if (query.region && query.region !== region) return false
    if (states.length > 0 && !states.includes(shownState(machine))) return false
    return metadata.every(([key, value]) => config.metadata[key] === value)
  }
}

async function reply(reader: Reader, machine: StoredMachine, now: Instant) {
  const [one] = await replies(reader, [machine], now)
  if (one === undefined) throw new PlatformError('internal', 'a machine without a reply')
  return one
}

async function replies(reader: Reader, machines: readonly StoredMachine[], now: Instant) {
  const hosts = new Map((await listHosts(reader)).map((host) => [host.id, host]))
  const events = await listEvents(
    reader,
    machines.map((machine) => machine.assignment.id),
  )
  return machines.map((machine) =>
    machineReply(machine, hosts, events.get(machine.assignment.id) ?? [], now),
  )
}
