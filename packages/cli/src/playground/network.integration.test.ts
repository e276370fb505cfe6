import { mkdirSync, rmSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { recordMachine, restoreMachine } from '../host/machine-record.ts'
import { killProcesses } from '../host/processes.ts'
import { killProgram, programsIn, startProgram } from '../host/programs.ts'
import { removeDevice, removeNetns } from '../host/sweep.ts'
import { inNetns, raiseNetwork } from './network.ts'
import { planPlayground } from './plan.ts'
import { marksOf } from './state.ts'
import { tellWan, untilWanAnswers, wanPidDir, wanProgram, writeWanConfig } from './wan-program.ts'

/** The WAN alone: two regions and their clients, no host on them. Measured with ping, which knows nothing of us. */
const plan = planPlayground({ name: 'wantest', network: '100.127', regions: ['ams', 'iad'] })
const [ams, iad] = plan.regions as [(typeof plan.regions)[0], (typeof plan.regions)[0]]

beforeAll(async () => {
  recordMachine()
  await clean()
  mkdirSync(plan.stateDir, { recursive: true })
  await raiseNetwork(plan)
  writeWanConfig(plan)
  startProgram(wanProgram(plan))
  await untilWanAnswers(plan)
})
afterAll(async () => {
  await clean()
  await restoreMachine()
})

async function clean(): Promise<void> {
  await killProcesses(marksOf(plan))
  await removeDevice(plan.machine.device)
  for (const netns of marksOf(plan).netns) await removeNetns(netns)
  rmSync(plan.stateDir, { recursive: true, force: true })
  rmSync(plan.runDir, { recursive: true, force: true })
}

/** Share of answers, and the least round trip: the machine is shared with other tests, the network is not. */
async function ping(netns: string, address: string, count = 10) {
  const argv = ['ping', '-q', '-n', '-c', String(count), '-i', '0.003', '-W', '1', address]
  const text = await inNetns(netns, ['sh', '-c', `${argv.join(' ')} || true`])
  const received = Number(/(\d+) received/.exec(text)?.[1] ?? 0)
  return { share: received / count, minMs: Number(/min\/avg\/max\/\w+ = ([\d.]+)/.exec(text)?.[1]) }
}

test('round trips are those of the places, within 2 ms', async () => {
  const between = await ping(ams.netns, iad.address)
  expect(between.minMs).toBeGreaterThanOrEqual(80)
  expect(between.minMs).toBeLessThan(82)
  const near = await ping(ams.client.netns, ams.address)
  expect(near.minMs).toBeGreaterThanOrEqual(3)
  expect(near.minMs).toBeLessThan(5)
  const here = await ping(ams.netns, plan.machine.address)
  expect(here.minMs).toBeLessThan(2)
})

test('a cut separates two ends and nobody else, until it is healed', async () => {
  await tellWan(plan, { command: 'cut', a: 'ams', b: 'iad' })
  expect((await ping(ams.netns, iad.address, 3)).share).toBe(0)
  expect((await ping(ams.client.netns, iad.address, 3)).share).toBe(1)
  await tellWan(plan, { command: 'heal', a: 'ams', b: 'iad' })
  expect((await ping(ams.netns, iad.address, 3)).share).toBe(1)
})

test('a delay replaces the round trip', async () => {
  await tellWan(plan, { command: 'delay', a: 'iad', b: 'ams', ms: 20 })
  const { minMs } = await ping(ams.netns, iad.address)
  expect(minMs).toBeGreaterThanOrEqual(20)
  expect(minMs).toBeLessThan(22)
  await tellWan(plan, { command: 'heal', a: 'iad', b: 'ams' })
})

test('loss takes its share of both directions', async () => {
  await tellWan(plan, { command: 'delay', a: 'iad', b: 'ams', ms: 1 })
  await tellWan(plan, { command: 'loss', a: 'iad', b: 'ams', percent: 30 })
  const { share } = await ping(ams.netns, iad.address, 300)
  // 0.7 × 0.7, and four standard deviations around it.
  expect(share).toBeGreaterThan(0.37)
  expect(share).toBeLessThan(0.61)
  await tellWan(plan, { command: 'heal', a: 'iad', b: 'ams' })
})

test('a port that is down is silent', async () => {
  await tellWan(plan, { command: 'port', endpoint: 'iad', up: false })
  expect((await ping(iad.client.netns, iad.address, 3)).share).toBe(0)
  await tellWan(plan, { command: 'port', endpoint: 'iad', up: true })
  expect((await ping(iad.client.netns, iad.address, 3)).share).toBe(1)
})

test('faults outlive the program that makes them', async () => {
  await tellWan(plan, { command: 'cut', a: 'client-ams', b: 'iad' })
  const before = programsIn(wanPidDir(plan))[0]?.pid
  killProgram(wanPidDir(plan), 'wan')
  await expect
    .poll(() => programsIn(wanPidDir(plan))[0]?.pid ?? before, { timeout: 10_000 })
    .not.toBe(before)
  await untilWanAnswers(plan)
  expect((await ping(ams.client.netns, iad.address, 3)).share).toBe(0)
  expect((await ping(ams.netns, iad.address, 3)).share).toBe(1)
  await tellWan(plan, { command: 'heal', a: 'client-ams', b: 'iad' })
})

test('an end that does not exist is named, with those that do', async () => {
  await expect(tellWan(plan, { command: 'cut', a: 'ams', b: 'fra' })).rejects.toThrow(
    /fra; there are .*ams, client-ams, iad, client-iad/,
  )
})
