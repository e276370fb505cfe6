import type { AppName, HostId, MachineId, RegionCode } from '../id.ts'
import type { Coming } from '../machine/coming.ts'
import type { MachineConcurrency } from '../machine/config.ts'

/** What one edge should serve: pure data, made by `routesFor` from hosts, apps and machines, for one edge's view. */
export interface Route {
  /** Stable key, `<app>/http`; the edge leases one HAProxy slot for each. */
  readonly key: string
  readonly app: AppName
  /** Host names, lower case, without port. */
  readonly hostnames: readonly string[]
  readonly forceHttps: boolean
  readonly concurrency: MachineConcurrency
  /** Nearest first. Empty: the app is known and nothing of it can serve now. */
  readonly targets: readonly RouteTarget[]
  /** Not up, but on their way: requests wait for them when no target can serve. Nearest first. */
  readonly coming: readonly ComingTarget[]
}

export interface ComingTarget extends RouteTarget {
  readonly coming: Coming
}

export interface RouteTarget {
  readonly machine: MachineId
  readonly host: HostId
  readonly region: RegionCode
  /** Private IPv4 and internal port of the machine. */
  readonly address: string
  readonly port: number
  /** 0 for the edge's own region, then 1, 2, … by measured round trip. Rank 0 are active servers, others `backup`. */
  readonly rank: number
}

/** A machine that was in a route and is leaving it: no new requests, those in flight finish. */
export interface Draining {
  readonly machine: MachineId
  /** Requests and connections that still use it at this edge. */
  readonly sessions: number
}
