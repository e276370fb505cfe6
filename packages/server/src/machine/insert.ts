import { PlatformError } from '@roost/base'
import {
  type AppName,
  type ContainerDigests,
  firstAssignment,
  type Host,
  type Instant,
  type MachineConfig,
  type MachineId,
  machineIpv4,
  machineIpv6,
  type SecretVersions,
} from '@roost/core'
import type { Ids } from '../ids.ts'
import type { Secrets } from '../secret/secrets.ts'
import { getApp } from '../store/apps.ts'
import { getMachine, insertMachine, type StoredMachine, takeSlot } from '../store/machines.ts'
import type { Tx } from '../store/store.ts'
import { addEvent } from './events.ts'

export interface NewMachine {
  /** Given by a release's plan, so that a repeated step makes no second machine. */
  readonly id?: MachineId
  readonly app: AppName
  readonly name?: string
  readonly host: Host
  readonly config: MachineConfig
  readonly imageDigest: string
  readonly containerDigests?: ContainerDigests | undefined
  /** False: created, not started. */
  readonly launch: boolean
  readonly cordoned?: boolean
  readonly withoutSecrets?: boolean
  /** Of a release; else those that were set last. */
  readonly secrets?: SecretVersions
  /** Events say `user` for what a person asked for. */
  readonly source: 'user' | 'flyd'
}

/** A new machine on a host that was chosen for it. One that exists already is returned as it is. */
export async function insertNewMachine(
  tx: Tx,
  deps: {
    readonly ids: Ids
    readonly now: Instant
    readonly secrets: Pick<Secrets, 'sealForHost'>
  },
  input: NewMachine,
): Promise<StoredMachine> {
  const { ids, now } = deps
  const { host, config } = input
  const id = input.id ?? ids.machineId()
  const existing = await getMachine(tx, id)
  if (existing !== null) return existing
  const app = await getApp(tx, input.app)
  if (app === null) throw new PlatformError('not_found', 'app not found')
  const slot = await takeSlot(tx, host.id)
  if (slot === null)
    throw new PlatformError(
      'no_room',
      `could not reserve resource for machine: host ${host.name} has no free address left`,
    )
  const assignment = firstAssignment({
    id,
    name: input.name ?? ids.machineName(),
    app: app.name,
    host: host.id,
    region: host.region,
    launch: input.launch,
    instanceId: ids.instanceId(now),
    config,
    imageDigest: input.imageDigest,
    ...(input.containerDigests === undefined ? {} : { containerDigests: input.containerDigests }),
    privateIpv4: machineIpv4(host, slot),
    privateIpv6: machineIpv6(app.network, host, id),
    cordoned: input.cordoned ?? false,
    sealedSecrets: input.withoutSecrets
      ? null
      : await deps.secrets.sealForHost(tx, app.name, host, id, input.secrets),
    primaryRegion: app.primaryRegion,
    createdAt: now,
  })
  await insertMachine(tx, assignment, { slot, now })
  await addEvent(tx, id, {
    type: 'launch',
    status: 'created',
    source: input.source,
    timestamp: now,
  })
  const machine = await getMachine(tx, id)
  if (machine === null) throw new PlatformError('internal', `machine ${id} vanished`)
  return machine
}
