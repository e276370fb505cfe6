import type { AppName } from '../id.ts'
import { canShare, claimOf, kindOf, type PortClaim } from './port-claims.ts'
import type { Listener, Route } from './route.ts'
import type { RoutesRequest } from './routes-for.ts'
import { isTarget, newest, optionsOf, ranksOf, type Serving, servingOf, widest } from './serving.ts'
import { staticsOf } from './static-files.ts'

/**
 * One route for each port (or range) that an app serves besides HTTP on 80 and 443. `web` are the routes of the latter: an app has the
 * same names on all its ports.
 *
 * Where two apps ask for one port that they can't share, the one that was created first has it: the server refuses the other, and
 * where two asked in the same moment, all edges decide alike. While two releases of an app serve the same port in different ways, the
 * way that most of its ready machines have it is the one that is served, by these alone.
 */
export function serviceRoutesFor(request: RoutesRequest, web: readonly Route[]): readonly Route[] {
  const ranks = ranksOf(request)
  const hostnames = new Map(web.map((route) => [route.app, route.hostnames]))
  const wishes = wishesOf(request)
  const granted: Wish[] = []
  for (const wish of wishes) {
    const clash = granted.some(
      (other) =>
        !canShare(wish.claim, other.claim) ||
        (wish.app === other.app && overlaps(wish.claim, other.claim)),
    )
    if (!clash) granted.push(wish)
  }
  return granted
    .map(({ app, claim, serving }): Route => {
      const { kind, from, to } = claim
      const ready = serving.filter(({ machine }) => isTarget(machine))
      const deciding = ready.length > 0 ? ready : serving
      const alone = granted.every(
        (other) => other.app === app || other.claim.kind !== kind || other.claim.from !== from,
      )
      return {
        key: `${app}/${kind}/${from}`,
        app,
        hostnames: namesOf(claim, hostnames.get(app) ?? [], alone),
        forceHttps: kind === 'http' && deciding.some(({ port }) => port?.force_https),
        concurrency: widest(deciding.map(({ service }) => service.concurrency)),
        ...servingOf(serving, ranks),
        listener: { kind, from, to },
        ...optionsOf(serving),
        ...staticsOf(serving, ranks),
      }
    })
    .sort((a, b) => (a.key < b.key ? -1 : 1))
}

/**
 * Under which an edge finds a service: HTTP by host and port; TLS by the name that the client says, and any name (`*`) where only
 * one app serves that port; a passthrough by the name alone; plain TCP by the port alone. `from` stands for all of a range.
 */
export function namesOf(
  { kind, from }: Listener,
  hosts: readonly string[],
  alone: boolean,
): readonly string[] {
  switch (kind) {
    case 'http':
    case 'https':
      return hosts.map((host) => `${host}:${from}`)
    case 'tls':
    case 'pg_tls':
      return [...hosts, ...(alone && from !== 443 ? ['*'] : [])].map(
        (host) => `tls:${host}:${from}`,
      )
    case 'passthrough':
      return hosts.map((host) => `raw:${host}`)
    case 'tcp':
      return [`tcp:${from}`]
    case 'udp':
      return []
  }
}

interface Wish {
  readonly app: AppName
  readonly claim: PortClaim
  readonly serving: readonly Serving[]
}

/** Oldest app first; of an app, first what somebody can serve now. */
function wishesOf({ apps, machines }: RoutesRequest): readonly Wish[] {
  const parts = new Map<string, Map<string, Serving[]>>()
  for (const machine of machines)
    for (const service of machine.services)
      for (const port of service.ports) {
        const claim = claimOf(service.protocol, port)
        if (claim === null) continue
        const ofApp = parts.get(machine.app) ?? new Map<string, Serving[]>()
        parts.set(machine.app, ofApp)
        const span = `${claim.protocol} ${claim.from} ${claim.to}`
        const here = ofApp.get(span) ?? []
        ofApp.set(span, here)
        // Of two services of one machine for the same port, the first has it.
        if (!here.some((other) => other.machine.id === machine.id))
          here.push({ machine, service, port })
      }
  return apps
    .toSorted((a, b) => (a.createdAt ?? 0) - (b.createdAt ?? 0) || (a.name < b.name ? -1 : 1))
    .flatMap(({ name }) =>
      [...(parts.get(name)?.values() ?? [])]
        .flatMap((serving) => ofOneKind(name, serving) ?? [])
        .toSorted(readyFirst),
    )
}

function ofOneKind(app: AppName, all: readonly Serving[]): Wish | null {
  const kind = ({ service, port }: Serving) => (port ? kindOf(service.protocol, port) : null)
  const kinds = [...new Set(all.map(kind))]
  const [most] = kinds
    .map((one) => all.filter((serving) => kind(serving) === one))
    .toSorted(
      (a, b) =>
        readyCount(b) - readyCount(a) ||
        Number(b.includes(newest(all) as Serving)) - Number(a.includes(newest(all) as Serving)),
    )
  const [first] = most ?? []
  const claim = first?.port && claimOf(first.service.protocol, first.port)
  return most === undefined || !claim ? null : { app, claim, serving: most }
}

function readyFirst(a: Wish, b: Wish): number {
  return (
    readyCount(b.serving) - readyCount(a.serving) ||
    a.claim.from - b.claim.from ||
    a.claim.to - b.claim.to ||
    (a.claim.protocol < b.claim.protocol ? -1 : 1)
  )
}

function readyCount(serving: readonly Serving[]): number {
  return serving.filter(({ machine }) => isTarget(machine)).length
}

function overlaps(a: PortClaim, b: PortClaim): boolean {
  return a.protocol === b.protocol && a.from <= b.to && b.from <= a.to
}
