import { DURATIONS_MS, type MachineId, type RegionCode, type Traffic } from '@roost/core'
import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { ObservedProxy } from '../haproxy/observed-proxy.ts'
import { poolOfSlot } from '../haproxy/pools.ts'
import type { ConnectionLine, LogLine } from './log-line.ts'
import { type RecentTraffic, recentTraffic } from './recent-traffic.ts'

/** Counts what this edge answers, by app, machine and status, under Fly's names. */
export interface Numbers {
  heard(line: LogLine): void
  /** One that was not HTTP has ended. */
  ended(line: ConnectionLine): void
  /** Requests and connections on each machine now, and how many there were, as HAProxy has them. */
  looked(slots: ObservedProxy['slots']): void
  /** Of one app in the last `RECENT_MINUTES`: of each machine that was asked, and of what no machine was asked for. */
  recent(app: string): readonly RecentNumbers[]
  /** Forgets machines that are gone and were not asked for a while. */
  sweep(): void
  /** In Prometheus' text format. */
  page(): Promise<string>
}

export interface RecentNumbers {
  /** null: no machine was asked. */
  readonly machine: string | null
  readonly traffic: Traffic
  /** Requests and connections on it now. */
  readonly concurrency: number
}

export const RECENT_MINUTES = 5
const SPAN_MS = 10_000
/** Of machines, and as many names of apps. */
const SOURCES_MAX = 20_000
const SECONDS = DURATIONS_MS.map((ms) => ms / 1000)
/** Of connections, which may last as long as they like. */
const LONG_SECONDS = [0.1, 1, 10, 60, 600, 3600, 36_000]

interface Place {
  readonly app: string
  readonly region: string
}
interface Source extends Place {
  readonly recent: RecentTraffic
  readonly statuses: Set<number>
}

