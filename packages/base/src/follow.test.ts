import { expect, test, vi } from 'vitest'
import { systemClock } from './clock.ts'
import { follow } from './follow.ts'
import { silentLogger } from './log.ts'
import { type CacheEvent, createRecordCache } from './record-cache.ts'

const cacheOf = () => createRecordCache<{ app: string }>({ file: ':memory:', log: silentLogger })
const record = (revision: number, id: string): CacheEvent => ({
  type: 'record',
  revision,
  kind: 'app',
  id,
  value: id,
})
const synced = (revision: number): CacheEvent => ({ type: 'synced', revision })

test('connects again from where it was, after an error, an ending and a silence', async () => {
  const cache = cacheOf()
  const stop = new AbortController()
  const asked: number[] = []
  const connections: boolean[] = []
  const scripts: (() => AsyncGenerator<CacheEvent>)[] = [
    async function* () {
      yield record(1, 'a')
      yield synced(1)
      yield record(2, 'lost')
      throw new Error('wire broke')
    },
    async function* () {
      yield record(3, 'b')
      yield synced(3)
    },
    async function* () {
      yield synced(4)
      await new Promise(() => {})
    },
    async function* () {
      yield record(5, 'c')
      yield synced(5)
      await new Promise(() => {})
    },
  ]
  let changes = 0
  const done = follow({
    connect: (since) => {
      asked.push(since)
      const script = scripts[asked.length - 1]
      if (script === undefined) throw new Error('connected once too often')
      return script()
    },
    cache,
    onChange: () => {
      changes++
      if (cache.get('app', 'c') !== null) stop.abort()
    },
    onConnection: (now) => connections.push(now),
    clock: {
      now: () => 0,
      sleep: (ms, signal) => systemClock.sleep(ms === 15_000 ? 20 : 1, signal),
    },
    log: silentLogger,
    signal: stop.signal,
  })
  await done
  expect(asked).toEqual([0, 1, 3, 4])
  expect(cache.list('app')).toEqual(['a', 'b', 'c'])
  expect(changes).toBe(4)
  expect(connections).toEqual([true, false, true, false, true, false, true, false])
})

test('beats without news change nothing', async () => {
  const cache = cacheOf()
  const stop = new AbortController()
  const onChange = vi.fn()
  let beats = 0
  await follow({
    connect: async function* () {
      yield record(1, 'a')
      yield synced(1)
      while (++beats < 5) yield synced(1)
      stop.abort()
    },
    cache,
    onChange,
    clock: systemClock,
    log: silentLogger,
    signal: stop.signal,
  })
  expect(beats).toBe(5)
  expect(onChange).toHaveBeenCalledTimes(1)
})

test('ends at once when told to, also in a pause and in a silent stream', async () => {
  for (const connect of [
    () => {
      throw new Error('refused')
    },
    async function* (): AsyncGenerator<CacheEvent> {
      await new Promise(() => {})
    },
  ]) {
    const stop = new AbortController()
    const done = follow({
      connect,
      cache: cacheOf(),
      onChange: () => {},
      clock: systemClock,
      log: silentLogger,
      signal: stop.signal,
    })
    setImmediate(() => stop.abort())
    await done
  }
})
