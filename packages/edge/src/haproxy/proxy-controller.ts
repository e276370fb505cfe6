import { type Clock, type Logger, type Loop, startLoop } from '@roost/base'
import type { Draining, Revision, Route } from '@roost/core'
import type { EdgeCertificate } from './edge-certificate.ts'
import type { HaproxyProcess } from './haproxy-process.ts'
import { type ObservedProxy, parseMap, parseServers } from './observed-proxy.ts'
import { NOTHING_OBSERVED, type ProxyPlan, planChanges } from './plan-changes.ts'
import { type ProxyShape, renderConfig, slotsOfMark } from './render-config.ts'
import type { RuntimeApi } from './runtime-api.ts'

/** What is wanted of the proxy, and the revision that it was made from. */
export interface DesiredProxy {
  readonly revision: Revision
  readonly routes: readonly Route[]
}

export interface ProxyStatus {
  /** The last revision that HAProxy serves in full; 0 before the first. */
  readonly applied: Revision
  /** Machines that left and are still used by somebody. */
  readonly draining: readonly Draining[]
  readonly serving: boolean
}

/** Keeps HAProxy running and doing what is wanted. Looks at HAProxy each time and remembers nothing of what it did before. */
export interface ProxyController {
  wake(): void
  status(): ProxyStatus
  stop(): Promise<void>
}

