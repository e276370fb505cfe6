import type { LogLine } from '@roost/api'
import {
  type Clock,
  createLineQueue,
  type PeerClient,
  PlatformError,
  systemClock,
} from '@roost/base'
import type { AppName, Host, HostId, MachineConfig, MachineId, RegionCode } from '@roost/core'
import { afterEach, expect, test, vi } from 'vitest'
import { createIds } from '../ids.ts'
import { insertNewMachine } from '../machine/insert.ts'
import { networkNumber, putApp } from '../store/apps.ts'
import { putHost } from '../store/hosts.ts'
import { markDestroyed } from '../store/machines.ts'
import { openSqlite } from '../store/sqlite/open-sqlite.ts'
import { appLogs } from './app-logs.ts'
import { createLogHub } from './log-hub.ts'

const shop = 'shop' as AppName
const CONFIG: MachineConfig = {
  image: 'registry.internal/shop',
  env: {},
  init: {},
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 256 },
  services: [],
  checks: {},
  restart: { policy: 'no', max_retries: 0 },
  stop_config: { signal: 'SIGINT', timeout_ms: 5_000 },
  metadata: {},
  auto_destroy: false,
}

const ids = createIds()
let ends: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ends.reverse()) await end()
  ends = []
})

function host(name: string, number: number): Host {
  return {
    id: `${number}`.padStart(14, '0') as HostId,
    name,
    region: name.split('-')[0] as RegionCode,
    number,
    publicAddress: '198.51.100.1',
    wireguard: { endpoint: '198.51.100.1:51820', publicKey: '' },
    sealingKey: '',
    capacity: { cpus: 4, memoryMb: 4096 },
    builder: false,
    availability: 'active',
    agentSeenAt: 0,
    edgeSeenAt: null,
    status: 'ok',
  }
}
const AMS = host('ams-1', 1)
const IAD = host('iad-1', 2)

/** What each machine has said and goes on to say, as its agent tells it. */
async function open() {
  const store = openSqlite({ file: ':memory:' })
  ends.push(() => store.close())
  const past = new Map<string, LogLine[]>()
  const live = new Map<string, ReturnType<typeof createLineQueue<LogLine | null>>>()
  const streams = new Set<string>()
  const dead = new Set<HostId>()
  const hanging = new Set<MachineId>()
  const asked: string[] = []

  const agent = (of: Host): PeerClient => ({
    json: async () => {
      throw new Error('not asked for')
    },
    close: async () => {},
    async *lines<T>(_method: string, path: string, options: { signal?: AbortSignal } = {}) {
      asked.push(path)
      const url = new URL(path, 'http://agent')
      const machine = url.pathname.split('/')[4] ?? ''
      const { signal } = options
      if (hanging.has(machine as MachineId) && signal?.aborted === false)
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
      if (dead.has(of.id)) throw new PlatformError('unavailable', 'GET', { retry: 'later' })
      const { follow, lines, after } = Object.fromEntries(url.searchParams)
      const told = (past.get(machine) ?? []).filter((l) => l.timestamp > (after ?? ''))
      for (const line of told.slice(Math.max(0, told.length - Number(lines)))) yield line as T
      if (follow !== 'true') return
      yield {} as T
      const queue = createLineQueue<LogLine | null>(10)
      live.set(machine, queue)
      const stream = `${machine} ${asked.length}`
      streams.add(stream)
      options.signal?.addEventListener('abort', () => {
        queue.close()
        streams.delete(stream)
      })
      for (let line = await queue.pull(); line !== null; line = await queue.pull()) yield line as T
    },
  })
  await store.transaction(async (tx) => {
    const { number } = await networkNumber(tx, 'personal', 'default')
    const rest = { organization: 'personal', network: number, createdAt: 0, primaryRegion: null }
    await putApp(tx, { name: shop, ...rest, release: 0 })
    await putHost(tx, AMS)
    await putHost(tx, IAD)
  })
  const machine = async (on: Host): Promise<MachineId> => {
    const id = ids.machineId()
    await store.transaction((tx) =>
      insertNewMachine(
        tx,
        { ids, now: 1, secrets: { sealForHost: async () => null } },
        {
          id,
          app: shop,
          host: on,
          config: CONFIG,
          imageDigest: 'sha256:1',
          launch: true,
          source: 'user',
        },
      ),
    )
    return id
  }
  const line = (id: MachineId, on: Host, second: number, message: string): LogLine => ({
    timestamp: new Date(second * 1000).toISOString(),
    machine: id,
    region: on.region,
    host: on.name,
    message,
  })
  const stop = new AbortController()
  ends.push(async () => stop.abort())
  const hub = createLogHub({ clock: systemClock, agent })
  const logs = (
    request: Partial<Parameters<typeof appLogs>[1]> = {},
    signal = stop.signal,
    clock = systemClock,
  ) =>
    appLogs(
      { store, clock, agent, hub },
      { app: shop, lines: 100, follow: false, ...request },
      signal,
    )
  const destroy = (id: MachineId, at: number) =>
    store.transaction((tx) => markDestroyed(tx, id, at))
  /** What goes to the one who follows this machine now. */
  const followed = (id: MachineId) =>
    vi.waitFor(() => {
      const queue = live.get(id)
      if (queue === undefined) throw new Error('nobody follows it')
      return queue
    })
  return { machine, line, past, destroy, followed, dead, hanging, logs, asked, stop, hub, streams }
}

