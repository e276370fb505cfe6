import {
  type Host,
  type HostId,
  type Instant,
  isFinal,
  type MachineId,
  parseStamp,
  type RegionCode,
  type Release,
} from '../../packages/core/src/index.ts'
import { FORWARD_MS_MAX } from '../../packages/server/src/clock-set.ts'
import type { SimClock } from './sim-clock.ts'
import type { SimHost } from './sim-host.ts'
import { isSilence, RELEASED_APP, type SimServer } from './sim-server.ts'

/** What must hold at every moment, looked at after each event. What does not is written down as a problem. */
export interface Invariants {
  look(): void
  /** Something happened to an edge, a connection or the server: what edges and server know of each other may be old. */
  disturbed(): void
  /** Some clock was set: what is measured by it may be cut short. `serverByMs`: by how much the server's was, else 0. */
  clockSet(serverByMs: number): void
  /** What the server knew since its last backup is gone. */
  restored(): void
  /** With its machines, which nobody makes anew before the next deploy. */
  hostRemoved(region: RegionCode): void
  /** From now on nothing goes wrong any more: what holds only then holds from now on. */
  quiet(): void
  /** And everybody knows each other: what was decided before, while some were silent, may still be carried out. */
  settled(): void
  /** Regions that lost machines with a host. */
  lostIn(): ReadonlySet<RegionCode>
}

/** So long after the last disturbance the server knows all edges, and they all records. */
const QUIET_MS = 12_000
/** So long after its last session has ended the server knows. */
const HEARD_MS = 4_500
/** What was decided before a host spoke again is in the store after so long at most, also on a slow disk. */
const SLOW_COMMIT_MS = 20_000
/** More than ever wait for each other. */
const NEWEST = 12
/** The fastest clock gains so much. */
const DRIFT_MAX = 0.1
/** In a large world each look costs much: only each so manieth event is looked at. */
const LARGE_HOSTS = 20
const LARGE_EACH = 10

