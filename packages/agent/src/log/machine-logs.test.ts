import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger, systemClock } from '@roost/base'
import type { MachineId } from '@roost/core'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { LogKeeper, splitLines } from './machine-logs.ts'

const id = '3d8d0000000001' as MachineId
const NEVER = new AbortController().signal
const LIMIT = { timeout: 8000, interval: 10 }
const space: { dir: string; keepers: LogKeeper[] } = { dir: '', keepers: [] }
beforeEach(() => {
  space.dir = mkdtempSync(join(tmpdir(), 'roost-logs-'))
  for (const name of ['raw', 'store']) mkdirSync(join(space.dir, name))
})
afterEach(async () => {
  for (const keeper of space.keepers.splice(0)) await keeper.stop()
  rmSync(space.dir, { recursive: true })
})

function keeper(): LogKeeper {
  const made = new LogKeeper({
    rawDir: join(space.dir, 'raw'),
    storeDir: join(space.dir, 'store'),
    region: 'ams',
    host: 'h1',
    clock: systemClock,
    log: silentLogger,
  })
  made.start()
  space.keepers.push(made)
  return made
}
async function stored(logs: LogKeeper, lines = 100): Promise<string[]> {
  const messages: string[] = []
  const asked = { machine: id, lines, follow: false, signal: NEVER }
  for await (const line of logs.readLogs(asked)) if (line) messages.push(line.message)
  return messages
}

test('lines are stored once, whole, over a restart of the reader', async () => {
  const first = keeper()
  writeFileSync(first.file(id), 'one\ntwo\nthr')
  await vi.waitFor(async () => expect(await stored(first)).toEqual(['one', 'two']), LIMIT)
  await first.stop()
  appendFileSync(first.file(id), 'ee\nfour\n')
  const second = keeper()
  await vi.waitFor(
    async () => expect(await stored(second)).toEqual(['one', 'two', 'three', 'four']),
    LIMIT,
  )
  expect(await stored(second, 2)).toEqual(['three', 'four'])
})

test('what a machine said last is kept when it goes, and its next life begins at the beginning', async () => {
  const logs = keeper()
  writeFileSync(logs.file(id), 'last words without an end')
  await logs.close(id)
  expect(existsSync(logs.file(id))).toBe(false)
  writeFileSync(logs.file(id), 'again\n')
  await vi.waitFor(
    async () => expect(await stored(logs)).toEqual(['last words without an end', 'again']),
    LIMIT,
  )
})

test('a follower hears what was and what comes, until it leaves', async () => {
  const logs = keeper()
  writeFileSync(logs.file(id), 'old\n')
  await vi.waitFor(async () => expect(await stored(logs)).toEqual(['old']), LIMIT)
  const leave = new AbortController()
  const heard: (string | null)[] = []
  const following = (async () => {
    const asked = { machine: id, lines: 10, follow: true, signal: leave.signal }
    for await (const line of logs.readLogs(asked)) heard.push(line?.message ?? null)
  })()
  await vi.waitFor(() => expect(heard).toEqual(['old', null]), LIMIT)
  appendFileSync(logs.file(id), 'new\n')
  await vi.waitFor(() => expect(heard).toEqual(['old', null, 'new']), LIMIT)
  leave.abort()
  await following
})

test('the space of what was read is given back, and the file is never cut', async () => {
  const logs = keeper()
  writeFileSync(logs.file(id), `${'y'.repeat(99)}\n`.repeat(50_000))
  await vi.waitFor(
    () => expect(statSync(logs.file(id)).blocks * 512).toBeLessThan(1_500_000),
    LIMIT,
  )
  expect(statSync(logs.file(id)).size).toBe(5_000_000)
  appendFileSync(logs.file(id), 'end\n')
  await vi.waitFor(async () => expect((await stored(logs)).at(-1)).toBe('end'), LIMIT)
})

test('a backlog that nobody could read is dropped, and its lines are counted', async () => {
  const logs = keeper()
  await logs.stop()
  writeFileSync(logs.file(id), `${'z'.repeat(999)}\n`.repeat(40_000))
  const late = keeper()
  await vi.waitFor(
    async () => expect((await stored(late, 10_000)).at(-1)).toBe('z'.repeat(999)),
    LIMIT,
  )
  const messages = await stored(late, 10_000)
  const notice = messages.find((message) => message.startsWith('[roost]'))
  const dropped = Number(/(\d+) lines dropped/.exec(notice ?? '')?.[1])
  expect(dropped + messages.length - 1).toBe(40_000)
})

test('only the logs of the last machines that went are kept', () => {
  const logs = keeper()
  for (let n = 0; n < 60; n++)
    mkdirSync(join(space.dir, 'store', `3d8d${String(n).padStart(10, '0')}`))
  logs.retain(new Set([id]))
  const left = Array.from(
    { length: 60 },
    (_, n) => `3d8d${String(n).padStart(10, '0')}` as MachineId,
  ).filter((one) => logs.has(one))
  expect(left).toHaveLength(50 + (left.includes(id) ? 1 : 0))
})

test('lines end at newlines, at 64 kB, and where a caller says that nothing more comes', () => {
  const split = (text: string, partial: boolean) =>
    splitLines(Buffer.from(text), 100, 5, partial).map(({ message, offset }) => [message, offset])
  expect(split('a\r\n\nb', false)).toEqual([
    ['a', 103],
    ['', 104],
  ])
  expect(split('b', true)).toEqual([['b', 101]])
  const long = split('x'.repeat(70_000), false)
  expect(long).toEqual([['x'.repeat(65_536), 100 + 65_536]])
  // A hole that was punched before a crash.
  expect(split('\0\0\0\0tail\n', false)).toEqual([['tail', 109]])
})
