import { chmodSync, cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ContainerConfig, MachineConfig, MachineId } from '@roost/core'
import {
  busyboxLayers,
  newMachineId,
  raiseTrialHost,
  type TrialAgent,
  type TrialHost,
} from '../../packages/agent/src/containerd/trial-host.ts'
import type { ImageToPull, MachineSpec } from '../../packages/agent/src/runtime.ts'
import { run } from '../e2e/terminal.ts'
import { interleaved, interleavedEach, type Report, timed } from './yardstick.ts'

const ROUNDS = 15
const HUNDRED = 100
/** As many as an agent makes at the same time. */
const AT_ONCE = 4
const NEVER = new AbortController().signal
const PROGRAM = ['/bin/sleep', '1000']
const HELPER = 'helper'

/**
 * One host through its agent's adapter, against the same by hand on the same containerd with `ctr`, or with `runc`: create, start,
 * exec and stop of a machine, and a hundred machines that each have a sidecar.
 */
export async function measureHost(report: Report): Promise<void> {
  const host = await raiseTrialHost()
  try {
    const agent = await host.openAgent()
    const image = await host.push('bench', { layers: busyboxLayers(), config: { Cmd: PROGRAM } })
    await agent.runtime.pull(image, NEVER)
    const hand = byHand(host, image)
    const bench: HostBench = { report, agent, image, hand, made: [] }
    try {
      await compareCreate(bench)
      await compareStartAndStop(bench)
      await compareExec(bench)
      for (const id of bench.made) await agent.runtime.remove(id)
      await compareHundred(bench)
    } finally {
      await hand.clean()
      await agent.close()
    }
  } finally {
    await host.close()
  }
}

interface HostBench {
  readonly report: Report
  readonly agent: TrialAgent
  readonly image: ImageToPull
  readonly hand: ReturnType<typeof byHand>
  readonly made: MachineId[]
}

async function compareCreate(bench: HostBench): Promise<void> {
  const { report, agent, hand } = bench
  const measured = await interleaved(
    ROUNDS,
    () => timed(async () => agent.runtime.start(await created(bench), {}, NEVER)),
    async () => {
      const name = hand.name()
      const ms = await timed(() => hand.ctr('run', '-d', ...hand.runs(name)))
      await hand.removeCtr(name)
      return ms
    },
  )
  report.compare({
    name: 'create → started through the agent',
    ...measured,
    unit: 'ms',
    against: 'ctr run -d',
    goal: { kind: 'at-most', ratio: 1.2 },
  })
}

/** Ours has its network, a new root file system and a file with its environment at each start; theirs has none of these. */
async function compareStartAndStop(bench: HostBench): Promise<void> {
  const { report, agent, hand } = bench
  const kill = { signal: 'SIGKILL', timeoutMs: 0 } as const
  const id = await created(bench)
  const ours = {
    start: () => agent.runtime.start(id, {}, NEVER),
    stop: () => agent.runtime.stop(id, kill),
  }
  const name = hand.name()
  await hand.ctr('run', '-d', ...hand.runs(name))
  await hand.ctr('tasks', 'rm', '-f', name)
  const theirs = {
    ctr: {
      start: () => hand.ctr('tasks', 'start', '-d', name),
      stop: () => hand.ctr('tasks', 'rm', '-f', name),
    },
    runc: hand.runc(),
  }
  // What it is to be started again from.
  await ours.start()
  await ours.stop()
  const words = {
    ctr: { start: 'ctr tasks start -d', stop: 'ctr tasks rm -f' },
    runc: { start: 'runc run -d', stop: 'runc delete -f' },
  } as const
  const both = async (deeds: { start(): Promise<unknown>; stop(): Promise<unknown> }) => ({
    start: await timed(deeds.start),
    stop: await timed(deeds.stop),
  })
  for (const tool of ['ctr', 'runc'] as const) {
    const yardstick = theirs[tool]
    const { start, stop } = await interleavedEach(
      ROUNDS,
      () => both(ours),
      () => both(yardstick),
    )
    const goal = tool === 'ctr' ? ({ kind: 'at-most', ratio: 1.2 } as const) : null
    const rest = { unit: 'ms', goal }
    const against = words[tool]
    report.compare({
      name: 'start of a stopped machine',
      ...start,
      ...rest,
      against: against.start,
    })
    report.compare({ name: 'stop of a machine', ...stop, ...rest, against: against.stop })
  }
  await hand.removeCtr(name)
}

