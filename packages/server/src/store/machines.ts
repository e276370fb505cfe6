import type { MachineView } from '@roost/api'
import {
  type AppName,
  type Assignment,
  comingOf,
  type HostId,
  type InstanceId,
  type Instant,
  type Lease,
  type MachineConfig,
  type MachineId,
  type MachineStatus,
  type Reserved,
  type Revision,
  reservedBy,
} from '@roost/core'
import type { Schema } from './schema.ts'
import type { Reader, Tx } from './store.ts'

/** What is wanted of a machine, what was seen of it, and since when by the server's clock. */
export interface StoredMachine {
  readonly assignment: Assignment
  readonly status: MachineStatus | null
  readonly createdAt: Instant
  readonly updatedAt: Instant
  /** Its host reported it gone. */
  readonly destroyedAt: Instant | null
  /** The app was destroyed; the machine is on its way. */
  readonly appDestroyed: boolean
  /** Ready, started, failed without a break since; null: it is not. Of the version that is wanted now. */
  readonly readySince: Instant | null
  readonly startedSince: Instant | null
  readonly failedSince: Instant | null
  /** The revision in which it became ready: edges that carried it out send it requests. */
  readonly readyRevision: Revision | null
  /** The last that somebody took and did not give back; it may have expired (`activeLease`). */
  readonly lease: Lease | null
}

export function getMachine(reader: Reader, id: MachineId): Promise<StoredMachine | null> {
  return reader.kept(`machine ${id}`, async () => {
    const row = await select(reader).where('machines.id', '=', id).executeTakeFirst()
    return row === undefined ? null : machineOf(row)
  })
}

export interface MachineFilter {
  readonly app?: AppName
  readonly host?: HostId
  /** Also those that are gone. Default false. */
  readonly destroyed?: boolean
}

/** Oldest first. With `app`, without those of an earlier app of the same name. */
export function listMachines(
  reader: Reader,
  filter: MachineFilter,
): Promise<readonly StoredMachine[]> {
  const { app, host, destroyed = false } = filter
  return reader.kept(`machines ${JSON.stringify([app, host, destroyed])}`, async () => {
    let query = select(reader).orderBy('machines.created_at').orderBy('machines.id')
    if (app !== undefined)
      query = query.where('machines.app', '=', app).where('machines.app_destroyed', '=', 0)
    if (host !== undefined) query = query.where('machines.host', '=', host)
    if (!destroyed) query = query.where('machines.destroyed_at', 'is', null)
    return (await query.execute()).map(machineOf)
  })
}

/** A new machine. Publishes it. */
export async function insertMachine(
  tx: Tx,
  assignment: Assignment,
  place: { readonly slot: number; readonly now: Instant },
): Promise<void> {
  const reserved = reservedBy(assignment.config.guest)
  await tx.db
    .insertInto('machines')
    .values({
      id: assignment.id,
      app: assignment.app,
      app_destroyed: 0,
      name: assignment.name,
      host: assignment.host,
      region: assignment.region,
      slot: place.slot,
      goal: assignment.goal,
      cpus_reserved: reserved.cpus,
      memory_mb_reserved: reserved.memoryMb,
      created_at: place.now,
      updated_at: place.now,
      destroyed_at: null,
      assignment: JSON.stringify(assignment),
    })
    .execute()
  await insertVersion(tx, assignment, place.now)
  await tx.publish('assignment', assignment.id, assignment)
  await publishView(tx, assignment, null)
}