async function all(lines: AsyncIterable<LogLine>): Promise<string[]> {
  const found: string[] = []
  for await (const { message } of lines) found.push(message)
  return found
}

test('lines of all machines come in the order of time, and only the newest of them', async () => {
  const { machine, line, past, logs } = await open()
  const [a, b] = [await machine(AMS), await machine(IAD)]
  past.set(a, [line(a, AMS, 1, 'a1'), line(a, AMS, 3, 'a3'), line(a, AMS, 5, 'a5')])
  past.set(b, [line(b, IAD, 2, 'b2'), line(b, IAD, 4, 'b4')])
  expect(await all(logs())).toEqual(['a1', 'b2', 'a3', 'b4', 'a5'])
  expect(await all(logs({ lines: 2 }))).toEqual(['b4', 'a5'])
  expect(await all(logs({ lines: 0 }))).toEqual([])
  expect(await all(logs({ region: 'iad' }))).toEqual(['b2', 'b4'])
  expect(await all(logs({ machine: a }))).toEqual(['a1', 'a3', 'a5'])
})

test('a machine that has just gone still tells why, and one that went long ago does not', async () => {
  const { machine, line, past, destroy, logs } = await open()
  const [a, b] = [await machine(AMS), await machine(AMS)]
  past.set(a, [line(a, AMS, 1, 'a1')])
  past.set(b, [line(b, AMS, 2, 'b2')])
  await destroy(a, Date.now() - 60_000)
  expect(await all(logs())).toEqual(['a1', 'b2'])
  await destroy(a, Date.now() - 7_200_000)
  expect(await all(logs())).toEqual(['b2'])
})

test('a host that does not answer is named once, and the others are told', async () => {
  const { machine, line, past, dead, logs } = await open()
  const a = await machine(AMS)
  await machine(IAD)
  await machine(IAD)
  past.set(a, [line(a, AMS, 1, 'a1')])
  dead.add(IAD.id)
  const found = await all(logs())
  expect(found).toHaveLength(2)
  expect(found[0]).toBe('a1')
  expect(found[1]).toContain('host iad-1 in iad does not answer')
})

test('a host that hangs is named once as well, and not waited for', async () => {
  const { machine, line, past, dead, hanging, logs, stop } = await open()
  const [a, b, c] = [await machine(AMS), await machine(IAD), await machine(IAD)]
  past.set(a, [line(a, AMS, 1, 'a1')])
  const quick: Clock = { ...systemClock, sleep: (ms, end) => systemClock.sleep(ms / 10, end) }
  const told = async () => {
    const found = await all(logs({}, stop.signal, quick))
    return found.map((message) => message.replace(/;.*/, ''))
  }
  const both = ['a1', 'roost: host iad-1 in iad does not answer']
  hanging.add(b).add(c)
  expect(await told()).toEqual(both)
  // One of its machines fails at once, the other one hangs.
  dead.add(IAD.id)
  hanging.delete(b)
  expect(await told()).toEqual(both)
})

