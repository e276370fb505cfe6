import { existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { silentLogger, systemClock } from '@roost/base'
import {
  type AppName,
  type Assignment,
  firstAssignment,
  type HostId,
  type InstanceId,
  type MachineConfig,
  type MachineStatus,
  type RegionCode,
} from '@roost/core'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import {
  busyboxLayers,
  eventually,
  newMachineId,
  raiseTrialHost,
  type TrialAgent,
  type TrialHost,
} from '../containerd/trial-host.ts'
import { conformanceConfig } from '../runtime.conformance.ts'
import { createMachineKeeper, type MachineKeeper } from './keep-machines.ts'
import { openRecordStore, type RecordStore } from './record-store.ts'

/** Machines on a real containerd, kept by their agent alone: there is no server in any of this. */

const HOST = 'h1' as HostId
const trial: { host: TrialHost | null } = { host: null }
const host = (): TrialHost => {
  if (!trial.host) throw new Error('no trial host')
  return trial.host
}
const slots = { next: 0 }
const open = new Set<KeptAgent>()

beforeAll(async () => {
  trial.host = await raiseTrialHost()
})
afterEach(async () => {
  for (const agent of open) await agent.die()
})
afterAll(async () => {
  await trial.host?.close()
})

interface KeptAgent {
  readonly agent: TrialAgent
  readonly keeper: MachineKeeper
  /** What runs runs on, and what it knew is in its file. */
  die(): Promise<void>
}

async function startAgent(wanted: readonly Assignment[]): Promise<KeptAgent> {
  const agent = await host().openAgent()
  const store: RecordStore = openRecordStore({
    file: join(host().dir, 'machines.sqlite'),
    log: silentLogger,
  })
  const keeper = createMachineKeeper({
    runtime: agent.runtime,
    checks: { start: () => () => {} },
    clock: systemClock,
    log: silentLogger,
    store,
    host: { id: HOST },
    unseal: async () => ({}),
    onStatus: () => {},
  })
  keeper.setAssignments(wanted)
  const kept: KeptAgent = {
    agent,
    keeper,
    async die() {
      if (!open.delete(kept)) return
      await keeper.stop()
      store.close()
      await agent.close()
    },
  }
  open.add(kept)
  return kept
}

async function machine(
  script: string,
  restart: MachineConfig['restart'],
  config: Partial<MachineConfig> = {},
): Promise<Assignment> {
  const image = await host().push('registry.internal/trial', { layers: busyboxLayers() })
  const id = newMachineId()
  const slot = slots.next++
  return firstAssignment({
    launch: true,
    id,
    name: id,
    app: 'shop' as AppName,
    host: HOST,
    region: 'ams' as RegionCode,
    instanceId: 'A' as InstanceId,
    config: conformanceConfig({
      image: `${image.repository}@${image.digest}`,
      init: { exec: ['sh', '-c', script] },
      restart,
      ...config,
    }),
    imageDigest: image.digest,
    privateIpv4: `10.210.4.${2 + slot}`,
    privateIpv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
    cordoned: false,
    sealedSecrets: null,
    primaryRegion: null,
  })
}

const statusOf = ({ keeper }: KeptAgent, { id }: Assignment) =>
  keeper.statuses().find((status) => status.id === id)

function until(kept: KeptAgent, wanted: Assignment, is: (status: MachineStatus) => boolean) {
  return eventually(async () => {
    const status = statusOf(kept, wanted)
    if (status === undefined || !is(status)) throw new Error(`it is ${JSON.stringify(status)}`)
    return status
  }, 60_000)
}
/** Of what its image started; null when that has ended. */
function pidOf({ id }: Assignment): number | null {
  const tasks = join(host().runDir, 'containerd/io.containerd.runtime.v2.task/roost')
  try {
    return Number(readFileSync(join(tasks, id, 'init.pid'), 'utf8').trim())
  } catch {
    return null
  }
}
const kinds = (status: MachineStatus) => status.history?.last.map(({ kind }) => kind).join(' ')

test('on-failure: so many retries with pauses, then it stays stopped, with all that happened', async () => {
  const failing = await machine('exit 3', { policy: 'on-failure', max_retries: 2 })
  const kept = await startAgent([failing])
  const status = await until(kept, failing, ({ state }) => state === 'stopped')
  expect(status).toMatchObject({
    restartCount: 2,
    reason: 'exited with code 3; it was restarted 2 times, and its restart policy allows 2',
    exit: { code: 3, signal: 0, oomKilled: false, requested: false, cause: null },
  })
  expect(kinds(status)).toBe('started exited started exited started exited')
  const starts = status.history?.last.filter(({ kind }) => kind === 'started') ?? []
  expect((starts[2]?.at ?? 0) - (starts[1]?.at ?? 0)).toBeGreaterThanOrEqual(1_000)
})

test('no: it ran once, however often its agent starts anew; always: also after a clean end', async () => {
  const once = await machine('exit 0', { policy: 'no', max_retries: 0 })
  const ever = await machine('sleep 0.2; exit 0', { policy: 'always', max_retries: 0 })
  const first = await startAgent([once, ever])
  const stopped = await until(first, once, ({ state }) => state === 'stopped')
  expect(stopped.reason).toBe('exited with code 0; its restart policy is "no"')
  await until(first, ever, ({ restartCount }) => restartCount >= 2)
  await first.die()
  const second = await startAgent([once, ever])
  await until(second, ever, ({ restartCount }) => restartCount >= 3)
  expect(kinds(await until(second, once, ({ state }) => state === 'stopped'))).toBe(
    'started exited',
  )
})

test('an agent that dies between exit and restart goes on with the count', async () => {
  const failing = await machine('sleep 0.3; exit 5', { policy: 'on-failure', max_retries: 3 })
  let kept = await startAgent([failing])
  for (let n = 0; n < 3; n++) {
    await until(kept, failing, ({ history }) => (history?.count ?? 0) >= 2 * n + 1)
    const pid = pidOf(failing)
    await kept.die()
    // It ends while nobody looks.
    await eventually(async () => {
      if (pid !== null && existsSync(`/proc/${pid}`)) throw new Error('it still runs')
    })
    kept = await startAgent([failing])
  }
  const status = await until(kept, failing, ({ state }) => state === 'stopped')
  expect(status).toMatchObject({ restartCount: 3, exit: { code: 5 } })
  expect(kinds(status)).toBe(Array(4).fill('started exited').join(' '))
})

test('a kill for want of memory is said as such, also when a parent makes its own code of it', async () => {
  const policy = { policy: 'no', max_retries: 0 } as const
  const eat = 'a=x; while :; do a=$a$a; done'
  const itself = await machine(eat, policy)
  const child = await machine(`sh -c '${eat}'; exit 1`, policy)
  const kept = await startAgent([itself, child])
  expect(await until(kept, itself, ({ state }) => state === 'stopped')).toMatchObject({
    reason: 'killed: out of memory; its restart policy is "no"',
    exit: { code: 137, signal: 9, oomKilled: true },
  })
  expect(await until(kept, child, ({ state }) => state === 'stopped')).toMatchObject({
    exit: { code: 1, oomKilled: true },
  })
})

test('after a power cut services run again, for which nobody is to blame, and what is to run once does not', async () => {
  const service = await machine('sleep 600', { policy: 'on-failure', max_retries: 0 })
  const job = await machine('sleep 600', { policy: 'no', max_retries: 0 })
  const before = await startAgent([service, job])
  for (const wanted of [service, job])
    await until(before, wanted, ({ state }) => state === 'started')
  const pids = [service, job].flatMap((wanted) => {
    const pid = pidOf(wanted)
    const shim = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return [Number(shim), Number(pid)]
  })
  await before.die()
  await host().killContainerd()
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  for (const { id } of [service, job]) {
    await before.agent.network.detach(id)
    rmSync(join(host().runDir, 'machines', id), { recursive: true })
  }
  await host().startContainerd()

  const after = await startAgent([service, job])
  const cause = 'its host or containerd went down'
  const again = await until(after, service, ({ state }) => state === 'started')
  expect(again.exit).toMatchObject({ code: 137, signal: 9, requested: false, cause })
  expect(kinds(again)).toBe('started exited started')
  const stays = await until(after, job, ({ state }) => state === 'stopped')
  expect(stays.reason).toBe(`ended: ${cause}; its restart policy is "no"`)
})