export function createNumbers(parts: {
  readonly region: RegionCode
  /** Name of this edge's host. */
  readonly host: string
  readonly placeOf: (machine: string) => Place | null
  readonly appOf: (hostname: string) => string | null
  readonly appOfSlot: (slot: string) => string | null
  readonly now: () => number
}): Numbers {
  const { region, host, now } = parts
  const registry = new Registry()
  const registers = [registry]
  const edgeLabels = ['app', 'region', 'host'] as const
  const appLabels = ['app', 'region', 'host', 'instance'] as const
  const edgeResponses = new Counter({
    name: 'fly_edge_http_responses_count',
    help: 'Answers to clients',
    labelNames: [...edgeLabels, 'status'] as const,
    registers,
  })
  const edgeTimes = new Histogram({
    name: 'fly_edge_http_response_time_seconds',
    help: 'Until an answer to a client began',
    labelNames: [...edgeLabels, 'status'] as const,
    buckets: SECONDS,
    registers,
  })
  const edgeIn = new Counter({
    name: 'fly_edge_data_in',
    help: 'Bytes from clients',
    labelNames: edgeLabels,
    registers,
  })
  const edgeOut = new Counter({
    name: 'fly_edge_data_out',
    help: 'Bytes to clients',
    labelNames: edgeLabels,
    registers,
  })
  const appResponses = new Counter({
    name: 'fly_app_http_responses_count',
    help: 'Answers of a machine',
    labelNames: [...appLabels, 'status'] as const,
    registers,
  })
  const appTimes = new Histogram({
    name: 'fly_app_http_response_time_seconds',
    help: 'Until an answer of a machine began',
    labelNames: [...appLabels, 'status'] as const,
    buckets: SECONDS,
    registers,
  })
  const connectTimes = new Histogram({
    name: 'fly_app_connect_time_seconds',
    help: 'Until a connection to a machine stood',
    labelNames: appLabels,
    buckets: SECONDS,
    registers,
  })
  const edgeConnects = new Counter({
    name: 'fly_edge_tcp_connects_count',
    help: 'Connections of clients to services that are not HTTP',
    labelNames: edgeLabels,
    registers,
  })
  const edgeDisconnects = new Counter({
    name: 'fly_edge_tcp_disconnects_count',
    help: 'Of these, those that have ended',
    labelNames: edgeLabels,
    registers,
  })
  const appConnects = new Counter({
    name: 'fly_app_tcp_connects_count',
    help: 'Connections to a machine for services that are not HTTP',
    labelNames: appLabels,
    registers,
  })
  const appDisconnects = new Counter({
    name: 'fly_app_tcp_disconnects_count',
    help: 'Of these, those that have ended',
    labelNames: appLabels,
    registers,
  })
  const appIn = new Counter({
    name: 'roost_app_tcp_data_in',
    help: 'Bytes to a machine over connections that are not HTTP and have ended',
    labelNames: appLabels,
    registers,
  })
  const appOut = new Counter({
    name: 'roost_app_tcp_data_out',
    help: 'Bytes from a machine over connections that are not HTTP and have ended',
    labelNames: appLabels,
    registers,
  })
  const connectionTimes = new Histogram({
    name: 'roost_app_tcp_connection_seconds',
    help: 'How long a connection that is not HTTP lasted',
    labelNames: appLabels,
    buckets: LONG_SECONDS,
    registers,
  })
  const ofMachines = [
    connectTimes,
    appConnects,
    appDisconnects,
    appIn,
    appOut,
    connectionTimes,
  ] as const
  /** By slot and server, how many there were at the last look; null before the first, which counts nothing. */
  let totals: ReadonlyMap<string, number> | null = null
  const sessions: { now: ReadonlyMap<MachineId, number> } = { now: new Map() }
  new Gauge({
    name: 'fly_app_concurrency',
    help: 'Requests and connections on a machine now',
    labelNames: appLabels,
    registers,
    collect() {
      this.reset()
      for (const [machine, count] of sessions.now) {
        const place = parts.placeOf(machine)
        if (place === null) continue
        this.set({ app: place.app, region: place.region, host, instance: machine }, count)
      }
    },
  })
  const notCounted = new Counter({
    name: 'roost_edge_answers_not_counted',
    help: 'Answers of more machines and apps than are told apart',
    registers,
  })
  const machines = new Map<string, Source>()
  /** By app: what no machine was asked for. */
  const unasked = new Map<string, Source>()
  const apps = new Set<string>()

  function sourceOf(of: Map<string, Source>, key: string, place: Place | null): Source | null {
    const known = of.get(key)
    if (known !== undefined) return known
    if (place === null || of.size >= SOURCES_MAX) return null
    const made = {
      app: place.app,
      region: place.region,
      recent: recentTraffic(SPAN_MS, (RECENT_MINUTES * 60_000) / SPAN_MS),
      statuses: new Set<number>(),
    }
    of.set(key, made)
    return made
  }

  /** null: there are more than are told apart. */
  function edgeLabelsOf(app: string): { app: string; region: string; host: string } | null {
    if (!apps.has(app) && apps.size >= SOURCES_MAX) {
      notCounted.inc()
      return null
    }
    apps.add(app)
    return { app, region, host }
  }

  function machineLabelsOf(machine: string, source: Source) {
    return { app: source.app, region: source.region, host, instance: machine }
  }

  function countEdge(app: string, { answer }: LogLine): void {
    const labels = edgeLabelsOf(app)
    if (labels === null) return
    edgeResponses.inc({ ...labels, status: answer.status })
    edgeIn.inc(labels, answer.bytesIn)
    edgeOut.inc(labels, answer.bytesOut)
    if (answer.ms !== null)
      edgeTimes.observe({ ...labels, status: answer.status }, answer.ms / 1000)
  }

  function countMachine(machine: string, { answer, connectMs }: LogLine): void {
    const source = sourceOf(machines, machine, parts.placeOf(machine))
    if (source === null) {
      notCounted.inc()
      return
    }
    source.recent.add(answer, now())
    source.statuses.add(answer.status)
    const labels = machineLabelsOf(machine, source)
    appResponses.inc({ ...labels, status: answer.status })
    if (answer.ms !== null) appTimes.observe({ ...labels, status: answer.status }, answer.ms / 1000)
    if (connectMs !== null) connectTimes.observe(labels, connectMs / 1000)
  }

  function countConnects(slots: ObservedProxy['slots']): void {
    const next = new Map<string, number>()
    for (const [slot, entries] of slots) {
      if (poolOfSlot(slot) !== 't') continue
      for (const { name, entry, sessionsTotal } of entries) {
        const key = `${slot}/${name}`
        next.set(key, sessionsTotal)
        if (entry === null || totals === null) continue
        const before = totals.get(key) ?? 0
        // A worker that was started anew counts from nothing.
        const more = sessionsTotal < before ? sessionsTotal : sessionsTotal - before
        const source =
          more > 0 ? sourceOf(machines, entry.machine, parts.placeOf(entry.machine)) : null
        if (source === null) continue
        appConnects.inc(machineLabelsOf(entry.machine, source), more)
        const labels = edgeLabelsOf(source.app)
        if (labels !== null) edgeConnects.inc(labels, more)
      }
    }
    totals = next
  }

  function countMachineConnection(machine: string, line: ConnectionLine): void {
    const source = sourceOf(machines, machine, parts.placeOf(machine))
    if (source === null) {
      notCounted.inc()
      return
    }
    const labels = machineLabelsOf(machine, source)
    appDisconnects.inc(labels)
    appIn.inc(labels, line.bytesIn)
    appOut.inc(labels, line.bytesOut)
    connectionTimes.observe(labels, line.totalMs / 1000)
    if (line.connectMs !== null) connectTimes.observe(labels, line.connectMs / 1000)
  }

  return {
    ended(line) {
      const { machine, at, slot, detour } = line
      const place = machine === null ? null : parts.placeOf(machine)
      const app = place === null ? parts.appOfSlot(slot) : place.app
      if (machine !== null) countMachineConnection(machine, line)
      const labels = app === null ? null : edgeLabelsOf(app)
      if (labels === null) return
      // No machine's count has it.
      if (machine === null && !detour) edgeConnects.inc(labels)
      if (at !== 'edge') return
      edgeDisconnects.inc(labels)
      edgeIn.inc(labels, line.bytesIn)
      edgeOut.inc(labels, line.bytesOut)
    },
    heard(line) {
      const { at, machine, hostname } = line
      const app =
        parts.appOf(hostname) ?? (machine === null ? null : (parts.placeOf(machine)?.app ?? null))
      if (at === 'edge' && app !== null) countEdge(app, line)
      if (machine !== null) countMachine(machine, line)
      else if (!line.detour && app !== null)
        sourceOf(unasked, app, { app, region })?.recent.add(line.answer, now())
    },
    looked(slots) {
      sessions.now = sessionsOn(slots)
      countConnects(slots)
    },
    recent(app) {
      const at = now()
      const found: RecentNumbers[] = []
      for (const [machine, source] of machines)
        if (source.app === app && !source.recent.isOver(at))
          found.push({
            machine,
            traffic: source.recent.sum(at),
            concurrency: sessions.now.get(machine as MachineId) ?? 0,
          })
      const other = unasked.get(app)
      if (other !== undefined && !other.recent.isOver(at))
        found.push({ machine: null, traffic: other.recent.sum(at), concurrency: 0 })
      return found
    },
    sweep() {
      const at = now()
      for (const [app, { recent }] of unasked) if (recent.isOver(at)) unasked.delete(app)
      for (const [machine, source] of machines) {
        if (parts.placeOf(machine) !== null || !source.recent.isOver(at)) continue
        machines.delete(machine)
        const labels = machineLabelsOf(machine, source)
        for (const metric of ofMachines) metric.remove(labels)
        for (const status of source.statuses) {
          appResponses.remove({ ...labels, status })
          appTimes.remove({ ...labels, status })
        }
      }
    },
    page: () => registry.metrics(),
  }
}

/** Requests and connections on each machine, over all its entries. */
function sessionsOn(slots: ObservedProxy['slots']): ReadonlyMap<MachineId, number> {
  const sum = new Map<MachineId, number>()
  for (const entries of slots.values())
    for (const { entry, sessions } of entries)
      if (entry !== null) sum.set(entry.machine, (sum.get(entry.machine) ?? 0) + sessions)
  return sum
}