test('a follower hears what is said later, also by machines that appear, and by hosts that come back', async () => {
  const { machine, line, past, followed, logs, stop, asked } = await open()
  const a = await machine(AMS)
  past.set(a, [line(a, AMS, 1, 'a1')])
  const reader = logs({ follow: true })[Symbol.asyncIterator]()
  const next = async () => (await reader.next()).value?.message
  expect(await next()).toBe('a1')
  await (await followed(a)).push(line(a, AMS, 2, 'a2'))
  expect(await next()).toBe('a2')

  const b = await machine(IAD)
  past.set(b, [line(b, IAD, 3, 'b3')])
  expect(await next()).toBe('b3')

  // The agent of b restarts: it goes on after what was told.
  past.set(b, [line(b, IAD, 3, 'b3'), line(b, IAD, 4, 'b4')])
  ;(await followed(b)).close()
  expect(await next()).toBe('b4')
  expect(asked.find((path) => path.includes('after='))).toContain(
    `after=${encodeURIComponent(new Date(3000).toISOString())}`,
  )

  const last = reader.next()
  stop.abort()
  expect((await last).done).toBe(true)
})

test('what was said long ago is told of a machine that is asked for by its name', async () => {
  const { machine, line, past, destroy, logs } = await open()
  const a = await machine(AMS)
  past.set(a, [line(a, AMS, 1, 'a1'), line(a, AMS, 9, 'a9')])
  await destroy(a, Date.now() - 6 * 86_400_000)
  expect(await all(logs())).toEqual([])
  expect(await all(logs({ machine: a }))).toEqual(['a1', 'a9'])
  expect(await all(logs({ machine: a, since: new Date(5000).toISOString() }))).toEqual(['a9'])
})

test('twenty people who follow one machine cost its host one stream, which ends with the last of them', async () => {
  const { machine, line, followed, logs, hub, streams } = await open()
  const a = await machine(AMS)
  const people = Array.from({ length: 20 }, () => {
    const leave = new AbortController()
    const reader = logs({ follow: true }, leave.signal)[Symbol.asyncIterator]()
    return { leave, next: reader.next() }
  })
  const queue = await followed(a)
  await queue.push(line(a, AMS, 2, 'hello'))
  for (const { next } of people) expect((await next).value?.message).toBe('hello')
  expect(hub.size()).toBe(1)
  expect(streams.size).toBe(1)
  for (const { leave } of people) leave.abort()
  await vi.waitFor(() => expect(hub.size()).toBe(0))
  expect(streams.size).toBe(0)
})

test('who reads slowly misses lines and is told how many; others miss nothing', async () => {
  const { machine, line, followed, logs } = await open()
  const a = await machine(AMS)
  const slow = logs({ follow: true })[Symbol.asyncIterator]()
  const quick = logs({ follow: true })[Symbol.asyncIterator]()
  const heard: string[] = []
  const reading = (async () => {
    for (let next = await quick.next(); !next.done; next = await quick.next())
      heard.push(next.value.message)
  })()
  const first = slow.next()
  const queue = await followed(a)
  for (let n = 0; n < 5000; n++) await queue.push(line(a, AMS, 10 + n, `n${n}`))
  await vi.waitFor(() => expect(heard).toHaveLength(5000), 5000)
  expect((await first).value?.message).toBe('n0')
  const notice = (await slow.next()).value?.message ?? ''
  const left = Number(/(\d+) lines left out/.exec(notice)?.[1])
  expect(left).toBeGreaterThan(2000)
  let kept = 1
  for (let last = ''; last !== 'end'; ) {
    if (kept === 5000 - left) await queue.push(line(a, AMS, 9000, 'end'))
    last = (await slow.next()).value?.message ?? 'end'
    if (last !== 'end') kept++
  }
  expect(kept + left).toBe(5000)
  void reading
})

test('a machine that went is followed no longer', async () => {
  const { machine, line, followed, destroy, logs, hub } = await open()
  const a = await machine(AMS)
  const reader = logs({ follow: true })[Symbol.asyncIterator]()
  const next = reader.next()
  await (await followed(a)).push(line(a, AMS, 2, 'bye'))
  expect((await next).value?.message).toBe('bye')
  void reader.next()
  await destroy(a, Date.now())
  await vi.waitFor(() => expect(hub.size()).toBe(0), { timeout: 10_000, interval: 50 })
}, 15_000)
