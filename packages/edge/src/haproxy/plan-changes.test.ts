import type { AppName, HostId, MachineId, RegionCode, Route } from '@roost/core'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseEntryName } from './entry.ts'
import type { ObservedEntry, ObservedProxy } from './observed-proxy.ts'
import { type LimitShares, NOTHING_OBSERVED, type ProxyPlan, planChanges } from './plan-changes.ts'
import { isHold } from './render-config.ts'

const HOSTS = '/run/hosts.map'
const SECURE = '/run/secure.map'

interface Wish {
  readonly machine: number
  readonly rank: number
  readonly port?: number
}
function route(app: string, wishes: readonly Wish[], changes: Partial<Route> = {}): Route {
  return {
    key: `${app}/http`,
    app: app as AppName,
    hostnames: [`${app}.roost.test`],
    forceHttps: false,
    concurrency: { type: 'requests', soft_limit: 20, hard_limit: null },
    targets: wishes.map(({ machine, rank, port = 8080 }) => ({
      machine: id(machine),
      host: 'h' as HostId,
      region: `r${rank}` as RegionCode,
      address: `10.210.4.${machine}`,
      port,
      rank,
    })),
    coming: [],
    ...changes,
  }
}
const id = (n: number) => n.toString(16).padStart(14, '0') as MachineId

/** HAProxy as far as the plan can tell: does what it is told, and refuses what the real one refuses. */
function model(start: ObservedProxy = NOTHING_OBSERVED) {
  const slots = new Map<string, ObservedEntry[]>(
    [...start.slots].map(([slot, entries]) => [slot, [...entries]]),
  )
  const hosts = new Map(start.hosts)
  const secure = new Set(start.secure)
  const change = (name: string, changes: Partial<ObservedEntry>) => {
    const [slot = '', server = ''] = name.split('/')
    const entries = slots.get(slot) ?? []
    const at = entries.findIndex((e) => e.name === server)
    if (at === -1) throw new Error(`no such server ${name}`)
    entries[at] = { ...(entries[at] as ObservedEntry), ...changes }
  }
  const run = (command: string): void => {
    const words = command.split(' ')
    const [verb, noun, name = ''] = words
    if (verb === 'add' && noun === 'server') {
      const [slot = '', server = ''] = name.split('/')
      const entries = slots.get(slot) ?? []
      slots.set(slot, entries)
      if (entries.some((e) => e.name === server)) throw new Error(`there is a server ${name}`)
      expect(words.includes('backup')).toBe(parseEntryName(server)?.role !== 'active')
      const limit = words.indexOf('maxconn')
      entries.push({
        name: server,
        entry: parseEntryName(server),
        endpoint: words[3] ?? '',
        maxConnections: limit === -1 ? 0 : Number(words[limit + 1]),
        maint: true,
        up: false,
        checking: true,
        sessions: 0,
        sessionsTotal: 0,
        secondsInState: 0,
      })
    } else if (verb === 'enable') change(name, { checking: true })
    else if (verb === 'set' && noun === 'server')
      change(name, words[4] === 'maint' ? { maint: true, up: false } : { maint: false, up: true })
    else if (verb === 'set' && noun === 'maxconn')
      change(words[3] ?? '', { maxConnections: Number(words[4]) })
    else if (verb === 'del' && noun === 'server') {
      const [slot = '', server = ''] = name.split('/')
      const entries = slots.get(slot) ?? []
      const found = entries.find((e) => e.name === server)
      if (found === undefined || !found.maint || found.sessions > 0) throw new Error(command)
      const rest = entries.filter((e) => e !== found)
      if (rest.length === 0) slots.delete(slot)
      else slots.set(slot, rest)
    } else if (noun === 'map') {
      const [, , file, key = '', value = ''] = words
      if (file === SECURE) verb === 'del' ? secure.delete(key) : secure.add(key)
      else if (verb === 'del') hosts.delete(key)
      else hosts.set(key, value)
    } else throw new Error(`unknown: ${command}`)
  }
  const observed = (): ObservedProxy => ({ slots, hosts, secure })
  return { run, observed, change, slots, hosts, secure }
}
type Model = ReturnType<typeof model>

