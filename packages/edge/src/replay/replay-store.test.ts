import { expect, test } from 'vitest'
import { createReplayStore } from './replay-store.ts'

const replay = { state: 'x'.repeat(8000) } as never
const kept = (n: number) => ({
  ...{ key: `shop.roost.test/${n}/*`, replay, allowBypass: false, source: '', expiresAt: 1e15 },
})
const asked = (n: number) => ({ host: 'shop.roost.test', path: `/${n}/a`, headers: {} })

test('however long replays are, those that were used last are kept, and no more than fit', () => {
  const store = createReplayStore()
  for (let n = 0; n < 10_000; n++) {
    store.keep(kept(n))
    store.find(asked(0), 0)
  }
  const found = Array.from({ length: 10_000 }, (_, n) => store.find(asked(n), 0) !== null)
  expect([found[0], found[1], found.at(-1)]).toEqual([true, false, true])
  const bytes = found.filter((is) => is).length * 8000
  expect(bytes).toBeGreaterThan(20_000_000)
  expect(bytes).toBeLessThan(25_200_000)
})

test('rules of many host names are bounded, too', () => {
  const store = createReplayStore()
  const rule = { path_prefix: '/', ttl_seconds: 60, type: 'header', name: 'x-s' } as const
  const rules = Array.from({ length: 20 }, () => ({ ...rule, path_prefix: `/${'a'.repeat(400)}` }))
  for (let n = 0; n < 5000; n++) store.setRules(`${n}.example.com`, [...rules, rule])
  const session = (n: number) =>
    store.sessionOf({ host: `${n}.example.com`, path: '/', headers: { 'x-s': '1' } })
  expect([session(0), session(4999)?.rule]).toEqual([null, rule])
})
