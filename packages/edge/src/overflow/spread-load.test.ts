import type { EdgeAliveReply } from '@roost/api'
import { type Clock, silentLogger } from '@roost/base'
import type { AppName, HostId, MachineId, RegionCode, Route } from '@roost/core'
import { afterEach, describe, expect, test } from 'vitest'
import { parseEntryName } from '../haproxy/entry.ts'
import { type SpreadLoad, startSpreadLoad } from './spread-load.ts'

const MACHINE = '00000000000001' as MachineId
const KEY = 'shop/http'
const SERVER = `${MACHINE}.a0`
const told = (host: string, reply: Partial<EdgeAliveReply>): EdgeAliveReply => ({
  host,
  region: 'ams',
  serving: true,
  round_trip_ms: {},
  ...reply,
})
const wants = (host: string, requests: number) =>
  told(host, { wanted: { [KEY]: { [MACHINE]: requests } } })

const running: SpreadLoad[] = []
afterEach(async () => {
  for (const one of running.splice(0)) await one.stop()
})

/** One machine of an app in one region, with a hard limit of 10, in slot `s1`; HAProxy with what it says of it. */
function setUp(hardLimit: number | null = 10) {
  let next = () => {}
  const clock: Clock = {
    now: () => 0,
    sleep: (_ms, signal) =>
      new Promise((resolve) => {
        next = resolve
        signal?.addEventListener('abort', () => resolve(), { once: true })
      }),
  }
  const haproxy = { limit: hardLimit ?? 0, working: 0, queued: 0, sent: [] as string[] }
  const state = {
    replies: [] as EdgeAliveReply[],
    route: {
      key: KEY,
      app: 'shop' as AppName,
      hostnames: [],
      forceHttps: false,
      concurrency: { type: 'requests', soft_limit: 10, hard_limit: hardLimit },
      targets: [
        {
          machine: MACHINE,
          host: 'h' as HostId,
          region: 'ams' as RegionCode,
          address: '10.210.4.1',
          port: 8080,
          rank: 0,
        },
      ],
      coming: [],
    } satisfies Route as Route,
  }
  const answer = (command: string) => {
    haproxy.sent.push(command)
    if (command.startsWith('set maxconn')) haproxy.limit = Number(command.split(' ').at(-1))
    return command !== 'show stat s1 6 -1'
      ? ''
      : [
          '# pxname,svname,qcur,scur,slim,status,weight,addr,',
          `s1,${SERVER},0,${haproxy.working},${haproxy.limit},UP,100,10.210.4.1:8080,`,
          's1,hold.0,0,7,,UP,1,,',
          `s1,BACKEND,${haproxy.queued},0,200,UP,100,,`,
        ].join('\n')
  }
  const spreading = startSpreadLoad({
    api: { send: async (commands) => commands.map(answer) },
    self: { host: 'a' as HostId, region: 'ams' as RegionCode },
    slots: () => new Map([['s1', state.route]]),
    observed: () =>
      new Map([
        [
          's1',
          [
            {
              name: SERVER,
              entry: parseEntryName(SERVER),
              endpoint: '10.210.4.1:8080',
              maxConnections: haproxy.limit,
              maint: false,
              up: true,
              checking: true,
              sessions: haproxy.working,
              sessionsTotal: 0,
              secondsInState: 9,
            },
          ],
        ],
      ]),
    elsewhere: () => state.replies,
    clock,
    log: silentLogger,
  })
  running.push(spreading)
  const settled = () => new Promise((resolve) => setImmediate(resolve))
  const look = async (times = 1) => {
    for (let n = 0; n < times; n++) {
      await settled()
      next()
      await settled()
    }
  }
  /** Each look is followed by a question of another edge. */
  const lookAndTell = async (times: number) => {
    for (let n = 0; n < times; n++) {
      await look()
      spreading.tellWanted()
    }
  }
  return { haproxy, state, spreading, look, lookAndTell }
}

