import { closeSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { silentLogger, systemClock } from '@roost/base'
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
import type { MachineSpec } from '../runtime.ts'
import { type MachineRun, startCopierWatch } from './copier-watch.ts'

const NEVER = new AbortController().signal
/** Long for a mark that arrives, and half of what a verdict takes. */
const ARRIVAL_MS = 1200
const DIED = 'its log copier died'
const trial: { host: TrialHost | null; agent: TrialAgent | null; ends: (() => Promise<void>)[] } = {
  host: null,
  agent: null,
  ends: [],
}
const host = () => trial.host as TrialHost
const agent = () => trial.agent as TrialAgent

beforeAll(async () => {
  trial.host = await raiseTrialHost()
  trial.agent = await trial.host.openAgent()
})
afterEach(async () => {
  for (const end of trial.ends.splice(0).reverse()) await end()
})
afterAll(async () => {
  await trial.agent?.close()
  await trial.host?.close()
})

async function run(script: string): Promise<MachineSpec> {
  const image = await host().push('trial', { layers: busyboxLayers() })
  const id = newMachineId()
  const spec = {
    id,
    stamp: `1:${id}`,
    image,
    config: conformanceConfig({ init: { exec: ['sh', '-c', script] } }),
    hostname: id,
    ipv4: `10.210.4.${2 + trial.ends.length}`,
    ipv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
  }
  const { runtime } = agent()
  await runtime.pull(image, NEVER)
  await runtime.create(spec, NEVER)
  await runtime.start(id, {}, NEVER)
  trial.ends.push(() => runtime.remove(id))
  return spec
}

function watch(): { dead: MachineRun[]; laps: () => number } {
  const { runtime, logs } = agent()
  const dead: MachineRun[] = []
  let laps = 0
  const loop = startCopierWatch({
    rawDir: join(host().runDir, 'logs'),
    runs: () => {
      laps++
      return runtime.runs()
    },
    watchMarks: (heard) => logs.watchMarks(heard),
    onDead: async (one) => {
      dead.push(one)
      await runtime.endRun(one.id, DIED, one.startedAt)
    },
    clock: systemClock,
    log: silentLogger,
    periodMs: 100,
    arrivalMs: ARRIVAL_MS,
    triedMs: 100,
  })
  trial.ends.push(() => loop.stop())
  return { dead, laps: () => laps }
}

async function lines({ id }: MachineSpec): Promise<string[]> {
  const said: string[] = []
  const asked = { machine: id, lines: 1000, follow: false, signal: NEVER }
  for await (const line of agent().logs.readLogs(asked)) if (line) said.push(line.message)
  return said
}

/** Until nothing more can be written to the file system of raw logs. */
function fill(): () => void {
  const path = join(host().runDir, 'logs', 'filler')
  const fd = openSync(path, 'w')
  try {
    for (let bytes = 1_000_000; bytes >= 1; ) {
      try {
        writeSync(fd, Buffer.alloc(bytes))
      } catch {
        bytes = Math.floor(bytes / 2)
      }
    }
  } finally {
    closeSync(fd)
  }
  return () => rmSync(path)
}

test('a machine whose copier died on a full file system is ended with a cause; others are not', async () => {
  const talks = await run('n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.05; done')
  const quiet = await run('trap "exit 0" TERM; while :; do sleep 0.1; done')
  await eventually(async () => expect((await lines(talks)).length).toBeGreaterThan(3))
  const empty = fill()
  const file = agent().logs.file(talks.id)
  // What is written now can't be: its size stands still over many ticks.
  await eventually(async () => {
    const { size } = statSync(file)
    const untilMs = Date.now() + 1000
    await eventually(async () => expect(Date.now()).toBeGreaterThan(untilMs))
    expect(statSync(file).size).toBe(size)
  })
  empty()
  const { dead } = watch()
  await eventually(async () => expect(dead.map(({ id }) => id)).toEqual([talks.id]))
  await eventually(async () =>
    expect(await agent().runtime.look(talks.id)).toMatchObject({
      state: 'exited',
      exit: { cause: DIED },
    }),
  )
  expect(await agent().runtime.look(quiet.id)).toMatchObject({ state: 'running' })

  const before = (await lines(talks)).length
  await agent().runtime.start(talks.id, {}, NEVER)
  await eventually(async () => expect((await lines(talks)).length).toBeGreaterThan(before + 3))
  expect((await lines(talks)).join()).not.toContain('_roost')
}, 90_000)

test('one that writes as much as it can, and one that writes half lines, are left alone', async () => {
  // Mostly more than is copied at once, so that it waits in the pipe; and less than fills this file system between two looks.
  const floods = await run('while :; do /bin/busybox head -c 500000 /bin/busybox; sleep 0.1; done')
  const halves = await run('while :; do echo -n half; sleep 0.01; done')
  const { dead, laps } = watch()
  await eventually(async () => expect(laps()).toBeGreaterThan(15), 60_000)
  expect(dead).toEqual([])
  for (const { id } of [floods, halves])
    expect(await agent().runtime.look(id)).toMatchObject({ state: 'running' })
}, 90_000)

test('nobody is judged while the file system is full', async () => {
  const talks = await run('while :; do cat /etc/passwd; sleep 0.01; done')
  await eventually(async () => expect((await lines(talks)).length).toBeGreaterThan(3))
  const { dead } = watch()
  const empty = fill()
  const untilMs = Date.now() + 2.5 * ARRIVAL_MS
  await eventually(async () => expect(Date.now()).toBeGreaterThan(untilMs))
  expect(dead).toEqual([])
  empty()
  await eventually(async () => expect(dead.map(({ id }) => id)).toEqual([talks.id]))
}, 90_000)
