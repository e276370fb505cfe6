import {
  type Clock,
  describeError,
  type Logger,
  type Loop,
  PlatformError,
  startLoop,
} from '@roost/base'
import type { Draining, Revision, Route } from '@roost/core'
import type { CertificateFiles } from './certificate-files.ts'
import type { EdgeCertificate } from './edge-certificate.ts'
import type { HaproxyProcess } from './haproxy-process.ts'
import { type ObservedProxy, parseMap, parseServers, type ServiceMaps } from './observed-proxy.ts'
import { type LimitShares, NOTHING_OBSERVED, type ProxyPlan, planChanges } from './plan-changes.ts'
import { type Pool, type PoolCounts, poolOf } from './pools.ts'
import { countsOfMark, type ProxyShape, renderConfig } from './render-config.ts'
import type { RuntimeApi } from './runtime-api.ts'
import { serviceFilesOf } from './service-maps.ts'
import { parseTlsList, type TlsList, type TlsLists, tlsLine, tlsListsOf } from './tls-lists.ts'

/** What is wanted of the proxy, and the revision that it was made from. */
export interface DesiredProxy {
  readonly revision: Revision
  readonly routes: readonly Route[]
  /** Whose names the edge's own certificate is for. */
  readonly domain: string
}

export interface ProxyStatus {
  /** The last revision that HAProxy serves in full; 0 before the first. */
  readonly applied: Revision
  /** Machines that left and are still used by somebody. */
  readonly draining: readonly Draining[]
  readonly serving: boolean
  /** Name of a service → slot, as HAProxy has it now. */
  readonly services: ServiceMaps['names']
}

/**
 * Keeps HAProxy running and doing what is wanted. Looks at HAProxy each time and remembers nothing of what it did before.
 *
 * A look at all of it takes as long as there are apps, so when something changes only those slots are looked at in which, by the last
 * look, there is something to do; all of it is looked at about once a second.
 */
export interface ProxyController {
  wake(): void
  /** HAProxy may be another one by now. */
  lookAgain(): void
  status(): ProxyStatus
  /** Which app has which slot; empty before HAProxy was looked at. */
  slots(): ReadonlyMap<string, Route>
  stop(): Promise<void>
}

/** How often HAProxy is looked at when nothing happens, and while something leaves. */
const LOOK_MS = 1000
const LEAVING_MS = 200
/** Looking at all of it takes at most one part in so many of the time, but never rests for longer than that. */
const LOOK_SHARE = 10
const LOOK_MS_MAX = 3000
/** One by one; of more than that, all are looked at. */
const SLOTS_AT_ONCE_MAX = 100
/** Writing down what HAProxy would be started from takes at most one part in so many of the time; after a failure, it rests. */
const SAVE_SHARE = 10
const SAVE_AGAIN_MS = 5000
/** What workers from before a reload still carry may be unknown for a moment, in which nothing counts as carried out; no longer than that. */
const BLIND_MS_MAX = 5000
/** HAProxy that can't be started is tried again at once, then less and less often. */
const RETRY_MS_MAX = 2000
const SLOTS_MAX = 20_000
/** Changes may make room for each other (a slot that becomes free), but not for ever. */
const ROUNDS_MAX = 4

