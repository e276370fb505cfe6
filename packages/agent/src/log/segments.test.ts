import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Segments } from './segments.ts'

const space = { dir: '' }
beforeEach(() => {
  space.dir = mkdtempSync(join(tmpdir(), 'roost-segments-'))
})
afterEach(() => rmSync(space.dir, { recursive: true }))

test('what was stored is there again, and where to go on', () => {
  const first = new Segments(space.dir)
  first.append([
    { at: 1, message: 'one', offset: 4 },
    { at: 2, message: '', offset: 5 },
    { at: 3, message: '7 8 nine ☃', offset: 20 },
  ])
  const second = new Segments(space.dir)
  expect(second.offset).toBe(20)
  expect(second.tail(2)).toEqual([
    { at: 2, message: '' },
    { at: 3, message: '7 8 nine ☃' },
  ])
  second.seek(0)
  expect(new Segments(space.dir).offset).toBe(0)
  expect(new Segments(space.dir).tail(10)).toHaveLength(3)
})

test('a line that was torn by a crash is read again, and no other', () => {
  const first = new Segments(space.dir)
  first.append([{ at: 1, message: 'whole', offset: 6 }])
  const [name = ''] = readdirSync(space.dir)
  appendFileSync(join(space.dir, name), '2 12 ha')
  const second = new Segments(space.dir)
  expect(second.offset).toBe(6)
  second.append([{ at: 2, message: 'half', offset: 11 }])
  expect(new Segments(space.dir).tail(10).map(({ message }) => message)).toEqual(['whole', 'half'])
})

test('the oldest goes when there is too much', () => {
  const segments = new Segments(space.dir)
  const message = 'x'.repeat(999)
  for (let n = 0; n < 15_000; n += 100)
    segments.append(
      Array.from({ length: 100 }, (_, k) => ({ at: n + k, message, offset: (n + k + 1) * 1000 })),
    )
  const bytes = readdirSync(space.dir).reduce(
    (sum, name) => sum + statSync(join(space.dir, name)).size,
    0,
  )
  expect(bytes).toBeLessThan(11_000_000)
  expect(bytes).toBeGreaterThan(8_000_000)
  expect(segments.tail(1)[0]?.at).toBe(14_999)
})
