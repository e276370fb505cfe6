import { createServer, type Server, type Socket } from 'node:net'
import type { Logger } from '@roost/base'
import {
  HELD_MAX,
  HELD_MAX_APP,
  HOLD_MS,
  type Hope,
  type MachineId,
  mayWait,
  type Route,
  wildcardOf,
} from '@roost/core'
import { abstractPath } from '../haproxy/abstract-path.ts'
import { parseServers } from '../haproxy/observed-proxy.ts'
import { poolOfSlot } from '../haproxy/pools.ts'
import { isHold } from '../haproxy/render-config.ts'
import type { RuntimeApi } from '../haproxy/runtime-api.ts'

/**
 * Requests that no machine can take now, as HAProxy asks about them (see `hold-script.ts`): a line with host name and the time it
 * has waited, answered when there is somebody to take it, or when it is not to wait any longer. No request passes through here.
 *
 * While somebody waits for an app, HAProxy is looked at every 50 ms, and machines that were heard to be ready and are down are
 * knocked at, which is sooner than HAProxy's own checks. While nobody waits, nothing is done.
 */
export interface HoldRequests {
  /** Resolves once HAProxy can ask. */
  listen(): Promise<{ readonly port: number; close(): Promise<void> }>
  /** HAProxy may have somebody now. */
  look(): void
  held(): number
}

const LOOK_MS = 50
/** For so many apps the pause between two looks grows. */
const LOOK_MS_EACH = 2
const KNOCKS_MAX_APP = 4
const KNOCKS_MAX = 64
const LINE_CHARS_MAX = 400
const ASK_MS_MAX = 5000
/** Clients write it. HAProxy is asked about all names at once, and one that is more than a name would be in the way of all. */
const ASKABLE = /^[a-z0-9*@._:-]+$/

interface Waiter {
  readonly socket: Socket
  readonly since: number
}
interface App {
  readonly waiters: Set<Waiter>
  readonly since: number
  most: number
  refused: string
}
interface Down {
  readonly machine: MachineId
  /** `slot/server`. */
  readonly name: string
  readonly endpoint: string
  readonly sinceMs: number
}
interface Found {
  readonly usable: boolean
  readonly known: ReadonlySet<MachineId>
  readonly down: readonly Down[]
}

