import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { listenForProbes, type Probe, type ProbeListener } from './probes/probe-listener.ts'
import { copyWithProbe } from './probes/with-probe.ts'
import {
  eventually,
  type Playground,
  ROOT,
  run,
  type StatusAnswer,
  terminal,
  visit,
} from './terminal.ts'

/**
 * Every example is suspended for a minute while its host's agent and containerd are killed, and goes on: what its programs see of
 * it is told by a probe in each of them.
 */
const NAME = 'asleep'
const REGION = 'ams'
const NETWORK = '198.52'
const PLAYGROUND = ['--name', NAME]
const EXAMPLES = readdirSync(join(ROOT, 'examples'))
const BASES = ['busybox', 'python:3.11-slim', 'golang:1.19', 'elixir:1.14-slim']
/** Of the suspension. Less is for trying things out. */
const FREEZE_MS = Number(process.env['FREEZE_MS'] ?? 60_000)
const TICK_MS = 100
const WORD = 'hello\n'

const home = mkdtempSync(join(tmpdir(), 'roost-asleep-'))
const { ok, json, roost } = terminal(home)
let playground: Playground
let listener: ProbeListener
const apps = new Map<string, StatusAnswer>()
const machinesOf = (example: string) => (apps.get(example)?.machines ?? []).map(({ id }) => id)
const all = () => [...apps.keys()].flatMap(machinesOf)

/** Before, while and after they are suspended. */
interface Night {
  readonly probes: ReadonlyMap<string, Probe>
  readonly fellAsleepAt: ReadonlyMap<string, number>
  readonly pidsBefore: readonly string[]
  readonly pidsAfter: readonly string[]
  readonly visitsBefore: number
}
let night: Night | null = null

beforeAll(async () => {
  await roost(['playground', 'down', ...PLAYGROUND])
  await json(['playground', 'up', '--regions', REGION, '--network', NETWORK, ...PLAYGROUND])
  playground = await json<Playground>(['playground', 'status', ...PLAYGROUND])
  await json(['mirror', 'seed', ...BASES, '--playground', NAME], { timeoutMs: 900_000 })
  await json(['mirror', 'list', '--playground', NAME])
  listener = await listenForProbes(`${NETWORK}.0.1`)
  for (const example of EXAMPLES) {
    const folder = join(home, example)
    copyWithProbe(example, folder, listener.at)
    await json(['launch', '--yes', '--name', example, '--regions', REGION, '--ha=false'], {
      cwd: folder,
      timeoutMs: 600_000,
    })
    apps.set(example, await json(['status', '-a', example]))
  }
}, 1_800_000)

afterAll(async () => {
  listener?.close()
  await roost(['playground', 'down', ...PLAYGROUND])
  rmSync(home, { recursive: true, force: true })
})

const each = (verb: 'suspend' | 'resume') =>
  Promise.all(
    EXAMPLES.map((example) => json(['machine', verb, ...machinesOf(example), '-a', example])),
  )

/** Container and process id of all that runs there, by containerd itself. */
async function runningPids(): Promise<string[]> {
  const socket = `/run/roost/${NAME}/${REGION}/containerd.sock`
  const { stdout, code, stderr } = await run(['ctr', '-a', socket, '-n', 'roost', 'tasks', 'ls'])
  if (code !== 0) throw new Error(`ctr: ${stderr}`)
  const rows = stdout.split('\n').slice(1)
  return rows.flatMap((row) => row.match(/^\S+\s+\d+/)?.[0].replace(/\s+/, ' ') ?? []).sort()
}

/** kill -9 of one of the host's programs, until its successor answers. */
async function killed(program: 'agent' | 'containerd', pids: readonly string[]): Promise<void> {
  await json(['playground', 'fault', 'kill', program, '--region', REGION, ...PLAYGROUND])
  await eventually(`${program} is back`, 60_000, async () => {
    // By way of the agent.
    if (program === 'agent') return (await roost(['logs', '-a', 'worker', '-n', '1'])).code === 0
    return (await runningPids()).join() === pids.join()
  })
}

async function states(): Promise<string[]> {
  const found = await Promise.all(EXAMPLES.map((example) => json(['status', '-a', example])))
  return [...new Set(found.flatMap(({ machines }) => machines.map(({ state }) => state)))]
}

const look = (example: string, path: string) =>
  visit(
    playground.regions[0]?.client_ns ?? '',
    apps.get(example)?.hostname ?? '',
    playground.dns,
    ...['--path', path],
  )
async function visits(): Promise<number> {
  return JSON.parse((await look('python', '/')).body).visits
}

async function until(machine: string, what: string, is: (probe: Probe) => boolean): Promise<Probe> {
  const { value } = await eventually(`${machine} ${what}`, 60_000, async () =>
    listener.probes.find((probe) => probe.machine === machine && is(probe)),
  )
  return value
}