/** A program beside a machine's own, to its end, with its output. Ours also reads the environment and has a tini above it. */
async function compareExec(bench: HostBench): Promise<void> {
  const { report, agent, hand } = bench
  const id = await created(bench)
  await agent.runtime.start(id, {}, NEVER)
  const command = ['/bin/busybox', 'echo', 'hello']
  const exec = (timeoutMs: number) => agent.runtime.exec(id, { command, timeoutMs }, NEVER)
  const count = { next: 0 }
  const measured = await interleaved(
    ROUNDS,
    () => timed(() => exec(20_000)),
    () => timed(() => hand.ctr('tasks', 'exec', `--exec-id=b${count.next++}`, id, ...command)),
  )
  report.compare({
    name: 'exec in a machine, through the agent',
    ...measured,
    unit: 'ms',
    against: 'ctr tasks exec',
    goal: { kind: 'at-most', ratio: 1.2 },
  })
  const hundred = await timed(() =>
    Promise.all(Array.from({ length: HUNDRED }, () => exec(60_000))),
  )
  report.figure('100 execs at once in one machine', hundred / 1000, 's')
}

/** Each machine has a network of its own, which its sidecar shares. By hand that is a namespace and a link made with `ip`. */
async function compareHundred(bench: HostBench): Promise<void> {
  const { report, agent, hand } = bench
  const numbers = Array.from({ length: HUNDRED }, (_, n) => n)
  const free = availableMb()
  const ids: MachineId[] = []
  const ours = await timed(() =>
    inTurns(numbers, async () => {
      const id = await created(bench, [container('app'), container(HELPER)])
      ids.push(id)
      await agent.runtime.start(id, {}, NEVER)
      for (const name of [HELPER, 'app'])
        await agent.runtime.startContainer(id, name, { environment: {} }, NEVER)
    }),
  )
  const oursMb = free - availableMb()
  const oursEnded = await timed(() => inTurns(ids, (id) => agent.runtime.remove(id)))
  const before = availableMb()
  const names = numbers.map(() => hand.name())
  const theirs = await timed(() =>
    inTurns(names, async (name) => {
      const inside = `network:/run/netns/${name}`
      await hand.makeNetwork(name)
      for (const part of [HELPER, 'app'])
        await hand.ctr('run', '-d', '--with-ns', inside, ...hand.runs(`${name}.${part}`))
    }),
  )
  const theirsMb = before - availableMb()
  const theirsEnded = await timed(() =>
    inTurns(names, async (name) => {
      for (const part of ['app', HELPER]) await hand.removeCtr(`${name}.${part}`)
      await hand.removeNetwork(name)
    }),
  )
  const what = '100 machines with a sidecar each'
  const against = 'ip netns and ctr run -d, twice'
  report.compare({
    ...{ name: `${what}: all started`, ours: ours / 1000, yardstick: theirs / 1000, unit: 's' },
    against,
    goal: { kind: 'at-most', ratio: 1.2 },
  })
  report.compare({
    ...{ name: `${what}: all gone`, ours: oursEnded / 1000, yardstick: theirsEnded / 1000 },
    ...{ unit: 's', against: 'ctr tasks rm -f and the rest', goal: null },
  })
  report.compare({
    ...{ name: `${what}: memory of one`, ours: oursMb / HUNDRED, yardstick: theirsMb / HUNDRED },
    ...{ unit: 'MB', against, goal: { kind: 'at-most', ratio: 1 } },
  })
}

// ── ours ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function created(
  { agent, image, made }: HostBench,
  containers?: readonly ContainerConfig[],
): Promise<MachineId> {
  const id = newMachineId()
  made.push(id)
  const host = made.length + 1
  const spec: MachineSpec = {
    id,
    stamp: 'bench',
    image,
    config: containers === undefined ? config : { ...config, containers },
    ...(containers === undefined
      ? {}
      : { containerImages: Object.fromEntries(containers.map(({ name }) => [name, image])) }),
    hostname: id,
    ipv4: `10.210.${4 + (host >> 8)}.${host & 255}`,
    ipv6: `fdaa:0:1:1::${host.toString(16)}`,
  }
  await agent.runtime.create(spec, NEVER)
  return id
}

const config: MachineConfig = {
  image: 'bench',
  env: {},
  init: {},
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 64 },
  services: [],
  checks: {},
  restart: { policy: 'no', max_retries: 0 },
  stop_config: { signal: 'SIGINT', timeout_ms: 1000 },
  metadata: {},
  auto_destroy: false,
}