/** What is wanted has changed. Publishes it. */
export async function putAssignment(
  tx: Tx,
  machine: StoredMachine,
  assignment: Assignment,
  now: Instant,
): Promise<StoredMachine> {
  const reserved = reservedBy(assignment.config.guest)
  await tx.db
    .updateTable('machines')
    .set({
      goal: assignment.goal,
      cpus_reserved: reserved.cpus,
      memory_mb_reserved: reserved.memoryMb,
      updated_at: now,
      assignment: JSON.stringify(assignment),
    })
    .where('id', '=', assignment.id)
    .execute()
  const newVersion = assignment.instanceId !== machine.assignment.instanceId
  if (newVersion) await insertVersion(tx, assignment, now)
  const replaced = assignment.configGeneration !== machine.assignment.configGeneration
  if (replaced) {
    // What was known of the old one says nothing of the new one.
    await tx.db
      .updateTable('statuses')
      .set({ ready_since: null, started_since: null, failed_since: null, ready_revision: null })
      .where('machine', '=', assignment.id)
      .execute()
  }
  const gone = machine.destroyedAt !== null
  await tx.publish('assignment', assignment.id, gone ? null : assignment)
  const view = await publishView(tx, assignment, machine.status, gone)
  if (assignment.routed && !machine.assignment.routed && !replaced)
    // It returns to rotation: only edges that have heard of that send it requests.
    await tx.db
      .updateTable('statuses')
      .set({ ready_revision: view })
      .where('machine', '=', assignment.id)
      .where('ready_revision', 'is not', null)
      .execute()
  const forgotten = { readySince: null, startedSince: null, failedSince: null, readyRevision: null }
  return { ...machine, assignment, updatedAt: now, ...(replaced ? forgotten : {}) }
}

/** Its host reported it gone: nobody needs to hear of it any more. What was sealed for it goes at once. */
export async function markDestroyed(tx: Tx, id: MachineId, now: Instant): Promise<void> {
  const machine = await getMachine(tx, id)
  if (machine === null) return
  const assignment = JSON.stringify({ ...machine.assignment, sealedSecrets: null })
  await tx.db
    .updateTable('machines')
    .set({ destroyed_at: now, updated_at: now, assignment })
    .where('id', '=', id)
    .execute()
  await tx.publish('assignment', id, null)
  await tx.publish('machine', id, null)
}

/** For the machines of an app that is being destroyed: they no longer show under its name. */
export async function hideMachinesOf(tx: Tx, app: AppName): Promise<void> {
  await tx.db.updateTable('machines').set({ app_destroyed: 1 }).where('app', '=', app).execute()
}

export async function publishView(
  tx: Tx,
  assignment: Assignment,
  status: MachineStatus | null,
  gone = false,
): Promise<Revision> {
  const view: MachineView = {
    id: assignment.id,
    app: assignment.app,
    host: assignment.host,
    region: assignment.region,
    privateIpv4: assignment.privateIpv4,
    services: assignment.config.services,
    routed: assignment.routed,
    status: status && withoutHistory(status),
    coming: comingOf(assignment, status),
    ...staticsOf(assignment),
  }
  return tx.publish('machine', assignment.id, gone ? null : view)
}

function staticsOf({ config, imageDigest }: Assignment): Pick<MachineView, 'statics'> {
  const folders = config.statics?.map(({ guest_path, url_prefix }) => ({ guest_path, url_prefix }))
  return folders === undefined ? {} : { statics: { image: imageDigest, folders } }
}

function withoutHistory({ history: _, ...status }: MachineStatus): MachineStatus {
  return status
}

/** What is taken of each host. */
export async function reservedByHost(reader: Reader): Promise<Map<HostId, Reserved>> {
  const rows = await reader.db
    .selectFrom('machines')
    .select((at) => [
      'host',
      at.fn.sum<number>('cpus_reserved').as('cpus'),
      at.fn.sum<number>('memory_mb_reserved').as('memoryMb'),
    ])
    .where('destroyed_at', 'is', null)
    .groupBy('host')
    .execute()
  return new Map(
    rows.map((row) => [
      row.host as HostId,
      { cpus: Number(row.cpus), memoryMb: Number(row.memoryMb) },
    ]),
  )
}

/** The hosts that hold machines of this app which are to stay: one entry per machine. */
export async function siblingsOf(reader: Reader, app: AppName): Promise<HostId[]> {
  const rows = await reader.db
    .selectFrom('machines')
    .select('host')
    .where('app', '=', app)
    .where('goal', '!=', 'destroyed')
    .where('destroyed_at', 'is', null)
    .execute()
  return rows.map((row) => row.host as HostId)
}

const SLOTS = 1021

