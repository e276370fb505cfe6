import type { AppName, HostId, MachineId, RegionCode } from '../id.ts'
import type { Coming } from '../machine/coming.ts'
import type { HttpOptions, MachineConcurrency, TlsOptions } from '../machine/config.ts'

/** What one edge should serve: pure data, made by `routesFor` from hosts, apps and machines, for one edge's view. */
export interface Route {
  /** Stable key, `<app>/http` or `<app>/<kind>/<first port>`; the edge leases one HAProxy slot for each. */
  readonly key: string
  readonly app: AppName
  /**
   * Under which the edge finds it. HTTP: host names, lower case, without port, and `<host>:<port>` where that is neither 80 nor 443.
   * `*.example.com` is every name with one more label that no other route has.
   * All else: see `namesOf` in `service-routes.ts`.
   */
  readonly hostnames: readonly string[]
  readonly forceHttps: boolean
  readonly concurrency: MachineConcurrency
  /** Nearest first. Empty: the app is known and nothing of it can serve now. */
  readonly targets: readonly RouteTarget[]
  /** Not up, but on their way: requests wait for them when no target can serve. Nearest first. */
  readonly coming: readonly ComingTarget[]
  /** Missing: HTTP on 80 and 443. */
  readonly listener?: Listener
  /** Missing: nothing is asked for. */
  readonly http?: HttpOptions
  readonly tls?: TlsOptions
  /** HTTP: files of its images that are served without it. Missing: none. See `staticsOf`. */
  readonly statics?: readonly StaticFolder[]
}

/** Requests below `urlPrefix`, which ends with a slash, that are files below `guestPath` of the image are answered with these. */
export interface StaticFolder {
  readonly image: string
  readonly guestPath: string
  readonly urlPrefix: string
  /** That have the files, nearest first. */
  readonly hosts: readonly HostId[]
}

/** Ports on which each edge answers for one app, or for all that share them by name. */
export interface Listener {
  readonly kind: ListenerKind
  readonly from: number
  readonly to: number
}
/**
 * `passthrough`: on 443, TLS that the app ends itself, found by the name in the client's first message. `tls` and `pg_tls`: the edge
 * ends TLS, the app gets the bytes. `tcp` and `udp` pass as they come.
 */
export type ListenerKind = 'http' | 'https' | 'tls' | 'pg_tls' | 'passthrough' | 'tcp' | 'udp'

/** How an edge speaks to a machine, where not HTTP/1.1 or plain bytes. */
export type Dialect = 'h2' | 'proxy-v1' | 'proxy-v2'

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
  readonly dialect?: Dialect
}

/** A machine that was in a route and is leaving it: no new requests, those in flight finish. */
export interface Draining {
  readonly machine: MachineId
  /** Requests and connections that still use it at this edge. */
  readonly sessions: number
}
