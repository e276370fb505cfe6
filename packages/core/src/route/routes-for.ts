import type { AppName, HostId, Instant, MachineId, RegionCode } from '../id.ts'
import type { Coming } from '../machine/coming.ts'
import type { MachinePort, MachineService } from '../machine/config.ts'
import type { MachineStatus } from '../machine/machine.ts'
import { DRAIN_MS_MAX } from '../machine/next-step.ts'
import type { Route, RouteTarget } from './route.ts'
import { isTarget, nearestFirst, optionsOf, ranksOf, servingOf, widest } from './serving.ts'
import { type MachineStatics, staticsOf } from './static-files.ts'

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
  /** Missing: no files of its image are served without it. */
  readonly statics?: MachineStatics
}

export interface RoutesRequest {
  readonly self: { readonly host: HostId; readonly region: RegionCode }
  readonly hosts: readonly { readonly id: HostId; readonly region: RegionCode }[]
  /** `createdAt`: of two apps that ask for one port, the older has it. */
  readonly apps: readonly { readonly name: AppName; readonly createdAt?: Instant }[]
  readonly machines: readonly RoutableMachine[]
  /** Measured from this edge to each host. Missing: never measured. */
  readonly roundTripMs: ReadonlyMap<HostId, number>
  readonly domain: string
}

/**
 * One route for each app, `<app>.<domain>`, whether or not something can serve it now: a known app without a machine that is ready
 * is not an unknown name. Each machine serves by its own service, so that the port may change from one release to the next.
 */
export function routesFor(request: RoutesRequest): readonly Route[] {
  const { machines, domain } = request
  const ranks = ranksOf(request)
  const byApp = new Map<string, RoutableMachine[]>()
  for (const machine of machines) {
    const others = byApp.get(machine.app)
    if (others === undefined) byApp.set(machine.app, [machine])
    else others.push(machine)
  }

  return request.apps
    .map(({ name }): Route => {
      const serving = (byApp.get(name) ?? []).flatMap((machine) => {
        const service = httpService(machine.services)
        return service === null ? [] : [{ machine, service, port: webPort(service) }]
      })
      const ready = serving.filter(({ machine }) => isTarget(machine))
      const deciding = (ready.length > 0 ? ready : serving).map(({ service }) => service)
      return {
        key: `${name}/http`,
        app: name,
        hostnames: [`${name}.${domain}`.toLowerCase()],
        forceHttps: deciding.some(forcesHttps),
        concurrency: widest(deciding.map((service) => service.concurrency)),
        ...servingOf(serving, ranks),
        ...optionsOf(serving),
        ...staticsOf(serving, ranks),
      }
    })
    .sort((a, b) => (a.key < b.key ? -1 : 1))
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
  limitMs = UNHEARD_MS,
): readonly Route[] {
  if (unheardMs < limitMs) return routes
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

/** Whose options hold: that of 443, else that of 80. */
function webPort({ ports }: MachineService): MachinePort | undefined {
  const web = (port: number) => ports.find((p) => p.port === port && p.handlers.includes('http'))
  return web(443) ?? web(80)
}

/** Asked for, or implied: who offers 443 alone wants no plain text. */
function forcesHttps(service: MachineService): boolean {
  const plain = service.ports.filter((p) => p.port === 80 && p.handlers.includes('http'))
  return plain.length === 0 || plain.some((p) => p.force_https)
}