/** A free address on a host, or null. The one given back last is taken last: edges may not have heard yet. */
export async function takeSlot(tx: Tx, host: HostId): Promise<number | null> {
  const { next_slot: next } = await tx.db
    .selectFrom('hosts')
    .select('next_slot')
    .where('id', '=', host)
    .executeTakeFirstOrThrow()
  const rows = await tx.db
    .selectFrom('machines')
    .select('slot')
    .where('host', '=', host)
    .where('destroyed_at', 'is', null)
    .execute()
  const taken = new Set(rows.map((row) => row.slot))
  for (let n = 0; n < SLOTS; n++) {
    const slot = (next + n) % SLOTS
    if (taken.has(slot)) continue
    await tx.db
      .updateTable('hosts')
      .set({ next_slot: (slot + 1) % SLOTS })
      .where('id', '=', host)
      .execute()
    return slot
  }
  return null
}

const VERSIONS_MAX = 20

async function insertVersion(tx: Tx, assignment: Assignment, now: Instant): Promise<void> {
  const machine = assignment.id
  await tx.db
    .insertInto('machine_versions')
    .values({
      machine,
      instance_id: assignment.instanceId,
      created_at: now,
      image_digest: assignment.imageDigest,
      config: JSON.stringify(assignment.config),
    })
    .execute()
  const kept = tx.db
    .selectFrom('machine_versions')
    .select('instance_id')
    .where('machine', '=', machine)
    .orderBy('created_at', 'desc')
    .orderBy('instance_id', 'desc')
    .limit(VERSIONS_MAX)
  await tx.db
    .deleteFrom('machine_versions')
    .where('machine', '=', machine)
    .where('instance_id', 'not in', kept)
    .execute()
}

/** The last 20 of a machine, newest first. */
export async function listVersions(
  reader: Reader,
  machine: MachineId,
): Promise<{ readonly instanceId: InstanceId; readonly config: MachineConfig }[]> {
  const rows = await reader.db
    .selectFrom('machine_versions')
    .select(['instance_id', 'config'])
    .where('machine', '=', machine)
    .orderBy('created_at', 'desc')
    .orderBy('instance_id', 'desc')
    .execute()
  return rows.map((row) => ({
    instanceId: row.instance_id as InstanceId,
    config: JSON.parse(row.config) as MachineConfig,
  }))
}

/** Whether this machine has or had (among the last 20) that version. */
export async function hasVersion(
  reader: Reader,
  machine: MachineId,
  instanceId: string,
): Promise<boolean> {
  const row = await reader.db
    .selectFrom('machine_versions')
    .select('instance_id')
    .where('machine', '=', machine)
    .where('instance_id', '=', instanceId)
    .executeTakeFirst()
  return row !== undefined
}

function select(reader: Reader) {
  return reader.db
    .selectFrom('machines')
    .leftJoin('statuses', 'statuses.machine', 'machines.id')
    .leftJoin('machine_leases', 'machine_leases.machine', 'machines.id')
    .select([
      'machines.assignment',
      'machines.app_destroyed',
      'machines.created_at',
      'machines.updated_at',
      'machines.destroyed_at',
      'statuses.value as status',
      'statuses.ready_since',
      'statuses.started_since',
      'statuses.failed_since',
      'statuses.ready_revision',
      'machine_leases.value as lease',
    ])
}

type Row = Pick<
  Schema['machines'],
  'assignment' | 'app_destroyed' | 'created_at' | 'updated_at' | 'destroyed_at'
> & {
  [K in 'ready_since' | 'started_since' | 'failed_since' | 'ready_revision']: number | null
} & { status: string | null; lease: string | null }

function machineOf(row: Row): StoredMachine {
  return {
    assignment: JSON.parse(row.assignment) as Assignment,
    status: row.status === null ? null : (JSON.parse(row.status) as MachineStatus),
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    destroyedAt: row.destroyed_at,
    appDestroyed: row.app_destroyed === 1,
    readySince: row.ready_since,
    startedSince: row.started_since,
    failedSince: row.failed_since,
    readyRevision: row.ready_revision,
    lease: row.lease === null ? null : (JSON.parse(row.lease) as Lease),
  }
}