export function createHoldRequests(options: {
  /** Abstract socket on which HAProxy asks. */
  readonly askSocket: string
  readonly hostsMap: string
  readonly routes: () => readonly Route[]
  /** Name of a service → slot. A connection that waits says its slot (`@t3`) in place of a host name. */
  readonly services: () => ReadonlyMap<string, string>
  readonly api: Pick<RuntimeApi, 'send'>
  /** Resolves when somebody accepts there. */
  readonly knock: (endpoint: string) => Promise<void>
  /** How long a request waits for a machine that is not replaced on purpose. */
  readonly holdMs?: number | undefined
  readonly log: Logger
}): HoldRequests {
  const { api, log, holdMs = HOLD_MS } = options
  const apps = new Map<string, App>()
  /** Since when a machine is known to be on its way as it is. */
  const comingSince = new Map<MachineId, { readonly kind: string; readonly at: number }>()
  const knocking = new Set<string>()
  let held = 0
  let looking = false
  let again = false
  let timer: NodeJS.Timeout | null = null

  function ask(hostname: string, waitedMs: number, socket: Socket): void {
    if (!ASKABLE.test(hostname)) {
      answer(socket, 'no 1 No app answers under this name.')
      return
    }
    const now = performance.now()
    const app: App = apps.get(hostname) ?? { waiters: new Set(), since: now, most: 0, refused: '' }
    if (held >= HELD_MAX || app.waiters.size >= HELD_MAX_APP) {
      const full = mayWait({
        hopes: hopesOf(routeOf(hostname), null),
        waitedMs,
        held: { app: app.waiters.size, edge: held },
        holdMs,
      })
      answer(socket, full.kind === 'wait' ? 'no 5 Too many requests wait.' : refusal(full))
      return
    }
    const waiter: Waiter = { socket, since: now - waitedMs }
    apps.set(hostname, app)
    app.waiters.add(waiter)
    app.most = Math.max(app.most, app.waiters.size)
    held += 1
    socket.once('close', () => leave(hostname, app, waiter))
    // One that is there already is found at once; the rest waits for the next look.
    if (app.waiters.size === 1) look()
    else schedule()
  }

  function leave(hostname: string, app: App, waiter: Waiter): void {
    if (!app.waiters.delete(waiter)) return
    held -= 1
    if (app.waiters.size > 0 || apps.get(hostname) !== app) return
    apps.delete(hostname)
    const ms = Math.round(performance.now() - app.since)
    if (ms >= LOOK_MS)
      log.info('requests were held', { host: hostname, ms, most: app.most, refused: app.refused })
  }

  function release(hostname: string, app: App, waiter: Waiter, line: string): void {
    answer(waiter.socket, line)
    leave(hostname, app, waiter)
  }

  function routeOf(hostname: string): Route | undefined {
    const names = hostname.startsWith('@')
      ? [...options.services()].flatMap(([name, slot]) => (`@${slot}` === hostname ? [name] : []))
      : [hostname]
    return options.routes().find((route) => names.some((name) => route.hostnames.includes(name)))
  }

  /** By its own name, or by the wildcard that stands for it. */
  function knownAs(hostname: string): string {
    const wildcard = wildcardOf(hostname)
    return routeOf(hostname) === undefined && routeOf(wildcard) !== undefined ? wildcard : hostname
  }

  function hopesOf(route: Route | undefined, found: Found | null): readonly Hope[] {
    const now = performance.now()
    const hopes: Hope[] = []
    for (const { machine, coming } of route?.coming ?? []) {
      const before = comingSince.get(machine)
      const at = before?.kind === coming.kind ? before.at : now
      comingSince.set(machine, { kind: coming.kind, at })
      hopes.push({ machine, kind: coming.kind, sinceMs: now - at })
    }
    if (found === null) return hopes
    for (const { machine, sinceMs } of found.down) hopes.push({ machine, kind: 'down', sinceMs })
    // What HAProxy does not have yet will be given to it in this moment.
    for (const { machine } of route?.targets ?? [])
      if (!found.known.has(machine)) hopes.push({ machine, kind: 'starting', sinceMs: 0 })
    return hopes
  }

  async function find(hostnames: readonly string[]): Promise<ReadonlyMap<string, Found>> {
    const byName = hostnames.filter((name) => !name.startsWith('@'))
    const mapped = await api.send(byName.map((name) => `get map ${options.hostsMap} ${name}`))
    const slots = hostnames.map((name) => {
      if (name.startsWith('@')) return poolOfSlot(name.slice(1)) === null ? null : name.slice(1)
      return /\bvalue="([soc]\d+)"/.exec(mapped[byName.indexOf(name)] ?? '')?.[1] ?? null
    })
    const wanted = [...new Set(slots.filter((slot) => slot !== null))]
    const stats = await api.send(wanted.map((slot) => `show stat ${slot} 4 -1`))
    const bySlot = new Map(
      wanted.map((slot, n) => [slot, parseServers(stats[n] ?? '').get(slot) ?? []]),
    )
    return new Map(
      hostnames.map((hostname, n): [string, Found] => {
        const slot = slots[n] ?? ''
        const ready = (bySlot.get(slot) ?? []).filter((e) => !isHold(e.name) && !e.maint)
        return [
          hostname,
          {
            usable: ready.some(({ up }) => up),
            known: new Set(ready.flatMap(({ entry }) => entry?.machine ?? [])),
            down: ready.flatMap(({ name, entry, endpoint, secondsInState }) =>
              entry === null
                ? []
                : [
                    {
                      machine: entry.machine,
                      name: `${slot}/${name}`,
                      endpoint,
                      sinceMs: secondsInState * 1000,
                    },
                  ],
            ),
          },
        ]
      }),
    )
  }

  async function lookNow(): Promise<void> {
    const hostnames = [...apps.keys()]
    const found = await find(hostnames).catch(() => null)
    for (const hostname of hostnames) {
      const app = apps.get(hostname)
      if (app === undefined) continue
      const route = routeOf(hostname)
      const seen = found?.get(hostname)
      if (seen?.usable) {
        for (const waiter of [...app.waiters]) release(hostname, app, waiter, 'go')
        continue
      }
      // HAProxy itself does not answer: it is being started or reloaded.
      const hopes = seen === undefined ? null : hopesOf(route, seen)
      for (const waiter of [...app.waiters]) {
        const waitedMs = performance.now() - waiter.since
        if (hopes === null && waitedMs < ASK_MS_MAX) continue
        const may = mayWait({
          ...{ hopes: hopes ?? [], waitedMs, holdMs },
          held: { app: 0, edge: 0 },
        })
        if (may.kind === 'wait') continue
        app.refused = may.why
        release(hostname, app, waiter, refusal(may))
      }
      if (app.waiters.size > 0) for (const down of seen?.down ?? []) knockAt(down)
    }
    forget()
  }

  function knockAt({ name, endpoint }: Down): void {
    const slot = name.split('/')[0] ?? ''
    const here = [...knocking].filter((other) => other.startsWith(`${slot}/`)).length
    if (knocking.has(name) || here >= KNOCKS_MAX_APP || knocking.size >= KNOCKS_MAX) return
    knocking.add(name)
    options
      .knock(endpoint)
      .then(() => api.send([`set server ${name} health up`]))
      .then(look, () => {})
      .finally(() => knocking.delete(name))
  }

  /** Only of what is still on its way. */
  function forget(): void {
    const coming = new Set(
      options.routes().flatMap((route) => route.coming.map(({ machine }) => machine)),
    )
    for (const machine of comingSince.keys()) if (!coming.has(machine)) comingSince.delete(machine)
  }

  function schedule(): void {
    if (timer !== null || apps.size === 0) return
    timer = setTimeout(look, LOOK_MS + apps.size * LOOK_MS_EACH)
  }

  function look(): void {
    if (timer !== null) clearTimeout(timer)
    timer = null
    if (apps.size === 0) return
    if (looking) {
      again = true
      return
    }
    looking = true
    void lookNow()
      .catch((error) => log.error('look at who waits', { error }))
      .finally(() => {
        looking = false
        const soon = again
        again = false
        if (soon) look()
        else schedule()
      })
  }

  function serve(socket: Socket): void {
    let text = ''
    const giveUp = setTimeout(() => socket.destroy(), ASK_MS_MAX)
    socket.setEncoding('utf8')
    socket.on('error', () => socket.destroy())
    socket.once('close', () => clearTimeout(giveUp))
    const onData = (chunk: string) => {
      text += chunk
      const end = text.indexOf('\n')
      if (end === -1 && text.length <= LINE_CHARS_MAX) return
      clearTimeout(giveUp)
      socket.off('data', onData)
      // What it says after that is of no interest, but that it went is.
      socket.resume()
      const [, hostname, waited] = /^(\S+) (\d{1,7})$/.exec(text.slice(0, end)) ?? []
      if (hostname === undefined) socket.destroy()
      else ask(knownAs(hostname), Number(waited), socket)
    }
    socket.on('data', onData)
  }

  return {
    held: () => held,
    look,
    listen: () =>
      new Promise((resolve, reject) => {
        const server: Server = createServer(serve)
        server.maxConnections = HELD_MAX + 500
        server.once('error', reject)
        server.listen({ path: abstractPath(options.askSocket), backlog: 4096 }, () =>
          resolve({
            port: 0,
            close: async () => {
              if (timer !== null) clearTimeout(timer)
              for (const { waiters } of apps.values())
                for (const { socket } of waiters) socket.destroy()
              await new Promise((closed) => server.close(closed))
            },
          }),
        )
      }),
  }
}

function answer(socket: Socket, line: string): void {
  socket.end(`${line}\n`)
}

function refusal(may: Extract<ReturnType<typeof mayWait>, { kind: 'refuse' }>): string {
  return `no ${may.retryAfterSeconds} ${may.text}`
}
