import type { MachineConcurrency, MachinePort, MachineService } from '../machine/config.ts'
import { isReady } from '../machine/machine.ts'
import { dialectOf } from './port-claims.ts'
import { rankRegions } from './rank-regions.ts'
import type { Route, RouteTarget } from './route.ts'
import type { RoutableMachine, RoutesRequest } from './routes-for.ts'

/** One machine's part in a route: by which of its services, and which port of that. */
export interface Serving {
  readonly machine: RoutableMachine
  readonly service: MachineService
  readonly port: MachinePort | undefined
}
export type Ranks = ReturnType<typeof rankRegions>

const NO_LIMIT: MachineConcurrency = { type: 'requests', soft_limit: 20, hard_limit: null }

export function ranksOf({ self, hosts, machines, roundTripMs }: RoutesRequest): Ranks {
  return rankRegions({
    self: self.region,
    regions: [...hosts.map((host) => host.region), ...machines.map((machine) => machine.region)],
    hosts,
    roundTripMs,
  })
}

export function servingOf(
  serving: readonly Serving[],
  ranks: Ranks,
): Pick<Route, 'targets' | 'coming'> {
  const target = ({ machine, service, port }: Serving): RouteTarget => {
    const dialect = port && dialectOf(port)
    return {
      machine: machine.id,
      host: machine.host,
      region: machine.region,
      address: machine.privateIpv4,
      port: service.internal_port,
      rank: ranks.get(machine.region) ?? ranks.size,
      ...(dialect === undefined ? {} : { dialect }),
    }
  }
  return {
    targets: serving
      .filter(({ machine }) => isTarget(machine))
      .map(target)
      .sort(nearestFirst),
    coming: serving
      .flatMap((at) => {
        const { coming = null } = at.machine
        return coming === null || isTarget(at.machine) ? [] : [{ ...target(at), coming }]
      })
      .sort(nearestFirst),
  }
}

/**
 * What edges do with requests and handshakes is one thing for all machines of a route: while two releases serve side by side, it is
 * what the machine says that was made last.
 */
export function optionsOf(serving: readonly Serving[]): Pick<Route, 'http' | 'tls'> {
  const ready = serving.filter(({ machine }) => isTarget(machine))
  const port = newest(ready.length > 0 ? ready : serving)?.port
  return {
    ...(port?.http_options === undefined ? {} : { http: port.http_options }),
    ...(port?.tls_options === undefined ? {} : { tls: port.tls_options }),
  }
}

export function newest(serving: readonly Serving[]): Serving | undefined {
  return newestFirst(serving)[0]
}

export function newestFirst(serving: readonly Serving[]): readonly Serving[] {
  const age = ({ machine }: Serving) => machine.status?.startedAt ?? 0
  return serving.toSorted((a, b) => age(b) - age(a) || (a.machine.id < b.machine.id ? 1 : -1))
}

export function isTarget(machine: RoutableMachine): boolean {
  return machine.routed && machine.status !== null && isReady(machine.status)
}

export function nearestFirst(a: RouteTarget, b: RouteTarget): number {
  return a.rank - b.rank || (a.machine < b.machine ? -1 : 1)
}

/** While two releases serve side by side, the larger limits hold: the smaller would turn requests away that the other has room for. */
export function widest(limits: readonly MachineConcurrency[]): MachineConcurrency {
  const [first, ...others] = limits
  return others.reduce(
    (a, b) => ({
      type: a.type === b.type ? a.type : 'requests',
      soft_limit: Math.max(a.soft_limit, b.soft_limit),
      hard_limit:
        a.hard_limit === null || b.hard_limit === null
          ? null
          : Math.max(a.hard_limit, b.hard_limit),
    }),
    first ?? NO_LIMIT,
  )
}