describe('a hard limit of which several edges have a part', () => {
  test('costs nothing while nobody else tells of work on it, or where there is none', async () => {
    const alone = setUp()
    alone.haproxy.working = 10
    alone.state.replies = [told('b', { wanted: {}, at_work: {} })]
    await alone.look(5)
    expect(alone.haproxy.sent).toEqual([])
    const unlimited = setUp(null)
    unlimited.state.replies = [wants('b', 50)]
    await unlimited.look(5)
    expect(unlimited.haproxy.sent).toEqual([])
    expect(unlimited.spreading.tellWanted()).toEqual({})
  })

  test('is set to what the others leave, and what waits is wanted as well', async () => {
    const { haproxy, state, spreading, look } = setUp()
    state.replies = [wants('b', 7)]
    await look(2)
    expect(haproxy.limit).toBe(3)
    haproxy.working = 3
    haproxy.queued = 18
    await look()
    // What they have to give up for it, they must hear of first.
    expect(haproxy.limit).toBe(3)
    expect(spreading.tellWanted()).toEqual({ [KEY]: { [MACHINE]: 21 } })
    await look()
    // 21 of 28.
    expect(haproxy.limit).toBe(7)
    expect(spreading.shares().get(KEY)?.get(MACHINE)).toBe(7)
    const before = haproxy.sent.length
    await look(3)
    expect(haproxy.sent.slice(before).every((command) => command.startsWith('show'))).toBe(true)
  })

  test('comes back when the others have nothing any more, or fall silent', async () => {
    for (const replies of [[], [told('b', { wanted: {} })]]) {
      const { haproxy, state, spreading, look } = setUp()
      state.replies = [wants('b', 30)]
      haproxy.working = 2
      await look(2)
      expect(haproxy.limit).toBeLessThan(5)
      state.replies = replies
      await look(2)
      expect(haproxy.limit).toBe(10)
      expect(spreading.shares().size).toBe(0)
      const before = haproxy.sent.length
      await look(5)
      expect(haproxy.sent.length).toBe(before)
    }
  })

  test('is set again in a HAProxy that was started anew, and follows a new limit', async () => {
    const { haproxy, state, look, lookAndTell } = setUp()
    state.replies = [wants('b', 20)]
    haproxy.working = 20
    await lookAndTell(2)
    expect(haproxy.limit).toBe(5)
    haproxy.limit = 10
    await look()
    expect(haproxy.limit).toBe(5)
    const { concurrency } = state.route
    state.route = { ...state.route, concurrency: { ...concurrency, hard_limit: 40 } }
    await look()
    expect(haproxy.limit).toBe(20)
  })

  test('that is taken away is shared no more, also where it is looked at for other reasons', async () => {
    const { haproxy, state, spreading, look } = setUp()
    const { targets, concurrency } = state.route
    const far = targets.map((target) => ({ ...target, rank: 1 }))
    state.route = { ...state.route, targets: [...targets, ...far] }
    state.replies = [wants('b', 20)]
    haproxy.working = 2
    await look(2)
    expect(spreading.shares().size).toBe(1)
    state.route = { ...state.route, concurrency: { ...concurrency, hard_limit: null } }
    await look()
    expect(spreading.shares().size).toBe(0)
  })

  test('follows the most that was wanted in a second, not each request', async () => {
    const { haproxy, state, lookAndTell } = setUp()
    state.replies = [wants('b', 20)]
    haproxy.working = 20
    await lookAndTell(2)
    haproxy.working = 1
    await lookAndTell(9)
    expect(haproxy.limit).toBe(5)
    await lookAndTell(2)
    expect(haproxy.limit).toBe(1)
  })

  test('is shared with an edge of the version before by what that has at work', async () => {
    const { haproxy, state, look } = setUp()
    state.replies = [told('b', { at_work: { [KEY]: { [MACHINE]: 6 } } })]
    await look(2)
    expect(haproxy.limit).toBe(4)
  })

  test('is told of only where the edges together might be above it', () => {
    const { haproxy, state, spreading } = setUp()
    const mine = () => spreading.tellWanted()[KEY]?.[MACHINE]
    state.replies = [told('b', {})]
    haproxy.working = 4
    expect(mine()).toBe(undefined)
    haproxy.working = 5
    expect(mine()).toBe(5)
    state.replies = [told('b', {}), told('c', {}), told('d', {})]
    haproxy.working = 3
    expect(mine()).toBe(3)
    haproxy.working = 1
    expect(mine()).toBe(undefined)
    state.replies = [wants('b', 9)]
    expect(mine()).toBe(1)
    haproxy.working = 0
    expect(mine()).toBe(undefined)
  })
})