describe('examples that sleep', () => {
  test('they stand still while agent and containerd are killed, and all of them wake', async () => {
    const probes = new Map<string, Probe>()
    for (const machine of all())
      probes.set(machine, await until(machine, 'ticks', ({ ticks }) => ticks.length >= 10))
    const pidsBefore = await runningPids()
    const visitsBefore = await visits()
    await each('suspend')
    const suspendedAt = Date.now()
    expect(await states()).toEqual(['suspended'])
    const fellAsleepAt = new Map([...probes].map(([id, { ticks }]) => [id, ticks.length]))
    for (const probe of probes.values()) probe.send(WORD)
    await killed('agent', pidsBefore)
    await killed('containerd', pidsBefore)
    const left = Math.max(0, FREEZE_MS - (Date.now() - suspendedAt))
    await new Promise((resolve) => setTimeout(resolve, left))
    expect(await states()).toEqual(['suspended'])
    for (const [id, { ticks, ended }] of probes)
      expect({ id, ticks: ticks.length, ended }).toEqual({
        id,
        ticks: fellAsleepAt.get(id),
        ended: false,
      })
    await each('resume')
    for (const id of probes.keys())
      await until(id, 'goes on', ({ ticks }) => ticks.length >= (fellAsleepAt.get(id) ?? 0) + 15)
    const pidsAfter = await runningPids()
    night = { probes, fellAsleepAt, pidsBefore, pidsAfter, visitsBefore }
  })

  test.each(EXAMPLES)('%s goes on where it was', async (example) => {
    if (night === null) throw new Error('it did not wake')
    for (const machine of machinesOf(example)) {
      const probe = night.probes.get(machine)
      if (probe === undefined) throw new Error(`${machine} told nothing`)
      const { ticks } = probe
      const asleep = night.fellAsleepAt.get(machine) ?? 0
      const [last, first] = [ticks[asleep - 1], ticks[asleep]]
      if (last === undefined || first === undefined) throw new Error(`${machine} did not go on`)
      const gap = { wall: first.wallMs - last.wallMs, mono: first.monotonicMs - last.monotonicMs }
      const soon = ticks.slice(asleep).filter((tick) => tick.at - first.at < 1000).length
      console.log(
        `${example} ${machine}: one gap of ${gap.wall} ms by the clock and ${gap.mono} ms by the monotonic one, then ${soon} ticks within a second; the clock is ${first.at - first.wallMs} ms behind`,
      )
      // Its memory: it counts on, on the same connection. Nobody opened another.
      expect(ticks.map(({ n }) => n)).toEqual(ticks.map((_, n) => n + 1))
      expect(listener.probes.filter((one) => one.machine === machine)).toEqual([probe])
      expect(probe.ended).toBe(false)
      // Its clocks are right at once; some know the time to the second only.
      expect(Math.abs(first.at - first.wallMs)).toBeLessThan(2000)
      expect(gap.wall).toBeGreaterThan(FREEZE_MS - 2000)
      expect(gap.mono).toBeGreaterThan(FREEZE_MS - 2000)
      // Its timer went off once for all that it missed.
      expect(soon).toBeLessThanOrEqual(1000 / TICK_MS + 3)
      // What was said to it meanwhile.
      await until(machine, 'has read it', (one) => one.ticks.at(-1)?.heard === WORD.length)
    }
    const own = (pids: readonly string[]) =>
      pids.filter((pid) => machinesOf(example).some((id) => pid.includes(id)))
    expect(own(night.pidsAfter)).toEqual(own(night.pidsBefore))
    expect(own(night.pidsAfter)).not.toEqual([])
    const path = example === 'chat' || example === 'static' ? '/where' : '/'
    await eventually(`${example} answers`, 20_000, async () => {
      const { status } = await look(example, path)
      return status === 200
    })
  })

  test('python counts its visitors on', async () => {
    expect(await visits()).toBeGreaterThan(night?.visitsBefore ?? Number.POSITIVE_INFINITY)
  })

  test('the helper of sidecar goes on too, and its folder is still shared', async () => {
    const [machine = ''] = machinesOf('sidecar')
    const inside = async (container: string) => {
      const argv = ['machine', 'exec', machine, 'cat /shared/now', '--container', container]
      const { stdout } = await json<{ stdout: string }>([...argv, '-a', 'sidecar'])
      return Number(stdout)
    }
    for (const container of ['helper', 'app'])
      await eventually(`${container} sees the time of now`, 20_000, async () => {
        const seconds = await inside(container)
        return Math.abs(Date.now() / 1000 - seconds) < 5
      })
    expect(await ok(['logs', '-a', 'worker', '--no-tail'])).toContain('pieces of work')
  })
})
