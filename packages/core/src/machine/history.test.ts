import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type Happening,
  HISTORY_MAX,
  type MachineHistory,
  NO_HISTORY,
  newsIn,
  withHappening,
} from './history.ts'

const start = (at: number): Happening => ({ kind: 'started', at, restart: 0 })
const of = (count: number, since = 7): MachineHistory =>
  Array.from({ length: count }, (_, n) => start(n)).reduce(
    (history, happening) => withHappening(history, happening, since),
    NO_HISTORY,
  )

test('what was heard already is no news; what fell out meanwhile is counted', () => {
  expect(newsIn(null, of(2)).fresh).toHaveLength(2)
  expect(newsIn(of(2), of(2))).toEqual({ fresh: [], dropped: 0 })
  expect(newsIn(of(2), of(3))).toEqual({ fresh: [start(2)], dropped: 0 })
  expect(newsIn(of(3), of(2))).toEqual({ fresh: [], dropped: 0 })
  const { fresh, dropped } = newsIn(of(2), of(HISTORY_MAX + 5))
  expect([fresh.length, dropped]).toEqual([HISTORY_MAX, 3])
})

test('a host that lost its memory counts anew, and what still runs is not told twice', () => {
  const again = withHappening(NO_HISTORY, start(9), 50)
  expect(newsIn(of(10), again)).toEqual({ fresh: [], dropped: 0 })
  expect(newsIn(of(10), withHappening(again, start(99), 60))).toEqual({
    fresh: [start(99)],
    dropped: 0,
  })
})

test('whatever reports are lost, late or doubled: each is heard once, in order, or counted as dropped', () => {
  // How many things happen before each report, and whether it arrives; one that is late comes after the next.
  const reports = fc.array(
    fc.record({
      happen: fc.integer({ min: 0, max: 40 }),
      fate: fc.constantFrom('heard', 'lost', 'twice'),
    }),
    { maxLength: 20 },
  )
  fc.assert(
    fc.property(reports, (all) => {
      let host = NO_HISTORY
      let server: MachineHistory | null = null
      let at = 0
      const heard: number[] = []
      let dropped = 0
      for (const { happen, fate } of [...all, { happen: 0, fate: 'heard' }]) {
        for (let n = 0; n < happen; n++) host = withHappening(host, start(++at), at)
        expect(host.last.length).toBeLessThanOrEqual(HISTORY_MAX)
        for (let n = 0; n < (fate === 'twice' ? 2 : fate === 'lost' ? 0 : 1); n++) {
          const news = newsIn(server, host)
          heard.push(...news.fresh.map((one) => one.at))
          dropped += news.dropped
          server = host
        }
      }
      expect(heard).toEqual([...new Set(heard)].sort((a, b) => a - b))
      expect(heard.length + dropped).toBe(at)
    }),
    { numRuns: 2000 },
  )
})
