import { DURATIONS_MS, type MachineId, type RegionCode, type Traffic } from '@roost/core'
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { ObservedProxy } from '../haproxy/observed-proxy.ts'
import { poolOfSlot } from '../haproxy/pools.ts'
import {
  type AnswersByStatus,
  addAnswer,
  addDuration,
  counterOf,
  type Durations,
  histogramOf,
  type Labels,
  newAnswers,
  newDurations,
} from './answers.ts'
import type { ConnectionLine, LogLine } from './log-line.ts'
import { type RecentTraffic, recentTraffic } from './recent-traffic.ts'

/** Counts what this edge answers, by app, machine and status, under Fly's names. */
export interface Numbers {
  heard(line: LogLine): void
  /** One that was not HTTP has ended. */
  ended(line: ConnectionLine): void
  /** TLS did not come about with a client that asked for this name. */
  failedHandshake(servername: string): void
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
/** Names that are told apart where TLS fails. */
const SERVERNAMES_MAX = 2000
const SECONDS = DURATIONS_MS.map((ms) => ms / 1000)
/** Of connections, which may last as long as they like. */
const LONG_SECONDS = [0.1, 1, 10, 60, 600, 3600, 36_000]

interface Place {
  readonly app: string
  readonly region: string
}
interface Source extends Place {
  readonly recent: RecentTraffic
  readonly answers: AnswersByStatus
  readonly connects: Durations
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
  const handshakeTimes = new Histogram({
    name: 'fly_edge_tls_handshake_time_seconds',
    help: 'Until TLS with a client stood',
    labelNames: ['region', 'host', 'version'] as const,
    buckets: SECONDS,
    registers,
  })
  const handshakeErrors = new Counter({
    name: 'fly_edge_tls_handshake_errors',
    help: 'TLS with a client did not come about; servername is empty where no app has the name',
    labelNames: ['region', 'host', 'servername'] as const,
    registers,
  })
  const servernames = new Set<string>()
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
  const ofMachines = [appConnects, appDisconnects, appIn, appOut, connectionTimes] as const
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
  /** What clients were answered, by app. */
  const apps = new Map<string, AnswersByStatus>()

  function sourceOf(of: Map<string, Source>, key: string, place: Place | null): Source | null {
    const known = of.get(key)
    if (known !== undefined) return known
    if (place === null || of.size >= SOURCES_MAX) return null
    const made = {
      app: place.app,
      region: place.region,
      recent: recentTraffic(SPAN_MS, (RECENT_MINUTES * 60_000) / SPAN_MS),
      answers: newAnswers(),
      connects: newDurations(),
    }
    of.set(key, made)
    return made
  }

  /** null: there are more than are told apart. */
  function edgeOf(app: string): AnswersByStatus | null {
    const known = apps.get(app)
    if (known !== undefined) return known
    if (apps.size >= SOURCES_MAX) {
      notCounted.inc()
      return null
    }
    const made = newAnswers()
    apps.set(app, made)
    return made
  }

  const edgeLabelsOf = (app: string) => ({ app, region, host })

  function countHandshake(line: LogLine | ConnectionLine): void {
    if (line.handshake === null) return
    const { ms, version } = line.handshake
    handshakeTimes.observe({ region, host, version }, ms / 1000)
  }

  function machineLabelsOf(machine: string, source: Source) {
    return { app: source.app, region: source.region, host, instance: machine }
  }

  function countEdge(app: string, { answer }: LogLine): void {
    const edge = edgeOf(app)
    if (edge === null) return
    addAnswer(edge, answer.status, answer.ms)
    edge.bytesIn += answer.bytesIn
    edge.bytesOut += answer.bytesOut
  }

  function countMachine(machine: string, { answer, connectMs }: LogLine): void {
    const source = sourceOf(machines, machine, parts.placeOf(machine))
    if (source === null) {
      notCounted.inc()
      return
    }
    source.recent.add(answer, now())
    addAnswer(source.answers, answer.status, answer.ms)
    if (connectMs !== null) addDuration(source.connects, connectMs)
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
        if (edgeOf(source.app) !== null) edgeConnects.inc(edgeLabelsOf(source.app), more)
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
    if (line.connectMs !== null) addDuration(source.connects, line.connectMs)
  }

  /** What each request adds to, as metrics. */
  function counted(): readonly object[] {
    const edges = [...apps].map(([app, of]) => ({ labels: edgeLabelsOf(app), of }))
    const sources = [...machines].map(([machine, source]) => ({
      labels: machineLabelsOf(machine, source),
      of: source.answers,
      connects: source.connects,
    }))
    const byStatus = (all: readonly { readonly labels: Labels; readonly of: AnswersByStatus }[]) =>
      all.flatMap(({ labels, of }) =>
        [...of.statuses].map(([status, durations]) => ({
          ...{ labels: { ...labels, status }, durations, value: durations.responses },
        })),
      )
    const bytes = (name: 'bytesIn' | 'bytesOut') =>
      edges.map(({ labels, of }) => ({ labels, value: of[name] }))
    return [
      counterOf(
        { name: 'fly_edge_http_responses_count', help: 'Answers to clients' },
        byStatus(edges),
      ),
      histogramOf(
        {
          name: 'fly_edge_http_response_time_seconds',
          help: 'Until an answer to a client began',
        },
        byStatus(edges),
      ),
      counterOf({ name: 'fly_edge_data_in', help: 'Bytes from clients' }, bytes('bytesIn')),
      counterOf({ name: 'fly_edge_data_out', help: 'Bytes to clients' }, bytes('bytesOut')),
      counterOf(
        { name: 'fly_app_http_responses_count', help: 'Answers of a machine' },
        byStatus(sources),
      ),
      histogramOf(
        {
          name: 'fly_app_http_response_time_seconds',
          help: 'Until an answer of a machine began',
        },
        byStatus(sources),
      ),
      histogramOf(
        {
          name: 'fly_app_connect_time_seconds',
          help: 'Until a connection to a machine stood',
        },
        sources.map(({ labels, connects }) => ({ labels, durations: connects })),
      ),
    ]
  }

  return {
    ended(line) {
      const { machine, at, slot, detour } = line
      countHandshake(line)
      const place = machine === null ? null : parts.placeOf(machine)
      const app = place === null ? parts.appOfSlot(slot) : place.app
      if (machine !== null) countMachineConnection(machine, line)
      const edge = app === null ? null : edgeOf(app)
      if (app === null || edge === null) return
      const labels = edgeLabelsOf(app)
      // No machine's count has it.
      if (machine === null && !detour) edgeConnects.inc(labels)
      if (at !== 'edge') return
      edgeDisconnects.inc(labels)
      edge.bytesIn += line.bytesIn
      edge.bytesOut += line.bytesOut
    },
    failedHandshake(asked) {
      const name = asked.toLowerCase()
      // A wildcard has as many names as somebody thinks of.
      const known =
        parts.appOf(name) !== null && (servernames.has(name) || servernames.size < SERVERNAMES_MAX)
      if (known) servernames.add(name)
      handshakeErrors.inc({ region, host, servername: known ? name : '' })
    },
    heard(line) {
      const { at, machine, hostname } = line
      countHandshake(line)
      const app =
        parts.appOf(hostname) ?? (machine === null ? null : (parts.placeOf(machine)?.app ?? null))
      // What is no request, or is for nobody, has no app.
      if (at === 'edge') countEdge(app ?? '', line)
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
      }
    },
    async page() {
      const all = [...(await registry.getMetricsAsJSON()), ...counted()]
      return AggregatorRegistry.aggregate([all]).metrics()
    },
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