const plan = (
  routes: readonly Route[],
  proxy: Model,
  slots = 8,
  shares: LimitShares = new Map(),
): ProxyPlan =>
  planChanges({
    routes,
    shares,
    observed: proxy.observed(),
    slots,
    hostsMap: HOSTS,
    secureMap: SECURE,
    holdSocket: 'hold',
  })

/** Looks and does until there is nothing to do; how many rounds it took. */
function settle(routes: readonly Route[], proxy: Model, slots = 8): number {
  for (let round = 0; round < 8; round++) {
    const { commands, deletions } = plan(routes, proxy, slots)
    if (commands.length === 0 && deletions.length === 0) return round
    for (const command of [...commands, ...deletions.filter((d) => isMaint(proxy, d))])
      proxy.run(command)
  }
  throw new Error('it never settles')
}
function isMaint(proxy: Model, deletion: string): boolean {
  const [slot = '', server] = (deletion.split(' ')[2] ?? '').split('/')
  return proxy.slots.get(slot)?.find((e) => e.name === server)?.maint === true
}
/** Names of what takes requests for an app, in the order in which HAProxy has them. */
function serving(proxy: Model, app: string): string[] {
  const slot = proxy.hosts.get(`${app}.roost.test`) ?? ''
  return (proxy.slots.get(slot) ?? [])
    .filter((e) => !e.maint && !isHold(e.name))
    .map(({ entry }) => `${Number.parseInt(entry?.machine ?? '', 16)}${entry?.role.slice(0, 1)}`)
}

