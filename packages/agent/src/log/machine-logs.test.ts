import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCommand, silentLogger, systemClock } from '@roost/base'
import type { MachineId } from '@roost/core'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { newMark } from './copier-mark.ts'
import {
  instantOf,
  LogKeeper,
  type LogKeeperOptions,
  splitLines,
  timestampOf,
} from './machine-logs.ts'
import { Segments } from './segments.ts'

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

function keeper(changes: Partial<LogKeeperOptions> = {}): LogKeeper {
  const made = new LogKeeper({
    rawDir: join(space.dir, 'raw'),
    storeDir: join(space.dir, 'store'),
    region: 'ams',
    host: 'h1',
    clock: systemClock,
    log: silentLogger,
    ...changes,
  })
  made.start()
  space.keepers.push(made)
  return made
}
async function stored(logs: LogKeeper, lines = 100, machine = id): Promise<string[]> {
  const messages: string[] = []
  const asked = { machine, lines, follow: false, signal: NEVER }
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
  writeFileSync(logs.file(id), `${'y'.repeat(99)}\n`.repeat(250_000))
  await vi.waitFor(
    () => expect(statSync(logs.file(id)).blocks * 512).toBeLessThan(17_500_000),
    LIMIT,
  )
  expect(statSync(logs.file(id)).size).toBe(25_000_000)
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

const ALL_GONE = new Set<MachineId>()
const idOf = (n: number) => `3d8f${String(n).padStart(10, '0')}` as MachineId

function storedFor(machine: MachineId, bytes: number, ageMs: number): void {
  const dir = join(space.dir, 'store', machine)
  mkdirSync(dir)
  writeFileSync(join(dir, '000000000001'), `1 1 ${'x'.repeat(bytes)}\n`)
  const at = (Date.now() - ageMs) / 1000
  utimesSync(join(dir, '000000000001'), at, at)
}

test('of a machine that writes without end only so much is kept each second', async () => {
  const logs = keeper()
  const piece = `${'f'.repeat(99)}\n`.repeat(40_000)
  for (let n = 0; n < 30; n++) {
    appendFileSync(logs.file(id), piece)
    await new Promise((resolve) => setImmediate(resolve))
  }
  appendFileSync(logs.file(id), 'the end\n')
  const { size } = statSync(logs.file(id))
  await vi.waitFor(
    () => expect(new Segments(join(space.dir, 'store', id)).offset).toBe(size),
    LIMIT,
  )
  // Numbers of files of a megabyte only grow: of 120 MB, some 20 were ever written.
  const numbers = readdirSync(join(space.dir, 'store', id)).map(Number)
  expect(Math.max(...numbers)).toBeLessThan(45)
  expect((await stored(logs)).at(-1)).toBe('the end')
}, 20_000)

test('logs of machines that are gone are kept for a week', async () => {
  const logs = keeper()
  const day = 86_400_000
  storedFor(idOf(1), 10, 8 * day)
  storedFor(idOf(2), 10, 8 * day)
  storedFor(idOf(3), 10, 6 * day)
  logs.retain(new Set([idOf(1)]))
  expect([1, 2, 3].map((n) => logs.has(idOf(n)))).toEqual([true, false, true])
  expect(await stored(logs, 10, idOf(3))).toEqual(['x'.repeat(10)])
})

test('logs of machines that are gone make room, those first that went first; then those that are there keep less', () => {
  const logs = keeper({ storeBytesMax: 5_000_000 })
  for (const n of [1, 2, 3]) storedFor(idOf(n), 2_000_000, n * 60_000)
  logs.retain(ALL_GONE)
  expect([1, 2, 3].map((n) => logs.has(idOf(n)))).toEqual([true, true, false])
  const segments = new Segments(join(space.dir, 'store', id))
  for (let n = 0; n < 6000; n++)
    segments.append([{ at: n, message: 'y'.repeat(999), offset: n * 1000 }])
  logs.retain(new Set([id]))
  expect([1, 2].map((n) => logs.has(idOf(n)))).toEqual([false, false])
  const left = readdirSync(join(space.dir, 'store', id)).length
  expect(left).toBeLessThanOrEqual(5)
})

test('lines end at newlines, at 64 kB, and where a caller says that nothing more comes', () => {
  const split = (said: string | Buffer, partial: boolean) =>
    splitLines(Buffer.from(said), 100, partial).map(({ message, offset }) => [message, offset])
  expect(split('a\r\n\nb', false)).toEqual([
    ['a', 103],
    ['', 104],
  ])
  expect(split('b', true)).toEqual([['b', 101]])
  expect(split('x'.repeat(70_000), false)).toEqual([['x'.repeat(65_536), 100 + 65_536]])
  // A character is not cut in two.
  expect(split(`${'x'.repeat(65_535)}☃${'x'.repeat(100)}`, false)).toEqual([
    ['x'.repeat(65_535), 100 + 65_535],
  ])
  // A hole that was punched before a crash.
  expect(split('\0\0\0\0tail\n', false)).toEqual([['tail', 109]])
  expect(split('\0\0', false)).toEqual([[null, 102]])
  expect(split(Buffer.from([0x66, 0xff, 0xfe, 0x6f, 10]), false)).toEqual([['f\ufffd\ufffdo', 105]])
  expect(split('\u001b[31mred\u001b[0m\n', false)).toEqual([['\u001b[31mred\u001b[0m', 113]])
})

test('a line of a megabyte without an end is stored in pieces, and nothing of it is lost', async () => {
  const logs = keeper()
  const long = Array.from({ length: 100_000 }, (_, n) => String(n).padStart(10)).join('')
  writeFileSync(logs.file(id), `${long}\nnext\n`)
  await vi.waitFor(async () => expect((await stored(logs)).at(-1)).toBe('next'), LIMIT)
  expect((await stored(logs)).slice(0, -1).join('')).toBe(long)
})

test('no two lines have the same time, and a clock that is set back a little does not make one earlier', async () => {
  const clock = { ...systemClock, now: () => Date.now() + clock.shiftMs, shiftMs: 0 }
  const logs = keeper({ clock })
  const lines = async () => {
    const all = []
    for await (const line of logs.readLogs({
      machine: id,
      lines: 100,
      follow: false,
      signal: NEVER,
    }))
      if (line) all.push(line)
    return all
  }
  writeFileSync(logs.file(id), 'a\nb\nc\n')
  await vi.waitFor(async () => expect(await lines()).toHaveLength(3), LIMIT)
  clock.shiftMs = -30_000
  appendFileSync(logs.file(id), 'd\n')
  await vi.waitFor(async () => expect(await lines()).toHaveLength(4), LIMIT)
  const times = (await lines()).map(({ timestamp }) => timestamp)
  expect(new Set(times).size).toBe(4)
  expect([...times].sort()).toEqual(times)
  const rest: string[] = []
  const after = { machine: id, lines: 100, follow: false, after: times[1], signal: NEVER }
  for await (const line of logs.readLogs(after)) if (line) rest.push(line.message)
  expect(rest).toEqual(['c', 'd'])
  // Set back by hours: what comes bears the time that it is.
  clock.shiftMs = -7_200_000
  appendFileSync(logs.file(id), 'e\n')
  await vi.waitFor(async () => expect(await lines()).toHaveLength(5), LIMIT)
  const last = (await lines()).at(-1)
  expect(instantOf(last?.timestamp ?? '')).toBeLessThan(Date.now() - 7_000_000)
})

test('times keep their microseconds', () => {
  expect(timestampOf(1_700_000_000_123.456)).toBe('2023-11-14T22:13:20.123456Z')
  expect(instantOf('2023-11-14T22:13:20.123456Z')).toBe(1_700_000_000_123.456)
  expect(instantOf('2023-11-14T22:13:20Z')).toBe(1_700_000_000_000)
  expect(instantOf('yesterday')).toBe(0)
})

test('a follower that does not read misses lines, is told how many, and its queue is bounded in bytes', async () => {
  const logs = keeper()
  const leave = new AbortController()
  const reader = logs.readLogs({ machine: id, lines: 0, follow: true, signal: leave.signal })
  expect((await reader.next()).value).toBe(null)
  const line = `${'z'.repeat(60_000)}\n`
  for (let n = 0; n < 10; n++) {
    appendFileSync(logs.file(id), line.repeat(10))
    await vi.waitFor(async () => expect(await stored(logs, 1000)).toHaveLength((n + 1) * 10), LIMIT)
  }
  const first = (await reader.next()).value?.message ?? ''
  const dropped = Number(/\[roost\] (\d+) lines left out/.exec(first)?.[1])
  let heard = 0
  for (let done = false; !done; heard += done ? 0 : 1) {
    const next = await Promise.race([
      reader.next(),
      new Promise<null>((end) => setImmediate(end, null)),
    ])
    done = next === null
  }
  leave.abort()
  expect(heard).toBeLessThan(40)
  expect(dropped + heard).toBe(100)
})

test('where there is no room, the raw log is read on, followers hear it, and what was not kept is counted', async () => {
  const image = join(space.dir, 'image')
  const full = join(space.dir, 'small')
  mkdirSync(full)
  await runCommand(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'roost', full])
  try {
    writeFileSync(image, '')
    const logs = keeper({ storeDir: full })
    writeFileSync(join(full, 'filler'), Buffer.alloc(40_000))
    const leave = new AbortController()
    const heard: string[] = []
    const following = (async () => {
      const asked = { machine: id, lines: 0, follow: true, signal: leave.signal }
      for await (const line of logs.readLogs(asked)) if (line) heard.push(line.message)
    })()
    writeFileSync(logs.file(id), `${'n'.repeat(99)}\n`.repeat(1000))
    await vi.waitFor(() => expect(heard).toHaveLength(1000), LIMIT)
    expect(await stored(logs)).toEqual([])
    rmSync(join(full, 'filler'))
    appendFileSync(logs.file(id), 'room again\n')
    await vi.waitFor(
      async () =>
        expect(await stored(logs)).toEqual([
          '[roost] 1000 lines not kept: the disk was full',
          'room again',
        ]),
      LIMIT,
    )
    leave.abort()
    await following
  } finally {
    for (const keeper of space.keepers.splice(0)) await keeper.stop()
    await runCommand(['umount', full])
  }
})

test('what is sent through a machine to see whether its log is written is no line of it', async () => {
  const logs = keeper()
  const marks: string[] = []
  logs.watchMarks((machine, data) => marks.push(`${machine} ${data.includes(mark)}`))
  const mark = newMark()
  writeFileSync(
    logs.file(id),
    Buffer.concat([Buffer.from('one\nhal'), mark, Buffer.from('f\n'), mark]),
  )
  await vi.waitFor(async () => expect(await stored(logs)).toEqual(['one', 'half']), LIMIT)
  expect(marks).toContain(`${id} true`)
  // Counts as read, and as no line.
  await vi.waitFor(
    () =>
      expect(new Segments(join(space.dir, 'store', id)).offset).toBe(statSync(logs.file(id)).size),
    LIMIT,
  )
  appendFileSync(logs.file(id), 'two\n')
  await vi.waitFor(async () => expect(await stored(logs)).toEqual(['one', 'half', 'two']), LIMIT)
})
