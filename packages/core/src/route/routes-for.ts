import type { AppName, HostId, MachineId, RegionCode } from '../id.ts'
import type { MachineConcurrency, MachineService } from '../machine/config.ts'
import { isReady, type MachineStatus } from '../machine/machine.ts'
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
        targets: ready
          .map(
            ({ machine, service }): RouteTarget => ({
              machine: machine.id,
              host: machine.host,
              region: machine.region,
              address: machine.privateIpv4,
              port: service.internal_port,
              rank: ranks.get(machine.region) ?? ranks.size,
            }),
          )
          .sort((a, b) => a.rank - b.rank || (a.machine < b.machine ? -1 : 1)),
      }
    })
    .sort((a, b) => (a.key < b.key ? -1 : 1))
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