export function startProxyController(options: {
  readonly process: HaproxyProcess
  readonly api: RuntimeApi
  readonly shape: ProxyShape
  readonly certificate: EdgeCertificate | null
  readonly certificates: CertificateFiles
  readonly desired: () => DesiredProxy
  /** Apps that replay. */
  readonly replaying: () => ReadonlySet<string>
  /** Of hard limits, which others decide; here it is seen to that they are kept. */
  readonly shares: () => LimitShares
  /** Something in `status` changed. */
  readonly onStatus: () => void
  /** HAProxy was looked at, and told what was to be changed. */
  readonly onLook: (observed: ObservedProxy) => void
  /** How long it rests after its files could not be written. */
  readonly saveAgainMs?: number | undefined
  readonly clock: Clock
  readonly log: Logger
}): ProxyController {
  const { api, clock, log, shape, saveAgainMs = SAVE_AGAIN_MS } = options
  let status: ProxyStatus = { applied: 0, draining: [], serving: false, services: new Map() }
  let dirty = true
  /** As it was seen last; null: nothing of that need be true any more. */
  let seen: ObservedProxy | null = null
  /** How often that was so. */
  let losses = 0
  let lookedAt = Number.NEGATIVE_INFINITY
  let lookAllAt = Number.NEGATIVE_INFINITY
  let failures = 0
  let notBefore = Number.NEGATIVE_INFINITY
  let leaving = false
  let slots: PoolCounts = { s: 0, o: 0, c: 0, t: 0 }
  let routeBySlot: ReadonlyMap<string, Route> = new Map()
  let troubles = ''
  let certificateAt = ''
  let tlsOptionsAt = ''
  let certificateTrouble = ''
  let workerPid = 0
  let saved = { text: '', notBefore: Number.NEGATIVE_INFINITY, failed: false }
  /** What it was made from; null: HAProxy was told something since. */
  let savedFrom: {
    readonly routes: readonly Route[]
    readonly domain: string
    readonly replaying: string
  } | null = null
  // There may be some from before this program started.
  let oldWorkers = true
  let blindSince: number | null = null
  /** Those routes were told to all of them, and nothing of what left is used there. */
  let oldAreDone: readonly Route[] | null = null

  function setStatus(next: ProxyStatus): void {
    const same =
      next.applied === status.applied &&
      next.serving === status.serving &&
      JSON.stringify(next.draining) === JSON.stringify(status.draining)
    status = next
    if (!same) options.onStatus()
  }

  const { services } = shape
  const shapeWith = (pools: PoolCounts): ProxyShape => ({
    ...shape,
    slots: pools.s,
    ...(services === undefined ? {} : { services: { ...services, pools } }),
  })
  const config = (pools: PoolCounts, plan: ProxyPlan) => {
    const { text, mark } = renderConfig(shapeWith(pools), plan.servers)
    const replaying = [...plan.replaying].map((slot) => `${slot} 1\n`).join('')
    const more = [
      { path: shape.files.replayMap, content: replaying },
      // Who listens says so again.
      { path: shape.files.accessMap, content: '' },
      ...(services === undefined
        ? []
        : serviceFilesOf(services, plan.services, tlsLines(), shape.files)),
    ]
    return { text, mark, hosts: plan.hosts, secure: plan.secure, more }
  }
  const tlsLists = (): TlsLists => {
    const { routes, domain } = options.desired()
    return tlsListsOf(shape.https === null ? [] : routes, domain)
  }
  const tlsLines = () => {
    const lines = (list: TlsList) =>
      [...list].map(([host, asked]) => tlsLine(shape.https?.certificateFile ?? '', host, asked))
    const { https, tls } = tlsLists()
    return { https: lines(https), tls: lines(tls) }
  }
  const planFor = (desired: DesiredProxy, observed: ObservedProxy, pools: PoolCounts) =>
    planChanges({
      routes: desired.routes,
      observed,
      slots: pools.s,
      hostsMap: shape.files.hostsMap,
      holdSocket: shape.files.holdSocket,
      shares: options.shares(),
      replays: { apps: options.replaying(), map: shape.files.replayMap },
      secureMap: shape.https ? shape.files.secureMap : null,
      ...(services === undefined
        ? {}
        : { services: { pools, httpsPort: shape.https?.port ?? null, maps: services.files } }),
    })

  /** HAProxy runs, with our rules and enough slots. */
  async function ensureRunning(desired: DesiredProxy): Promise<void> {
    const running = await options.process.returning()
    if (running === null) return start(desired)
    slots = poolsOfMark(running.mark, shape)
    if (running.workerPid !== workerPid) {
      if (workerPid > 0) log.warn('HAProxy ended and was started again by its keeper')
      expectOldWorkers()
      workerPid = running.workerPid
      certificateAt = ''
      options.certificates.lookAgain()
      forget()
    }
    if (renderConfig(shapeWith(slots), new Map()).mark === running.mark) return
    log.info('HAProxy runs with other rules', { mark: running.mark })
    // Without its keeper, or with one that holds other sockets, it can't be brought there.
    if (!running.kept) return start(desired)
    slots = atLeast(slots, poolsOf(shape))
    await reload(desired)
  }

  async function start(desired: DesiredProxy): Promise<void> {
    setStatus({ ...status, serving: false })
    forget()
    slots = enoughSlots(poolsOf(shape), desired.routes)
    await options.process.start(config(slots, planFor(desired, NOTHING_OBSERVED, slots)))
    await begun()
  }

  /** Another worker has taken over. */
  async function begun(): Promise<void> {
    workerPid = (await options.process.running())?.workerPid ?? 0
    certificateAt = ''
    options.certificates.lookAgain()
  }

  async function reload(desired: DesiredProxy): Promise<void> {
    const observed = await observe().catch(() => NOTHING_OBSERVED)
    expectOldWorkers()
    await options.process.reload(config(slots, planFor(desired, observed, slots)))
    forget()
    await begun()
  }

  function expectOldWorkers(): void {
    oldWorkers = true
    oldAreDone = null
  }

  /** The next question goes to the worker of then. */
  function forget(): void {
    lose()
    api.disconnect()
  }

  function lose(): void {
    seen = null
    losses += 1
  }

  /**
   * For a HAProxy that its keeper starts while nobody is here to steer it. A disk that is full keeps nobody from being steered: it is
   * said once, and tried again.
   */
  async function save(plan: ProxyPlan, { routes, domain }: DesiredProxy): Promise<void> {
    const from = performance.now()
    const source = { routes, domain, replaying: [...plan.replaying].join(' ') }
    const isSame =
      savedFrom?.routes === routes &&
      savedFrom.domain === domain &&
      savedFrom.replaying === source.replaying
    if (isSame || from < saved.notBefore) return
    const what = config(slots, plan)
    const text = JSON.stringify([what.text, [...what.hosts], [...what.secure], what.more])
    savedFrom = source
    if (text === saved.text) return
    try {
      await options.process.save(what)
      if (saved.failed) log.info('the files of HAProxy are right again')
      const now = performance.now()
      saved = { text, notBefore: now + (now - from) * SAVE_SHARE, failed: false }
    } catch (error) {
      if (!saved.failed) log.error('the files of HAProxy can not be written', { error })
      saved = { text: '', notBefore: performance.now() + saveAgainMs, failed: true }
      savedFrom = null
    }
  }

  /** All of it, or only `some` slots, as long as the others are known. */
  async function observe(some: ReadonlySet<string> | null = null): Promise<ObservedProxy> {
    const before = some !== null && some.size <= SLOTS_AT_ONCE_MAX ? seen : null
    const names = before === null ? null : [...(some ?? [])]
    const [from, lossesBefore] = [performance.now(), losses]
    const { hostsMap, secureMap } = shape.files
    const maps = [
      hostsMap,
      shape.files.replayMap,
      ...(shape.https ? [secureMap] : []),
      ...(services === undefined
        ? []
        : [
            ...[services.files.names, services.files.ports],
            ...[services.files.options, services.files.statics],
          ]),
    ]
    const stats = names?.map((slot) => `show stat ${slot} 4 -1`) ?? ['show stat -1 4 -1']
    const answers = await api.send([...maps.map((file) => `show map ${file}`), ...stats])
    if (losses !== lossesBefore)
      throw new PlatformError('unavailable', 'look at HAProxy: it was started again meanwhile', {
        retry: 'now',
      })
    const found = answers.slice(maps.length)
    const map = (file: string) => parseMap(answers[maps.indexOf(file)] ?? '')
    const slotsNow = new Map(before?.slots)
    for (const slot of names ?? []) slotsNow.delete(slot)
    for (const stat of found)
      for (const [slot, entries] of parseServers(stat)) slotsNow.set(slot, entries)
    if (names === null) {
      const now = performance.now()
      lookAllAt = now + Math.min(LOOK_MS_MAX, Math.max(LOOK_MS, (now - from) * LOOK_SHARE))
    }
    seen = {
      slots: slotsNow,
      hosts: map(hostsMap),
      secure: new Set(map(secureMap).keys()),
      replaying: new Set(map(shape.files.replayMap).keys()),
      ...(services === undefined
        ? {}
        : {
            services: {
              names: map(services.files.names),
              ports: map(services.files.ports),
              options: map(services.files.options),
              statics: map(services.files.statics),
            },
          }),
    }
    return seen
  }

  async function lap(): Promise<void> {
    if (performance.now() < notBefore) return
    const changed = dirty || (leaving && performance.now() - lookedAt >= LEAVING_MS)
    const allDue = () => seen === null || performance.now() >= lookAllAt
    if (!changed && !allDue()) return
    dirty = false
    try {
      if (seen !== null && changed) await bringThere(seen)
      if (allDue()) await bringThere(null)
      failures = 0
    } catch (error) {
      dirty = true
      lose()
      failures += 1
      notBefore =
        performance.now() + (failures === 1 ? 0 : Math.min(RETRY_MS_MAX, 100 * 2 ** failures))
      setStatus({ ...status, serving: (await options.process.running()) !== null })
      throw error
    } finally {
      lookedAt = performance.now()
    }
  }

  /** `before`: as it was seen last; null: all of it is looked at. */
  async function bringThere(before: ObservedProxy | null): Promise<void> {
    const desired = options.desired()
    if (!status.serving) await ensureRunning(desired)
    const touched = before === null ? null : planFor(desired, before, slots).touched
    let observed = await observe(touched).catch(async () => {
      await ensureRunning(desired)
      return observe()
    })
    let plan = planFor(desired, observed, slots)
    let refused: readonly string[] = []
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const short = plan.missingPools.filter((pool) => slots[pool] < SLOTS_MAX)
      if (short.length > 0) {
        const doubled = short.map((pool) => [pool, slots[pool] * 2] as const)
        slots = enoughSlots({ ...slots, ...Object.fromEntries(doubled) }, desired.routes)
        log.info('more slots for apps', { slots })
        await reload(desired)
      } else if (plan.commands.length > 0) {
        savedFrom = null
        refused = complaints(plan.commands, await api.send(plan.commands))
      } else if (plan.deletions.length > 0) {
        // HAProxy refuses as long as somebody uses it, which is what we want of it.
        const gone = await api.send(plan.deletions)
        if (!gone.some((answer) => answer.startsWith('Server deleted'))) break
      } else break
      observed = await observe(plan.touched)
      plan = planFor(desired, observed, slots)
    }
    if (plan.cuts.length > 0) {
      log.info('cut connections that hang', { servers: plan.cuts })
      await api.send(plan.cuts)
    }
    routeBySlot = plan.routes
    await save(plan, desired)
    await installCertificate()
    await installTlsOptions()
    // One certificate that HAProxy does not take must not keep routes from being told.
    await options.certificates.bringThere(api).catch((error: unknown) => sayOfCertificates(error))

    const settled = plan.commands.length === 0 && plan.missingSlots === 0
    say(settled ? [] : refused)
    const onOld =
      before !== null && oldAreDone === desired.routes ? [] : await stillOnOldWorkers(desired)
    blindSince = onOld === null ? (blindSince ?? performance.now()) : null
    const isBlind = blindSince !== null && performance.now() - blindSince < BLIND_MS_MAX
    const draining = isBlind
      ? status.draining
      : merge(plan.draining, onOld ?? []).filter(({ sessions }) => sessions > 0)
    leaving = isBlind || draining.length > 0 || plan.deletions.length > 0 || plan.hanging
    setStatus({
      applied: settled && !isBlind ? desired.revision : status.applied,
      draining,
      serving: true,
      services: plan.services.names,
    })
    options.onLook(observed)
  }

  /**
   * After a reload, those who were connected before it are still with the old worker, which must not send them to what has left
   * since. What they still use counts. null: it can't be told in this moment.
   */
  async function stillOnOldWorkers(desired: DesiredProxy): Promise<readonly Draining[] | null> {
    if (!oldWorkers) return []
    const workers = await options.process.oldWorkers().catch(() => null)
    // The master is busy for a moment after a reload.
    if (workers === null) return null
    oldWorkers = workers.length > 0
    const serving = new Set(desired.routes.flatMap((route) => route.targets.map((t) => t.machine)))
    const draining: Draining[] = []
    let isTold = true
    for (const { servers, send } of workers) {
      // It ends in this moment, or is too busy to say.
      isTold &&= servers.startsWith('#')
      if (!servers.startsWith('#')) continue
      for (const [slot, found] of parseServers(servers)) {
        for (const { name, entry, maint, sessions } of found) {
          if (entry === null || serving.has(entry.machine)) continue
          if (!maint) await send(`set server ${slot}/${name} state maint`)
          draining.push({ machine: entry.machine, sessions })
        }
      }
    }
    oldAreDone = isTold && draining.every(({ sessions }) => sessions === 0) ? desired.routes : null
    return isTold ? draining : null
  }

  async function installCertificate(): Promise<void> {
    const current = options.certificate?.current() ?? null
    if (current === null || current.fingerprint === certificateAt) return
    await current.install(api)
    certificateAt = current.fingerprint
  }

  /** Asked only when something changed, or another worker came. */
  async function installTlsOptions(): Promise<void> {
    if (services === undefined || shape.https === null) return
    const lists = tlsLists()
    const wanted = JSON.stringify([workerPid, [...lists.https], [...lists.tls]])
    if (wanted === tlsOptionsAt) return
    const { certificateFile } = shape.https
    for (const [file, list] of [
      [services.files.httpsList, lists.https],
      [services.files.tlsList, lists.tls],
    ] as const) {
      const [shown = ''] = await api.send([`show ssl crt-list -n ${file}`])
      const found = parseTlsList(shown)
      const gone = found.filter(({ host, options }) => list.get(host) !== options)
      await api.send(gone.map(({ entry }) => `del ssl crt-list ${file} ${entry}`))
      const kept = new Set(found.filter((one) => !gone.includes(one)).map(({ host }) => host))
      for (const [host, asked] of list) {
        if (kept.has(host)) continue
        const line = tlsLine(certificateFile, host, asked)
        const answer = await api.sendPayload(`add ssl crt-list ${file}`, line)
        if (!answer.includes('Success')) throw new Error(`add TLS options for ${host}: ${answer}`)
      }
    }
    tlsOptionsAt = wanted
  }

  function sayOfCertificates(error: unknown): void {
    const text = describeError(error)
    if (text === certificateTrouble) return
    certificateTrouble = text
    log.error('certificates of names are not all there', { error })
  }

  function say(refused: readonly string[]): void {
    const text = refused.slice(0, 20).join('\n')
    if (text === troubles) return
    troubles = text
    if (text !== '') log.error('HAProxy refused commands; all others are done', { refused: text })
  }

  const loop: Loop = startLoop({ name: 'proxy', periodMs: LEAVING_MS, clock, log, lap })
  return {
    wake() {
      dirty = true
      loop.wake()
    },
    lookAgain() {
      lose()
      loop.wake()
    },
    status: () => status,
    slots: () => routeBySlot,
    stop: async () => {
      await loop.stop()
      api.disconnect()
    },
  }
}