describe('planChanges', () => {
  test('the own region is active, others are backups from near to far', () => {
    const proxy = model()
    settle([route('shop', [wish(1, 0), wish(2, 2), wish(3, 1)])], proxy)
    expect(serving(proxy, 'shop')).toEqual(['1a', '3b', '2b'])
  })

  test('a nearer backup that comes later still takes over first', () => {
    const proxy = model()
    settle([route('shop', [wish(1, 0), wish(2, 2)])], proxy)
    settle([route('shop', [wish(1, 0), wish(3, 1), wish(2, 2)])], proxy)
    expect(serving(proxy, 'shop')).toEqual(['1a', '3b', '2b'])
    // One that belongs behind the others makes nobody move.
    const before = proxy.slots.get('s0')?.map((e) => e.name)
    settle([route('shop', [wish(1, 0), wish(3, 1), wish(2, 2), wish(9, 3)])], proxy)
    expect(proxy.slots.get('s0')?.map((e) => e.name)).toEqual([
      ...(before ?? []).filter((name) => !isHold(name)),
      `${id(9)}.b0`,
      expect.stringMatching(/^hold/),
    ])
  })

  test('what comes in is ready before what goes out leaves', () => {
    const proxy = model()
    settle([route('shop', [wish(1, 0)])], proxy)
    const { commands } = plan([route('shop', [wish(2, 0)])], proxy)
    const ready = commands.findIndex((c) => c.endsWith('state ready'))
    const maint = commands.findIndex((c) => c.endsWith('state maint'))
    expect(ready).toBeGreaterThan(-1)
    expect(maint).toBeGreaterThan(ready)
  })

  test('who leaves is counted until nobody uses it, and comes back if it is wanted again', () => {
    const proxy = model()
    settle([route('shop', [wish(1, 0), wish(2, 0)])], proxy)
    proxy.change(`s0/${id(1)}.a0`, { sessions: 3 })
    const left = [route('shop', [wish(2, 0)])]
    for (const command of plan(left, proxy).commands) proxy.run(command)
    expect(plan(left, proxy)).toMatchObject({
      commands: [],
      deletions: [],
      draining: [{ machine: id(1), sessions: 3 }],
    })
    const back = plan([route('shop', [wish(1, 0), wish(2, 0)])], proxy)
    expect(back.commands).toEqual([`set server s0/${id(1)}.a0 state ready`])
    proxy.change(`s0/${id(1)}.a0`, { sessions: 0 })
    settle(left, proxy)
    expect(plan(left, proxy).draining).toEqual([])
  })

  test('a machine with a new port gets a new entry beside the one that drains', () => {
    const proxy = model()
    settle([route('shop', [wish(1, 0)])], proxy)
    proxy.change(`s0/${id(1)}.a0`, { sessions: 1 })
    const moved = [route('shop', [{ machine: 1, rank: 0, port: 9000 }])]
    for (const command of plan(moved, proxy).commands) proxy.run(command)
    const machines = proxy.slots.get('s0')?.filter((e) => !isHold(e.name))
    expect(machines?.map((e) => [e.name, e.endpoint, e.maint])).toEqual([
      [`${id(1)}.a0`, '10.210.4.1:8080', true],
      [`${id(1)}.a1`, '10.210.4.1:9000', false],
    ])
    // It serves by its new entry: the machine does not leave.
    expect(plan(moved, proxy).draining).toEqual([])
  })

  test('when all of the nearest region are down, the next one shares the work; one that hangs is cut', () => {
    const proxy = model()
    const routes = [route('shop', [wish(1, 0), wish(2, 1), wish(3, 1), wish(4, 2)])]
    settle(routes, proxy)
    proxy.change(`s0/${id(1)}.a0`, { up: false, secondsInState: 0, sessions: 2 })
    expect(plan(routes, proxy).commands).toEqual([])
    expect(plan(routes, proxy).hanging).toBe(true)
    proxy.change(`s0/${id(1)}.a0`, { secondsInState: 3 })
    expect(plan(routes, proxy).cuts).toEqual([`shutdown sessions server s0/${id(1)}.a0`])
    settle(routes, proxy)
    expect(serving(proxy, 'shop')).toEqual(['1a', '2b', '3b', '4b', '2a', '3a'])
    proxy.change(`s0/${id(1)}.a0`, { up: true, secondsInState: 0 })
    settle(routes, proxy)
    expect(serving(proxy, 'shop')).toEqual(['1a', '2b', '3b', '4b'])
  })

  test('apps keep their slots; without a free one the others are still served', () => {
    const proxy = model()
    const [a, b] = [route('a', [wish(1, 0)]), route('b', [wish(2, 0)])]
    settle([a, b], proxy, 2)
    const slotOfB = proxy.hosts.get('b.roost.test')
    const c = route('c', [wish(3, 0)])
    expect(plan([a, b, c], proxy, 2).missingSlots).toBe(1)
    settle([a, b, c], proxy, 2)
    expect(proxy.hosts.get('c.roost.test')).toBe('empty')
    settle([b, c], proxy, 2)
    expect(proxy.hosts.get('b.roost.test')).toBe(slotOfB)
    expect(serving(proxy, 'c')).toEqual(['3a'])
    expect(proxy.hosts.has('a.roost.test')).toBe(false)
  })

  test('an app without machines is known, needs no slot, and may ask for HTTPS', () => {
    const proxy = model()
    settle([route('shop', [], { forceHttps: true })], proxy)
    expect(proxy.hosts.get('shop.roost.test')).toBe('empty')
    expect([...proxy.secure]).toEqual(['shop.roost.test'])
    settle([route('shop', [])], proxy)
    expect(proxy.secure.size).toBe(0)
  })

  test('limits change in place', () => {
    const proxy = model()
    const limit = (hard_limit: number | null) =>
      route('shop', [wish(1, 0)], {
        concurrency: { type: 'requests', soft_limit: 1, hard_limit },
      })
    settle([limit(null)], proxy)
    expect(plan([limit(5)], proxy).commands).toEqual([`set maxconn server s0/${id(1)}.a0 5`])
    settle([limit(5)], proxy)
    expect(plan([limit(null)], proxy).commands).toEqual([`set maxconn server s0/${id(1)}.a0 0`])
  })

  test('of a limit, what other edges leave is wanted; a HAProxy that starts has all of it', () => {
    const proxy = model()
    const routes = [
      route('shop', [wish(1, 0), wish(2, 0)], {
        concurrency: { type: 'requests', soft_limit: 1, hard_limit: 5 },
      }),
    ]
    settle(routes, proxy)
    const shares = new Map([['shop/http', new Map([[id(1) as string, 2]])]])
    const shared = plan(routes, proxy, 8, shares)
    expect(shared.commands).toEqual([`set maxconn server s0/${id(1)}.a0 2`])
    expect(shared.servers.get('s0')?.map(({ maxConnections }) => maxConnections)).toEqual([5, 5])
    for (const command of shared.commands) proxy.run(command)
    expect(plan(routes, proxy, 8, shares).commands).toEqual([])
    expect(plan(routes, proxy).commands).toEqual([`set maxconn server s0/${id(1)}.a0 5`])
  })

  test('from whatever was before to whatever is wanted: it settles, serves exactly that, near before far', () => {
    const wishes = fc.uniqueArray(
      fc.record({
        machine: fc.integer({ min: 1, max: 9 }),
        rank: fc.integer({ min: 0, max: 3 }),
        port: fc.constantFrom(8080, 9000),
      }),
      { selector: (w) => w.machine, maxLength: 5 },
    )
    const world = fc.record({ a: wishes, b: wishes, c: fc.option(wishes) })
    const step = fc.record({ world, down: fc.array(fc.nat(40)), busy: fc.array(fc.nat(40)) })
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 5 }), (steps) => {
        const proxy = model()
        for (const { world: wanted, down, busy } of steps) {
          const routes = Object.entries(wanted).flatMap(([app, list]) =>
            list === null ? [] : [route(app, list)],
          )
          const all = [...proxy.slots].flatMap(([slot, list]) =>
            list.map((e) => `${slot}/${e.name}`),
          )
          for (const [n, name] of all.entries()) {
            if (down.includes(n)) proxy.change(name, { up: false, secondsInState: 9 })
            proxy.change(name, { sessions: busy.includes(n) ? 2 : 0 })
          }
          settle(routes, proxy)
          for (const { app, targets } of routes) {
            const slot = proxy.hosts.get(`${app}.roost.test`) ?? ''
            const all = (proxy.slots.get(slot) ?? []).filter((e) => !e.maint)
            // Who holds requests is the last to be asked, and there is one.
            expect(all.filter((e) => isHold(e.name)).length).toBe(slot === 'empty' ? 0 : 1)
            const last = all.findLast((e) => e.entry?.role !== 'active')
            expect(last === undefined || isHold(last.name)).toBe(true)
            const ready = all.filter((e) => !isHold(e.name))
            const endpoints = targets.map((t) => `${t.address}:${t.port}`)
            expect(new Set(ready.map((e) => e.endpoint))).toEqual(new Set(endpoints))
            const rankOf = (e: ObservedEntry) =>
              targets.find((t) => t.machine === e.entry?.machine)?.rank ?? -1
            const backups = ready.filter((e) => e.entry?.role === 'backup').map(rankOf)
            expect(backups).toEqual(backups.toSorted((a, b) => a - b))
            expect(backups.length).toBe(targets.filter((t) => t.rank > 0).length)
            for (const t of targets.filter((t) => t.rank === 0))
              expect(ready.some((e) => e.entry?.machine === t.machine)).toBe(true)
          }
          const leased = routes
            .map(({ app }) => proxy.hosts.get(`${app}.roost.test`))
            .filter((slot) => slot !== 'empty')
          expect(new Set(leased).size).toBe(leased.length)
        }
      }),
    )
  })
})

function wish(machine: number, rank: number): Wish {
  return { machine, rank }
}