/** How often HAProxy is looked at when nothing happens, and while something leaves. */
const LOOK_MS = 1000
const LEAVING_MS = 200
/** Writing down what HAProxy would be started from takes at most one part in so many of the time; after a failure, it rests. */
const SAVE_SHARE = 10
const SAVE_AGAIN_MS = 5000
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
  readonly desired: () => DesiredProxy
  /** Something in `status` changed. */
  readonly onStatus: () => void
  /** HAProxy was looked at, and told what was to be changed. */
  readonly onLook: (observed: ObservedProxy) => void
  readonly clock: Clock
  readonly log: Logger
}): ProxyController {
  const { api, clock, log, shape } = options
  let status: ProxyStatus = { applied: 0, draining: [], serving: false }
  let dirty = true
  let lookedAt = Number.NEGATIVE_INFINITY
  let failures = 0
  let notBefore = Number.NEGATIVE_INFINITY
  let leaving = false
  let slots = 0
  let troubles = ''
  let certificateAt = ''
  let workerPid = 0
  let saved = { text: '', notBefore: Number.NEGATIVE_INFINITY, failed: false }
  // There may be some from before this program started.
  let oldWorkers = true

  function setStatus(next: ProxyStatus): void {
    const same =
      next.applied === status.applied &&
      next.serving === status.serving &&
      JSON.stringify(next.draining) === JSON.stringify(status.draining)
    status = next
    if (!same) options.onStatus()
  }

  const config = (slotsNow: number, plan: ProxyPlan) => {
    const { text, mark } = renderConfig({ ...shape, slots: slotsNow }, plan.servers)
    return { text, mark, hosts: plan.hosts, secure: plan.secure }
  }
  const planFor = (desired: DesiredProxy, observed: ObservedProxy, slotsNow: number) =>
    planChanges({
      routes: desired.routes,
      observed,
      slots: slotsNow,
      hostsMap: shape.files.hostsMap,
      holdSocket: shape.files.holdSocket,
      secureMap: shape.https ? shape.files.secureMap : null,
    })

  /** HAProxy runs, with our rules and enough slots. */
  async function ensureRunning(desired: DesiredProxy): Promise<void> {
    const running = await options.process.returning()
    if (running === null) return start(desired)
    slots = slotsOfMark(running.mark) ?? shape.slots
    if (running.workerPid !== workerPid) {
      if (workerPid > 0) log.warn('HAProxy ended and was started again by its keeper')
      oldWorkers = true
      workerPid = running.workerPid
      certificateAt = ''
      api.disconnect()
    }
    if (renderConfig({ ...shape, slots }, new Map()).mark === running.mark) return
    log.info('HAProxy runs with other rules', { mark: running.mark })
    // Without its keeper, or with one that holds other sockets, it can't be brought there.
    if (!running.kept) return start(desired)
    slots = Math.max(slots, shape.slots)
    await reload(desired)
  }

  async function start(desired: DesiredProxy): Promise<void> {
    setStatus({ ...status, serving: false })
    api.disconnect()
    slots = enoughSlots(shape.slots, desired.routes.length)
    await options.process.start(config(slots, planFor(desired, NOTHING_OBSERVED, slots)))
    await begun()
  }

  /** Another worker has taken over. */
  async function begun(): Promise<void> {
    workerPid = (await options.process.running())?.workerPid ?? 0
    certificateAt = ''
  }

  async function reload(desired: DesiredProxy): Promise<void> {
    const observed = await observe().catch(() => NOTHING_OBSERVED)
    oldWorkers = true
    await options.process.reload(config(slots, planFor(desired, observed, slots)))
    api.disconnect()
    await begun()
  }

  /**
   * For a HAProxy that its keeper starts while nobody is here to steer it. A disk that is full keeps nobody from being steered: it is
   * said once, and tried again.
   */
  async function save(plan: ProxyPlan): Promise<void> {
    const from = performance.now()
    if (from < saved.notBefore) return
    const what = config(slots, plan)
    const text = JSON.stringify([what.text, [...what.hosts], [...what.secure]])
    if (text === saved.text) return
    try {
      await options.process.save(what)
      if (saved.failed) log.info('the files of HAProxy are right again')
      const now = performance.now()
      saved = { text, notBefore: now + (now - from) * SAVE_SHARE, failed: false }
    } catch (error) {
      if (!saved.failed) log.error('the files of HAProxy can not be written', { error })
      saved = { text: '', notBefore: performance.now() + SAVE_AGAIN_MS, failed: true }
    }
  }

  async function observe(): Promise<ObservedProxy> {
    const [stat = '', hosts = '', secure = ''] = await api.send([
      'show stat -1 4 -1',
      `show map ${shape.files.hostsMap}`,
      ...(shape.https ? [`show map ${shape.files.secureMap}`] : []),
    ])
    return {
      slots: parseServers(stat),
      hosts: parseMap(hosts),
      secure: new Set(parseMap(secure).keys()),
    }
  }

  async function lap(): Promise<void> {
    if (performance.now() < notBefore) return
    const due = leaving ? LEAVING_MS : LOOK_MS
    if (!dirty && performance.now() - lookedAt < due) return
    dirty = false
    try {
      await bringThere()
      failures = 0
    } catch (error) {
      dirty = true
      failures += 1
      notBefore =
        performance.now() + (failures === 1 ? 0 : Math.min(RETRY_MS_MAX, 100 * 2 ** failures))
      setStatus({ ...status, serving: (await options.process.running()) !== null })
      throw error
    } finally {
      lookedAt = performance.now()
    }
  }

  async function bringThere(): Promise<void> {
    const desired = options.desired()
    if (!status.serving) await ensureRunning(desired)
    let observed = await observe().catch(async () => {
      await ensureRunning(desired)
      return observe()
    })
    let plan = planFor(desired, observed, slots)
    let refused: readonly string[] = []
    for (let round = 0; round < ROUNDS_MAX; round++) {
      if (plan.missingSlots > 0 && slots < SLOTS_MAX) {
        slots = enoughSlots(slots * 2, desired.routes.length)
        log.info('more slots for apps', { slots })
        await reload(desired)
      } else if (plan.commands.length > 0) {
        refused = complaints(plan.commands, await api.send(plan.commands))
      } else if (plan.deletions.length > 0) {
        // HAProxy refuses as long as somebody uses it, which is what we want of it.
        const gone = await api.send(plan.deletions)
        if (!gone.some((answer) => answer.startsWith('Server deleted'))) break
      } else break
      observed = await observe()
      plan = planFor(desired, observed, slots)
    }
    if (plan.cuts.length > 0) {
      log.info('cut connections that hang', { servers: plan.cuts })
      await api.send(plan.cuts)
    }
    await save(plan)
    await installCertificate()

    const settled = plan.commands.length === 0 && plan.missingSlots === 0
    say(settled ? [] : refused)
    const draining = merge(plan.draining, await stillOnOldWorkers(desired)).filter(
      ({ sessions }) => sessions > 0,
    )
    leaving = draining.length > 0 || plan.deletions.length > 0 || plan.hanging
    setStatus({
      applied: settled ? desired.revision : status.applied,
      draining,
      serving: true,
    })
    options.onLook(observed)
  }

  /**
   * After a reload, those who were connected before it are still with the old worker, which must not send them to what has left
   * since. What they still use counts.
   */
  async function stillOnOldWorkers(desired: DesiredProxy): Promise<readonly Draining[]> {
    if (!oldWorkers) return []
    const workers = await options.process.oldWorkers().catch(() => null)
    // The master is busy for a moment after a reload.
    if (workers === null) return []
    oldWorkers = workers.length > 0
    const serving = new Set(desired.routes.flatMap((route) => route.targets.map((t) => t.machine)))
    const draining: Draining[] = []
    for (const { servers, send } of workers) {
      if (!servers.startsWith('#')) continue
      for (const [slot, found] of parseServers(servers)) {
        for (const { name, entry, maint, sessions } of found) {
          if (entry === null || serving.has(entry.machine)) continue
          if (!maint) await send(`set server ${slot}/${name} state maint`)
          draining.push({ machine: entry.machine, sessions })
        }
      }
    }
    return draining
  }

  async function installCertificate(): Promise<void> {
    const current = options.certificate?.current() ?? null
    if (current === null || current.fingerprint === certificateAt) return
    await current.install(api)
    certificateAt = current.fingerprint
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
    status: () => status,
    stop: async () => {
      await loop.stop()
      api.disconnect()
    },
  }
}

function enoughSlots(atLeast: number, routes: number): number {
  // Half as many again: what leaves holds its slot for a while.
  return Math.min(SLOTS_MAX, Math.max(atLeast, Math.ceil(routes * 1.5)))
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