const container = (name: string): ContainerConfig => ({
  ...{ name, image: 'bench', env: {}, env_from: [], files: [], depends_on: [], healthchecks: [] },
  mounts: [],
})

// ── by hand ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/** What a person would type, with the same limits of memory and without a network unless one is made. */
function byHand(host: TrialHost, image: ImageToPull) {
  const state = { next: 0 }
  const said = async (...argv: string[]) => {
    const { code, stderr } = await run(argv)
    if (code !== 0) throw new Error(`${argv.join(' ')}: ${stderr}`)
  }
  const ctr = (...args: string[]) =>
    said('ctr', '-a', join(host.runDir, 'containerd.sock'), '-n', 'roost', ...args)
  const cgroup = (name: string) => `${host.cgroupParent}/by-hand/${name}`
  return {
    name: () => `${host.name}n${state.next++}`,
    ctr,
    /** Arguments of `ctr run` for one that keeps running. */
    runs: (name: string) => [
      ...['--cgroup', cgroup(name), '--memory-limit', String(64 * 2 ** 20)],
      ...[`${image.repository}@${image.digest}`, name, ...PROGRAM],
    ],
    async removeCtr(name: string) {
      // One that was stopped has none.
      await ctr('tasks', 'rm', '-f', name).catch(() => {})
      await ctr('containers', 'rm', name)
    },
    async makeNetwork(name: string) {
      await said('ip', 'netns', 'add', name)
      await said('ip', 'link', 'add', `v${name}`, 'type', 'veth', 'peer', 'eth0', 'netns', name)
      await said('ip', 'link', 'set', `v${name}`, 'up')
      const address = `10.99.${state.next >> 8}.${state.next++ & 255}/32`
      await said('ip', '-n', name, 'addr', 'add', address, 'dev', 'eth0')
      await said('ip', '-n', name, 'link', 'set', 'eth0', 'up')
    },
    removeNetwork: (name: string) => said('ip', 'netns', 'del', name),
    /** What is left after a failure. */
    async clean() {
      const ours = (name: string) => name.startsWith(`${host.name}n`)
      const socket = join(host.runDir, 'containerd.sock')
      const { stdout } = await run(['ctr', '-a', socket, '-n', 'roost', 'containers', 'ls', '-q'])
      for (const name of stdout.split('\n').filter(ours)) await this.removeCtr(name)
      for (const name of readdirSync('/run/netns').filter(ours)) await this.removeNetwork(name)
      await run(['runc', '--root', join(host.runDir, 'runc-by-hand'), 'delete', '-f', 'by-hand'])
    },
    /** The same program in a folder that is there already: no image, no containerd, no overlay. */
    runc() {
      const bundle = join(host.dir, 'bundle')
      mkdirSync(join(bundle, 'rootfs/bin'), { recursive: true })
      cpSync('/bin/busybox', join(bundle, 'rootfs/bin/sleep'))
      chmodSync(join(bundle, 'rootfs/bin/sleep'), 0o755)
      const root = join(host.runDir, 'runc-by-hand')
      const runc = (...args: string[]) =>
        // What runs keeps the output open.
        said('sh', '-c', 'exec runc --root "$@" >"$0" 2>&1', join(bundle, 'log'), root, ...args)
      const ready = run(['runc', 'spec', '--bundle', bundle]).then(() => {
        const file = join(bundle, 'config.json')
        const spec = JSON.parse(readFileSync(file, 'utf8'))
        spec.process = { ...spec.process, terminal: false, args: PROGRAM }
        spec.linux.cgroupsPath = cgroup('runc')
        spec.linux.resources = { ...spec.linux.resources, memory: { limit: 64 * 2 ** 20 } }
        writeFileSync(file, JSON.stringify(spec))
      })
      return {
        start: async () => {
          await ready
          await runc('run', '-d', '--bundle', bundle, 'by-hand')
        },
        stop: () => runc('delete', '-f', 'by-hand'),
      }
    },
  }
}

// ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────────────

async function inTurns<T>(all: readonly T[], what: (one: T) => Promise<unknown>): Promise<void> {
  const left = [...all]
  const worker = async () => {
    for (let one = left.shift(); one !== undefined; one = left.shift()) await what(one)
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}

function availableMb(): number {
  return Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) / 1024
}
