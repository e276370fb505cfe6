import type { AppName, HostId, Instant, MachineId, RegionCode } from '../id.ts'
import type { Coming } from '../machine/coming.ts'
import type { MachineConcurrency, MachineService } from '../machine/config.ts'
import { isReady, type MachineStatus } from '../machine/machine.ts'
import { DRAIN_MS_MAX } from '../machine/next-step.ts'
import { rankRegions } from './rank-regions.ts'
import type { Route, RouteTarget } from './route.ts'

/** What routing needs to know of a machine; api's `MachineView` is one. */
export interface RoutableMachine {
  readonly id: MachineId
  readonly app: string
  readonly host: HostId
  readonly region: RegionCode
  readonly privateIpv4: string
  readonly services: readonly MachineService[]
  readonly routed: boolean
  readonly status: MachineStatus | null
  /** Missing: the server is of a version that does not say. */
  readonly coming?: Coming | null
}

export interface RoutesRequest {
  readonly self: { readonly host: HostId; readonly region: RegionCode }
  readonly hosts: readonly { readonly id: HostId; readonly region: RegionCode }[]
  readonly apps: readonly { readonly name: AppName }[]
  readonly machines: readonly RoutableMachine[]
  /** Measured from this edge to each host. Missing: never measured. */
  readonly roundTripMs: ReadonlyMap<HostId, number>
  readonly domain: string
}

const NO_LIMIT: MachineConcurrency = { type: 'requests', soft_limit: 20, hard_limit: null }

/**
 * One route for each app, `<app>.<domain>`, whether or not something can serve it now: a known app without a machine that is ready
 * is not an unknown name. Each machine serves by its own service, so that the port may change from one release to the next.
 */
export function routesFor(request: RoutesRequest): readonly Route[] {
  const { self, hosts, machines, roundTripMs, domain } = request
  const ranks = rankRegions({
    self: self.region,
    regions: [...hosts.map((host) => host.region), ...machines.map((machine) => machine.region)],
    hosts,
    roundTripMs,
  })
  const byApp = new Map<string, RoutableMachine[]>()
  for (const machine of machines) {
    const others = byApp.get(machine.app)
    if (others === undefined) byApp.set(machine.app, [machine])
    else others.push(machine)
  }

  const target = ({ machine, service }: Serving): RouteTarget => ({
    machine: machine.id,
    host: machine.host,
    region: machine.region,
    address: machine.privateIpv4,
    port: service.internal_port,
    rank: ranks.get(machine.region) ?? ranks.size,
  })

  return request.apps
    .map(({ name }): Route => {
      const serving = (byApp.get(name) ?? []).flatMap((machine) => {
        const service = httpService(machine.services)
        return service === null ? [] : [{ machine, service }]
      })
      const ready = serving.filter(({ machine }) => isTarget(machine))
      const deciding = (ready.length > 0 ? ready : serving).map(({ service }) => service)
      return {
        key: `${name}/http`,
        app: name,
        hostnames: [`${name}.${domain}`.toLowerCase()],
        forceHttps: deciding.some(forcesHttps),
        concurrency: widest(deciding.map((service) => service.concurrency)),
        targets: ready.map(target).sort(nearestFirst),
        coming: serving
          .flatMap((at) => {
            const { coming = null } = at.machine
            return coming === null || isTarget(at.machine) ? [] : [{ ...target(at), coming }]
          })
          .sort(nearestFirst),
      }
    })
    .sort((a, b) => (a.key < b.key ? -1 : 1))
}

interface Serving {
  readonly machine: RoutableMachine
  readonly service: MachineService
}

function nearestFirst(a: RouteTarget, b: RouteTarget): number {
  return a.rank - b.rank || (a.machine < b.machine ? -1 : 1)
}

/** Who has not heard the server for so long goes by what answers, see `withoutServer`. */
export const UNHEARD_MS = 15_000

/**
 * What an edge serves that has not heard the server for `unheardMs`: also machines that were on their way when it was last heard, since
 * nobody will tell that they are up. Where they do not answer, the edge's own checks leave them out.
 */
export function withoutServer(
  routes: readonly Route[],
  unheardMs: number,
  now: Instant,
): readonly Route[] {
  if (unheardMs < UNHEARD_MS) return routes
  return routes.map((route) => {
    const answering = route.coming.filter(({ coming: { stopsAt } }) => {
      // Farther ahead than any drain: a clock was set.
      const stopping = stopsAt !== null && now < stopsAt && stopsAt - now <= DRAIN_MS_MAX
      return !stopping
    })
    if (answering.length === 0) return route
    const targets = answering.map(({ coming: _, ...target }): RouteTarget => target)
    return {
      ...route,
      targets: [...route.targets, ...targets].sort(nearestFirst),
      coming: route.coming.filter((target) => !answering.includes(target)),
    }
  })
}

function isTarget(machine: RoutableMachine): boolean {
  return machine.routed && machine.status !== null && isReady(machine.status)
}

/** The service behind the web ports: that of 443, else that of 80. One on another port is not what a browser asks for. */
function httpService(services: readonly MachineService[]): MachineService | null {
  const behind = (port: number) =>
    services.find(
      (service) =>
        service.protocol === 'tcp' &&
        service.ports.some((p) => p.port === port && p.handlers.includes('http')),
    )
  return behind(443) ?? behind(80) ?? null
}

/** Asked for, or implied: who offers 443 alone wants no plain text. */
function forcesHttps(service: MachineService): boolean {
  const plain = service.ports.filter((p) => p.port === 80 && p.handlers.includes('http'))
  return plain.length === 0 || plain.some((p) => p.force_https)
}

/** While two releases serve side by side, the larger limits hold: the smaller would turn requests away that the other has room for. */
function widest(limits: readonly MachineConcurrency[]): MachineConcurrency {
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