export function createInvariants(world: {
  readonly clock: SimClock
  readonly hosts: readonly SimHost[]
  readonly server: SimServer
  readonly problems: string[]
  readonly say: (what: string) => void
}): Invariants {
  const { clock, hosts, server, problems, say } = world
  const said = new Map<number, string>()
  const hostStatus = new Map<HostId, Host['status']>()
  const seenStarts = new Map<SimHost, number>()
  const seenStops = new Map<SimHost, number>()
  const newest = new Map<MachineId, number>()
  let disturbedAt: Instant = clock.now()
  let clockSetAt: Instant = 0
  /** When the server's clock was set forward by less than it notices, and by how much. */
  const unnoticed: { readonly at: Instant; readonly byMs: number }[] = []
  let quiet = false
  let settledAt: Instant = Number.POSITIVE_INFINITY
  let looks = 0
  const lost = new Set<RegionCode>()
  let open: readonly Release[] = []
  /** Machines that every edge sent requests to, by region, when no release was at work; since then, the least that was asked. */
  let steady = new Map<RegionCode, number>()
  /** So many machines may be away, by what was asked since then. */
  let away = 0
  let complained = false

  /** It never goes back: what starts is never older than what started before. */
  function watchStarts(): void {
    for (const host of hosts) {
      const { starts } = host.fake
      for (let n = seenStarts.get(host) ?? 0; n < starts.length; n++) {
        const start = starts[n]
        if (start === undefined) continue
        const version = parseStamp(start.stamp).configGeneration
        const before = newest.get(start.id) ?? 0
        if (version < before)
          problems.push(`${start.id} started version ${version} after version ${before}`)
        else newest.set(start.id, version)
      }
      seenStarts.set(host, starts.length)
    }
  }

  /** Nothing is stopped or suspended before its drain is over, nor, when all know each other, while somebody uses it through an edge. */
  function watchStops(): void {
    for (const host of hosts) {
      const { stops } = host.fake
      for (let n = seenStops.get(host) ?? 0; n < stops.length; n++) {
        const stop = stops[n]
        if (stop !== undefined) checkStop(host, stop.id, `stopped (${stop.signal})`)
      }
      seenStops.set(host, stops.length)
      for (const { id } of host.fake.suspends.splice(0)) checkStop(host, id, 'suspended')
    }
  }

  function checkStop(host: SimHost, id: MachineId, what: string): void {
    const drain = host.agent.heard(id)?.drain
    if (!drain) return
    const heardAt = host.heardOfDrain(id, drain.deadline)
    if (heardAt === null) return
    const askedMs = drain.ms ?? 0
    // A clock that drifts counts its seconds a little too short.
    const over = clock.now() - heardAt >= askedMs * (1 - DRIFT_MAX)
    // A clock that was set in the middle of it may cut it short.
    if (over && !drain.done && quiet) wasNeverDone(id)
    if (over || clockSetAt >= heardAt) return
    if (!drain.done) {
      problems.push(`${id} was ${what} in the middle of its drain`)
      return
    }
    // Whether nobody used it was decided some time ago, perhaps without an edge that was silent for too long.
    if (heardAt < settledAt) return
    for (const { edge } of hosts)
      if (edge.alive() && edge.sessions().has(id))
        problems.push(`${id} was ${what} though ${edge.name} has sessions on it`)
  }

  /** Its time was over, though every edge was there and had nobody on it for so long that the server must have heard. */
  function wasNeverDone(id: MachineId): void {
    if (clock.now() - disturbedAt < QUIET_MS) return
    const ends = hosts.map(({ edge }) => edge.lastSessionEnds(id))
    const known = ends.filter((at) => at !== null)
    if (known.length === hosts.length && Math.max(...known) <= clock.now() - HEARD_MS)
      problems.push(`the drain of ${id} was never done, though nobody used it any more`)
  }

  /** A request at any moment, by any edge, finds a machine that runs; and enough of them serve. */
  function watchRotation(): void {
    if (complained) return
    const runs = (id: MachineId) =>
      hosts.some(({ fake }) => fake.machines.get(id)?.state === 'running')
    const serving = new Map<RegionCode, number>()
    const everywhere = new Map<MachineId, number>()
    for (const { edge } of hosts) {
      const rotation = edge.inRotation(RELEASED_APP)
      if (rotation.length === 0 && served() > mayBeAway())
        complain(`${edge.name} has nothing to send requests for ${RELEASED_APP} to`)
      for (const id of rotation) {
        everywhere.set(id, (everywhere.get(id) ?? 0) + 1)
        // One whose stream died unnoticed is waited for as long as a drain lasts; from then on its HAProxy finds out by itself.
        if (!runs(id) && edge.hears())
          complain(`${edge.name} sends requests to ${id}, which does not run`)
      }
    }
    for (const [id, times] of everywhere) {
      if (times < hosts.length) continue
      const region = regionOf(id)
      if (region !== null) serving.set(region, (serving.get(region) ?? 0) + 1)
    }
    if (open.length === 0) {
      steady = serving
      away = 0
      return
    }
    const allowed = mayBeAway()
    const missing: string[] = []
    let missed = 0
    for (const [region, before] of steady) {
      // A deploy that does not name a region wants none there.
      const asked = open.map(({ cause, ask }) =>
        ask.scale === null ? before : (ask.scale[region] ?? (cause === 'deploy' ? 0 : before)),
      )
      const floor = Math.min(before, ...asked)
      steady.set(region, floor)
      const now = serving.get(region) ?? 0
      if (now >= floor) continue
      missed += floor - now
      missing.push(`${now} of ${floor} in ${region}`)
    }
    if (missed > allowed)
      complain(
        `too few machines serve during a release, ${allowed} may be away: ${missing.join(', ')}`,
      )
  }

  function complain(what: string): void {
    if (complained) return
    complained = true
    problems.push(what)
  }

  function regionOf(id: MachineId): RegionCode | null {
    return hosts.find(({ fake }) => fake.machines.has(id))?.region ?? null
  }

  /** Told so: machines that stop before their successors start, or that nobody waits for. */
  function mayBeAway(): number {
    for (const { strategy, maxUnavailable } of open) {
      if (strategy === 'immediate') away = Number.POSITIVE_INFINITY
      if (strategy !== 'recreate') continue
      const said = maxUnavailable ?? 1
      away = Math.max(away, 1, said < 1 ? Math.ceil(said * served()) : Math.floor(said))
    }
    return away
  }

  function served(): number {
    return [...steady.values()].reduce((sum, machines) => sum + machines, 0)
  }

  /** Never two releases of one app at work. */
  async function watchReleases(): Promise<void> {
    const { all } = await server.releases(NEWEST)
    for (const { version, status, reason } of all) {
      if (said.get(version) === status) continue
      said.set(version, status)
      say(`release ${version} is ${status}${reason === null ? '' : `: ${reason}`}`)
    }
    open = all.filter(({ status }) => !isFinal(status))
    const atWork = open.filter(({ status }) => status !== 'pending' && !isFinal(status))
    if (atWork.length > 1)
      problems.push(`releases ${atWork.map((r) => r.version).join(' and ')} are at work together`)
  }

  /** Who spoke just now is not taken for gone, whatever the clock on the server's wall is set to, if the server can notice it. */
  async function watchHosts(): Promise<void> {
    for (const { id, name, status } of await server.hosts()) {
      const before = hostStatus.get(id)
      hostStatus.set(id, status)
      if (status !== 'unreachable' || before !== 'ok') continue
      const { at, silentUntil } = server.lastWord(id)
      const now = clock.now()
      const leaptMs = unnoticed.reduce((sum, leap) => sum + (leap.at >= at ? leap.byMs : 0), 0)
      if (isSilence(at, now + leaptMs) || now - silentUntil < SLOW_COMMIT_MS) continue
      problems.push(`${name} was taken for unreachable ${now - at} ms after it spoke`)
    }
  }

  let store = server.store()
  let unhear = store.onChange(heardChange)
  function heardChange({ keys }: { readonly keys: ReadonlySet<string> }): void {
    const changed = [...keys]
    if (changed.some((key) => key.startsWith('release/'))) void watchReleases().catch(() => {})
    if (changed.some((key) => key.startsWith('host/'))) void watchHosts().catch(() => {})
  }

  return {
    look() {
      if (problems.length > 0) return
      if (store !== server.store()) {
        unhear()
        store = server.store()
        unhear = store.onChange(heardChange)
        hostStatus.clear()
      }
      watchStarts()
      watchStops()
      if (!quiet) return
      if (hosts.length > LARGE_HOSTS && looks++ % LARGE_EACH !== 0) return
      watchRotation()
    },
    disturbed: () => {
      disturbedAt = clock.now()
    },
    clockSet: (serverByMs) => {
      if (serverByMs > 0 && serverByMs <= FORWARD_MS_MAX)
        unnoticed.push({ at: clock.now(), byMs: serverByMs })
      clockSetAt = clock.now()
      disturbedAt = clock.now()
    },
    restored: () => {
      disturbedAt = clock.now()
      clockSetAt = clock.now()
      // What its host has removed and forgotten is made anew, as the copy has it.
      for (const id of newest.keys())
        if (!hosts.some(({ fake }) => fake.machines.has(id))) newest.delete(id)
    },
    hostRemoved: (region) => {
      lost.add(region)
    },
    settled: () => {
      settledAt = clock.now()
    },
    quiet: () => {
      quiet = true
    },
    lostIn: () => lost,
  }
}