function poolsOf({ slots, services }: ProxyShape): PoolCounts {
  return { o: 0, c: 0, t: 0, ...services?.pools, s: slots }
}

/** Of a HAProxy that runs. One of a version that had fewer kinds of slots has as many of those as we would make. */
function poolsOfMark(mark: string, shape: ProxyShape): PoolCounts {
  const counts = countsOfMark(mark)
  const own = poolsOf(shape)
  return {
    s: counts?.[0] ?? own.s,
    o: counts?.[1] ?? own.o,
    c: counts?.[2] ?? own.c,
    t: counts?.[3] ?? own.t,
  }
}

function atLeast(a: PoolCounts, b: PoolCounts): PoolCounts {
  const most = (pool: Pool) => Math.max(a[pool], b[pool])
  return { s: most('s'), o: most('o'), c: most('c'), t: most('t') }
}

function enoughSlots(least: PoolCounts, routes: readonly Route[]): PoolCounts {
  // Half as many again: what leaves holds its slot for a while.
  const enough = (pool: Pool) => {
    const wanted = routes.filter((route) => poolOf(route) === pool).length
    return Math.min(SLOTS_MAX, Math.max(least[pool], Math.ceil(wanted * 1.5)))
  }
  return { s: enough('s'), o: enough('o'), c: enough('c'), t: enough('t') }
}

function complaints(commands: readonly string[], answers: readonly string[]): readonly string[] {
  return commands.flatMap((command, n) => {
    const answer = answers[n] ?? 'no answer'
    return answer === '' || answer.startsWith('New server registered')
      ? []
      : [`${command}: ${answer}`]
  })
}

function merge(...lists: readonly (readonly Draining[])[]): readonly Draining[] {
  const sum = new Map<Draining['machine'], number>()
  for (const { machine, sessions } of lists.flat())
    sum.set(machine, (sum.get(machine) ?? 0) + sessions)
  return [...sum].map(([machine, sessions]) => ({ machine, sessions }))
}
