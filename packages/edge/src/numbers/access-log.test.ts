import { silentLogger } from '@roost/base'
import { ACCESS_LINES_PER_SECOND, type AppName, type RegionCode } from '@roost/core'
import { afterEach, expect, test } from 'vitest'
import { createTickingClock, settled } from '../trial-clock.ts'
import { type AccessWish, createAccessLog } from './access-log.ts'
import { parseLogLine } from './log-line.ts'

const ends: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})

/** Each `tick` is a second: one look at a HAProxy that is only its map. */
function setUp(left: readonly (readonly [string, string])[] = []) {
  const { clock, elapsedMs, tick } = createTickingClock(1000)
  const map = new Map<string, string>(left)
  const state = { dead: false, sent: 0 }
  const slots = new Map([
    ['s0', { app: 'shop' as AppName }],
    ['s1', { app: 'blog' as AppName }],
  ])
  const log = createAccessLog({
    map: 'm',
    api: {
      send: async (commands) => {
        if (state.dead) throw new Error('no answer')
        state.sent += commands.length
        return commands.map((command) => {
          const [verb = '', , , slot = '', value = ''] = command.split(' ')
          if (verb === 'show') return [...map].map(([key, text]) => `0x1 ${key} ${text}`).join('\n')
          if (verb === 'del') map.delete(slot)
          else if (map.has(slot) !== (verb === 'set')) throw new Error(`refused: ${command}`)
          else map.set(slot, value)
          return ''
        })
      },
    },
    slots: () => slots,
    appOf: (hostname) => hostname.split('.')[0] ?? null,
    region: 'ams' as RegionCode,
    host: 'ams-1',
    clock,
    elapsedMs,
    log: silentLogger,
  })
  ends.push(() => log.stop())
  const ask = (change: Partial<AccessWish> = {}) => {
    const leave = new AbortController()
    const wish = { app: 'shop', machine: null, query: false, ...change }
    const lines = log.follow(wish)(leave.signal)
    ends.push(async () => leave.abort())
    return { next: async () => (await lines.next()).value ?? null, leave: () => leave.abort() }
  }
  const say = (app: string, machine: string, path = '/a?key=secret') => {
    const text = `edge ${machine} 200 1 2 0 0 5 6 - 192.0.2.7|GET|ID|${path} ${app}.roost.test`
    const line = parseLogLine(text)
    if (line === null) throw new Error(`no line: ${text}`)
    log.heard(line)
  }
  return { map, slots, state, tick, ask, say }
}
const ONE = '00000000000001.a0'
const TWO = '00000000000002.a0'

test('nobody listens: HAProxy is asked once, and told to forget what another edge left there', async () => {
  const { map, state, tick } = setUp([['s7', 'path']])
  await settled()
  expect(map.size).toBe(0)
  const { sent } = state
  for (let n = 0; n < 5; n++) await tick()
  expect(state.sent).toBe(sent)
})

test('only the app that somebody listens to is told of, and no longer than he does', async () => {
  const { map, tick, ask, say } = setUp()
  await settled()
  const one = ask()
  const live = one.next()
  await tick()
  expect([...map]).toEqual([['s0', 'path']])
  expect(await live).toEqual({})
  say('blog', ONE)
  say('shop', ONE)
  expect((await one.next())?.request).toEqual({
    timestamp: '1970-01-01T00:00:01.000Z',
    region: 'ams',
    host: 'ams-1',
    client: '192.0.2.7',
    method: 'GET',
    path: '/a',
    status: 200,
    bytes_in: 1,
    bytes_out: 2,
    duration_ms: 6,
    machine: '00000000000001',
    request_id: 'ID',
  })
  const last = one.next()
  one.leave()
  expect(await last).toBeNull()
  await tick()
  expect(map.size).toBe(0)
})

test('queries are told to who asked for them alone, and one machine may be asked for', async () => {
  const { map, tick, ask, say } = setUp()
  const [plain, full, two] = [
    ask(),
    ask({ query: true }),
    ask({ machine: TWO.slice(0, 14), query: true }),
  ]
  const live = [plain, full, two].map((one) => one.next())
  await tick()
  await Promise.all(live)
  expect(map.get('s0')).toBe('query')
  say('shop', ONE)
  say('shop', TWO, '/b?c')
  expect((await plain.next())?.request?.path).toBe('/a')
  expect((await full.next())?.request?.path).toBe('/a?key=secret')
  expect((await two.next())?.request?.path).toBe('/b?c')
  full.leave()
  two.leave()
  await tick()
  await tick()
  expect(map.get('s0')).toBe('path')
})

test('a slot that changes hands and a HAProxy that forgot are seen to; one that does not answer is asked again', async () => {
  const { map, slots, state, tick, ask } = setUp()
  state.dead = true
  const one = ask()
  const live = one.next()
  await tick()
  expect(map.size).toBe(0)
  state.dead = false
  await tick()
  expect(await live).toEqual({})
  map.clear()
  slots.clear()
  slots.set('o3', { app: 'shop' as AppName })
  await tick()
  expect([...map]).toEqual([['o3', 'path']])
})

test('what comes too fast is left out and counted, and a quiet listener hears that he is heard', async () => {
  const { tick, ask, say } = setUp()
  const one = ask()
  const live = one.next()
  await tick()
  await live
  for (let n = 0; n < ACCESS_LINES_PER_SECOND + 50; n++) say('shop', ONE)
  for (let n = 0; n < ACCESS_LINES_PER_SECOND; n++)
    expect(await one.next()).toHaveProperty('request')
  const notice = one.next()
  await tick()
  expect(await notice).toEqual({ left_out: 50 })
  const quiet = one.next()
  for (let n = 0; n < 10; n++) await tick()
  expect(await quiet).toEqual({})
})

test('who reads nothing any more is let go', async () => {
  const { map, tick, ask, say } = setUp()
  const one = ask()
  const live = one.next()
  await tick()
  await live
  for (let n = 0; n < 20; n++) {
    for (let m = 0; m < ACCESS_LINES_PER_SECOND; m++) say('shop', ONE)
    await tick()
  }
  expect(map.size).toBe(1)
  for (let n = 0; n < 25; n++) await tick()
  expect(map.size).toBe(0)
})
